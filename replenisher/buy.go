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
func (r *Replenisher) fill(ctx context.Context, w *worker, need int) error {
	tried := make(map[vn.Number]struct{})
	for _, name := range w.pool.Carriers {
		s, ok := r.sellers[name]
		if !ok || !s.open(r.now()) {
			continue
		}
		for range searches {
			if need <= 0 || ctx.Err() != nil {
				break
			}
			got, err := r.buyBatch(ctx, w, s, min(need, batchSize), tried)
			need -= got.took
			if err != nil {
				if err := r.failed(s, err); err != nil {
					return err
				}
				break // the next carrier
			}
			if got.enough {
				need = 0
			}
			if got.offers == 0 {
				r.metrics.failures.WithLabelValues(s.name, "no_offers").Inc()
				break
			}
		}
	}
	switch {
	case need <= 0 && w.open == 0:
		w.filling = false
	case need > 0 && ctx.Err() == nil:
		r.log.Warn().Str("pool", w.pool.Name).Int("missing", need).Msg("no carrier sold enough numbers; trying again at the next sweep")
	}
	return nil
}

// batch is what came of one search.
type batch struct {
	offers int  // offers that were tried
	took   int  // numbers that now count as bought: owned, or their intent is open
	enough bool // others filled the pool meanwhile; nothing more is needed
}

// buyBatch searches once and buys up to n of what it finds: intents first, for all
// of them, then a check against everybody's intents, then the purchases.
func (r *Replenisher) buyBatch(ctx context.Context, w *worker, s *seller, n int, tried map[vn.Number]struct{}) (batch, error) {
	numbers, err := r.search(ctx, w, s, n, tried)
	if err != nil || len(numbers) == 0 {
		return batch{}, err
	}
	longer, cancel := lingering(ctx, r.cfg.Grace)
	defer cancel()
	intents, err := r.declare(longer, w, s, numbers)
	if err != nil {
		return batch{}, err
	}
	granted, surplus, err := r.claim(longer, w, intents)
	if err != nil {
		return batch{}, err
	}
	took, err := r.buyAll(longer, ctx.Done(), w, s, granted)
	for _, in := range surplus {
		err = errors.Join(err, r.withdraw(longer, w, in))
	}
	return batch{offers: len(numbers), took: took, enough: len(surplus) > 0}, err
}

// search returns up to n numbers for sale that are not ours, not about to be and
// were not tried in this look. As long as the carrier offers nothing but those it is
// asked for more.
func (r *Replenisher) search(ctx context.Context, w *worker, s *seller, n int, tried map[vn.Number]struct{}) ([]vn.Number, error) {
	for ask := n; ; ask *= 2 {
		asking, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
		offers, err := s.Numbers.Search(asking, w.pool.Region, ask)
		cancel()
		if err != nil {
			return nil, &fault{step: "search", err: err}
		}
		fresh, err := r.fresh(ctx, w, offers, n, tried)
		if err != nil || len(fresh) > 0 || len(offers) < ask || ask >= mostOffers {
			return fresh, err
		}
	}
}

func (r *Replenisher) fresh(ctx context.Context, w *worker, offers []carrier.Offer, n int, tried map[vn.Number]struct{}) ([]vn.Number, error) {
	numbers := make([]vn.Number, 0, n)
	for _, o := range offers {
		if len(numbers) == n {
			break
		}
		_, was := tried[o.Number]
		// An intent is replaced by the next one of its number: none while one is open.
		_, taken := w.taken[o.Number.Digits()]
		if was || taken || !o.Number.Valid() {
			continue
		}
		tried[o.Number] = struct{}{}
		known, err := r.known(ctx, o.Number)
		if err != nil {
			return nil, &fault{step: "inventory", ours: true, err: err}
		}
		if !known {
			numbers = append(numbers, o.Number)
		}
	}
	return numbers, nil
}

