package replenisher

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// tagPrefix marks the numbers that callmask bought, in the carrier's own records.
const tagPrefix = "callmask:"

// tag is the reference an intent's number is bought with: callmask:<intent id>. An
// intent is identified by its number and its time; both survive in the ledger.
func tag(in events.PurchaseIntent) string {
	return tagPrefix + in.VN + ":" + strconv.FormatInt(in.At.UnixNano(), 36)
}

// sighting is what is remembered of an open intent between two looks.
type sighting struct {
	since  time.Time // when it was first seen here: other processes' clocks do not matter
	missed bool      // the carrier's list was without its number once, when it should have had it
}

// settle finds out what became of each intent and does what is left to do. It sets
// w.open to the number of those that are still open. An error means that Redis or
// the ledger did not answer; a carrier's failure only leaves its intents open.
func (r *Replenisher) settle(ctx context.Context, w *worker, intents []events.PurchaseIntent) error {
	lists := make(map[string]map[vn.Number]carrier.Bought)
	seen := make(map[string]*sighting, len(intents))
	left := 0
	for _, in := range intents {
		s, ok := w.seen[tag(in)]
		if !ok {
			s = &sighting{since: r.now()}
		}
		seen[tag(in)] = s
		closed, err := r.settleOne(ctx, w, in, lists, s)
		if err != nil {
			return err
		}
		if !closed {
			left++
		}
	}
	w.open, w.seen = left, seen
	clear(w.unsent) // what is not in the ledger now was never written
	return nil
}

// settleOne tells whether the intent was closed.
func (r *Replenisher) settleOne(ctx context.Context, w *worker, in events.PurchaseIntent,
	lists map[string]map[vn.Number]carrier.Bought, seen *sighting,
) (bool, error) {
	number, ok := vn.ParseDigits(in.VN)
	if !ok {
		r.log.Error().Str("pool", in.Pool).Str("carrier", in.Carrier).Msg("a purchase intent holds no number; it stays open and counts as bought")
		return false, nil
	}
	if _, ok := w.unsent[tag(in)]; ok { // written by us, and never sent to the carrier
		return true, r.notBought(ctx, w, in)
	}
	inv, known, err := r.inventory(ctx, number)
	if err != nil {
		return false, err
	}
	switch {
	case known && inv.Pool == in.Pool: // it was done; only the closing is missing
		in.Ref = inv.Ref
		if err := r.announce(ctx, &in, in.For); err != nil {
			return false, err
		}
		return true, r.closeIntent(ctx, w.lease, in, events.OutcomeBought)
	case known: // another pool was quicker
		return true, r.notBought(ctx, w, in)
	}
	s, ok := r.sellers[in.Carrier]
	if !ok {
		r.log.Warn().Str("pool", in.Pool).Str("carrier", in.Carrier).Stringer("vn", number).
			Msg("a purchase cannot be settled: its carrier sells no numbers any more by the settings")
		return false, nil
	}
	list, err := r.list(ctx, s, lists)
	if err != nil {
		return false, err
	}
	if list == nil {
		return false, nil
	}
	// A carrier that keeps no reference gives an empty tag: the number was for sale
	// before the intent was written and is ours now, unless it is in use elsewhere.
	if held, ok := list[number]; ok && (held.Tag == tag(in) || held.Tag == "" && !held.Elsewhere(s.WebhookURL)) {
		if err := r.own(ctx, w.lease, s, in, held, events.ReasonAdopted); err != nil {
			return false, r.failedAlone(s, err)
		}
		r.metrics.adopted.WithLabelValues(in.Pool, in.Carrier).Inc()
		r.log.Info().Str("pool", in.Pool).Str("carrier", in.Carrier).Stringer("vn", number).Msg("adopted a number whose purchase had been cut short")
		return true, nil
	}
	if r.now().Sub(seen.since) < r.cfg.SettleAfter {
		return false, nil // it may still be under way, here, elsewhere or at the carrier
	}
	if !seen.missed {
		seen.missed = true
		return false, nil
	}
	r.log.Info().Str("pool", in.Pool).Str("carrier", in.Carrier).Stringer("vn", number).Msg("a purchase did not happen: the carrier's list was twice without the number")
	return true, r.notBought(ctx, w, in)
}

