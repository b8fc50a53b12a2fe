package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

const stormConfig = `
pools:
  - {name: rides, region: US, cooldown: 1s, ttl: {default: 2h, max: 4h}, assign_wait: 10m}
carriers:
  - {name: pbx, kind: softswitch, tokens: [` + pbxToken + `]}
`

const (
	stormNumbers = 400
	stormLive    = 120 // orders alive at a time; two VNs each
	stormWaiting = 40  // of them not announced yet
	stormCallers = 3
)

// storm is an application that keeps ordering, completing and calling while callmask
// dies and comes back, and that remembers what it was told.
type storm struct {
	p      *process
	conn   *nats.Conn
	js     jetstream.JetStream
	people []string

	stored    atomic.Int64 // orders.assigned that JetStream has acknowledged
	connected atomic.Int64 // calls put through
	outages   atomic.Int64 // calls without a decision: callmask or Redis was away

	mu     sync.Mutex
	rand   *rand.Rand
	orders map[string]*tracked
	list   []*tracked // all of them, in their order
	wrong  []string   // what must never happen
	later  []onward   // calls put through by an order not announced yet

	over context.Context // ends with the storm
	stop context.CancelFunc
	work sync.WaitGroup
}

// tracked is one order of a storm.
type tracked struct {
	id      string
	numbers map[string]string // by role
	vns     map[string]string // by role, as first announced; nil before
	stored  bool              // JetStream has acknowledged orders.assigned
	ending  bool              // orders.completed is on its way, perhaps done
	ended   bool              // JetStream has acknowledged orders.completed
}

// newStorm fills the pool and lets the storm begin. It ends with the test.
func newStorm(t *testing.T, p *process, r *rand.Rand) *storm {
	t.Helper()
	p.importNumbers(t, "rides", "pbx", fictional(t, 0, stormNumbers))
	s := &storm{p: p, people: fictional(t, 100, 2_000), rand: rand.New(rand.NewPCG(r.Uint64(), 0)), orders: map[string]*tracked{}}
	s.conn = connect(t, p.NATS).conn
	_, err := s.conn.Subscribe("vn.assigned", func(m *nats.Msg) { s.announced(m.Data) })
	require.NoError(t, err)
	s.js, err = jetstream.New(s.conn)
	require.NoError(t, err)
	s.over, s.stop = context.WithCancel(t.Context())
	for range stormCallers {
		s.work.Go(s.order)
		s.work.Go(func() { s.call(t) })
	}
	t.Cleanup(s.end)
	return s
}

// end lets the storm end.
func (s *storm) end() {
	s.stop()
	s.work.Wait()
}

