package replenisher

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
)

// capRest is how long a pool whose cap is reached asks no carrier for a cheaper number,
// unless something of its cap became free.
const capRest = 5 * time.Minute

// announce makes known that the number of an intent is in its pool. It comes before
// the intent is closed: a repeat does no harm, an event that never comes does.
func (r *Replenisher) announce(ctx context.Context, in *events.PurchaseIntent, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := r.bus.PoolBought(ctx, events.PoolBought{
		Pool: in.Pool, VN: "+" + in.VN, Carrier: in.Carrier, Price: in.Price, Currency: in.Currency,
		Reason: cmp.Or(reason, events.ReasonLowWater), At: r.now().UTC(),
	}, in.At)
	if err != nil {
		return fmt.Errorf("announce a purchase: %w", err)
	}
	return nil
}

// account shows what the pool costs this month.
func (r *Replenisher) account(w *worker) {
	for currency, sum := range w.budget.committed {
		r.metrics.committed.WithLabelValues(w.pool.Name, currency).Set(sum.Units())
	}
}

// judgeCap notes, after a fill that left numbers missing, whether that was the cap's
// doing, and makes it known when it is news.
func (r *Replenisher) judgeCap(ctx context.Context, w *worker, missing int) {
	b := w.budget
	if n := b.unpriced + b.foreign; n > 0 && missing > 0 {
		r.log.Warn().Str("pool", w.pool.Name).Int("without_price", b.unpriced).Int("other_currency", b.foreign).Stringer("cap", b.limit).
			Msg("numbers were passed over: with a monthly cap only those are bought whose price is named in its currency")
	}
	if b.above == 0 || missing == 0 {
		r.uncap(w)
		return
	}
	w.restUntil, w.restAt = r.now().Add(capRest), b.spent()
	if w.capped {
		return
	}
	r.log.Error().Str("pool", w.pool.Name).Stringer("cap", b.limit).Stringer("committed", b.spent()).Int("missing", missing).
		Msg("the pool's monthly cap is reached: no number is offered for what is left of it")
	r.metrics.capReached.WithLabelValues(w.pool.Name).Set(1)
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := r.bus.PoolCapReached(ctx, events.PoolCapReached{
		Pool: w.pool.Name, Cap: b.limit.Amount(), Committed: b.spent().Amount(), Currency: b.limit.Currency(), Missing: missing,
	})
	if err != nil {
		r.log.Warn().Str("pool", w.pool.Name).Err(err).Msg("that the cap is reached could not be announced; trying again")
		return
	}
	w.capped = true
}

// uncap notes that the cap keeps nothing from being bought now.
func (r *Replenisher) uncap(w *worker) {
	w.capped, w.restUntil, w.restAt = false, time.Time{}, carrier.Money{}
	r.metrics.capReached.WithLabelValues(w.pool.Name).Set(0)
}

// resting tells whether it is too early to ask again for numbers that fit the cap.
func (r *Replenisher) resting(w *worker) bool {
	return r.now().Before(w.restUntil) && !w.restAt.Exceeds(w.budget.spent())
}
