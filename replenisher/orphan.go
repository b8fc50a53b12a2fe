package replenisher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// releaseGrace is how long a carrier may go on listing a number whose release it has
// accepted: some do it later.
const releaseGrace = time.Hour

// orphan judges a number that the carrier has and the inventory had not. ours is false
// for one that has nothing to do with us; a step without an action means that it is in
// the inventory by now. was is its intent as read before the list; it is read again
// here, after the inventory, because whoever takes a number out notes that first.
func (r *Replenisher) orphan(ctx context.Context, s *seller, held carrier.Bought, was noted, opt ReconcileOptions) (st step, ours bool, err error) {
	loose := !strings.HasPrefix(held.Tag, tagPrefix) && (s.WebhookURL == "" || held.WebhookURL != s.WebhookURL)
	if loose && (held.Tag != "" || !was.mayStillCome()) {
		return step{}, false, nil
	}
	inv, known, err := r.inventory(ctx, held.Number)
	if err != nil {
		return step{}, true, err
	}
	row := Row{VN: held.Number.E164()}
	switch {
	case known && inv.Carrier == s.name:
		return step{}, true, nil
	case known:
		row.Pool, row.Action, row.Detail = inv.Pool, Report, "is a VN of carrier "+inv.Carrier+" here"
		return step{row: row}, true, nil
	}
	in, seq, err := r.lastIntent(ctx, held.Number)
	if err != nil {
		return step{}, true, err
	}
	switch {
	case seq > 0 && in.ClosedAt.IsZero():
		row.Pool, row.Action, row.Detail = in.Pool, Wait, "its purchase is being settled"
		return step{row: row}, true, nil
	case loose, seq == 0, in.Carrier != s.name, strings.HasPrefix(held.Tag, tagPrefix) && held.Tag != tag(in):
		return r.stray(s, row, held, opt), true, nil
	}
	row.Pool = in.Pool
	st, err = r.noted(ctx, s, row, held, noted{in, seq}, opt)
	return st, true, err
}

// mayStillCome tells whether the number may turn up at the carrier by itself: its
// purchase may have happened later than we waited, or it was away for a while.
func (n noted) mayStillCome() bool {
	return n.seq > 0 && (n.ClosedAt.IsZero() || n.Outcome == outcomeNotBought || n.Outcome == events.OutcomeLost)
}

// noted judges an orphan by its intent, which is closed.
func (r *Replenisher) noted(ctx context.Context, s *seller, row Row, held carrier.Bought, in noted, opt ReconcileOptions) (step, error) {
	switch in.Outcome {
	case events.OutcomeReleasing:
		return r.releaseAgain(s, row, held, in), nil
	case events.OutcomeReleased:
		switch {
		case r.now().Sub(in.ReleasedAt) < releaseGrace:
			row.Action, row.Detail = Wait, "the carrier has accepted its release"
			return step{row: row}, nil
		case held.Tag == tag(in.PurchaseIntent):
			return r.releaseAgain(s, row, held, in), nil
		}
		return r.stray(s, row, held, opt), nil // somebody may have bought it anew
	case outcomeBought, events.OutcomeAdopted:
		rec, seq, err := r.lastRecord(ctx, held.Number)
		if err != nil {
			return step{}, err
		}
		if seq == 0 || rec.Kind != events.KindRetired {
			break
		}
		if opt.Pool == "" {
			row.Action = Report
			row.Detail = "left its pool and is still paid for: `callmask pool release` gives it back, --pool takes it into a pool again"
			return step{row: row}, nil
		}
		row.Pool = opt.Pool
	}
	row.Action, row.Detail = Adopt, "paid for, and in no pool"
	return r.adopt(s, row, held), nil
}

