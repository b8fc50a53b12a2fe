//go:build faults

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/internal/installation"
	"github.com/callmask/callmask/vn"
)

const (
	lease      = time.Hour       // of an order that somebody ends
	briefLease = 4 * time.Second // of one that nobody does
	patience   = 20 * time.Second
	keepOpen   = 40 // one order of so many stays open until the end of the run
	mostOpen   = 150
)

// shop is an application: it places orders, over HTTP and over NATS, extends, completes and
// cancels them, says things twice, late and in the wrong order, and repeats what fails.
type shop struct {
	*world

	in     *installation.Installation
	js     jetstream.JetStream
	web    *http.Client
	people []vn.Number
	next   atomic.Int64
	turn   atomic.Uint64
	open   atomic.Int64
}

// parties returns the numbers of both sides of the n-th order; no two orders have the same.
func (s *shop) parties(n int) pair {
	all := len(s.people)
	return pair{s.people[n%all], s.people[(n+1+n/all)%all]}
}

// people returns fictional numbers of parties; the first codes' are for sale as VNs.
func people() ([]vn.Number, error) {
	var list []vn.Number
	for _, prefix := range sim.DefaultStock()[0].Prefixes[areas:] {
		for i := range 100 {
			n, ok := vn.ParseE164(fmt.Sprintf("%s%02d", prefix, i))
			if !ok {
				return nil, errors.New("a fictional number cannot be read")
			}
			list = append(list, n)
		}
	}
	return list, nil
}

// vnOf returns the i-th number that is imported: those before are the carrier's.
func vnOf(i int) string {
	return fmt.Sprintf("%s%02d", sim.DefaultStock()[0].Prefixes[11+i/100], i%100)
}

