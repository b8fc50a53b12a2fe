package replenisher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

const (
	batchSize = 20 // intents written together before the first of them is bought
	searches  = 50 // batches bought from one carrier in one look; the next look goes on
	// mostOffers is how many offers are asked for at most.
	mostOffers = 1000
)

// fault is a failed step of buying, and whose it is: the carrier's, which is then
// left alone for a while, or ours (Redis, the ledger), which ends the look.
type fault struct {
	step string
	ours bool
	err  error
}

func (f *fault) Error() string { return f.step + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// failed counts a fault and backs off from the carrier when it is the carrier's. It
// returns what is ours of the error. Faults that several purchases under way ran into
// together are joined: they are one failure of the carrier.
func (r *Replenisher) failed(s *seller, err error) error {
	var ours, theirs []error
	for _, e := range parts(err) {
		f := (*fault)(nil)
		if !errors.As(e, &f) {
			ours = append(ours, e)
			continue
		}
		r.metrics.failures.WithLabelValues(s.name, f.step).Inc()
		if f.ours {
			ours = append(ours, e)
		} else {
			theirs = append(theirs, e)
		}
	}
	if len(theirs) > 0 {
		pause := s.failed(r.now(), theirs...)
		r.log.Warn().Str("carrier", s.name).Dur("pause", pause).Err(errors.Join(theirs...)).Msg("the carrier failed; leaving it alone for a while")
	}
	return errors.Join(ours...)
}

// failedAlone is failed for a fault that may be one number's own: the carrier goes on
// selling others.
func (r *Replenisher) failedAlone(s *seller, err error) error {
	f := (*fault)(nil)
	if !errors.As(err, &f) || f.ours {
		return r.failed(s, err)
	}
	r.metrics.failures.WithLabelValues(s.name, f.step).Inc()
	r.log.Warn().Str("carrier", s.name).Err(err).Msg("a number that was bought is not in its pool yet; trying again at the next look")
	return nil
}

// parts takes errors.Join apart, at any depth.
func parts(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, parts(e)...)
	}
	return all
}

// fill buys up to need numbers, from the pool's carriers in their order. It returns
// an error only when Redis or the ledger failed.
func (r *Replenisher) fill(ctx context.Context, w *worker, need int) (err error) {
	ctx, end := r.cfg.Tracer.Act(ctx, "fill a pool", "callmask.pool", w.pool.Name)
	defer func() { end(err) }()
	tried := make(map[vn.Number]struct{})
	w.budget.reset()
	for _, name := range w.pool.Carriers {
		s, ok := r.sellers[name]
		if !ok || !s.open(r.now()) {
			continue
		}
		for range searches {
			if need <= 0 || ctx.Err() != nil {
				break
			}
			if paused, err := r.paused(ctx, s); err != nil || paused {
				if err != nil {
					return err
				}
				break // the next carrier
			}
			before := need
			offers, failure := r.buyBatch(ctx, w, s, min(need, batchSize), tried)
			if failure != nil {
				if err := r.failed(s, failure); err != nil {
					return err
				}
			}
			now, err := r.level(ctx, w)
			if err != nil {
				return err
			}
			if need = w.need(now); failure != nil {
				break // the next carrier
			}
			if offers == 0 {
				r.metrics.failures.WithLabelValues(s.name, "no_offers").Inc()
				break
			}
			if need >= before { // it offers what it does not sell
				r.metrics.failures.WithLabelValues(s.name, "nothing_sold").Inc()
				break
			}
		}
	}
	if need <= 0 && w.open == 0 {
		w.filling = false
	}
	if ctx.Err() != nil {
		return nil
	}
	if need > 0 {
		r.log.Warn().Str("pool", w.pool.Name).Int("missing", need).Msg("no carrier sold enough numbers; trying again at the next sweep")
	}
	r.judgeCap(ctx, w, need)
	return nil
}

