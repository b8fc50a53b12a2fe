package scripts

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func testOnlyAFreeVNLeavesByDrainFree(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(3)...)
	a := f.allocate(t, "o", customer, agent)
	leased := a.Numbers[0].VN
	busy := func(why string) {
		_, err := f.DrainFree(t.Context(), pool, leased)
		require.ErrorIs(t, err, ErrBusy, why)
		require.Equal(t, 3, f.stockOf(t, sim).Total, why)
	}
	busy("leased")
	require.Zero(t, f.stockOf(t, sim).Draining, "and it does not leave later either")
	_, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	busy("cooling")

	free, err := f.SomeFree(t.Context(), pool, "sim", 10)
	require.NoError(t, err)
	require.Len(t, free, 1)
	d, err := f.DrainFree(t.Context(), pool, free[0])
	require.NoError(t, err)
	require.True(t, d.Left)
	require.Equal(t, Inventory{Pool: pool, Carrier: "sim", Owned: Owned{VN: free[0], Ref: "PN1", Fence: 5}}, d.Inventory)
	_, err = f.DrainFree(t.Context(), pool, free[0])
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
	_, err = f.DrainFree(t.Context(), "bali", leased)
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
}

func testTheInventoryOfACarrierIsRead(t *testing.T, f *fixture) {
	t.Helper()
	all := vns(2500)
	f.refill(t, sim, all[:2200]...)
	f.refill(t, twilio, all[2200:]...)
	mine, err := f.InventoryOf(t.Context(), "sim")
	require.NoError(t, err)
	require.Len(t, mine, 2200)
	require.Equal(t, Inventory{Pool: pool, Carrier: "sim", Owned: Owned{VN: all[7], Ref: "PN1", Fence: 5}}, mine[all[7]])
	none, err := f.InventoryOf(t.Context(), "nobody")
	require.NoError(t, err)
	require.Empty(t, none)

	some, err := f.SomeFree(t.Context(), pool, "twilio", 20)
	require.NoError(t, err)
	require.Len(t, some, 20)
	slices.Sort(some)
	require.Len(t, slices.Compact(some), 20, "no number twice")
	for _, n := range some {
		require.GreaterOrEqual(t, n, all[2200])
	}
	some, err = f.SomeFree(t.Context(), "bali", "twilio", 20)
	require.NoError(t, err)
	require.Empty(t, some)

	require.NoError(t, f.client.HSet(t.Context(), inventoryKey(f.prefix), "447700900000", "damaged").Err())
	_, err = f.InventoryOf(t.Context(), "sim")
	require.ErrorIs(t, err, errInventory)
}