// work takes one order after the other through its life until ctx ends.
func (s *shop) work(ctx context.Context, r *rand.Rand) error {
	for ctx.Err() == nil {
		if err := s.life(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *shop) life(ctx context.Context, r *rand.Rand) error {
	n := int(s.next.Add(1))
	o := &order{id: fmt.Sprintf("order-%d", n), numbers: s.parties(n), begun: time.Now(), brief: r.IntN(10) == 0}
	s.do(func() { s.add(o) })
	if !o.brief && r.IntN(50) == 0 { // its end comes before it begins
		return s.ended(ctx, r, o)
	}
	if err := s.place(ctx, r, o); err != nil {
		return err
	}
	if r.IntN(10) == 0 { // twice, by whatever way
		s.do(func() { s.duplicated++ })
		if err := s.place(ctx, r, o); err != nil {
			return err
		}
	}
	if !s.await(ctx, patience, func() bool { return len(o.told) > 0 || o.failed }) || o.brief {
		return nil
	}
	s.do(func() { s.lives = append(s.lives, o) })
	if n%keepOpen == 0 && s.open.Add(1) <= mostOpen {
		return s.extend(ctx, o)
	}
	if r.IntN(5) == 0 {
		if err := s.extend(ctx, o); err != nil {
			return err
		}
	}
	pause(ctx, time.Duration(r.IntN(1_500))*time.Millisecond)
	if ctx.Err() != nil {
		return nil // it stays
	}
	if err := s.end(ctx, r, o); err != nil {
		return err
	}
	if r.IntN(10) == 0 { // an event that comes late, and after the end
		s.do(func() { s.late++ })
		pause(ctx, time.Duration(r.IntN(2_000))*time.Millisecond)
		return s.publish(ctx, "orders.assigned", s.body(o))
	}
	return nil
}

// ended ends an order first and places it then: it must get no VNs.
func (s *shop) ended(ctx context.Context, r *rand.Rand, o *order) error {
	if err := s.end(ctx, r, o); err != nil {
		return err
	}
	if !s.await(ctx, patience, func() bool { return !o.over.IsZero() }) {
		return nil // not known to have ended: an order placed now could live
	}
	s.do(func() { s.early++ })
	return s.publish(ctx, "orders.assigned", s.body(o))
}

// body is orders.assigned.
func (s *shop) body(o *order) map[string]any {
	ttl := lease
	if o.brief {
		ttl = briefLease
	}
	return map[string]any{"order_id": o.id, "pool": installation.Pool, "ttl": ttl.String(), "parties": []map[string]string{
		{"role": "customer", "number": o.numbers[0].E164()}, {"role": "agent", "number": o.numbers[1].E164()},
	}}
}

func (s *shop) place(ctx context.Context, r *rand.Rand, o *order) error {
	body := s.body(o)
	if r.IntN(2) == 0 {
		err := s.publish(ctx, "orders.assigned", body)
		s.do(func() { o.stored = o.stored || ctx.Err() == nil })
		return err
	}
	delete(body, "order_id")
	var a struct {
		Parties []struct {
			VN string `json:"vn"`
		} `json:"parties"`
	}
	done, err := s.insist(ctx, http.MethodPut, "/v1/orders/"+o.id, body, &a)
	if err != nil || !done || len(a.Parties) == 0 {
		return err
	}
	var vns pair
	for i, p := range a.Parties {
		vns[i], _ = vn.ParseE164(p.VN)
	}
	s.do(func() { o.api = append(o.api, vns) })
	return nil
}

func (s *shop) extend(ctx context.Context, o *order) error {
	done, err := s.insist(ctx, http.MethodPatch, "/v1/orders/"+o.id, map[string]string{"ttl": (lease - time.Minute).String()}, nil)
	if done {
		s.do(func() { s.extended++ })
	}
	return err
}

// end asks for the end of an order; when it is acknowledged it is over.
func (s *shop) end(ctx context.Context, r *rand.Rand, o *order) error {
	s.do(func() { o.ending = time.Now() })
	reason := []string{"completed", "cancelled"}[r.IntN(2)]
	if r.IntN(2) == 0 {
		return s.publish(ctx, "orders."+reason, map[string]any{"order_id": o.id})
	}
	done, err := s.insist(ctx, http.MethodDelete, "/v1/orders/"+o.id+"?reason="+reason, nil, nil)
	if done {
		s.do(func() { s.finish(o, time.Now()) })
	}
	return err
}

// finish notes when an order's end was acknowledged first; the caller has the lock.
func (w *world) finish(o *order, at time.Time) {
	if o.over.IsZero() || at.Before(o.over) {
		o.over = at
	}
	if w.former = append(w.former, o); len(w.former) > 100 {
		w.former = w.former[50:]
	}
}

// publish repeats until JetStream has stored the event, or the run ends.
func (s *shop) publish(ctx context.Context, subject string, body map[string]any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err = s.js.Publish(one, subject, data)
		cancel()
		if err == nil {
			s.do(func() { s.stored++ })
			return nil
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// insist repeats a request of the API, at one allocator after the other, until it is
// answered for good, or for as long as a client may have patience. The error says that an
// answer makes no sense.
func (s *shop) insist(ctx context.Context, method, path string, body, into any) (done bool, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return false, err
	}
	if body == nil {
		data = nil
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 30*time.Millisecond) {
		status, answer, err := s.ask(ctx, method, path, data)
		switch {
		case err != nil || status >= 500:
			continue
		case status == http.StatusConflict || status == http.StatusNotFound:
			return false, nil // it has ended: an end of it, or its lease, came first
		case status >= 300:
			return false, fmt.Errorf("%s %s: %d %s", method, path, status, answer)
		case into == nil:
			return true, nil
		}
		return true, json.Unmarshal(answer, into)
	}
	return false, nil
}

func (s *shop) ask(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	allocators := s.in.Allocators()
	at := allocators[s.turn.Add(1)%uint64(len(allocators))]
	req, err := http.NewRequestWithContext(ctx, method, "http://"+at.Admin+path, strings.NewReader(string(body)))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.in.Token)
	resp, err := s.web.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it is only read
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// await looks, with the lock, until ok says true; false when it did not in time.
func (s *shop) await(ctx context.Context, limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		yes := false
		if s.do(func() { yes = ok() }); yes {
			return true
		}
	}
	return false
}

// pause returns after a while, or at once when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
