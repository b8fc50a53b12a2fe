package replenisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
)

// drains plays minutes in which n VNs are leased per 10 s, looking each time.
func (w *world) drains(t *testing.T, r *Replenisher, span time.Duration, n int) {
	t.Helper()
	for range int(span / (10 * time.Second)) {
		w.advance(10 * time.Second)
		left := n
		for number := range w.inventory {
			if left > 0 && !w.leased[number] {
				w.leased[number] = true
				left--
			}
		}
		look(t, r, "london")
	}
}

func growing(fixed bool) Pool {
	p := london
	p.LowWater, p.Target, p.Max, p.Fixed = 4, 8, 2000, fixed
	return p
}

func TestLowWaterAndTargetFollowTheDemand(t *testing.T) {
	t.Parallel()
	w, p := stocked(growing(false))
	w.stockUp("first", 2000)
	r := p.start(t, 1)
	p.next = func(step string) fate {
		if step == "configure" {
			w.advance(time.Second / 2) // a purchase takes so long
		}
		return fine
	}
	look(t, r, "london")
	plan := &r.workers["london"].plan
	require.Equal(t, 4, plan.LowWater)
	w.drains(t, r, 10*time.Minute, 6)
	require.Positive(t, gauge(r.metrics.leadTime, "first"))
	require.Greater(t, plan.LowWater, 4)
	require.Greater(t, plan.Target, 8)
	require.LessOrEqual(t, plan.Target, 2000)
	free, _, _ := w.level("london")
	require.GreaterOrEqual(t, free, plan.LowWater)
	require.InDelta(t, float64(plan.LowWater), gauge(r.metrics.lowWater, "london"), 0)
	require.InDelta(t, float64(plan.Target), gauge(r.metrics.target, "london"), 0)
	require.Positive(t, gauge(r.metrics.demand, "london"))
	require.Positive(t, gauge(r.metrics.runsOut, "london"))
	require.Equal(t, events.ReasonLowWater, w.bought[0].Reason)
	require.Equal(t, events.ReasonForecast, w.bought[len(w.bought)-1].Reason)
	w.settled(t)

	w.drains(t, r, 3*time.Hour, 0)
	require.Equal(t, 4, plan.LowWater, "what is over is forgotten")
	require.InDelta(t, -1, gauge(r.metrics.runsOut, "london"), 0)
}

func TestAFixedPoolKeepsItsLevels(t *testing.T) {
	t.Parallel()
	w, p := stocked(growing(true))
	w.stockUp("first", 2000)
	r := p.start(t, 1)
	look(t, r, "london")
	w.drains(t, r, 20*time.Minute, 1)
	require.Equal(t, 4, r.workers["london"].plan.LowWater)
	require.Equal(t, 8, r.workers["london"].plan.Target)
	require.Positive(t, gauge(r.metrics.demand, "london"), "it is shown all the same")
}

func TestAPoolThatRunsOutIsAnnouncedOnce(t *testing.T) {
	t.Parallel()
	w, p := stocked(growing(true))
	r := p.start(t, 1)
	look(t, r, "london")
	w.shops["first"].forSale, w.shops["second"].forSale = nil, nil // nobody sells any more
	for number := range w.inventory {
		w.leased[number] = true
	}
	w.grow(200)
	w.drains(t, r, 20*time.Minute, 2)
	require.Len(t, w.out, 1)
	require.Equal(t, "london", w.out[0].Pool)
	require.Less(t, w.out[0].Minutes, 1.0, "the lead time was next to nothing")
	clear(w.leased)
	w.drains(t, r, 2*time.Hour, 0)
	w.drains(t, r, 40*time.Minute, 1)
	require.Len(t, w.out, 2, "over, and again")
}

// grow gives the pool n imported VNs.
func (w *world) grow(n int) {
	w.stockUp("imported", n)
	for _, number := range w.shops["imported"].forSale {
		w.inventory[number] = scripts.Inventory{Owned: scripts.Owned{VN: number}, Pool: "london", Carrier: "imported"}
	}
	w.shops["imported"].forSale = nil
}

func TestOrdersPlacedAreCountedOnceAndWhenTheyAreNews(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 1)
	hear := func(subject string, delivered int, age time.Duration) {
		r.handle(t.Context(), events.Message{
			Subject: subject, Data: []byte(`{"order_id":"o","pool":"london"}`), Delivered: delivered, Published: w.now.Add(-age),
		})
	}
	hear("orders.placed", 1, time.Second)
	hear("shop.orders.placed", 1, time.Second)
	hear("orders.placed", 2, time.Second)
	hear("orders.placed", 1, time.Hour)
	hear("pools.low", 1, time.Second)
	require.EqualValues(t, 2, r.workers["london"].placed.Load())
	look(t, r, "london")
	require.Zero(t, r.workers["london"].placed.Load())
}
