package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/allocator"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// crowd is many allocators, each with connections of its own as if in a process of
// its own, on one Redis and one JetStream.
type crowd struct {
	allocators []*allocator.Allocator
	store      *scripts.Store
	bus        *events.Bus
	natsAddr   string
	again      atomic.Int64 // calls made again because the outcome was unknown
}

// newCrowd starts n allocators; client makes the Redis client of each.
func newCrowd(t *testing.T, n int, client func() redis.UniversalClient) *crowd {
	t.Helper()
	server := testkit.NATS(t)
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	c := &crowd{natsAddr: server.URL[len("nats://"):]}
	ctx, stop := context.WithCancel(t.Context())
	var g errgroup.Group
	t.Cleanup(func() {
		stop()
		require.NoError(t, g.Wait())
	})
	for range n {
		store, err := scripts.New(scripts.Config{Timeout: 10 * time.Second}, client(), keys)
		require.NoError(t, err)
		require.NoError(t, store.Start(t.Context()))
		bus, err := events.Connect(t.Context(), events.Config{URL: server.URL, Timeout: 20 * time.Second, Logger: zerolog.Nop()})
		require.NoError(t, err)
		t.Cleanup(bus.Close)
		require.NoError(t, bus.EnsureStreams(t.Context()))
		a, err := allocator.New(allocator.Config{
			Pools: []allocator.Pool{{
				Name: "rides", Region: "US", Max: 20_000, Cooldown: 2 * time.Hour, // longer than the run
				TTLDefault: 2 * time.Hour, TTLMax: 24 * time.Hour, AssignWait: time.Minute,
			}},
			Carriers: []scripts.Carrier{{Name: "tw", ID: 7}}, Timeout: 30 * time.Second,
		}, store, bus, keys, prometheus.NewRegistry(), zerolog.Nop())
		require.NoError(t, err)
		c.allocators = append(c.allocators, a)
		c.store, c.bus = store, bus
		g.Go(func() error { return a.Run(ctx) })
	}
	t.Cleanup(func() { // before the connections close
		stop()
		require.NoError(t, g.Wait())
	})
	for _, a := range c.allocators {
		await(t, startLimit, "the allocators are ready", func() bool { return a.Check(t.Context()) == nil })
	}
	return c
}

// stock brings VNs into the pool.
func (c *crowd) stock(t *testing.T, numbers int) {
	t.Helper()
	for from := 0; from < numbers; from += 5_000 {
		vns := fictional(t, from/100, min(5_000, numbers-from))
		_, err := c.allocators[0].Import(t.Context(), "rides", "tw", vns)
		require.NoError(t, err)
	}
}

// until repeats a call whose outcome is unknown, as JetStream and API clients do.
func (c *crowd) until(call func() error) error {
	for range 10 {
		err := call()
		if !errors.Is(err, vn.ErrUnavailable) {
			return err
		}
		c.again.Add(1)
	}
	return errors.New("still unavailable after 10 calls")
}

// How an order of the crowd's test ends.
type ending int

const (
	stays      ending = iota // it does not
	ends                     // completed once after it was assigned
	endsTwice                // completed twice at the same time, after it was assigned
	endsEarly                // completed before its `assigned`
	endsMeddle               // completed while it is being assigned
)

// sent is an order of the crowd's test and what each of its three `assigned` got.
type sent struct {
	order  vn.Order
	ending ending
	got    [3]vn.Assignment
	errs   [3]error
}

// testSixteenAllocators is a test of its own in the builds with and without the race
// detector: the first does a quarter of the numbers, `make alloc` runs the second too.
func testSixteenAllocators(t *testing.T) {
	t.Helper()
	r := random(t)
	numbers, kept, ended := 2*scaled(t, 7_500), scaled(t, 10_000), scaled(t, 2_000)
	server := testkit.Redis(t)
	c := newCrowd(t, 16, func() redis.UniversalClient { return server.Client(t) })
	c.stock(t, numbers)
	orders := makeOrders(t, r, kept, ended)

	began := time.Now()
	var g errgroup.Group
	g.SetLimit(48)
	for i := range orders {
		first := r.IntN(len(c.allocators))
		g.Go(func() error { return c.send(t.Context(), &orders[i], first) })
	}
	require.NoError(t, g.Wait())
	t.Logf("%d orders, each sent three times, %d of them completed: %s; %d calls made again",
		len(orders), ended, time.Since(began), c.again.Load())

	live, over := judgeAnswers(t, orders, numbers)
	c.judgeEvents(t, orders, live, over)
	c.judgeRedis(t, orders, live, numbers)
	c.judgeLedger(t, live, numbers)
}

