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

// low tells the replenisher that a pool is short of free VNs. It is a hint: the
// order in hand has what it needs, and the replenisher sweeps on a timer as well,
// so a failure is logged and counted only.
func (a *Allocator) low(ctx context.Context, p *pool, free int) {
	if p.low.pass() {
		a.publishLow(ctx, p, free)
	}
}

// exhausted is low for a pool that could not serve an order: its free VNs have to
// be counted first.
func (a *Allocator) exhausted(ctx context.Context, p *pool) {
	if !p.low.pass() {
		return
	}
	stock, err := a.store.Stock(ctx)
	if err != nil {
		a.metrics.lowFailed.Inc()
		a.log.Warn().Err(err).Str("pool", p.Name).Msg("cannot count the free numbers of an exhausted pool")
		return
	}
	free := 0
	for _, s := range stock {
		if s.Pool == p.Name {
			free += s.Free
		}
	}
	a.publishLow(ctx, p, free)
}

func (a *Allocator) publishLow(ctx context.Context, p *pool, free int) {
	err := a.bus.PoolLow(ctx, events.PoolLow{Pool: p.Name, Free: free, Target: p.Target})
	if err != nil {
		a.metrics.lowFailed.Inc()
		a.log.Warn().Err(err).Str("pool", p.Name).Msg("cannot announce that a pool is low")
		return
	}
	a.metrics.lowSent.Inc()
}
