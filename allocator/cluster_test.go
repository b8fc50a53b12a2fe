package allocator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// rounds is how often the faults of a NATS cluster are made: CALLMASK_NATS_ROUNDS times in
// the long form, else once.
func rounds(t *testing.T) (n int, long bool) {
	t.Helper()
	text, long := os.LookupEnv("CALLMASK_NATS_ROUNDS")
	if !long {
		return 1, false
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n, true
}

// mostPause is how long the loss of a stream's leader may hold up orders. The servers
// choose another one 4 to 9 s after they last heard of it, at random (nats-server's
// election time-outs, which no setting changes); the rest is for a busy machine.
const mostPause = 14 * time.Second

// Orders keep coming, and a call is looked up again and again, while the consumers are
// deleted, the streams get other leaders, and a NATS cluster of three loses the leader of
// the ledger, then two servers at once. The long form also freezes the leader of the
// orders, restarts every server in turn, and does it all several times.
func TestAllocationOnANATSClusterThatLosesServers(t *testing.T) {
	t.Parallel()
	servers := testkit.NATSNodes(t, 3)
	n, long := rounds(t)
	p := jakarta()
	p.Max = 50_000
	f := &flow{system: newSystemOn(t, servers.URL(), 2, 1000+3000*n, p)}
	for _, stream := range []string{"ORDERS", "VN", "LEDGER", "CALLS", "POOLS", "DEAD", "ADVISORIES"} {
		info, err := f.js.Stream(t.Context(), stream)
		require.NoError(t, err)
		require.Equal(t, 3, info.CachedInfo().Config.Replicas, "by itself, of stream %s", stream)
	}
	f.begin(t)
	calls := f.probe(t)
	f.during(t, "loss of the allocator's consumers", func() {
		for _, durable := range []string{Durable, DurableEnds} {
			require.NoError(t, f.js.DeleteConsumer(t.Context(), "ORDERS", durable))
		}
	})
	for range n {
		f.during(t, "another leader for each stream", func() {
			for _, stream := range []string{"ORDERS", "VN", "LEDGER"} {
				_, err := f.app.RequestWithContext(t.Context(), "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
				require.NoError(t, err)
			}
		})
		leader := leaderOf(t, servers, "LEDGER")
		f.during(t, "kill -9 of the leader of the ledger", leader.Kill)
		restart(t, servers, leader)
		f.withoutQuorum(t, servers)
		if !long {
			continue
		}
		leader = leaderOf(t, servers, "ORDERS")
		f.during(t, "freeze of the leader of the orders", func() { require.NoError(t, leader.Freeze()) })
		require.NoError(t, leader.Thaw())
		healthy(t, servers)
		for _, node := range servers.Nodes() {
			f.during(t, "restart of "+node.Name(), func() { require.NoError(t, node.Stop(t.Context())) })
			restart(t, servers, node)
		}
	}
	f.end(t)
	asked, failed := calls()
	t.Logf("%d orders, each assigned once; %d calls looked up meanwhile, %d without an answer", f.sent.Load(), asked, failed)
	require.Zero(t, failed)
}

func leaderOf(t *testing.T, servers *cluster.NATS, stream string) *cluster.NATSNode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	leader, err := servers.StreamLeader(ctx, stream)
	require.NoError(t, err)
	return leader
}

func restart(t *testing.T, servers *cluster.NATS, node *cluster.NATSNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, node.Restart(ctx))
	healthy(t, servers)
}

func healthy(t *testing.T, servers *cluster.NATS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, servers.WaitHealthy(ctx))
}

// flow is an order service that publishes one order after the other, each until it is
// acknowledged, and checks in the end what became of them.
type flow struct {
	*system

	sent atomic.Int64 // acknowledged
	stop func()

	mu       sync.Mutex
	first    map[string]time.Time       // when stream VN stored the announcement of an order
	assigned map[string]map[string]bool // the different assignments announced of it
	odd      []string                   // what else was announced
}

func orderNumbered(n int64) string { return fmt.Sprintf("o-%d", n) }

