package replenisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	if w.pool.Name == unknownPool {
		err = r.lookAtStrays(ctx, w)
	} else {
		err = r.lookAt(ctx, w)
	}
	r.metrics.openIntents.WithLabelValues(w.pool.Name).Set(float64(w.open))
	if err != nil {
		return err
	}
	r.metrics.lastSweep.WithLabelValues(w.pool.Name).Set(float64(r.now().Unix()))
	return nil
}

// lookAt takes in the stock of a configured pool and, when this process acts for it,
// does what is needed.
func (r *Replenisher) lookAt(ctx context.Context, w *worker) error {
	now, err := r.level(ctx, w)
	if err != nil {
		return err
	}
	r.foresee(w, now)
	defer func() { r.showStatus(w, now) }()
	acts, err := r.act(ctx, w)
	if err != nil {
		return err
	}
	if !acts {
		w.dropWish()
		return nil
	}
	r.warn(ctx, w, now)
	r.takeWish(w, now)
	if !w.looked || w.open > 0 || w.need(now) > 0 || r.now().Sub(w.read) >= intentsEvery {
		if now, err = r.settleAll(ctx, w); err != nil {
			return err
		}
	}
	need := w.need(now)
	switch {
	case need == 0:
		r.uncap(w)
		err = r.shed(ctx, w, now)
	case !r.resting(w):
		err = r.fill(ctx, w, need)
	}
	r.account(w)
	return err
}

// act tells whether this process acts for the pool, and takes the pool over when
// nobody does. What was known of its intents is void then.
func (r *Replenisher) act(ctx context.Context, w *worker) (bool, error) {
	defer r.showActing(w)
	if w.lease.held() {
		return true, nil
	}
	held, err := w.lease.take(ctx)
	if err != nil {
		return false, err
	}
	term := w.lease.term()
	switch {
	case term == w.term:
	case held:
		r.log.Info().Str("pool", w.pool.Name).Msg("this process buys for the pool now")
	default:
		r.log.Info().Str("pool", w.pool.Name).Msg("another process buys for the pool now")
		r.forget(w)
	}
	if term != w.term {
		w.term, w.looked, w.surplus = term, false, surplus{}
	}
	return held, nil
}

// forget takes back what only the process that acts has to show.
func (r *Replenisher) forget(w *worker) {
	w.open, w.short = 0, false
	r.uncap(w)
	r.metrics.committed.DeletePartialMatch(prometheus.Labels{"pool": w.pool.Name})
}

// lookAtStrays settles the intents of pools that are not configured here. Each of them
// needs the lease of its pool: another process may still know it.
func (r *Replenisher) lookAtStrays(ctx context.Context, w *worker) error {
	if w.looked && w.open == 0 && r.now().Sub(w.read) < intentsEvery {
		return nil
	}
	pools := make(map[string]struct{})
	err := r.intents(ctx, func(in events.PurchaseIntent) {
		if _, known := r.workers[in.Pool]; !known && in.ClosedAt.IsZero() {
			pools[in.Pool] = struct{}{}
		}
	})
	if err != nil {
		return err
	}
	open := 0
	for name := range pools {
		stray, ok := w.strays[name]
		if !ok {
			stray = r.newWorker(Pool{Name: name})
			w.strays[name] = stray
		}
		err = errors.Join(err, r.lookAtStray(ctx, stray))
		open += stray.open
	}
	w.looked, w.read, w.open = true, r.now(), open
	return err
}

func (r *Replenisher) lookAtStray(ctx context.Context, w *worker) error {
	if held, err := w.lease.take(ctx); err != nil || !held {
		return err
	}
	_, err := r.settleAll(ctx, w)
	return errors.Join(err, w.lease.giveUp(ctx))
}

// settleAll settles the pool's open intents and returns the stock as it is then.
// The stock is read after the intents: a purchase that is no longer among them is
// in the stock already, so it is counted once or (for a moment) twice, never not.
func (r *Replenisher) settleAll(ctx context.Context, w *worker) (level, error) {
	mine, err := r.readBooks(ctx, w)
	if err != nil {
		return level{}, err
	}
	if !w.looked && len(mine) > 0 {
		w.filling = true // a fill was cut short: it goes on to the target
	}
	w.looked, w.read, w.open = true, r.now(), len(mine)
	if err := r.settle(ctx, w, mine); err != nil {
		return level{}, err
	}
	return r.level(ctx, w)
}

// need is how many numbers to buy now. Buying starts below low water and goes on to
// the target, also over several looks. An open intent counts as bought.
func (w *worker) need(now level) int {
	if len(w.pool.Carriers) == 0 {
		return 0
	}
	switch {
	case now.free < w.pool.LowWater:
		w.filling, w.reason = true, events.ReasonLowWater
	case now.free < w.plan.LowWater:
		w.filling, w.reason = true, events.ReasonForecast
	case now.free >= w.plan.Target:
		w.filling = false
	}
	missing := 0
	if w.filling {
		missing = min(w.plan.Target-now.free, w.pool.Max-now.total) - w.open
	}
	if now.total >= w.wish.upTo {
		w.wish = wish{} // it has come true, or there is none; what leaves the pool later is no part of it
	}
	wished := min(w.wish.upTo, w.pool.Max) - now.total - w.open
	if wished > 0 && missing <= 0 {
		w.reason = events.ReasonOperator
	}
	return max(0, missing, wished)
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

// readBooks reads the intents: it returns the pool's open ones, oldest first, counts
// what the pool costs, and notes which numbers are not to be bought.
func (r *Replenisher) readBooks(ctx context.Context, w *worker) ([]events.PurchaseIntent, error) {
	var open []events.PurchaseIntent
	costs, taken := newBudget(w.pool.MonthlyCap, r.now()), make(map[string]struct{})
	err := r.intents(ctx, func(in events.PurchaseIntent) {
		mine, isOpen := in.Pool == w.pool.Name, in.ClosedAt.IsZero()
		if mine && costs.bills(&in) {
			costs.add(&in)
			taken[in.VN] = struct{}{} // a new intent would take the place of what counts
		}
		if isOpen {
			taken[in.VN] = struct{}{}
		}
		if mine && isOpen {
			open = append(open, in)
		}
	})
	if err != nil {
		return nil, err
	}
	w.budget, w.taken = costs, taken
	return open, nil
}

// intents reads all intents, open or closed, oldest first.
func (r *Replenisher) intents(ctx context.Context, each func(events.PurchaseIntent)) error {
	ctx, cancel := context.WithTimeout(ctx, readIntents)
	defer cancel()
	err := r.bus.Intents(ctx, func(in events.PurchaseIntent, _ uint64) error {
		each(in)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the purchase intents: %w", err)
	}
	return nil
}

// readIntents bounds a reading of all intents: the ledger keeps one for every
// number ever bought, so it may take longer than Config.Timeout.
const readIntents = time.Minute
