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
// the inventory by now. Its intent is read again, after the inventory: whoever takes a
// number out notes that first.
func (r *Replenisher) orphan(ctx context.Context, s *seller, held carrier.Bought, intents []noted, opt ReconcileOptions) (st step, ours bool, err error) {
	loose := !strings.HasPrefix(held.Tag, tagPrefix) && !held.Reaches(s.WebhookURL)
	was := s.explains(held, intents)
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
	case was.seq == 0:
		return r.stray(s, row, held, opt), true, nil
	}
	row.Pool = was.Pool
	in, seq, err := r.lastIntent(ctx, was.Pool, held.Number)
	switch {
	case err != nil:
		return step{}, true, err
	case seq == 0 || in.ClosedAt.IsZero() || !in.At.Equal(was.At):
		row.Action, row.Detail = Wait, "its purchase is being settled"
		return step{row: row}, true, nil
	case loose:
		return r.stray(s, row, held, opt), true, nil
	case held.Elsewhere(s.WebhookURL) && !opt.Force:
		row.Action, row.Detail = Report, "was bought for this pool, but its calls go elsewhere: --force takes it all the same"
		return step{row: row}, true, nil
	}
	st, err = r.judge(ctx, s, row, held, noted{in, seq}, opt)
	return st, true, err
}

// explains returns the intent that a number of the list was bought by: the one whose
// tag it bears, or, where the carrier kept none, the one that says most. One that bears
// a tag of none of them may be another installation's, which was quicker than we: it is
// ours for certain only if its calls come to us.
func (s *seller) explains(held carrier.Bought, intents []noted) noted {
	tagged := strings.HasPrefix(held.Tag, tagPrefix)
	var best noted
	for _, in := range intents {
		if (!tagged || held.Tag == tag(in.PurchaseIntent)) && (best.seq == 0 || in.weight() >= best.weight()) {
			best = in
		}
	}
	if best.seq == 0 && held.Reaches(s.WebhookURL) && strings.HasPrefix(held.Tag, tagPrefix+held.Number.Digits()+":") {
		return replaced(intents)
	}
	return best
}

// replaced returns the intent that has taken the place of the one that a number was
// bought by, late: it found the number sold. Where two pools tried there is none.
func replaced(intents []noted) noted {
	var by noted
	for _, in := range intents {
		if in.Outcome != events.OutcomeNotBought {
			continue
		}
		if by.seq > 0 {
			return noted{}
		}
		by = in
	}
	return by
}

// weight orders the intents of several pools for one number: a purchase that came to
// nothing says less of it than any other.
func (n noted) weight() int {
	switch {
	case n.ClosedAt.IsZero():
		return 4
	case n.Outcome == events.OutcomeBought, n.Outcome == events.OutcomeReleasing:
		return 3
	case n.Outcome == events.OutcomeReleased:
		return 2
	}
	return 1
}

// mayStillCome tells whether the number may turn up at the carrier by itself: its
// purchase may have happened later than we waited, or it was away for a while.
func (n noted) mayStillCome() bool {
	return n.seq > 0 && (n.ClosedAt.IsZero() || n.Outcome == events.OutcomeNotBought || ghosted(&n.PurchaseIntent))
}

