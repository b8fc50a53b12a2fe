package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

const (
	// orderRate is how many orders a second are published.
	orderRate = 500
	// numbersAtOnce is the most that the private API takes in one request.
	numbersAtOnce = 10_000
	// answerTime bounds the wait for the last answers of a round.
	answerTime = 30 * time.Second
)

// throughEvents is `callmask all` with servers of its own, and an app before it.
type throughEvents struct {
	variant string
	product *rig.Callmask
	conn    *nats.Conn
	next    int // the next order's number

	mu      sync.Mutex
	due     map[string]time.Time // by order id: when it was published
	heard   *load.Recorder
	failure error
	last    chan struct{} // closed when due is empty again
}

// startEvents starts it and imports enough numbers for all rounds. dir is where its
// files are.
func (e *Env) startEvents(ctx context.Context, variant, dir string) (*throughEvents, error) {
	e.Progress.Doing("starting " + variant)
	product, err := e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "all", Pool: []string{"max: 5000000"}, DataDir: dir})
	if err != nil {
		return nil, err
	}
	o := &throughEvents{variant: variant, product: product}
	numbers := 2*int(orderRate*e.Seconds*float64(e.Rounds)) + 1000
	for from := 0; from < numbers; from += numbersAtOnce {
		if err := o.importNumbers(ctx, from, min(numbersAtOnce, numbers-from)); err != nil {
			return nil, err
		}
	}
	if o.conn, err = nats.Connect(product.NATS); err != nil {
		return nil, err
	}
	for subject, hear := range map[string]nats.MsgHandler{events.SubjectAssigned: o.assigned, events.SubjectFailed: o.failed} {
		if _, err := o.conn.Subscribe(subject, hear); err != nil {
			return nil, err
		}
	}
	return o, o.conn.FlushTimeout(answerTime)
}

func (o *throughEvents) stop() {
	if o.conn != nil {
		o.conn.Close()
	}
	o.product.Stop()
}

func (o *throughEvents) importNumbers(ctx context.Context, from, n int) error {
	list := make([]string, n)
	for i := range list {
		list[i] = world.VN(from + i).E164()
	}
	body, err := json.Marshal(map[string]any{"numbers": list, "carrier": world.Carrier})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+o.product.Admin+"/v1/pools/"+world.Pool+"/numbers", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+world.APIToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("import numbers: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	_ = resp.Body.Close() // read
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("import numbers: %s: %s", resp.Status, answer)
	}
	return err
}

// assigned hears of an order that has its VNs.
func (o *throughEvents) assigned(m *nats.Msg) {
	now := time.Now()
	var a events.VNAssigned
	err := json.Unmarshal(m.Data, &a)
	o.mu.Lock()
	defer o.mu.Unlock()
	due, ours := o.due[a.OrderID]
	switch {
	case err != nil || len(a.Parties) != len(world.Roles) || a.Parties[0].VN == a.Parties[1].VN:
		o.failure = fmt.Errorf("%w: vn.assigned without two different VNs", ErrWrong)
	case !ours:
		return // a repeat
	default:
		for _, p := range a.Parties {
			if n, ok := vn.ParseE164(p.VN); !ok || n < world.VN(0) {
				o.failure = fmt.Errorf("%w: vn.assigned with a number that is none of the pool's", ErrWrong)
			}
		}
	}
	o.heard.Record(now.Sub(due))
	o.settled(a.OrderID)
}

// failed hears of an order that got none.
func (o *throughEvents) failed(m *nats.Msg) {
	var f events.VNFailed
	err := json.Unmarshal(m.Data, &f)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failure = errors.Join(fmt.Errorf("an order failed: %s", f.Reason), err)
	o.settled(f.OrderID)
}

func (o *throughEvents) settled(id string) {
	if delete(o.due, id); len(o.due) == 0 && o.last != nil {
		close(o.last)
		o.last = nil
	}
}

// published notes the moment. The client's timer may be a millisecond late, and
// publishing waits for nothing, so what counts is when it happens.
func (o *throughEvents) published(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due[id] = time.Now()
}

// measure publishes orders.assigned at the fixed rate and waits for each vn.assigned.
func (o *throughEvents) measure(ctx context.Context, e *Env, round int) error {
	k := report.Key{Scenario: "allocate", Variant: o.variant, Point: report.Events}
	e.Progress.Doing(fmt.Sprintf("%s: %s, round %d", k.Scenario, k.Point, round+1))
	defer e.Progress.Step()
	n := max(1, int(orderRate*e.Seconds))
	ids, payloads := make([]string, n), make([][]byte, n)
	last := make(chan struct{})
	start := time.Now().Add(10 * time.Millisecond)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second / orderRate) }
	o.mu.Lock()
	o.heard, o.due, o.last = load.NewRecorder(), make(map[string]time.Time, n), last
	for i := range n {
		r := world.Request(world.Short, o.next)
		o.next++
		placed := events.OrderAssigned{OrderID: r.Order.ID, Pool: world.Pool}
		for _, p := range r.Order.Parties {
			placed.Parties = append(placed.Parties, events.OrderParty{Role: p.Role, Number: p.Number.E164()})
		}
		var err error
		if payloads[i], err = json.Marshal(placed); err != nil {
			o.mu.Unlock()
			return err
		}
		ids[i], o.due[r.Order.ID] = r.Order.ID, at(i)
	}
	o.mu.Unlock()
	before, err := o.product.Usage()
	if err != nil {
		return err
	}
	for i := range n {
		if err := wait(ctx, time.Until(at(i))); err != nil {
			return err
		}
		o.published(ids[i])
		if err := o.conn.Publish("orders."+events.EventAssigned, payloads[i]); err != nil {
			return err
		}
	}
	select {
	case <-last:
	case <-time.After(answerTime):
		return fmt.Errorf("vn.assigned of some orders did not come within %s", answerTime)
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := o.product.Usage()
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failure != nil {
		return o.failure
	}
	l := o.heard.Latency()
	e.Report.Add(report.Sample{
		Scenario: k.Scenario, Variant: k.Variant, Point: k.Point, Round: round, Latency: &l,
		Values: map[report.Metric]float64{
			report.RPS: float64(n) / time.Since(start).Seconds(), report.P50: l.Percentile(50), report.P99: l.Percentile(99), report.MaxUS: l.Max,
			report.ServerCPU: float64((after.CPU - before.CPU).Microseconds()) / float64(n),
		},
	})
	return nil
}

// syncs is how many times a file is written and synced to see what the disk takes.
const syncs = 100

// syncTime measures what every acknowledged message waits for: a few hundred bytes
// appended to a file and brought to the disk.
func (e *Env) syncTime(round int) error {
	f, err := os.CreateTemp(e.Rig.Dir, "sync-*")
	if err != nil {
		return err
	}
	took, record := load.NewRecorder(), make([]byte, 300)
	for range syncs {
		start := time.Now()
		if _, err = f.Write(record); err == nil {
			err = f.Sync()
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		took.Record(time.Since(start))
	}
	l := took.Latency()
	e.Report.Add(report.Sample{
		Scenario: "allocate", Variant: report.Sync, Point: report.Events, Round: round,
		Values: map[report.Metric]float64{report.P50: l.Percentile(50), report.P99: l.Percentile(99), report.MaxUS: l.Max},
	})
	return f.Close()
}