func (s *storm) complain(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// announced notes a vn.assigned, which must say what it said before.
func (s *storm) announced(data []byte) {
	var e assigned
	if err := json.Unmarshal(data, &e); err != nil {
		s.complain("vn.assigned: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[e.OrderID]
	if o == nil {
		s.wrong = append(s.wrong, "vn.assigned of an order that nobody placed")
		return
	}
	vns := map[string]string{}
	for _, p := range e.Parties {
		vns[p.Role] = p.VN
	}
	switch {
	case o.vns == nil:
		o.vns = vns // and never written again, so that callers may read it
	case !maps.Equal(o.vns, vns):
		s.wrong = append(s.wrong, "order "+e.OrderID+" was announced with other VNs than before")
	}
}

// order publishes orders, and completes old ones once there are many.
func (s *storm) order() {
	for s.over.Err() == nil {
		o, complete := s.choose()
		switch {
		case o == nil:
			s.pause(5 * time.Millisecond)
		case complete:
			if s.send("orders.completed", o.id, map[string]string{"order_id": o.id}) {
				s.mark(func() { o.ended = true })
			}
		default:
			payload := order{OrderID: o.id, Pool: "rides"}
			for _, role := range []string{"customer", "agent"} {
				payload.Parties = append(payload.Parties, party{role, o.numbers[role]})
			}
			if s.send("orders.assigned", o.id, payload) {
				s.mark(func() { o.stored = true })
				s.stored.Add(1)
			}
		}
	}
}

// pause returns after a while, or at once when the storm ends.
func (s *storm) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.over.Done():
	case <-timer.C:
	}
}

func (s *storm) mark(what func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what()
}

// choose returns a new order, or one to be completed, or none while many wait for
// their VNs.
func (s *storm) choose() (o *tracked, complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if live := s.living(func(o *tracked) bool { return o.vns != nil && !o.ending }); len(live) >= stormLive {
		o = live[s.rand.IntN(len(live))]
		o.ending = true
		return o, true
	}
	if len(s.living(func(o *tracked) bool { return o.vns == nil && !o.ending })) >= stormWaiting {
		return nil, false
	}
	at := s.rand.IntN(len(s.people) - 1)
	o = &tracked{
		id:      fmt.Sprintf("order-%d", len(s.list)),
		numbers: map[string]string{"customer": s.people[at], "agent": s.people[at+1]},
	}
	s.orders[o.id] = o
	s.list = append(s.list, o)
	return o, false
}

// living lists orders in their order; the caller holds the lock.
func (s *storm) living(which func(*tracked) bool) []*tracked {
	var list []*tracked
	for _, o := range s.list {
		if which(o) {
			list = append(list, o)
		}
	}
	return list
}

// pin returns the order announced last, which the storm leaves alone from now on.
func (s *storm) pin(t *testing.T) *tracked {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.living(func(o *tracked) bool { return o.vns != nil && !o.ending })
	require.NotEmpty(t, live)
	o := live[len(live)-1]
	o.ending = true
	return o
}

// send publishes until JetStream has stored the message, as an application does that
// must not lose its orders; false when the storm ends before.
func (s *storm) send(subject, id string, payload any) bool {
	data, err := json.Marshal(payload)
	if err != nil {
		s.complain("%v", err)
		return false
	}
	for s.over.Err() == nil {
		one, cancel := context.WithTimeout(s.over, 2*time.Second)
		_, err = s.js.Publish(one, subject, data, jetstream.WithMsgID(subject+id))
		cancel()
		if err == nil {
			return true
		}
		s.pause(20 * time.Millisecond)
	}
	return false
}

// call lets parties of announced orders call each other.
func (s *storm) call(t *testing.T) {
	t.Helper()
	for ; s.over.Err() == nil; s.pause(2 * time.Millisecond) {
		s.mu.Lock()
		live := s.living(func(o *tracked) bool { return o.vns != nil && !o.ending })
		var o *tracked
		if len(live) > 0 {
			o = live[s.rand.IntN(len(live))]
		}
		s.mu.Unlock()
		if o != nil {
			s.callOne(t, o, "customer", "agent")
			s.callOne(t, o, "agent", "customer")
		}
	}
}

// callOne places one call. Only while something is away may it stay undecided.
func (s *storm) callOne(t *testing.T, o *tracked, from, to string) {
	t.Helper()
	got, err := s.p.tryResolve(t, s.p.Token, o.vns[to], o.numbers[from])
	if err != nil || got.status == http.StatusServiceUnavailable {
		s.outages.Add(1)
		return
	}
	s.judge(o, got, from, to)
}

// judge complains about an answer that is not the connection announced.
func (s *storm) judge(o *tracked, got answer, from, to string) {
	var r resolved
	err := json.Unmarshal([]byte(got.body), &r)
	want := resolved{Action: "connect", Destination: o.numbers[to], CallerID: o.vns[from], OrderID: o.id}
	if err == nil && r == want {
		s.connected.Add(1)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A call may wait for seconds while callmask starts anew. Meanwhile its order may
	// end, and then it may be refused, or the VN serve the same caller in a later order.
	if o.ending && r.Action != "connect" {
		return
	}
	if other := s.orders[r.OrderID]; o.ending && other != nil {
		call := onward{other, o.numbers[from], o.vns[to], r}
		if other.vns == nil {
			s.later = append(s.later, call) // judged once it is announced
			return
		}
		if call.right() {
			return
		}
	}
	s.wrong = append(s.wrong, fmt.Sprintf("order %s (ending: %t), %s calls %s: status %d, %s %s of order %q (destination right: %t, caller id right: %t)",
		o.id, o.ending, from, to, got.status, r.Action, r.Reason, r.OrderID, r.Destination == want.Destination, r.CallerID == want.CallerID))
}

// onward is a call of an ended order's VN that a later order put through.
type onward struct {
	order           *tracked
	calling, called string
	got             resolved
}

// right tells whether the later order connects that caller and that VN in this way.
func (c *onward) right() bool {
	o := c.order
	for from, to := range map[string]string{"customer": "agent", "agent": "customer"} {
		if o.numbers[from] == c.calling && o.vns[to] == c.called {
			return c.got.Destination == o.numbers[to] && c.got.CallerID == o.vns[from]
		}
	}
	return false
}

// requireKept fails unless every announced order that nobody ends still has exactly
// the VNs announced and connects both ways. The stream tells what was announced and
// not heard. Orders whose announcement the crash prevented are left out.
func (s *storm) requireKept(t *testing.T) int {
	t.Helper()
	s.readAnnounced(t)
	s.mu.Lock()
	live := s.living(func(o *tracked) bool { return o.vns != nil && !o.ending })
	s.mu.Unlock()
	for _, o := range live {
		for from, to := range map[string]string{"customer": "agent", "agent": "customer"} {
			got, err := s.p.tryResolve(t, s.p.Token, o.vns[to], o.numbers[from])
			require.NoError(t, err)
			s.judge(o, got, from, to)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.wrong)
	return len(live)
}

// readAnnounced reads what the subscription did not hear while it had no connection.
func (s *storm) readAnnounced(t *testing.T) {
	t.Helper()
	readStream(t, s.p.NATS, "VN", 0, func(subject string, data []byte) {
		if subject == "vn.assigned" {
			s.announced(data)
		}
	})
}

// requireHealed waits until every stored event had its effect, and then counts
// everything: no VN is doubled, leaked or held by an order that ended.
func (s *storm) requireHealed(t *testing.T, limit time.Duration) {
	t.Helper()
	s.end()
	var read time.Time
	await(t, limit, "every order that was stored is announced", func() bool {
		if time.Since(read) > time.Second {
			s.readAnnounced(t)
			read = time.Now()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.living(func(o *tracked) bool { return o.stored && !o.ending && o.vns == nil })) == 0
	})
	s.mu.Lock()
	for _, call := range s.later {
		if call.order.vns != nil && !call.right() {
			s.wrong = append(s.wrong, "order "+call.order.id+" put a call through that is not its own")
		}
	}
	ended := s.living(func(o *tracked) bool { return o.ended })
	unclear := s.living(func(o *tracked) bool { return !o.stored || o.ending && !o.ended })
	s.mu.Unlock()
	await(t, limit, "every order that was completed has ended", func() bool {
		for _, o := range ended {
			if s.p.getOrder(t, o.id).State != "ended" {
				return false
			}
		}
		return true
	})
	for _, o := range unclear { // the storm ended before JetStream had acknowledged
		got := s.p.api(t, http.MethodDelete, "/v1/orders/"+o.id, "")
		require.Equal(t, http.StatusNoContent, got.status)
		s.mark(func() { o.ending = true })
	}
	live := s.requireKept(t)
	want := stock{Name: "rides", Free: stormNumbers - 2*live, Leased: 2 * live, Total: stormNumbers}
	last := stock{}
	if !eventually(limit, func() bool { last = s.p.pools(t)["rides"]; return last == want }) {
		t.Fatalf("the pool is %+v and stays so, not %+v", last, want)
	}
	s.requireLedger(t)
	s.p.requireClean(t)
}

// requireLedger holds the last record of every VN against the orders that live.
func (s *storm) requireLedger(t *testing.T) {
	t.Helper()
	holder := map[string]string{}
	s.mu.Lock()
	for _, o := range s.living(func(o *tracked) bool { return !o.ending }) {
		for _, n := range o.vns {
			require.Empty(t, holder[n], "a VN is in two orders")
			holder[n] = o.id
		}
	}
	s.mu.Unlock()
	readStream(t, s.p.NATS, "LEDGER", 0, func(subject string, data []byte) {
		if !strings.HasPrefix(subject, "ledger.vn.") {
			return
		}
		var rec struct {
			Kind    string `json:"kind"`
			VN      string `json:"vn"`
			OrderID string `json:"order_id"`
		}
		answer{body: string(data)}.decode(t, &rec)
		if id, held := holder["+"+rec.VN]; held {
			require.Equal(t, "assigned "+id, rec.Kind+" "+rec.OrderID)
		} else {
			require.Contains(t, []string{"owned", "released"}, rec.Kind)
		}
	})
}
