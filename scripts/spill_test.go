package scripts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// spilled returns a Store of four partitions, and an order whose own partition, the
// first, had no VNs for it: the third had.
func spilled(t *testing.T) (*fixture, Allocation) {
	t.Helper()
	f := newFixtureOf(t, testkit.Redis(t).Client(t), 4)
	f.refill(t, sim, vnsIn(f.layout, 2, 4)...)
	f.refill(t, sim, vnsIn(f.layout, 1, 1)...)
	a := f.allocate(t, homeOf(f.layout, 0), customer, agent)
	require.Equal(t, 2, a.Partition)
	return f, a
}

func TestAnOrderInAnotherPartitionIsLikeAnyOther(t *testing.T) {
	t.Parallel()
	f, a := spilled(t)
	ctx, id := t.Context(), a.Assignment.OrderID
	require.Equal(t, agent, f.lookup(t, a.Numbers[1].VN, customer).Destination)
	require.Empty(t, f.audit(t).Problems)

	again := f.allocate(t, id, customer, agent)
	require.True(t, again.Replayed)
	require.Equal(t, a.Assignment, again.Assignment)
	_, err := f.Allocate(ctx, request(id, customer, merchant))
	require.ErrorIs(t, err, vn.ErrOrderConflict)
	require.NoError(t, f.SettleAssigned(ctx, &again, []uint64{7, 8}))
	require.True(t, f.allocate(t, id, customer, agent).Settled)

	f.advance(t, time.Hour)
	longer, err := f.Extend(ctx, id, 20*time.Hour)
	require.NoError(t, err)
	require.Equal(t, 2, longer.Partition)
	order, err := f.Order(ctx, id)
	require.NoError(t, err)
	require.Equal(t, longer.Assignment, order)

	// The mark outlives the order, however long that was extended.
	f.advance(t, 20*time.Hour-time.Second)
	_, err = f.Extend(ctx, id, 20*time.Hour)
	require.NoError(t, err)
	f.advance(t, 20*time.Hour-time.Second)
	require.True(t, f.allocate(t, id, customer, agent).Replayed)

	r, err := f.Release(ctx, id, vn.Completed)
	require.NoError(t, err)
	require.True(t, r.Known)
	require.Equal(t, 2, r.Partition)
	require.NotEqual(t, vn.Connected, f.lookup(t, a.Numbers[1].VN, customer).Reason)
	repeat, err := f.Release(ctx, id, vn.Cancelled)
	require.NoError(t, err)
	require.Equal(t, r, repeat)
	require.NoError(t, f.SettleReleased(ctx, &r, []uint64{9, 10}))
	f.advance(t, time.Minute)
	ended, _, err := f.Reap(ctx)
	require.NoError(t, err)
	require.Empty(t, ended, "it is settled in both partitions")
	_, err = f.Allocate(ctx, request(id, customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded, "an `assigned` that comes late changes nothing")
	_, err = f.Extend(ctx, id, time.Hour)
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	order, err = f.Order(ctx, id)
	require.NoError(t, err)
	require.Equal(t, vn.Completed, order.EndReason)
	require.Empty(t, f.audit(t).Problems)

	f.advance(t, modelTombstone)
	_, err = f.Order(ctx, id)
	require.ErrorIs(t, err, vn.ErrOrderUnknown)
	require.Empty(t, f.keysOf(t, id), "nothing of it is kept for ever")
}

func (f *fixture) keysOf(t *testing.T, id string) []string {
	t.Helper()
	return slices.DeleteFunc(f.allKeys(t), func(k string) bool {
		return k != orderKey(f.layout.prefixes[0], id) && k != orderKey(f.layout.prefixes[2], id)
	})
}

func TestAnOrderInAnotherPartitionLapsesByItself(t *testing.T) {
	t.Parallel()
	f, a := spilled(t)
	id := a.Assignment.OrderID
	f.advance(t, ttl)
	order, err := f.Order(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, vn.Expired, order.EndReason)
	ended, _, err := f.Reap(t.Context())
	require.NoError(t, err)
	require.Len(t, ended, 1)
	require.Equal(t, 2, ended[0].Partition)
	_, err = f.Allocate(t.Context(), request(id, customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	require.NoError(t, f.SettleReleased(t.Context(), &ended[0], []uint64{1, 2}))
	require.Empty(t, f.audit(t).Problems)
}

// A crash between the two tombstones must not leave the order alive.
func TestAnEndThatWasCutShortIsFinishedByTheReaper(t *testing.T) {
	t.Parallel()
	f, a := spilled(t)
	ctx, id := t.Context(), a.Assignment.OrderID
	rec, err := f.releaseIn(ctx, 0, id, vn.Cancelled)
	require.NoError(t, err)
	require.Equal(t, 2, rec.forward.at)
	order, err := f.Order(ctx, id)
	require.NoError(t, err)
	require.Equal(t, vn.Ended, order.State, "nobody may take it for a live one meanwhile")
	require.Empty(t, f.audit(t).Problems)
	f.advance(t, 31*time.Second)
	ended, _, err := f.Reap(ctx)
	require.NoError(t, err)
	require.Len(t, ended, 1)
	require.Equal(t, 2, ended[0].Partition)
	require.Equal(t, vn.Cancelled, ended[0].Reason)
	require.NotEqual(t, vn.Connected, f.lookup(t, a.Numbers[1].VN, customer).Reason)
	require.NoError(t, f.SettleReleased(ctx, &ended[0], []uint64{1, 2}))
	f.advance(t, 31*time.Second)
	ended, _, err = f.Reap(ctx)
	require.NoError(t, err)
	require.Empty(t, ended)
}

// An order that found nothing anywhere leaves nothing that lasts, and the end of one
// whose mark leads nowhere is settled at once.
func TestAnOrderThatWasRefusedEverywhereLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, testkit.Redis(t).Client(t), 4)
	ctx, id := t.Context(), homeOf(f.layout, 0)
	f.refill(t, sim, vnsIn(f.layout, 3, 2)...)
	_, m, err := f.request(id).step(ctx, 0, noMark, "1")
	require.NoError(t, err)
	require.NotNil(t, m)
	_, err = f.Order(ctx, id)
	require.ErrorIs(t, err, vn.ErrOrderUnknown)
	_, err = f.Extend(ctx, id, time.Hour)
	require.ErrorIs(t, err, vn.ErrOrderUnknown)
	require.Equal(t, 3, f.allocate(t, id, customer, agent).Partition, "the mark is moved on")

	other := homesOf(f.layout, 0, 2)[1]
	_, _, err = f.request(other).step(ctx, 0, noMark, "1")
	require.NoError(t, err)
	_, err = f.Allocate(ctx, request(other, customer, agent))
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	f.advance(t, refusalLasts*time.Millisecond)
	require.Empty(t, f.keysOf(t, other))

	_, _, err = f.request(other).step(ctx, 0, noMark, "1")
	require.NoError(t, err)
	r, err := f.Release(ctx, other, vn.Completed)
	require.NoError(t, err)
	require.False(t, r.Known)
	f.advance(t, time.Minute)
	ended, _, err := f.Reap(ctx)
	require.NoError(t, err)
	require.Empty(t, ended)
	_, err = f.Allocate(ctx, request(other, customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded)
}

func (f *fixture) request(id string) *allocation {
	l := &lockstep{f: f, order: request(id, customer, agent)}
	return l.request()
}

// TestNoOrderHearsExhaustedWhileAPartitionHoldsEnough gives exactly as many pairs of VNs
// as there are orders, unevenly, and lets all come at once, each twice. The seed is printed.
func TestNoOrderHearsExhaustedWhileAPartitionHoldsEnough(t *testing.T) {
	t.Parallel()
	const partitions, pairs = 8, 60
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	f := newFixtureOf(t, testkit.Redis(t).Client(t), partitions)
	counts := make([]int, partitions)
	for range pairs {
		counts[min(rnd.IntN(partitions), rnd.IntN(partitions))] += 2
	}
	for p, n := range counts {
		odd := rnd.IntN(2) // one more than pairs need
		if n+odd > 0 {
			f.refill(t, sim, vnsIn(f.layout, p, n+odd)...)
		}
	}
	type got struct {
		a   Allocation
		err error
	}
	answers := make([]got, 2*pairs)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			for {
				a, err := f.Allocate(t.Context(), request("order-"+strconv.Itoa(i%pairs), customer, agent))
				if !errors.Is(err, vn.ErrUnavailable) {
					answers[i] = got{a, err}
					return
				}
			}
		})
	}
	all.Wait()
	spilledOrders, taken := 0, map[vn.Number]string{}
	for i, g := range answers {
		require.NoError(t, g.err, "order %d", i%pairs)
		require.Equal(t, answers[i%pairs].a.Assignment, g.a.Assignment)
		if i < pairs && g.a.Partition != f.layout.home(g.a.Assignment.OrderID) {
			spilledOrders++
		}
		for _, n := range g.a.Numbers {
			holder, held := taken[n.VN]
			require.True(t, !held || holder == g.a.Assignment.OrderID, "a VN in two orders")
			taken[n.VN] = g.a.Assignment.OrderID
		}
	}
	require.NotZero(t, spilledOrders)
	_, err := f.Allocate(t.Context(), request("one-too-many", customer, agent))
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	audit := f.audit(t)
	require.Empty(t, audit.Problems)
	require.Equal(t, pairs, audit.Orders)
	for id := range pairs {
		r, err := f.Release(t.Context(), "order-"+strconv.Itoa(id), vn.Completed)
		require.NoError(t, err)
		require.True(t, r.Known)
		require.NoError(t, f.SettleReleased(t.Context(), &r, []uint64{1, 2}))
	}
	f.advance(t, cooldown)
	rows, err := f.Stock(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, rows[0].Total, rows[0].Free, "every VN comes back")
}

