package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/events"
)

// storageOrders is how many orders come and go, and how many calls, of strangers, are made.
const storageOrders = 500

// storedStreams are those that grow with orders and calls.
var storedStreams = []string{"ORDERS", "VN", "LEDGER", "CALLS"}

// storage asks JetStream how many messages, and how many bytes of its disk, an order and a call take in each stream.
func storage(ctx context.Context, e *Env) error {
	orders := storageOrders
	if e.Short {
		orders = 50
	}
	o, err := e.startEvents(ctx, report.ThroughNATS, "")
	if err != nil {
		return err
	}
	defer o.stop()
	js, err := jetstream.New(o.conn)
	if err != nil {
		return err
	}
	e.Progress.More(1)
	defer e.Progress.Step()
	e.Progress.Doing(fmt.Sprintf("storage: %d orders and calls", orders))
	before, err := states(ctx, js)
	if err != nil {
		return err
	}
	for order := range orders {
		if err := publishBegin(ctx, js, order); err != nil {
			return err
		}
		if err := o.stranger(ctx, order); err != nil {
			return err
		}
	}
	// Their VNs are leased then, and the ledger holds the longest record of each.
	live, err := await(ctx, js, func(now map[string]jetstream.StreamState) bool {
		return grown(before["VN"], now["VN"]) >= orders && grown(before["CALLS"], now["CALLS"]) >= orders
	})
	if err != nil {
		return err
	}
	for order := range orders {
		if err := publish(ctx, js, events.EventCompleted, map[string]string{"order_id": world.Short.OrderID(order)}); err != nil {
			return err
		}
	}
	ended, err := await(ctx, js, func(now map[string]jetstream.StreamState) bool { return grown(before["VN"], now["VN"]) >= 2*orders })
	if err != nil {
		return err
	}
	for _, name := range storedStreams {
		e.Report.Add(report.Sample{
			Scenario: "storage", Variant: report.ThroughNATS, Point: report.StreamPoint(name),
			Values: map[report.Metric]float64{
				report.Bytes:    (float64(ended[name].Bytes) - float64(before[name].Bytes)) / float64(orders),
				report.Messages: float64(grown(before[name], ended[name])) / float64(orders),
			},
		})
	}
	owned, leased := before["LEDGER"], live["LEDGER"]
	e.Report.Add(report.Sample{
		Scenario: "storage", Variant: report.ThroughNATS, Point: report.LeasedVN,
		Values: map[report.Metric]float64{report.Bytes: float64(owned.Bytes)/float64(owned.Msgs) +
			(float64(leased.Bytes)-float64(owned.Bytes))/float64(len(world.Roles)*orders)},
	})
	return nil
}

// grown returns how many messages a stream has taken in.
func grown(before, now jetstream.StreamState) int { return int(now.LastSeq - before.LastSeq) }

// await waits until the streams are as wanted and returns what they are then.
func await(
	ctx context.Context, js jetstream.JetStream, wanted func(map[string]jetstream.StreamState) bool,
) (map[string]jetstream.StreamState, error) {
	deadline := time.Now().Add(answerTime)
	for {
		now, err := states(ctx, js)
		if err != nil || wanted(now) {
			return now, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("storage: the events of some orders or calls did not come")
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func states(ctx context.Context, js jetstream.JetStream) (map[string]jetstream.StreamState, error) {
	all := map[string]jetstream.StreamState{}
	for _, name := range storedStreams {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return all, fmt.Errorf("stream %s: %w", name, err)
		}
		all[name] = s.CachedInfo().State
	}
	return all, nil
}

// publishBegin publishes what an app tells of an order that begins.
func publishBegin(ctx context.Context, js jetstream.JetStream, order int) error {
	r := world.Request(world.Short, order)
	assigned := events.OrderAssigned{OrderID: r.Order.ID, Pool: world.Pool}
	for _, p := range r.Order.Parties {
		assigned.Parties = append(assigned.Parties, events.OrderParty{Role: p.Role, Number: p.Number.E164()})
	}
	return errors.Join(
		publish(ctx, js, events.EventPlaced, events.OrderPlaced{OrderID: r.Order.ID, Pool: world.Pool}),
		publish(ctx, js, events.EventAssigned, assigned))
}

func publish(ctx context.Context, js jetstream.JetStream, event string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	if _, err := js.Publish(ctx, "orders."+event, body); err != nil {
		return fmt.Errorf("publish orders.%s: %w", event, err)
	}
	return nil
}

// stranger calls one of the numbers; it is refused, which is an event like that of any call.
func (o *throughEvents) stranger(ctx context.Context, i int) error {
	query := url.Values{
		"called": {world.VN(i).E164()}, "calling": {world.Stranger(uint64(i)).E164()}, "call_id": {fmt.Sprintf("CA%032x", i)},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.product.Addr+world.ResolvePath+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+world.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("make a call: %w", err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close() // read
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("make a call: %s", resp.Status)
	}
	return err
}