// stray judges a number that bears our mark or calls us, but that no intent of ours
// explains. Its pool is never guessed.
func (r *Replenisher) stray(s *seller, row Row, held carrier.Bought, opt ReconcileOptions) step {
	elsewhere := held.WebhookURL != "" && held.WebhookURL != s.WebhookURL
	switch {
	case elsewhere && (opt.Pool == "" || !opt.Force):
		row.Action = Report
		row.Detail = "may be another installation's: its calls go elsewhere; --pool with --force takes it into a pool all the same"
	case opt.Pool == "":
		row.Action, row.Detail = Report, "is ours at the carrier, and nothing says of which pool: --pool takes it into one"
	default:
		row.Pool, row.Action, row.Detail = opt.Pool, Adopt, "was of no pool"
		return r.adopt(s, row, held)
	}
	return step{row: row}
}

// releaseAgain gives a number back that the carrier still lists: the rest of a release
// that was begun, or once more one that was finished and announced.
func (r *Replenisher) releaseAgain(s *seller, row Row, held carrier.Bought, in noted) step {
	row.Action, row.Detail = GiveBack, "the carrier still has it after its release"
	return step{row, func(ctx context.Context) (string, error) {
		intent := in.PurchaseIntent
		intent.Ref = held.Ref
		if in.Outcome == events.OutcomeReleasing {
			_, err := r.resume(ctx, s, intent, in.seq)
			return "given back", err
		}
		ctx, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
		defer cancel()
		if err := s.Numbers.Release(ctx, held.Ref); err != nil {
			return "", &fault{step: "release", err: err}
		}
		return "given back once more", nil
	}}
}

// adopt takes a number that is ours at the carrier into the pool of the row: its calls
// come to us, the ledger and the pool have it, its intent says so. Each step may be
// repeated.
func (r *Replenisher) adopt(s *seller, row Row, held carrier.Bought) step {
	return step{row, func(ctx context.Context) (string, error) {
		in, seq, err := r.lastIntent(ctx, held.Number)
		if err != nil {
			return "", &fault{step: "intent", ours: true, err: err}
		}
		if seq > 0 && in.ClosedAt.IsZero() {
			return "", fmt.Errorf("%w: its purchase is being settled", errThisOne)
		}
		if s.WebhookURL == "" || held.WebhookURL != s.WebhookURL {
			if err := r.configure(ctx, s, held); err != nil {
				return "", &fault{step: "configure", err: err}
			}
		}
		owned := scripts.Owned{VN: held.Number, Ref: held.Ref}
		if err := r.ownOne(ctx, row.Pool, s.name, owned); err != nil {
			return "", err
		}
		outcome := outcomeBought
		if seq == 0 || in.Carrier != s.name || strings.HasPrefix(held.Tag, tagPrefix) && held.Tag != tag(in) {
			outcome, in = events.OutcomeAdopted, events.PurchaseIntent{}
		}
		if in.Outcome != outcome || in.Pool != row.Pool {
			in = r.intentOf(scripts.Inventory{Pool: row.Pool, Carrier: s.name, Owned: owned}, in)
			in.Outcome, in.Reason, in.ReleasedAt = outcome, "", time.Time{}
			if _, _, err := r.mark(ctx, in, seq); err != nil {
				return "", err
			}
		}
		r.metrics.adopted.WithLabelValues(row.Pool, s.name).Inc()
		r.log.Info().Str("pool", row.Pool).Str("carrier", s.name).Stringer("vn", held.Number).Msg("adopted a number that was paid for and in no pool")
		return "it is in its pool now", nil
	}}
}

func (r *Replenisher) ownOne(ctx context.Context, pool, name string, n scripts.Owned) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	done, err := r.ledger.Own(ctx, pool, name, []scripts.Owned{n})
	var held *ledger.HeldError
	switch {
	case errors.As(err, &held):
		return fmt.Errorf("%w: an order that Redis does not know holds it; run `callmask rebuild`", errThisOne)
	case err != nil:
		return &fault{step: "own", ours: true, err: err}
	case len(done.Foreign) > 0:
		return fmt.Errorf("%w: it is in another pool, or of another carrier, by now", errThisOne)
	}
	return nil
}

func (r *Replenisher) lastRecord(ctx context.Context, n vn.Number) (events.Record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	rec, seq, err := r.bus.LastRecord(ctx, n)
	if err != nil {
		return rec, 0, fmt.Errorf("read the ledger: %w", err)
	}
	return rec, seq, nil
}