// A partition that cannot be read may hold VNs: that is not "exhausted".
func TestAPartitionThatIsAwayOrColdIsNotAnEmptyOne(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, testkit.Redis(t).Client(t), 4)
	ctx, id := t.Context(), homeOf(f.layout, 0)
	require.NoError(t, f.client.HDel(ctx, metaKey(f.layout.prefixes[3]), "ready").Err())
	_, err := f.Allocate(ctx, request(id, customer, agent))
	require.ErrorIs(t, err, vn.ErrCold)
	require.NotErrorIs(t, err, vn.ErrPoolExhausted)
	f.refill(t, sim, vnsIn(f.layout, 1, 2)...)
	require.Equal(t, 1, f.allocate(t, id, customer, agent).Partition, "a cold partition does not stop the others")
}

// What ran out elsewhere is reaped before an order is refused, with no reaper alive.
func TestAnOtherPartitionRecoversWithNoReaperAlive(t *testing.T) {
	t.Parallel()
	f, a := spilled(t)
	other := homeOf(f.layout, 1)
	require.Equal(t, 2, f.allocate(t, other, customer, merchant).Partition)
	third := homeOf(f.layout, 3)
	_, err := f.Allocate(t.Context(), request(third, customer, stranger))
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	f.advance(t, ttl+cooldown)
	got := f.allocate(t, third, customer, stranger)
	require.Equal(t, 2, got.Partition)
	require.NotEqual(t, vn.Connected, f.lookup(t, a.Numbers[0].VN, agent).Reason, "the agent is in no order any more")
}