// buyBatch searches once and buys up to n of what it finds: the intents first, all of
// them, then the purchases. It returns how many numbers it tried to buy.
func (r *Replenisher) buyBatch(ctx context.Context, w *worker, s *seller, n int, tried map[vn.Number]struct{}) (int, error) {
	offers, err := r.search(ctx, w, s, n, tried)
	if err != nil || len(offers) == 0 {
		return 0, err
	}
	longer, cancel := lingering(ctx, r.cfg.Grace)
	defer cancel()
	begun := r.now()
	intents, err := r.declare(longer, w, s, offers)
	if err != nil {
		return 0, err
	}
	// Whoever finds one of these intents gives it up Config.SettleAfter later at the earliest.
	late := func() bool { return r.now().Sub(begun) > r.cfg.SettleAfter-r.cfg.CarrierCall }
	return len(offers), r.buyAll(longer, func() bool { return late() || ctx.Err() != nil }, w, s, intents)
}

// search returns up to n offers of numbers that are not ours, not about to be, were
// not tried in this look, and fit the pool's cap. As long as the carrier offers nothing
// but others it is asked for more.
func (r *Replenisher) search(ctx context.Context, w *worker, s *seller, n int, tried map[vn.Number]struct{}) ([]carrier.Offer, error) {
	for ask := n; ; ask *= 2 {
		asking, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
		offers, err := s.Numbers.Search(asking, w.pool.Region, ask)
		cancel()
		if err != nil {
			return nil, &fault{step: "search", err: err}
		}
		fit, err := r.fitting(ctx, w, offers, n, tried)
		if err != nil || len(fit) > 0 || len(offers) < ask || ask >= mostOffers {
			return fit, err
		}
	}
}

// fitting returns up to n of the offers that may be bought together.
func (r *Replenisher) fitting(ctx context.Context, w *worker, offers []carrier.Offer, n int, tried map[vn.Number]struct{}) ([]carrier.Offer, error) {
	fit := make([]carrier.Offer, 0, n)
	var sum carrier.Money
	for i := range offers {
		if len(fit) == n {
			break
		}
		o := &offers[i]
		_, was := tried[o.Number]
		_, taken := w.taken[o.Number.Digits()]
		if was || taken || !o.Number.Valid() {
			continue
		}
		tried[o.Number] = struct{}{}
		price, ok := w.budget.affords(o, sum)
		if !ok {
			continue
		}
		_, known, err := r.inventory(ctx, o.Number)
		if err != nil {
			return nil, &fault{step: "inventory", ours: true, err: err}
		}
		if !known {
			fit, sum = append(fit, *o), price.Plus(sum)
		}
	}
	return fit, nil
}

// declare writes an intent for each offer. Until it is bought, an intent is known
// to be unsent: should we not get as far, the next look closes it.
func (r *Replenisher) declare(ctx context.Context, w *worker, s *seller, offers []carrier.Offer) ([]events.PurchaseIntent, error) {
	intents := make([]events.PurchaseIntent, len(offers))
	for i := range offers {
		in := events.PurchaseIntent{
			VN: offers[i].Number.Digits(), Pool: w.pool.Name, Carrier: s.name, For: w.reason, At: stamp(r.now()),
		}
		if price, err := carrier.ParsePrice(offers[i].Price, offers[i].Currency); err == nil {
			in.Price, in.Currency = price.Amount(), price.Currency()
		}
		intents[i] = in
		w.unsent[tag(in)], w.seen[tag(in)] = struct{}{}, &sighting{since: r.now()}
		w.open++
		w.budget.add(&in)
		err := w.lease.under(ctx, func(ctx context.Context, fence uint64) error {
			in.Fence = fence
			return r.bus.Intent(ctx, in)
		})
		if err != nil {
			return nil, &fault{step: "intent", ours: true, err: fmt.Errorf("write a purchase intent: %w", err)}
		}
	}
	return intents, nil
}