// makeOrders makes orders of two parties in random order. Parties have other numbers
// than VNs.
func makeOrders(t *testing.T, r *rand.Rand, kept, ended int) []sent {
	t.Helper()
	people := fictional(t, 200, 10_000)
	orders := make([]sent, kept+ended)
	for i := range orders {
		o := &orders[i].order
		o.ID, o.Pool = fmt.Sprintf("order-%d", i), "rides"
		if i >= kept {
			orders[i].ending = ends + ending(i%4)
		}
		at := r.IntN(len(people))
		other := (at + 1 + r.IntN(len(people)-1)) % len(people)
		o.Parties = []vn.Party{
			{Role: "customer", Number: number(t, people[at])}, {Role: "agent", Number: number(t, people[other])},
		}
	}
	r.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
	return orders
}

// send assigns an order three times at the same time, each through another allocator,
// and completes it as its ending says.
func (c *crowd) send(ctx context.Context, s *sent, first int) error {
	at := func(i int) *allocator.Allocator { return c.allocators[(first+i)%len(c.allocators)] }
	end := func(i int) func() error {
		return func() error {
			return c.until(func() error { return at(i).End(ctx, s.order.ID, vn.Completed) })
		}
	}
	if s.ending == endsEarly {
		if err := end(3)(); err != nil {
			return err
		}
	}
	var g errgroup.Group
	for i := range s.got {
		g.Go(func() error {
			s.errs[i] = c.until(func() (err error) {
				o := s.order
				s.got[i], _, err = at(i).Assign(ctx, o)
				return err
			})
			return nil
		})
	}
	if s.ending == endsMeddle {
		g.Go(end(4))
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var after errgroup.Group
	switch s.ending {
	case endsTwice:
		after.Go(end(5))
		after.Go(end(6))
	case ends:
		after.Go(end(7))
	case stays, endsEarly, endsMeddle:
	}
	return after.Wait()
}

// judgeAnswers holds all answers against each other. It returns the assignments of the
// orders that live and of those that had one and ended, by order id.
func judgeAnswers(t *testing.T, orders []sent, numbers int) (live, over map[string]vn.Assignment) {
	t.Helper()
	live, over = map[string]vn.Assignment{}, map[string]vn.Assignment{}
	owner := map[vn.Number]string{}
	exhausted := 0
	for i := range orders {
		s := &orders[i]
		var mine *vn.Assignment
		none := 0
		for j := range s.got {
			switch {
			case s.errs[j] == nil && mine == nil:
				mine = &s.got[j]
			case s.errs[j] == nil:
				require.Equal(t, *mine, s.got[j], "an order has one assignment")
			case errors.Is(s.errs[j], vn.ErrOrderEnded):
				require.Contains(t, []ending{endsEarly, endsMeddle}, s.ending, "nobody else heard that it ended")
			default:
				require.ErrorIs(t, s.errs[j], vn.ErrPoolExhausted)
				none++
			}
		}
		exhausted += none
		if mine == nil {
			continue
		}
		require.Zero(t, none, "no VN comes back during the run: who heard that there is none hears it always")
		require.NotEqual(t, endsEarly, s.ending, "an order that was completed before comes not back")
		require.Len(t, mine.Parties, 2)
		for k, p := range mine.Parties {
			require.Equal(t, s.order.Parties[k].Role, p.Role)
			require.Empty(t, owner[p.VN], "a VN is in two orders")
			owner[p.VN] = s.order.ID
		}
		if s.ending == stays {
			live[s.order.ID] = *mine
		} else {
			over[s.order.ID] = *mine
		}
	}
	t.Logf("%d orders live, %d had VNs and ended, %d answers `pool_exhausted`", len(live), len(over), exhausted)
	require.Positive(t, exhausted, "there are fewer VNs than orders want")
	require.LessOrEqual(t, len(owner), numbers)
	return live, over
}

// judgeEvents reads the whole VN stream: what was announced is what was answered.
func (c *crowd) judgeEvents(t *testing.T, orders []sent, live, over map[string]vn.Assignment) {
	t.Helper()
	how := map[string]ending{}
	for i := range orders {
		how[orders[i].order.ID] = orders[i].ending
	}
	announced, released := map[string]bool{}, map[string]bool{}
	readStream(t, c.natsAddr, "VN", 0, func(subject string, data []byte) {
		var e assigned
		answer{body: string(data)}.decode(t, &e)
		switch subject {
		case "vn.assigned":
			require.False(t, announced[e.OrderID], "order %s was announced twice", e.OrderID)
			announced[e.OrderID] = true
			want, ok := live[e.OrderID]
			if !ok {
				want, ok = over[e.OrderID]
			}
			if !ok { // it was announced, and then told every sender that it had ended
				require.Equal(t, endsMeddle, how[e.OrderID])
				return
			}
			for i, p := range want.Parties {
				require.Equal(t, p.Role+p.VN.E164(), e.Parties[i].Role+e.Parties[i].VN)
			}
		case "vn.released":
			require.False(t, released[e.OrderID], "order %s was released twice", e.OrderID)
			released[e.OrderID] = true
			require.Equal(t, "completed", e.Reason)
			require.NotEqual(t, stays, how[e.OrderID])
		default:
			t.Fatalf("unexpected %s", subject)
		}
	})
	for id := range live {
		require.True(t, announced[id])
		require.False(t, released[id])
	}
	for id := range over {
		require.True(t, released[id], "order %s ended and nobody was told", id)
	}
}

// judgeRedis asks for every order and counts every VN.
func (c *crowd) judgeRedis(t *testing.T, orders []sent, live map[string]vn.Assignment, numbers int) {
	t.Helper()
	for i := range orders {
		id := orders[i].order.ID
		o, err := c.store.Order(t.Context(), id)
		want, lives := live[id]
		switch {
		case lives:
			require.NoError(t, err)
			require.Equal(t, want, o)
			c.requireBothWays(t, &orders[i], o)
		case orders[i].ending == stays:
			require.ErrorIs(t, err, vn.ErrOrderUnknown, "an order that got no VNs holds none")
		default:
			require.NoError(t, err)
			require.Equal(t, vn.Ended, o.State)
			require.Equal(t, vn.Completed, o.EndReason)
		}
	}
	rows, err := c.store.Stock(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, scripts.Stock{
		Pool: "rides", Carrier: "tw", Leased: 2 * len(live), Cooling: numbers - 2*len(live), Total: numbers,
	}, rows[0], "every VN is leased or cooling, for more were wanted than there are")
	audit, err := c.store.Audit(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
	require.Equal(t, [2]int{numbers, len(live)}, [2]int{audit.VNs, audit.Orders})
}

// judgeLedger holds the last record of every VN against the orders that live.
func (c *crowd) judgeLedger(t *testing.T, live map[string]vn.Assignment, numbers int) {
	t.Helper()
	holder := map[string]string{}
	for id, a := range live {
		for _, p := range a.Parties {
			holder[p.VN.Digits()] = id
		}
	}
	records := 0
	readStream(t, c.natsAddr, "LEDGER", 0, func(_ string, data []byte) {
		var rec events.Record
		answer{body: string(data)}.decode(t, &rec)
		records++
		id, held := holder[rec.VN]
		if held {
			require.Equal(t, "assigned "+id, rec.Kind+" "+rec.OrderID)
		} else {
			require.Equal(t, "released", rec.Kind, "the ledger's last word on a VN that no order holds")
		}
	})
	require.Equal(t, numbers, records, "a record for every VN")
}

// requireBothWays looks up the call of each party to the other.
func (c *crowd) requireBothWays(t *testing.T, s *sent, o vn.Assignment) {
	t.Helper()
	for calling, called := range []int{1, 0} {
		var d vn.Decision
		carrier, err := c.store.Lookup(t.Context(), o.Parties[called].VN, s.order.Parties[calling].Number, &d)
		require.NoError(t, err)
		require.Equal(t, byte(7), carrier)
		require.Equal(t, vn.Connected, d.Reason)
		require.True(t, d.Destination == s.order.Parties[called].Number && d.CallerID == o.Parties[calling].VN)
	}
}