// declare writes an intent for each number. Until it is bought, an intent is known
// to be unsent: should we not get as far, the next look closes it.
func (r *Replenisher) declare(ctx context.Context, w *worker, s *seller, numbers []vn.Number) ([]events.PurchaseIntent, error) {
	intents := make([]events.PurchaseIntent, len(numbers))
	for i, n := range numbers {
		in := events.PurchaseIntent{VN: n.Digits(), Pool: w.pool.Name, Carrier: s.name, At: stamp(r.now())}
		intents[i] = in
		w.unsent[tag(in)] = struct{}{}
		w.open++
		writing, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		err := r.bus.Intent(writing, in)
		cancel()
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

// claim decides which of our intents may be carried out. It reads all intents after
// ours were written, and the stock after that: whoever wrote earlier is counted, as
// an intent or in the stock, and whoever comes later counts us. So several processes
// never buy more together than the pool needs or may have. An intent of ours that
// another one has replaced is in neither result: the number is the other's to buy.
func (r *Replenisher) claim(ctx context.Context, w *worker, ours []events.PurchaseIntent) (granted, surplus []events.PurchaseIntent, err error) {
	all, err := r.openIntents(ctx, w)
	if err != nil {
		return nil, nil, &fault{step: "claim", ours: true, err: err}
	}
	now, err := r.level(ctx, w)
	if err != nil {
		return nil, nil, &fault{step: "claim", ours: true, err: err}
	}
	isOurs := make(map[string]struct{}, len(ours))
	for _, in := range ours {
		isOurs[tag(in)] = struct{}{}
	}
	room := min(w.pool.Target-now.free, w.pool.Max-now.total)
	for before, in := range r.ofPool(w, all) {
		if _, ok := isOurs[tag(in)]; !ok {
			continue
		}
		if before < room {
			granted = append(granted, in)
		} else {
			surplus = append(surplus, in)
		}
	}
	return granted, surplus, nil
}

// withdraw closes an intent that was never sent to the carrier. If that fails, the
// next look does it.
func (r *Replenisher) withdraw(ctx context.Context, w *worker, in events.PurchaseIntent) error {
	if err := r.closeIntent(ctx, in, outcomeNotBought); err != nil {
		return &fault{step: "close", ours: true, err: err}
	}
	delete(w.unsent, tag(in))
	w.open--
	return nil
}

// buyAll carries out the intents, Config.Parallel at a time. After the first fault,
// or when stop is closed, no more is begun and what is left is withdrawn; so is an
// intent that a slow carrier made wait until others may soon take it for one that
// came to nothing. It returns how many numbers count as bought now.
func (r *Replenisher) buyAll(ctx context.Context, stop <-chan struct{}, w *worker, s *seller, intents []events.PurchaseIntent) (took int, err error) {
	var (
		mu     sync.Mutex
		g      errgroup.Group
		unsent []events.PurchaseIntent
	)
	g.SetLimit(r.cfg.Parallel)
	for _, in := range intents {
		g.Go(func() error {
			mu.Lock()
			halted := err != nil || closed(stop) || r.now().Sub(in.At) > r.cfg.SettleAfter-r.cfg.CarrierCall
			if halted {
				unsent = append(unsent, in)
			} else {
				delete(w.unsent, tag(in))
			}
			mu.Unlock()
			if halted {
				return nil
			}
			got, fault := r.purchase(ctx, s, in)
			mu.Lock()
			defer mu.Unlock()
			if got != nothing {
				took++
			}
			if got != pending {
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
	return took, err
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// result is what became of one purchase.
type result uint8

const (
	nothing result = iota // nothing was bought, and the intent is closed
	owned                 // the number is in the pool, and the intent is closed
	pending               // the intent is open: it counts as bought until it is settled
)

// purchase buys the number of an intent that is written and claimed.
func (r *Replenisher) purchase(ctx context.Context, s *seller, in events.PurchaseIntent) (result, error) {
	number, _ := vn.ParseDigits(in.VN) // it was made from a number
	buying, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
	b, err := s.Numbers.Buy(buying, number, tag(in))
	cancel()
	switch {
	case err == nil && b.Number != number:
		// Nothing is certain then, but our number's place in the carrier's list.
		return pending, &fault{step: "buy", err: errors.New("the carrier's answer names another number")}
	case err == nil:
	case refused(err):
		if closing := r.closeIntent(ctx, in, outcomeNotBought); closing != nil {
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
	if err := r.own(ctx, s, in, b); err != nil {
		return pending, err
	}
	r.metrics.purchases.WithLabelValues(in.Pool, s.name).Inc()
	r.log.Info().Str("pool", in.Pool).Str("carrier", s.name).Stringer("vn", number).Msg("bought a number")
	return owned, nil
}