// stamp makes the time of an intent, which tells it from every other intent of its
// number: what is below the millisecond is random.
func stamp(now time.Time) time.Time {
	return now.UTC().Truncate(time.Millisecond).Add(rand.N(time.Millisecond)) //nolint:gosec // unlikely to be equal is enough
}

// withdraw closes an intent that was never sent to the carrier. If that fails, the
// next look does it.
func (r *Replenisher) withdraw(ctx context.Context, w *worker, in events.PurchaseIntent) error {
	if err := r.closeIntent(ctx, w.lease, in, events.OutcomeNotBought); err != nil {
		return &fault{step: "close", ours: true, err: err}
	}
	delete(w.unsent, tag(in))
	w.gone(&in)
	return nil
}

// gone forgets an intent whose number was not bought.
func (w *worker) gone(in *events.PurchaseIntent) {
	w.open--
	w.budget.remove(in)
}

// buyAll carries out the intents, Config.Parallel at a time. After the first fault,
// when stop says so, or when the pool is not ours any more, no more is begun and what
// is left is withdrawn.
func (r *Replenisher) buyAll(ctx context.Context, stop func() bool, w *worker, s *seller, intents []events.PurchaseIntent) (err error) {
	var (
		mu     sync.Mutex
		g      errgroup.Group
		unsent []events.PurchaseIntent
	)
	g.SetLimit(r.cfg.Parallel)
	for _, in := range intents {
		g.Go(func() error {
			deposed := w.lease.sure(ctx)
			mu.Lock()
			halted := err != nil || deposed != nil || stop()
			if halted {
				unsent = append(unsent, in)
			} else {
				delete(w.unsent, tag(in))
			}
			mu.Unlock()
			if halted {
				return nil
			}
			got, fault := r.purchase(ctx, w.lease, s, in)
			mu.Lock()
			defer mu.Unlock()
			switch got {
			case nothing:
				w.gone(&in)
			case owned:
				w.open--
			}
			err = errors.Join(err, fault)
			return nil
		})
	}
	_ = g.Wait() // no goroutine returns an error: see err
	for _, in := range unsent {
		err = errors.Join(err, r.withdraw(ctx, w, in))
	}
	return err
}

// result is what became of one purchase.
type result uint8

const (
	nothing result = iota // nothing was bought, and the intent is closed
	owned                 // the number is in the pool, and the intent is closed
	pending               // the intent is open: it counts as bought until it is settled
)

// purchase buys the number of an intent that is written.
func (r *Replenisher) purchase(ctx context.Context, l *lease, s *seller, in events.PurchaseIntent) (result, error) {
	number, _ := vn.ParseDigits(in.VN) // it was made from a number
	buying, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
	b, err := s.Numbers.Buy(buying, number, tag(in))
	cancel()
	switch {
	case err == nil && b.Number != number:
		// Nothing is certain then, but our number's place in the carrier's list.
		return pending, &fault{step: "buy", err: errors.New("the carrier's answer names another number")}
	case err == nil:
	case carrier.NothingBought(err):
		if closing := r.closeIntent(ctx, l, in, events.OutcomeNotBought); closing != nil {
			return pending, &fault{step: "close", ours: true, err: closing}
		}
		if errors.Is(err, carrier.ErrNotAvailable) {
			r.metrics.failures.WithLabelValues(s.name, "not_available").Inc()
			return nothing, nil
		}
		return nothing, &fault{step: "buy", err: err}
	default:
		return pending, &fault{step: "buy_unknown", err: err}
	}
	if err := r.own(ctx, l, s, in, b, in.For); err != nil {
		return pending, err
	}
	r.metrics.leadTime.WithLabelValues(s.name).Set(s.sold(r.now().Sub(in.At)).Seconds())
	r.metrics.purchases.WithLabelValues(in.Pool, s.name).Inc()
	r.log.Info().Str("pool", in.Pool).Str("carrier", s.name).Stringer("vn", number).Msg("bought a number")
	return owned, nil
}
