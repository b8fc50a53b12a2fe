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
