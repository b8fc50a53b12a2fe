package replenisher

import (
	"context"
	"math"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/replenisher/forecast"
)

const (
	// batchTime is for how long the numbers of one round of buying should last.
	batchTime = 5 * time.Minute
	// leadUnknown is how early a pool is said to run out when nobody has sold it
	// anything yet.
	leadUnknown = 5 * time.Minute
	// hintAge is how old a hint may be and still tell of the demand of this moment.
	hintAge = time.Minute
)

// foresee takes a look's stock into the forecast and follows it. Processes that do not
// act do so too: they know the demand when they take over.
func (r *Replenisher) foresee(w *worker, now level) {
	pool := &w.pool
	w.demand.Observe(r.now(), now.total-now.free, int(w.placed.Swap(0)))
	if !pool.Fixed {
		w.plan = forecast.Plan(&w.demand, r.leadTime(w), forecast.Limits{
			Floor: forecast.Levels{LowWater: pool.LowWater, Target: pool.Target}, Max: max(pool.Max, pool.Target),
			Review: r.cfg.Sweep, Batch: batchTime,
		})
	}
	r.metrics.lowWater.WithLabelValues(pool.Name).Set(float64(w.plan.LowWater))
	r.metrics.target.WithLabelValues(pool.Name).Set(float64(w.plan.Target))
	r.metrics.demand.WithLabelValues(pool.Name).Set(w.demand.PerMinute())
	seconds := -1.0
	if left, runs := w.demand.RunsOut(now.free); runs {
		seconds = left.Seconds()
	}
	r.metrics.runsOut.WithLabelValues(pool.Name).Set(seconds)
}

// leadTime returns that of the pool's slowest carrier.
func (r *Replenisher) leadTime(w *worker) forecast.LeadTime {
	var all []forecast.LeadTime
	for _, name := range w.pool.Carriers {
		if s, ok := r.sellers[name]; ok {
			all = append(all, s.leadTime())
		}
	}
	return forecast.Slowest(all...)
}

// warn makes known that the pool runs out before more can be bought, once until there
// is twice as much time.
func (r *Replenisher) warn(ctx context.Context, w *worker, now level) {
	enough := leadUnknown
	if lead := r.leadTime(w); lead.Known() {
		enough = lead.Most() + r.cfg.Sweep
	}
	left, runs := w.demand.RunsOut(now.free)
	switch {
	case !runs || left > 2*enough:
		w.short = false
		return
	case w.short || left >= enough:
		return
	}
	minutes := math.Round(left.Minutes()*10) / 10
	r.log.Warn().Str("pool", w.pool.Name).Int("free", now.free).Float64("minutes", minutes).
		Msg("the pool is running out: its last free number is used up before a carrier sells more, at this rate")
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := r.bus.PoolRunningOut(ctx, events.PoolRunningOut{Pool: w.pool.Name, Minutes: minutes}); err != nil {
		r.log.Warn().Str("pool", w.pool.Name).Err(err).Msg("that the pool is running out could not be announced; trying again")
		return
	}
	w.short = true
}

// hear counts an order placed for the pool as demand, once, if it is news.
func (r *Replenisher) hear(w *worker, m *events.Message) {
	if m.Delivered <= 1 && r.now().Sub(m.Published) < hintAge {
		w.placed.Add(1)
	}
}