func (f *flow) begin(t *testing.T) {
	t.Helper()
	f.listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			id := orderNumbered(f.sent.Load())
			payload := strings.Replace(assignedEvent, "o-1", id, 1)
			for ctx.Err() == nil {
				one, cancel := context.WithTimeout(ctx, time.Second)
				_, err := f.js.Publish(one, "orders.assigned", []byte(payload), jetstream.WithMsgID("event:"+id))
				cancel()
				if err == nil {
					f.sent.Add(1)
					break
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	f.stop = func() {
		cancel()
		group.Wait()
	}
	t.Cleanup(f.stop)
	f.next(t)
}

// listen notes what stream VN stores.
func (f *flow) listen(t *testing.T) {
	t.Helper()
	f.first, f.assigned = map[string]time.Time{}, map[string]map[string]bool{}
	c, err := f.js.OrderedConsumer(t.Context(), "VN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"vn.>"}})
	require.NoError(t, err)
	hears, err := c.Consume(f.hear, jetstream.PullExpiry(2*time.Second), jetstream.PullHeartbeat(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() {
		hears.Stop()
		<-hears.Closed()
	})
}

func (f *flow) hear(m jetstream.Msg) {
	var e events.VNAssigned
	meta, err := m.Metadata()
	if err == nil {
		err = json.Unmarshal(m.Data(), &e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || m.Subject() != events.SubjectAssigned {
		f.odd = append(f.odd, m.Subject())
		return
	}
	if f.assigned[e.OrderID] == nil {
		f.first[e.OrderID], f.assigned[e.OrderID] = meta.Timestamp, map[string]bool{}
	}
	f.assigned[e.OrderID][fmt.Sprint(e.Parties)] = true
}

// next waits for the announcement of the first order that is published from now on, and
// returns when it was stored.
func (f *flow) next(t *testing.T) (at time.Time) {
	t.Helper()
	id := orderNumbered(f.sent.Load() + 1) // the one before may be on its way already
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		at = f.first[id]
		return !at.IsZero()
	}, 40*time.Second, 5*time.Millisecond, "order %s is assigned", id)
	return at
}

// during makes a fault and waits until an order that came after it is assigned: that is
// the pause.
func (f *flow) during(t *testing.T, fault string, do func()) {
	t.Helper()
	do()
	began := time.Now()
	pause := f.next(t).Sub(began)
	t.Logf("%s: the next order was assigned after %s", fault, pause.Round(time.Millisecond))
	require.Less(t, pause, mostPause, fault)
}

// withoutQuorum kills two of three servers. No event is acknowledged then; what was comes
// in afterwards.
func (f *flow) withoutQuorum(t *testing.T, servers *cluster.NATS) {
	t.Helper()
	nodes := servers.Nodes()
	nodes[0].Kill()
	nodes[1].Kill()
	before := f.sent.Load()
	for end := time.After(2 * time.Second); ; {
		select {
		case <-end:
		case <-time.After(100 * time.Millisecond):
			require.LessOrEqual(t, f.sent.Load(), before+1, "one server alone acknowledges nothing")
			continue
		}
		break
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	require.NoError(t, errors.Join(nodes[0].Restart(ctx), nodes[1].Restart(ctx)))
	t.Logf("two of three servers lost: the next order was assigned %s after their restart began", f.next(t).Sub(began).Round(time.Millisecond))
	healthy(t, servers)
}

// probe looks a call up every few milliseconds until the returned function is called,
// which tells how often and how often there was no right answer in time.
func (f *flow) probe(t *testing.T) func() (asked, failed int64) {
	t.Helper()
	o, err := f.store.Order(t.Context(), orderNumbered(0))
	require.NoError(t, err)
	called, calling := o.Parties[1].VN, vn.Number(12025550101)
	ctx, cancel := context.WithCancel(t.Context())
	var asked, failed int64
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var d vn.Decision
			one, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := f.store.Lookup(one, called, calling, &d)
			cancel()
			asked++
			if err != nil || d.Reason != vn.Connected {
				failed++
			}
		}
	})
	end := func() (int64, int64) {
		cancel()
		group.Wait()
		return asked, failed
	}
	t.Cleanup(func() { end() })
	return end
}

// end checks that every order that was acknowledged has one assignment, announced once
// or repeated with the same numbers, and that no number serves two orders.
func (f *flow) end(t *testing.T) {
	t.Helper()
	f.stop()
	require.Eventually(t, func() bool {
		c, err := f.js.Consumer(t.Context(), "ORDERS", Durable)
		return err == nil && c.CachedInfo().NumPending+uint64(c.CachedInfo().NumAckPending) == 0
	}, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return int64(len(f.assigned)) >= f.sent.Load()
	}, 30*time.Second, 20*time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Empty(t, f.odd)
	held := map[vn.Number]string{}
	for n := range f.sent.Load() {
		id := orderNumbered(n)
		o, err := f.store.Order(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, vn.Active, o.State, id)
		require.Len(t, f.assigned[id], 1, "the assignments announced for %s", id)
		for _, p := range o.Parties {
			require.Empty(t, held[p.VN], "the number serves another order too")
			held[p.VN] = id
			rec, _, err := f.bus.LastRecord(t.Context(), p.VN)
			require.NoError(t, err)
			require.Equal(t, [2]string{events.KindAssigned, id}, [2]string{rec.Kind, rec.OrderID})
		}
	}
	letters, _, err := f.bus.DeadLetters(t.Context())
	require.NoError(t, err)
	require.Empty(t, letters)
}
