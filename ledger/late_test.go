package ledger

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// TestALateEndLeavesWhatIsNewerAlone pins that the end of an order which reaches the
// ledger only after its VNs went on (NATS was away) overwrites nothing: a rebuild would
// give a live order's VNs, or numbers taken out of their pool, to somebody else.
func TestALateEndLeavesWhatIsNewerAlone(t *testing.T) {
	t.Parallel()
	f := func(name string, retired []vn.Number, before, after map[vn.Number]events.Record) {
		t.Helper()
		w := newWorld()
		r := release(retired...)
		for _, n := range r.Numbers {
			w.seq++
			w.stands(n.VN, w.seq, before[n.VN])
		}
		require.NoError(t, w.ledger().End(t.Context(), r), name)
		for n, want := range after {
			got := w.byVN[n.Digits()]
			require.Equal(t, want.Kind, got.Kind, name)
			require.Equal(t, want.OrderID, got.OrderID, name)
		}
		require.Len(t, w.released, 1, name)
		require.Len(t, w.fences, 2, name)
	}
	assigned := func(id string) events.Record { return events.Record{Kind: events.KindAssigned, OrderID: id} }
	released := func(id string) events.Record { return events.Record{Kind: events.KindReleased, OrderID: id} }
	gone := events.Record{Kind: events.KindRetired}
	owned := events.Record{Kind: events.KindOwned}

	f("its own records are ended", nil,
		map[vn.Number]events.Record{vnA: assigned("o-1"), vnB: assigned("o-1")},
		map[vn.Number]events.Record{vnA: released("o-1"), vnB: released("o-1")})
	f("another order's stand", nil,
		map[vn.Number]events.Record{vnA: assigned("o-2"), vnB: released("o-3")},
		map[vn.Number]events.Record{vnA: assigned("o-2"), vnB: released("o-3")})
	f("a retired number stays retired", nil,
		map[vn.Number]events.Record{vnA: gone, vnB: assigned("o-1")},
		map[vn.Number]events.Record{vnA: gone, vnB: released("o-1")})
	f("one that left with the order is retired, recorded or not", []vn.Number{vnA, vnB},
		map[vn.Number]events.Record{vnA: owned, vnB: assigned("o-1")},
		map[vn.Number]events.Record{vnA: {Kind: events.KindRetired, OrderID: "o-1"}, vnB: {Kind: events.KindRetired, OrderID: "o-1"}})
}