func TestAuditFindsAnOrderThatItsOwnPartitionDoesNotPointTo(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(ctx context.Context, c redis.UniversalClient, home, there string) error{
		"the mark is lost": func(ctx context.Context, c redis.UniversalClient, home, _ string) error {
			return c.Del(ctx, home).Err()
		},
		"it lives in both": func(ctx context.Context, c redis.UniversalClient, home, there string) error {
			h := c.HGetAll(ctx, there).Val()
			if err := c.Del(ctx, home).Err(); err != nil {
				return err
			}
			return c.HSet(ctx, home, h).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, a := spilled(t)
			home, there := orderKey(f.layout.prefixes[0], a.Assignment.OrderID), orderKey(f.layout.prefixes[2], a.Assignment.OrderID)
			require.NoError(t, damage(t.Context(), f.client, home, there))
			kinds := map[ProblemKind]bool{}
			for _, p := range f.audit(t).Problems {
				kinds[p.Kind] = true
			}
			require.True(t, kinds[ProblemForward], fmt.Sprint(kinds))
		})
	}
}

// Who was refused may have moved the mark on by now: nobody else may take VNs under it,
// though some have come since.
func TestARefusalHoldsForItsMark(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, testkit.Redis(t).Client(t), 4)
	ctx, id := t.Context(), homeOf(f.layout, 0)
	_, m, err := f.request(id).step(ctx, 0, noMark, "1")
	require.NoError(t, err)
	_, _, err = f.request(id).step(ctx, 1, m.made, here)
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	f.refill(t, sim, vnsIn(f.layout, 1, 2)...)
	_, _, err = f.request(id).step(ctx, 1, m.made, here)
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	_, later, err := f.request(id).step(ctx, 0, m.made, "1")
	require.NoError(t, err)
	require.NotEqual(t, m.made, later.made)
	_, _, err = f.request(id).step(ctx, 1, later.made, here)
	require.NoError(t, err)
}
