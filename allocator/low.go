package allocator

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/callmask/callmask/events"
)

// lowEvery is how often a pool is reported low by this process at most: the
// replenisher reads the stock itself, one hint is as good as a thousand.
const lowEvery = time.Second

// limiter lets one caller pass per lowEvery. Its zero value lets the first pass.
type limiter struct {
	last atomic.Pointer[time.Time]
}

func (l *limiter) pass() bool {
	now, last := time.Now(), l.last.Load()
	return (last == nil || now.Sub(*last) >= lowEvery) && l.last.CompareAndSwap(last, &now)
}

// low tells the replenisher that a pool is short of free VNs, if a count shows that it
// has fewer than enough: an order knows only what is left in its own partition. It is a
// hint: the replenisher sweeps on a timer as well, so a failure is logged and counted only.
func (a *Allocator) low(ctx context.Context, p *pool, enough int) {
	if !p.low.pass() {
		return
	}
	stock, err := a.store.Stock(ctx)
	if err != nil {
		a.metrics.lowFailed.Inc()
		a.log.Warn().Err(err).Str("pool", p.Name).Msg("cannot count the free numbers of a pool that may be low")
		return
	}
	free := 0
	for _, s := range stock {
		if s.Pool == p.Name {
			free += s.Free
		}
	}
	if free >= enough {
		return
	}
	err = a.bus.PoolLow(ctx, events.PoolLow{Pool: p.Name, Free: free, Target: p.Target})
	if err != nil {
		a.metrics.lowFailed.Inc()
		a.log.Warn().Err(err).Str("pool", p.Name).Msg("cannot announce that a pool is low")
		return
	}
	a.metrics.lowSent.Inc()
}