// judge judges an orphan by its intent, which is closed.
func (r *Replenisher) judge(ctx context.Context, s *seller, row Row, held carrier.Bought, in noted, opt ReconcileOptions) (step, error) {
	switch {
	case in.Outcome == events.OutcomeReleasing:
		return r.releaseAgain(s, row, held, in), nil
	case in.Outcome == events.OutcomeReleased && !ghosted(&in.PurchaseIntent):
		switch {
		case r.now().Sub(in.ClosedAt) < releaseGrace:
			row.Action, row.Detail = Wait, "the carrier has accepted its release"
			return step{row: row}, nil
		case held.Tag == tag(in.PurchaseIntent) && !held.Elsewhere(s.WebhookURL):
			return r.releaseAgain(s, row, held, in), nil
		}
		return r.stray(s, row, held, opt), nil // somebody may have bought it anew
	case in.Outcome == events.OutcomeBought:
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
	return r.adopt(s, row, held, in.PurchaseIntent), nil
}

// stray judges a number that bears our mark or calls us, but that no intent of ours
// explains. Its pool is never guessed.
func (r *Replenisher) stray(s *seller, row Row, held carrier.Bought, opt ReconcileOptions) step {
	switch {
	case held.Elsewhere(s.WebhookURL) && (opt.Pool == "" || !opt.Force):
		row.Action = Report
		row.Detail = "may be another installation's: its calls go elsewhere; --pool with --force takes it into a pool all the same"
	case opt.Pool == "":
		row.Action, row.Detail = Report, "is ours at the carrier, and nothing says of which pool: --pool takes it into one"
	default:
		row.Pool, row.Action, row.Detail = opt.Pool, Adopt, "was of no pool"
		return r.adopt(s, row, held, events.PurchaseIntent{})
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
			return r.resumed(ctx, s, intent, in.seq)
		}
		if _, err := r.handBack(ctx, s, held.Ref); err != nil {
			return "", err
		}
		return "given back once more", nil
	}}
}

// adopt takes a number that is ours at the carrier into the pool of the row: its calls
// come to us, the ledger and the pool have it, it is announced, its intent says so.
// by is the intent that it was bought by, if any. Each step may be repeated.
func (r *Replenisher) adopt(s *seller, row Row, held carrier.Bought, by events.PurchaseIntent) step {
	return step{row, func(ctx context.Context) (string, error) {
		in, seq, err := r.lastIntent(ctx, row.Pool, held.Number)
		if err != nil {
			return "", &fault{step: "intent", ours: true, err: err}
		}
		if seq > 0 && (in.ClosedAt.IsZero() || in.Outcome == events.OutcomeReleasing) ||
			by.Pool == row.Pool && (!in.At.Equal(by.At) || in.Outcome != by.Outcome) {
			return "", fmt.Errorf("%w now: somebody else does something with it", errThisOne)
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
		if err := r.bill(ctx, scripts.Inventory{Pool: row.Pool, Carrier: s.name, Owned: owned}, held, by, seq); err != nil {
			return "", err
		}
		r.metrics.adopted.WithLabelValues(row.Pool, s.name).Inc()
		r.log.Info().Str("pool", row.Pool).Str("carrier", s.name).Stringer("vn", held.Number).Msg("adopted a number that was paid for and in no pool")
		return "it is in its pool now", nil
	}}
}

// bill announces a number that was adopted, and notes in the intent of its pool, which
// has this sequence, that the pool pays for it: what it was offered for, or else what the
// list says. The pool that it was bought for pays no more, if it is another one.
func (r *Replenisher) bill(ctx context.Context, inv scripts.Inventory, held carrier.Bought, by events.PurchaseIntent, seq uint64) error {
	in := r.intentOf(inv, by)
	if in.Price == "" {
		in.Price, in.Currency = held.Price, held.Currency
	}
	if by.Pool != inv.Pool || by.Outcome != events.OutcomeBought {
		in.Outcome, in.Reason, in.ClosedAt = events.OutcomeBought, "", r.now()
		if err := r.announce(ctx, &in, events.ReasonAdopted); err != nil {
			return &fault{step: "announce", ours: true, err: err}
		}
		if err := r.note(ctx, in, seq); err != nil {
			return err
		}
	}
	if by.Pool == "" || by.Pool == inv.Pool {
		return nil
	}
	old, oldSeq, err := r.lastIntent(ctx, by.Pool, inv.VN)
	if err != nil || !old.At.Equal(by.At) || old.Outcome != events.OutcomeBought {
		return err
	}
	old.Outcome, old.Reason, old.ClosedAt = events.OutcomeReleased, events.ReleasedOperator, r.now()
	return r.note(ctx, old, oldSeq)
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
