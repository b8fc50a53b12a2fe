package scripts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Also for an order in another partition than its own: what points to people goes, and that
// it has ended stays.
func TestWhatPointsToPeopleIsErasedAndTheEndIsRemembered(t *testing.T) {
	t.Parallel()
	f, a := spilled(t)
	ctx, id := t.Context(), a.Assignment.OrderID
	other := f.allocate(t, "another", customer, merchant)
	orders := func(n vn.Number) []string {
		t.Helper()
		ids, err := OrdersOf(ctx, f.client, []seal.Token{f.keys.Primary().Token(n)})
		require.NoError(t, err)
		return ids
	}
	remains := func(id string) Remains {
		t.Helper()
		r, err := f.Remains(ctx, id)
		require.NoError(t, err)
		return r
	}
	require.ElementsMatch(t, []string{id, "another"}, orders(customer))
	require.Equal(t, []string{id}, orders(agent))
	require.Empty(t, orders(stranger))
	require.Equal(t, Remains{Known: true, Live: true}, remains(id))
	require.Equal(t, Remains{}, remains("nobody"))

	for _, one := range []Allocation{a, other} {
		r, err := f.Release(ctx, one.Assignment.OrderID, vn.Completed)
		require.NoError(t, err)
		require.False(t, remains(one.Assignment.OrderID).Settled)
		require.NoError(t, f.SettleReleased(ctx, &r, []uint64{7, 8}))
	}
	require.Equal(t, []string{id}, orders(agent), "remembered as a former caller")
	r := remains(id)
	require.Equal(t, []any{true, false, true, 2}, []any{r.Known, r.Live, r.Settled, r.Callers})
	require.Equal(t, vn.OrderEnded, f.lookup(t, a.Numbers[1].VN, customer).Reason)
	for range 2 { // a repeat finds nothing to do
		require.NoError(t, f.Erase(ctx, r))
	}
	require.Zero(t, remains(id).Callers)
	require.Empty(t, orders(agent))
	require.Equal(t, []string{"another"}, orders(customer), "another order's is left alone")
	require.Equal(t, vn.NumberNotAssigned, f.lookup(t, a.Numbers[1].VN, customer).Reason)
	order, err := f.Order(ctx, id)
	require.NoError(t, err)
	require.Equal(t, vn.Completed, order.EndReason)
	_, err = f.Allocate(ctx, request(id, customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded, "it never comes back")
	require.Empty(t, f.audit(t).Problems)
}
