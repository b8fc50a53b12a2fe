package replenisher

import (
	"context"
	"fmt"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
)

// intentsEvery is how often the open intents are read while nothing is needed: only
// a process that died can have left one then.
const intentsEvery = time.Minute

// level is a pool's stock over all its carriers at one moment.
type level struct{ free, total int }

// look brings one pool up to date: settles its open intents, then buys what is
// needed. It returns an error when Redis or the ledger did not answer; nothing is
// bought on a guess then.
func (r *Replenisher) look(ctx context.Context, w *worker) error {
	ready, err := r.ready(ctx)
	if err != nil {
		return err
	}
	if !ready {
		if !w.cold {
			r.log.Warn().Str("pool", w.pool.Name).Msg("Redis is not marked ready; nothing is bought until it is")
		}
		w.cold = true
		return nil
	}
	w.cold = false
	now, err := r.level(ctx, w)
	if err != nil {
		return err
	}
	if !w.looked || w.open > 0 || w.need(now) > 0 || r.now().Sub(w.read) >= intentsEvery {
		if now, err = r.settleAll(ctx, w); err != nil {
			return err
		}
	}
	if need := w.need(now); need > 0 {
		err = r.fill(ctx, w, need)
		if err == nil {
			_, err = r.level(ctx, w) // for the metrics
		}
	} else {
		err = r.shed(ctx, w, now)
	}
	r.metrics.openIntents.WithLabelValues(w.pool.Name).Set(float64(w.open))
	if err != nil {
		return err
	}
	r.metrics.lastSweep.WithLabelValues(w.pool.Name).Set(float64(r.now().Unix()))
	return nil
}

// settleAll settles the pool's open intents and returns the stock as it is then.
// The stock is read after the intents: a purchase that is no longer among them is
// in the stock already, so it is counted once or (for a moment) twice, never not.
func (r *Replenisher) settleAll(ctx context.Context, w *worker) (level, error) {
	all, err := r.openIntents(ctx, w)
	if err != nil {
		return level{}, err
	}
	mine := r.ofPool(w, all)
	if !w.looked && len(mine) > 0 {
		w.filling = true // a fill was cut short: it goes on to the target
	}
	w.looked, w.read, w.open = true, r.now(), len(mine)
	if err := r.settle(ctx, w, mine); err != nil {
		return level{}, err
	}
	return r.level(ctx, w)
}

// need is how many numbers to buy now. Buying starts below low_water and goes on to
// the target, also over several looks. An open intent counts as bought.
func (w *worker) need(now level) int {
	if len(w.pool.Carriers) == 0 {
		return 0
	}
	switch {
	case now.free < w.pool.LowWater:
		w.filling = true
	case now.free >= w.pool.Target:
		w.filling = false
	}
	if !w.filling {
		return 0
	}
	return max(0, min(w.pool.Target-now.free, w.pool.Max-now.total)-w.open)
}

// ofPool returns the intents that w has to settle: its pool's, or, for the worker of
// unknown pools, those of every pool that is not configured.
func (r *Replenisher) ofPool(w *worker, all []events.PurchaseIntent) []events.PurchaseIntent {
	var mine []events.PurchaseIntent
	for _, in := range all {
		owner, known := r.workers[in.Pool]
		if !known {
			owner = r.workers[unknownPool]
		}
		if owner == w {
			mine = append(mine, in)
		}
	}
	return mine
}

func (r *Replenisher) ready(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	ready, err := r.store.Ready(ctx)
	if err != nil {
		return false, fmt.Errorf("read whether Redis is ready: %w", err)
	}
	return ready, nil
}

// level reads the pool's stock and shows it as metrics.
func (r *Replenisher) level(ctx context.Context, w *worker) (level, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	rows, err := r.store.Stock(ctx)
	if err != nil {
		return level{}, fmt.Errorf("read the stock: %w", err)
	}
	var sum level
	for i := range rows {
		if rows[i].Pool == w.pool.Name {
			sum.free += rows[i].Free
			sum.total += rows[i].Total
			r.show(&rows[i])
		}
	}
	return sum, nil
}

func (r *Replenisher) show(s *scripts.Stock) {
	for state, n := range map[string]int{"free": s.Free, "leased": s.Leased, "cooling": s.Cooling, "draining": s.Draining} {
		r.metrics.stock.WithLabelValues(s.Pool, s.Carrier, state).Set(float64(n))
	}
}

// openIntents reads the open intents of all pools, oldest first.
func (r *Replenisher) openIntents(ctx context.Context, w *worker) ([]events.PurchaseIntent, error) {
	ctx, cancel := context.WithTimeout(ctx, readIntents)
	defer cancel()
	all, err := r.bus.OpenIntents(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the open purchase intents: %w", err)
	}
	clear(w.taken)
	for _, in := range all {
		w.taken[in.VN] = struct{}{}
	}
	return all, nil
}

// readIntents bounds a reading of all intents: the ledger keeps one for every
// number ever bought, so it may take longer than Config.Timeout.
const readIntents = time.Minute
