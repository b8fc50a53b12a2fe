package ledger

import (
	"context"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// behind is a Store on a server that has lost what the ledger has just accepted.
type behind struct{ *world }

func (behind) SettleAssigned(context.Context, *scripts.Allocation, []uint64) error {
	return scripts.ErrBehind
}

func (behind) SettleReleased(context.Context, *scripts.Release, []uint64) error {
	return scripts.ErrBehind
}

func TestAServerThatIsBehindIsToldOf(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var told []vn.Number
	l := New(behind{w}, w, func(n vn.Number) { told = append(told, n) }, zerolog.Nop())
	require.NoError(t, l.Assign(t.Context(), allocation()), "the assignment stands in the ledger")
	require.ElementsMatch(t, []vn.Number{vnA, vnB}, told)

	told = nil
	r := release()
	for _, n := range r.Numbers {
		w.stands(n.VN, n.Fence, events.Record{Kind: events.KindAssigned, OrderID: r.OrderID})
	}
	require.ErrorIs(t, l.End(t.Context(), r), vn.ErrUnavailable, "it still routes, so the end must be asked for again")
	require.ElementsMatch(t, []vn.Number{vnA, vnB}, told)
}

// The sequence of another order's record as the fence of a VN that Redis takes for a free
// one would let it be given away.
func TestAnEndTakesNoFenceOfAnotherOrdersRecord(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var told []vn.Number
	r := release()
	w.stands(vnA, 500, events.Record{Kind: events.KindAssigned, OrderID: "o-other"})
	w.stands(vnB, 501, events.Record{Kind: events.KindAssigned, OrderID: r.OrderID})
	require.NoError(t, New(w, w, func(n vn.Number) { told = append(told, n) }, zerolog.Nop()).End(t.Context(), r))
	require.Equal(t, []vn.Number{vnA}, told)
	require.Len(t, w.fences, 2)
	require.Zero(t, w.fences[0])
	require.NotZero(t, w.fences[1])
}
