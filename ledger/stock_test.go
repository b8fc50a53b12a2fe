package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

func owned(numbers ...vn.Number) []scripts.Owned {
	list := make([]scripts.Owned, len(numbers))
	for i, n := range numbers {
		list[i] = scripts.Owned{VN: n, Ref: "ref-" + n.Digits(), Fence: 99} // the fence given must not count
	}
	return list
}

// given puts a last record of vnC into the ledger.
func (w *world) given(r events.Record) {
	r.VN = vnC.Digits()
	w.byVN[r.VN], w.last[r.VN] = r, 55
}

func TestOwnRecordsWhatTheLedgerDoesNotHave(t *testing.T) {
	t.Parallel()
	f := func(name string, last *events.Record, order *vn.Assignment, steps []string, fence uint64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			if last != nil {
				w.given(*last)
			}
			if order != nil {
				w.orders[order.OrderID] = *order
			}
			done, err := w.ledger().Own(t.Context(), "jakarta", "sim", owned(vnC))
			require.NoError(t, err)
			require.Equal(t, scripts.Refilled{Added: 1}, done)
			require.Equal(t, steps, w.steps)
			require.Equal(t, []scripts.Owned{{VN: vnC, Ref: "ref-12025550152", Fence: fence}}, w.refills)
		})
	}
	anew := []string{"record 1 owned", "refill 1"}
	gone := time.Now().Add(-time.Minute)
	f("never seen", nil, nil, anew, 101)
	f("a crash came before the refill", &events.Record{Kind: events.KindOwned, Pool: "jakarta", Carrier: "sim"}, nil,
		[]string{"refill 1"}, 55)
	f("owned for another pool that it never reached", &events.Record{Kind: events.KindOwned, Pool: "lima", Carrier: "sim"}, nil, anew, 101)
	f("owned by another carrier", &events.Record{Kind: events.KindOwned, Pool: "jakarta", Carrier: "twilio"}, nil, anew, 101)
	f("retired before", &events.Record{Kind: events.KindRetired, Pool: "jakarta", Carrier: "sim"}, nil, anew, 101)
	f("released", &events.Record{Kind: events.KindReleased, Pool: "jakarta", Carrier: "sim"}, nil, anew, 101)
	f("its order has run out", &events.Record{Kind: events.KindAssigned, OrderID: "o-9", ExpiresAt: gone}, nil, anew, 101)
	f("its order has ended", &events.Record{Kind: events.KindAssigned, OrderID: "o-9", ExpiresAt: time.Now().Add(time.Hour)},
		&vn.Assignment{OrderID: "o-9", State: vn.Ended}, anew, 101)
}

// An order that only the ledger knows means that Redis has lost data: the number's
// parties may be on the phone.
func TestOwnRefusesANumberThatALostOrderHolds(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.given(events.Record{Kind: events.KindAssigned, OrderID: "o-9", ExpiresAt: time.Now().Add(time.Hour)})
	_, err := w.ledger().Own(t.Context(), "jakarta", "sim", owned(12025550160, vnC))
	var held *HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, []int{1}, held.Indexes)
	require.NotContains(t, err.Error(), vnC.Digits())
	require.Empty(t, w.steps, "nothing may be recorded when one number is refused")

	w.orders["o-9"] = vn.Assignment{OrderID: "o-9", State: vn.Active}
	_, err = w.ledger().Own(t.Context(), "jakarta", "sim", owned(vnC))
	require.ErrorAs(t, err, &held)
}

func TestOwnAgainChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.inventory[vnC] = inventory(vnC, "lima", "sim", 3)
	done, err := w.ledger().Own(t.Context(), "jakarta", "sim", owned(vnA, vnB, vnC))
	require.NoError(t, err)
	require.Equal(t, scripts.Refilled{Present: 2, Foreign: []vn.Number{vnC}}, done)
	require.Equal(t, []string{"refill 3"}, w.steps)
	require.Equal(t, uint64(7), w.refills[0].Fence)
}

