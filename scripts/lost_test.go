package scripts

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// After a race lost in the ledger the order takes other VNs, once, and the ones that it had
// rest: those won for the cool-down, those lost as long as their lease would have lasted.
func TestALostRaceMovesTheOrderOnToOtherVNs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testkit.Redis(t).Client(t))
	ctx := t.Context()
	f.refill(t, sim, vns(4)...)
	first := f.allocate(t, "o", customer, agent)
	lost, won := first.Numbers[0].VN, first.Numbers[1].VN
	r := request("o", customer, agent)
	r.Lost, r.Won = []vn.Number{lost}, []Fenced{{VN: won, Fence: 90}}

	second, err := f.Allocate(ctx, r)
	require.NoError(t, err)
	require.False(t, second.Replayed)
	for _, n := range second.Numbers {
		require.NotContains(t, []vn.Number{lost, won}, n.VN)
	}
	require.NotEqual(t, vn.Connected, f.lookup(t, won, customer).Reason)
	require.Equal(t, agent, f.lookup(t, second.Numbers[1].VN, customer).Destination)
	inv, err := f.Inventory(ctx, won)
	require.NoError(t, err)
	require.EqualValues(t, 90, inv.Fence)
	inv, err = f.Inventory(ctx, lost)
	require.NoError(t, err)
	require.EqualValues(t, 5, inv.Fence, "whoever takes it next must lose as well, until the repair")
	require.Empty(t, f.audit(t).Problems)

	again, err := f.Allocate(ctx, r)
	require.NoError(t, err)
	require.True(t, again.Replayed, "the same word again changes nothing")
	require.Equal(t, second.Assignment, again.Assignment)

	f.advance(t, cooldown)
	require.Equal(t, 1, f.stockOf(t, sim).Free, "the one won has rested")
	f.advance(t, ttl)
	require.Equal(t, 2, f.stockOf(t, sim).Free)
}

func TestALostRaceWithNoOtherVNsLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, testkit.Redis(t).Client(t), 4)
	ctx, id := t.Context(), homeOf(f.layout, 0)
	f.refill(t, sim, vnsIn(f.layout, 2, 2)...)
	a := f.allocate(t, id, customer, agent)
	require.Equal(t, 2, a.Partition)
	_, err := f.Drain(ctx, pool, a.Numbers[0].VN)
	require.NoError(t, err)
	r := request(id, customer, agent)
	r.Lost, r.Won = []vn.Number{a.Numbers[0].VN}, []Fenced{{VN: a.Numbers[1].VN, Fence: 9}}
	_, err = f.Allocate(ctx, r)
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	require.Empty(t, f.audit(t).Problems)
	require.Equal(t, Stock{Pool: pool, Carrier: sim.Name, Cooling: 1, Total: 1}, f.stockOf(t, sim))

	f.refill(t, sim, vnsIn(f.layout, 3, 2)...)
	b, err := f.Allocate(ctx, r)
	require.NoError(t, err)
	require.Equal(t, 3, b.Partition)
	f.advance(t, ttl+time.Second)
	ended, _, err := f.Reap(ctx)
	require.NoError(t, err)
	require.Len(t, ended, 1)
	require.Empty(t, f.audit(t).Problems)
}

// A server that has lost a change must not know of its record: repair would take the change
// for known, and a VN that is free here could be given to another order, over the fence.
func testAServerThatHasLostAChangeKeepsNoFenceOfIt(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	fenceOf := func(n vn.Number) uint64 {
		inv, err := f.Inventory(t.Context(), n)
		require.NoError(t, err)
		return inv.Fence
	}
	before := fenceOf(vns(1)[0])
	a := f.allocate(t, "o", customer, agent)
	order := f.client.HGetAll(t.Context(), orderKey(f.prefix, "o")).Val()
	require.NoError(t, f.client.Del(t.Context(), orderKey(f.prefix, "o")).Err())
	require.ErrorIs(t, f.SettleAssigned(t.Context(), &a, []uint64{70, 71}), ErrBehind)
	require.Equal(t, before, fenceOf(vns(1)[0]))

	require.NoError(t, f.client.HSet(t.Context(), orderKey(f.prefix, "o"), order).Err())
	require.NoError(t, f.SettleAssigned(t.Context(), &a, []uint64{72, 73}))
	r, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	ended := f.client.HGetAll(t.Context(), orderKey(f.prefix, "o")).Val()
	require.NoError(t, f.client.Del(t.Context(), orderKey(f.prefix, "o")).Err())
	require.NoError(t, f.client.HSet(t.Context(), orderKey(f.prefix, "o"), order).Err())
	err = f.SettleReleased(t.Context(), &r, []uint64{74, 75})
	require.ErrorIs(t, err, ErrBehind)
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Contains(t, []uint64{72, 73}, fenceOf(a.Numbers[0].VN))

	require.NoError(t, f.client.HSet(t.Context(), orderKey(f.prefix, "o"), ended).Err())
	require.NoError(t, f.SettleReleased(t.Context(), &r, []uint64{74, 75}))
	require.Contains(t, []uint64{74, 75}, fenceOf(a.Numbers[0].VN))
}
