package replenisher

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// filledLondon is a world whose pool is at its target, and a process in it.
func filledLondon(t *testing.T) (*world, *process, *Replenisher) {
	t.Helper()
	w, p := stocked(london)
	r := p.start(t, 1)
	look(t, r, "london")
	require.Len(t, w.inventory, 5)
	return w, p, r
}

// anyVN returns the smallest VN of the inventory.
func (w *world) anyVN() vn.Number { return slices.Min(slices.Collect(maps.Keys(w.inventory))) }

func (w *world) outcome(pool string, n vn.Number) string {
	in, _ := w.lastIntent(pool, n)
	return in.Outcome
}

// reconciled lets the process compare both carriers, as it does every hour.
func reconciled(t *testing.T, w *world, r *Replenisher) {
	t.Helper()
	w.advance(time.Hour)
	for _, name := range []string{"first", "second"} {
		_, err := r.Reconcile(t.Context(), name, ReconcileOptions{})
		require.NoError(t, err, name)
	}
}

func TestANumberGoesBackToItsCarrier(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	how, err := r.Release(t.Context(), "london", n)
	require.NoError(t, err)
	require.Equal(t, Released, how)
	require.NotContains(t, w.inventory, n)
	require.NotContains(t, w.shops["first"].held, n)
	w.addsUp(t)
	require.Equal(t, []events.PoolReleased{{
		Pool: "london", VN: n.E164(), Carrier: "first", Price: "1.00", Currency: "USD", Reason: events.ReleasedOperator, At: w.now,
	}}, w.announced)
	in, _ := w.lastIntent("london", n)
	require.Equal(t, events.OutcomeReleased, in.Outcome)
	require.Equal(t, "1.00", in.Price, "the month that it was bought in still counts it")
	require.InDelta(t, 1, testutil.ToFloat64(r.keeper.released.WithLabelValues("london", "first", "operator")), 0)

	how, err = r.Release(t.Context(), "london", n) // again
	require.NoError(t, err)
	require.Equal(t, Released, how)
	require.Len(t, w.announced, 1)
	require.Len(t, w.returned, 1)
}

func TestWhatCannotGoBackIsSaid(t *testing.T) {
	t.Parallel()
	w, p, r := filledLondon(t)
	n := w.anyVN()
	imported, otherPool := vn.Number(447700900999), vn.Number(447700900998)
	w.inventory[imported] = scripts.Inventory{Owned: scripts.Owned{VN: imported, Ref: imported.Digits()}, Pool: "london", Carrier: "first"}
	w.inventory[otherPool] = scripts.Inventory{Owned: scripts.Owned{VN: otherPool, Ref: "PN8"}, Pool: "leeds", Carrier: "first"}
	open := vn.Number(447700900997)
	w.put(events.PurchaseIntent{VN: open.Digits(), Pool: "london", Carrier: "first", At: w.now})
	gone := vn.Number(447700900996)
	w.inventory[gone] = scripts.Inventory{Owned: scripts.Owned{VN: gone, Ref: "PN6"}, Pool: "london", Carrier: "dismissed"}
	for want, number := range map[error]vn.Number{
		ErrImported: imported, vn.ErrNumberUnknown: otherPool, ErrUnsettled: open, ErrNoSeller: gone,
	} {
		_, err := r.Release(t.Context(), "london", number)
		require.ErrorIs(t, err, want)
	}
	_, err := r.Release(t.Context(), "london", 447700900001+50_000)
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
	_, err = r.Release(t.Context(), "leeds", n)
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
	require.Empty(t, w.returned)

	p.next = oneShot("give", 1, refusal)
	_, err = r.Release(t.Context(), "london", n)
	require.ErrorContains(t, err, "429")
	require.Equal(t, events.OutcomeReleasing, w.outcome("london", n))
	require.Contains(t, w.shops["first"].held, n, "it is paid for until the carrier takes it")
	require.Empty(t, w.announced)
	reconciled(t, w, r)
	require.NotContains(t, w.shops["first"].held, n)
	require.Len(t, w.announced, 1)
}

func TestALeasedNumberGoesBackWhenItsOrderHasEnded(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	w.leased[n] = true
	how, err := r.Release(t.Context(), "london", n)
	require.NoError(t, err)
	require.Equal(t, Draining, how)
	require.True(t, w.draining[n])
	reconciled(t, w, r)
	require.Contains(t, w.shops["first"].held, n, "somebody may be on the phone")
	w.leaves(n)
	reconciled(t, w, r)
	require.NotContains(t, w.shops["first"].held, n)
	require.Len(t, w.announced, 1)
	w.addsUp(t)
}

// A release that is cut short anywhere ends the same once the carrier was compared.
func TestACrashAtAnyStepOfAReleaseIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"inventory", "last intent", "mark", "retire", "record", "give", "announce"} {
		for _, f := range []fate{lost, unheard, crash, crashLate, refusal} {
			for n := 1; n <= 3; n++ {
				w, p, r := filledLondon(t)
				number := w.anyVN()
				p.next = oneShot(step, n, f)
				_, _ = r.Release(t.Context(), "london", number)
				began := w.outcome("london", number) != events.OutcomeBought

				next := (&process{w: w}).start(t, 1)
				reconciled(t, w, next)
				reconciled(t, w, next)
				w.addsUp(t)
				_, held := w.shops["first"].held[number]
				require.Equal(t, began, !held, "%s, call %d, fate %d: begun is finished", step, n, f)
				require.Equal(t, began, len(w.announced) > 0, "%s, call %d, fate %d", step, n, f)
				require.NotEqual(t, events.OutcomeReleasing, w.outcome("london", number), "%s, call %d, fate %d", step, n, f)
			}
		}
	}
}

// While a number is on its way back, somebody takes it into another pool.
func TestANumberThatIsInAnotherPoolByNowIsKept(t *testing.T) {
	t.Parallel()
	w, p, r := filledLondon(t)
	n := w.anyVN()
	p.next = oneShot("give", 1, lost)
	_, err := r.Release(t.Context(), "london", n)
	require.Error(t, err)
	w.inventory[n] = scripts.Inventory{Owned: scripts.Owned{VN: n, Ref: "PN" + n.Digits()}, Pool: "leeds", Carrier: "first"}
	reconciled(t, w, r)
	require.Contains(t, w.shops["first"].held, n)
	require.Contains(t, w.inventory, n)
	require.Empty(t, w.announced)
	require.Empty(t, w.broken)
}