func TestOwnWorksInBatches(t *testing.T) {
	t.Parallel()
	w := newWorld()
	numbers := make([]scripts.Owned, 2*ownBatch+1)
	for i := range numbers {
		numbers[i].VN = vn.Number(12025560000 + i)
	}
	done, err := w.ledger().Own(t.Context(), "jakarta", "sim", numbers)
	require.NoError(t, err)
	require.Equal(t, len(numbers), done.Added)
	require.Equal(t, []string{
		"record 500 owned", "refill 500", "record 500 owned", "refill 500", "record 1 owned", "refill 1",
	}, w.steps)
	for i, n := range w.refills {
		require.Equal(t, uint64(101+i), n.Fence)
	}
}

func TestOwnStopsAtAFault(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"inventory", "last record", "record 1 owned", "refill 1"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.failAt = at
			_, err := w.ledger().Own(t.Context(), "jakarta", "sim", owned(vnC))
			require.ErrorIs(t, err, errFault)
			w.failAt, w.steps = "", nil
			_, err = w.ledger().Own(t.Context(), "jakarta", "sim", owned(vnC))
			require.NoError(t, err, "the same again must heal it")
			require.Contains(t, w.inventory, vnC)
		})
	}
}

func TestRetireRecordsANumberThatLeft(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.drained[vnA] = true
	d, err := w.ledger().Retire(t.Context(), "jakarta", vnA)
	require.NoError(t, err)
	require.True(t, d.Left)
	require.Equal(t, []string{"drain", "record 1 retired"}, w.steps)
	require.Equal(t, events.Record{
		Kind: events.KindRetired, VN: vnA.Digits(), Pool: "jakarta", Carrier: "sim", Ref: "ref-12025550150",
	}, w.records[0])

	w.steps = nil
	d, err = w.ledger().Retire(t.Context(), "jakarta", vnB) // leased: its order's end records it
	require.NoError(t, err)
	require.False(t, d.Left)
	require.Equal(t, []string{"drain"}, w.steps)
}

func TestRetireFreeLeavesANumberInUseAlone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.drained[vnA] = true
	d, err := w.ledger().RetireFree(t.Context(), "jakarta", vnA)
	require.NoError(t, err)
	require.True(t, d.Left)
	require.Equal(t, []string{"drain", "record 1 retired"}, w.steps)
	_, err = w.ledger().RetireFree(t.Context(), "jakarta", vnB)
	require.ErrorIs(t, err, scripts.ErrBusy)
	require.Contains(t, w.inventory, vnB)
	require.Len(t, w.records, 1)
}

func TestRetireAgainAfterACrashRecordsWhatIsMissing(t *testing.T) {
	t.Parallel()
	f := func(name string, last *events.Record, found bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			if last != nil {
				w.given(*last)
			}
			d, err := w.ledger().Retire(t.Context(), "jakarta", vnC)
			if !found {
				require.ErrorIs(t, err, vn.ErrNumberUnknown)
				require.Equal(t, []string{"drain"}, w.steps)
				return
			}
			require.NoError(t, err)
			require.True(t, d.Left)
			require.Equal(t, []string{"drain", "record 1 retired"}, w.steps)
			require.Equal(t, "r", w.byVN[vnC.Digits()].Ref)
		})
	}
	f("never ours", nil, false)
	f("owned", &events.Record{Kind: events.KindOwned, Pool: "jakarta", Ref: "r"}, true)
	f("released", &events.Record{Kind: events.KindReleased, Pool: "jakarta", Ref: "r"}, true)
	f("another pool's", &events.Record{Kind: events.KindOwned, Pool: "lima"}, false)
	f("retired already", &events.Record{Kind: events.KindRetired, Pool: "jakarta"}, false)
	f("still assigned", &events.Record{Kind: events.KindAssigned, Pool: "jakarta"}, false)
}

func TestRetireFromTheWrongPoolIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.inventory[vnC] = inventory(vnC, "lima", "sim", 3)
	w.given(events.Record{Kind: events.KindOwned, Pool: "jakarta"})
	_, err := w.ledger().Retire(t.Context(), "jakarta", vnC)
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
	require.Equal(t, []string{"drain"}, w.steps)
}
