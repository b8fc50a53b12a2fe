package replenisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// wishes lets the replenisher hear a wish of this moment.
func wishes(t *testing.T, w *world, r *Replenisher, data string) string {
	t.Helper()
	m := events.Message{Subject: "pools.top_up.london", Data: []byte(data), Delivered: 1, Published: w.now}
	return r.handle(t.Context(), m).String()
}

func TestAWishIsBoughtOnceAndWithinThePoolsMax(t *testing.T) {
	t.Parallel()
	w, p := stocked(london) // low water 3, target 5, max 8
	r := p.start(t, 4)
	look(t, r, "london")
	require.Len(t, w.inventory, 5)
	require.Equal(t, "done", wishes(t, w, r, `{"id":"1","pool":"london","numbers":2,"by":"ana"}`))
	require.Len(t, r.workers["london"].wake, 1)
	look(t, r, "london")
	require.Len(t, w.inventory, 7, "two more, though enough are free")
	require.Equal(t, events.ReasonOperator, w.bought[len(w.bought)-1].Reason)
	for n := range w.inventory { // one leaves the pool before the next look
		delete(w.inventory, n)
		break
	}
	look(t, r, "london")
	require.Len(t, w.inventory, 6, "once")
	look(t, r, "london")
	require.Zero(t, r.Status().Pools["london"].Wished)

	wishes(t, w, r, `{"id":"2","pool":"london","numbers":1000}`)
	look(t, r, "london")
	require.Len(t, w.inventory, 8, "never above max")
	look(t, r, "london")
	require.Equal(t, 998, r.Status().Pools["london"].Wished)
	require.Empty(t, w.openIntents())
	w.now = w.now.Add(wishFor)
	look(t, r, "london")
	require.Zero(t, r.Status().Pools["london"].Wished, "nobody wants to be surprised by it later")
}

func TestAWishThatIsNoNewsOrNoneIsNotHeard(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 1)
	for _, data := range []string{`{`, `{"numbers":0}`, `{"numbers":-1}`, `{"numbers":1001}`, `{"numbers":"5"}`} {
		require.Equal(t, "dead", wishes(t, w, r, data), data)
	}
	old := events.Message{Subject: "pools.top_up.london", Data: []byte(`{"numbers":5}`), Delivered: 1, Published: w.now.Add(-hintAge)}
	again := old
	again.Published, again.Delivered = w.now, 2
	for _, m := range []events.Message{old, again} {
		require.Equal(t, "done", r.handle(t.Context(), m).String())
	}
	require.Zero(t, r.workers["london"].wished.Load())
}

func TestWhoDoesNotActForAPoolTakesUpNoWish(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 1)
	w.lease("london", events.Lease{Owner: "somebody else", Until: w.now.Add(time.Hour)})
	wishes(t, w, r, `{"id":"1","pool":"london","numbers":2}`)
	look(t, r, "london")
	require.Empty(t, w.inventory)
	require.Zero(t, r.workers["london"].wished.Load(), "nor later, when it acts")
	require.False(t, r.Status().Pools["london"].Acting)
}

func TestNothingIsBoughtOfAPausedCarrier(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	w.paused["first"] = true
	r := p.start(t, 1)
	look(t, r, "london")
	require.Equal(t, []int{0, 5}, []int{w.shops["first"].bought, w.shops["second"].bought})
	w.paused["first"] = false
	for n := range w.inventory {
		w.leased[n] = true
	}
	look(t, r, "london")
	require.Equal(t, 3, w.shops["first"].bought, "and again once it is not")
}

func TestStatusTellsOfPoolsAndCarriers(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 1)
	require.Empty(t, r.Status().Pools, "nothing is known before the first look")
	w.leased = map[vn.Number]bool{}
	p.next = oneShot("search", 1, lost)
	look(t, r, "london")
	s := r.Status()
	require.Equal(t, []string{"first", "second"}, []string{s.Carriers[0].Name, s.Carriers[1].Name})
	require.Equal(t, []any{1, true, 0}, []any{s.Carriers[0].Failures, s.Carriers[0].Until.After(w.now), s.Carriers[1].Failures})
	pool := s.Pools["london"]
	require.Equal(t, []any{true, 3, 5, 8, "5.00"}, []any{pool.Acting, pool.LowWater, pool.Target, pool.Max, pool.Committed.Amount()})
	_, err := r.Reconcile(t.Context(), "second", ReconcileOptions{})
	require.NoError(t, err)
	require.Equal(t, w.now, r.Status().Carriers[1].Compared)
}
