package scripts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// testHoldingTellsWhatTheLedgerIsHeldAgainst follows a VN through its life. Survey tells the
// same as Holding.
func testHoldingTellsWhatTheLedgerIsHeldAgainst(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	n := vns(1)[0]
	holds := func(want Holding, orders ...string) {
		t.Helper()
		want.VN = n
		got, err := f.Holding(t.Context(), n, orders...)
		require.NoError(t, err)
		require.Equal(t, want, got)
		seen := false
		_, err = f.Survey(t.Context(), SurveyOptions{Each: func(h *Holding) {
			if h.VN == n {
				seen = true
				require.Equal(t, want, *h)
			}
		}})
		require.NoError(t, err)
		require.Equal(t, want.Pool != "", seen)
	}
	holds(Holding{Pool: pool, Carrier: "sim", Fence: 5})
	a := f.allocate(t, "o-1", customer, agent)
	holds(Holding{Pool: pool, Carrier: "sim", Fence: 5, OrderID: "o-1", Bound: true, Unsettled: true}) // found by its bindings
	require.NoError(t, f.SettleAssigned(t.Context(), &a, []uint64{7, 7}))
	holds(Holding{Pool: pool, Carrier: "sim", Fence: 7, OrderID: "o-1", Bound: true})
	f.advance(t, ttl)
	holds(Holding{Pool: pool, Carrier: "sim", Fence: 7, OrderID: "o-1"}, "o-1") // run out, and not reaped
	r, err := f.Release(t.Context(), "o-1", vn.Completed)
	require.NoError(t, err)
	holds(Holding{Pool: pool, Carrier: "sim", Fence: 7, Unsettled: true}, "o-1")
	require.NoError(t, f.SettleReleased(t.Context(), &r, []uint64{9, 9}))
	holds(Holding{Pool: pool, Carrier: "sim", Fence: 9}, "o-1")
	_, err = f.Drain(t.Context(), pool, n)
	require.NoError(t, err)
	holds(Holding{}, "o-1")
}