// notBought closes an intent that came to nothing.
func (r *Replenisher) notBought(ctx context.Context, w *worker, in events.PurchaseIntent) error {
	if err := r.closeIntent(ctx, w.lease, in, events.OutcomeNotBought); err != nil {
		return err
	}
	delete(w.unsent, tag(in))
	w.budget.remove(&in)
	return nil
}

// list returns what the carrier's account holds, read once per settling; nil when the
// carrier does not answer or is left alone now.
func (r *Replenisher) list(ctx context.Context, s *seller, lists map[string]map[vn.Number]carrier.Bought) (map[vn.Number]carrier.Bought, error) {
	if have, ok := lists[s.name]; ok {
		return have, nil
	}
	lists[s.name] = nil
	if !s.open(r.now()) {
		return nil, nil
	}
	// A long list takes a carrier's own limit of requests a minute many minutes.
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReconcileFor)
	defer cancel()
	all, err := s.Numbers.List(ctx)
	if err != nil {
		return nil, r.failed(s, &fault{step: "list", err: err})
	}
	byNumber := make(map[vn.Number]carrier.Bought, len(all))
	for _, b := range all {
		byNumber[b.Number] = b
	}
	lists[s.name] = byNumber
	return byNumber, nil
}

// own takes a number that is ours at the carrier the rest of the way: its calls come
// to us, the ledger and the pool have it, it is announced, the intent is closed. Each
// step may be repeated. When another process acts for the pool by now, that is left to
// it: the intent is open.
func (r *Replenisher) own(ctx context.Context, l *lease, s *seller, in events.PurchaseIntent, b carrier.Bought, reason string) error {
	if s.WebhookURL == "" || b.WebhookURL != s.WebhookURL {
		if err := r.configure(ctx, s, b); err != nil {
			return &fault{step: "configure", err: err}
		}
	}
	if err := l.sure(ctx); err != nil {
		return &fault{step: "own", ours: true, err: err}
	}
	owning, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	done, err := r.ledger.Own(owning, in.Pool, in.Carrier, []scripts.Owned{{VN: b.Number, Ref: b.Ref}})
	if err != nil {
		return &fault{step: "own", ours: true, err: err}
	}
	if len(done.Foreign) > 0 {
		r.log.Error().Str("pool", in.Pool).Str("carrier", in.Carrier).Stringer("vn", b.Number).
			Msg("a number bought for this pool is in another one already; it stays there")
		if err := r.closeIntent(ctx, l, in, events.OutcomeNotBought); err != nil { // the other pool pays for it
			return &fault{step: "close", ours: true, err: err}
		}
		return nil
	}
	s.succeeded()
	in.Ref = b.Ref
	if err := r.announce(ctx, &in, reason); err != nil {
		return &fault{step: "announce", ours: true, err: err}
	}
	if err := r.closeIntent(ctx, l, in, events.OutcomeBought); err != nil {
		return &fault{step: "close", ours: true, err: err}
	}
	return nil
}

func (r *Replenisher) configure(ctx context.Context, s *seller, b carrier.Bought) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
	defer cancel()
	return s.Numbers.Configure(ctx, b, s.WebhookURL)
}

// inventory returns a VN's entry, and whether there is one.
func (r *Replenisher) inventory(ctx context.Context, number vn.Number) (scripts.Inventory, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	inv, err := r.store.Inventory(ctx, number)
	if errors.Is(err, vn.ErrNumberUnknown) {
		return inv, false, nil
	}
	if err != nil {
		return inv, false, fmt.Errorf("read the inventory: %w", err)
	}
	return inv, true, nil
}

// closeIntent notes what became of an intent, unless another process acts for its pool.
func (r *Replenisher) closeIntent(ctx context.Context, l *lease, in events.PurchaseIntent, outcome string) error {
	err := l.under(ctx, func(ctx context.Context, fence uint64) error {
		in.Fence = fence
		return r.bus.CloseIntent(ctx, in, outcome)
	})
	if err != nil {
		return fmt.Errorf("close a purchase intent: %w", err)
	}
	return nil
}
