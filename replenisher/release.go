package replenisher

import (
	"context"
	"errors"
	"fmt"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Giving is how far a number has come on its way back to its carrier.
type Giving string

// The ways.
const (
	Released Giving = "released" // the carrier has taken it back, or has accepted to
	Draining Giving = "draining" // an order holds it; it goes back once that has ended
	Kept     Giving = "kept"     // it stays, because it is in use or in another pool by now
)

var (
	// ErrImported means that callmask did not buy the number, so it gives it back to nobody.
	ErrImported = errors.New("number_imported: callmask did not buy this number; take it out of its pool with `callmask pool drain`")
	// ErrNoSeller means that a carrier has no number API by the settings.
	ErrNoSeller = errors.New("carrier_unknown: no carrier of this name sells numbers")
	// ErrUnsettled means that a number's purchase has not been settled yet.
	ErrUnsettled = errors.New("number_unsettled: the number's purchase is not settled yet; try again in a minute")
)

// Release takes a number out of its pool, at once when it is free or cooling, else
// when its order ends, and then gives it back to its carrier. What a crash or the
// carrier cuts short is done by the next reconciliation. It may be repeated.
//
// Errors: vn.ErrNumberUnknown, ErrImported, ErrNoSeller, ErrUnsettled,
// events.ErrOvertaken (try again); after any other one, such as the carrier's, the
// release stays noted and is tried again.
func (r *Replenisher) Release(ctx context.Context, pool string, number vn.Number) (_ Giving, err error) {
	ctx, end := r.cfg.Tracer.Act(ctx, "give a number back", "callmask.pool", pool)
	defer func() { end(err) }()
	inv, known, err := r.inventory(ctx, number)
	if err != nil {
		return "", err
	}
	in, seq, err := r.lastIntent(ctx, pool, number)
	if err != nil {
		return "", err
	}
	switch {
	case known && inv.Pool != pool, !known && seq == 0:
		return "", vn.ErrNumberUnknown
	case seq > 0 && in.ClosedAt.IsZero():
		return "", ErrUnsettled
	case !known && (in.Outcome == events.OutcomeNotBought || ghosted(&in)):
		return "", vn.ErrNumberUnknown
	case !known && in.Outcome == events.OutcomeReleased:
		return Released, nil
	case known && !bought(inv, &in):
		return "", ErrImported
	}
	if !known {
		inv = scripts.Inventory{Pool: in.Pool, Carrier: in.Carrier, Owned: scripts.Owned{VN: number, Ref: in.Ref}}
	}
	s, ok := r.sellers[inv.Carrier]
	if !ok {
		return "", ErrNoSeller
	}
	if in, seq, err = r.markReleasing(ctx, inv, in, seq, events.ReleasedOperator); err != nil {
		return "", err
	}
	how, err := r.giveBack(ctx, s, in, seq)
	if err != nil {
		_ = r.failed(s, err) // it backs off and counts; the caller gets all of the error
	}
	return how, err
}

// bought tells whether callmask bought a VN: an imported one has neither the carrier's
// id nor a purchase that came to something. in is its pool's intent of it, if any.
func bought(inv scripts.Inventory, in *events.PurchaseIntent) bool {
	switch {
	case inv.Ref != inv.VN.Digits():
		return true
	case in.Carrier != inv.Carrier || in.Outcome == events.OutcomeNotBought:
		return false
	}
	return in.Outcome != events.OutcomeReleased || ghosted(in)
}

// ghosted tells whether the number of an intent was gone from its carrier's list.
func ghosted(in *events.PurchaseIntent) bool {
	return in.Outcome == events.OutcomeReleased && in.Reason == events.ReleasedGhost
}

// markReleasing notes, before anything is changed, that a number is to be given back:
// whoever finds the note after a crash goes on. It returns the intent as it now is.
func (r *Replenisher) markReleasing(ctx context.Context, inv scripts.Inventory, in events.PurchaseIntent, seq uint64, reason string,
) (events.PurchaseIntent, uint64, error) {
	if seq > 0 && in.Outcome == events.OutcomeReleasing && in.Reason == reason {
		return in, seq, nil
	}
	in = r.intentOf(inv, in)
	in.Outcome, in.Reason = events.OutcomeReleasing, reason
	seq, err := r.mark(ctx, in, seq)
	return in, seq, err
}

// intentOf returns the intent that speaks of a VN as the inventory has it: its pool's
// last one, or a new one for a VN without.
func (r *Replenisher) intentOf(inv scripts.Inventory, in events.PurchaseIntent) events.PurchaseIntent {
	if in.Carrier != inv.Carrier {
		at := stamp(r.now())
		in = events.PurchaseIntent{VN: inv.VN.Digits(), Carrier: inv.Carrier, At: at, ClosedAt: at}
	}
	in.Pool, in.Ref = inv.Pool, inv.Ref
	return in
}

// giveBack takes a number whose intent says that it is being given back the rest of the
// way: out of its pool, back to the carrier, announced, noted. Each step may be repeated.
func (r *Replenisher) giveBack(ctx context.Context, s *seller, in events.PurchaseIntent, seq uint64) (Giving, error) {
	number, ok := vn.ParseDigits(in.VN)
	if !ok {
		return "", &fault{step: "release", ours: true, err: errors.New("an intent holds no number")}
	}
	how, err := r.leave(ctx, in, number)
	if err != nil {
		return "", &fault{step: "retire", ours: true, err: err}
	}
	switch how {
	case Draining:
		return Draining, nil
	case Kept:
		return r.keepIt(ctx, in, seq)
	}
	if gone, err := r.handBack(ctx, s, in.Ref); err != nil {
		return "", err
	} else if !gone {
		return Released, nil // the note stays, so that the next comparison sees it through
	}
	if err := r.released(ctx, in); err != nil {
		return "", err
	}
	in.Outcome, in.ClosedAt = events.OutcomeReleased, r.now()
	if err := r.note(ctx, in, seq); err != nil {
		return "", err
	}
	r.log.Info().Str("pool", in.Pool).Str("carrier", s.name).Stringer("vn", number).Str("reason", in.Reason).Msg("gave a number back")
	return Released, nil
}

// handBack asks the carrier to take a number back; gone is false when it has accepted and
// is not done yet.
func (r *Replenisher) handBack(ctx context.Context, s *seller, ref string) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.CarrierCall)
	defer cancel()
	err = s.Numbers.Release(ctx, ref)
	if errors.Is(err, carrier.ErrPending) {
		return false, nil
	}
	if err != nil {
		return false, &fault{step: "release", err: err}
	}
	return true, nil
}

// resumed is resume for a row of a comparison.
func (r *Replenisher) resumed(ctx context.Context, s *seller, in events.PurchaseIntent, seq uint64) (detail string, err error) {
	switch how, err := r.resume(ctx, s, in, seq); {
	case err != nil:
		return "", err
	case how == Draining:
		return "goes back when its order ends", nil
	case how == Kept:
		return "stays: it is in use again", nil
	}
	return "given back", nil
}

// resume goes on with a release that was cut short. A surplus number that is still in
// its pool stays there: whether it is spare is judged anew.
func (r *Replenisher) resume(ctx context.Context, s *seller, in events.PurchaseIntent, seq uint64) (Giving, error) {
	if number, ok := vn.ParseDigits(in.VN); ok && in.Reason == events.ReleasedSurplus {
		_, known, err := r.inventory(ctx, number)
		if err != nil {
			return "", &fault{step: "inventory", ours: true, err: err}
		}
		if known {
			return r.keepIt(ctx, in, seq)
		}
	}
	return r.giveBack(ctx, s, in, seq)
}

// keepIt takes the note back that a number is to be given back.
func (r *Replenisher) keepIt(ctx context.Context, in events.PurchaseIntent, seq uint64) (Giving, error) {
	in.Outcome, in.Reason = events.OutcomeBought, ""
	return Kept, r.note(ctx, in, seq)
}

// leave takes a number out of its pool: Released when it is in none now, Draining, or
// Kept when it must not leave.
func (r *Replenisher) leave(ctx context.Context, in events.PurchaseIntent, number vn.Number) (Giving, error) {
	inv, known, err := r.inventory(ctx, number)
	if err != nil {
		return "", err
	}
	if known && (inv.Pool != in.Pool || inv.Carrier != in.Carrier) {
		return Kept, nil
	}
	retire := r.ledger.Retire
	if in.Reason == events.ReleasedSurplus {
		retire = r.ledger.RetireFree
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	d, err := retire(ctx, in.Pool, number)
	switch {
	case errors.Is(err, scripts.ErrBusy):
		return Kept, nil
	case errors.Is(err, vn.ErrNumberUnknown): // it left before
		rec, seq, err := r.bus.LastRecord(ctx, number)
		if err != nil {
			return "", fmt.Errorf("read the ledger: %w", err)
		}
		if seq > 0 && rec.Kind != events.KindRetired {
			return Draining, nil // the end of its last order is not recorded yet
		}
		return Released, nil
	case err != nil:
		return "", err
	case !d.Left:
		return Draining, nil
	}
	return Released, nil
}

// released announces that a number is not paid for any more. It comes before the note
// of the same: a repeat does no harm, an event that never comes does.
func (r *Replenisher) released(ctx context.Context, in events.PurchaseIntent) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	e := events.PoolReleased{Pool: in.Pool, VN: "+" + in.VN, Carrier: in.Carrier, Price: in.Price, Currency: in.Currency, Reason: in.Reason, At: r.now()}
	if err := r.bus.PoolReleased(ctx, e, in.At); err != nil {
		return &fault{step: "announce", ours: true, err: fmt.Errorf("announce that a number was given back: %w", err)}
	}
	r.keeper.released.WithLabelValues(in.Pool, in.Carrier, in.Reason).Inc()
	return nil
}

func (r *Replenisher) lastIntent(ctx context.Context, pool string, number vn.Number) (events.PurchaseIntent, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	in, seq, err := r.bus.LastIntent(ctx, pool, number)
	if err != nil {
		return in, 0, fmt.Errorf("read a purchase intent: %w", err)
	}
	return in, seq, nil
}

// mark writes an intent over the one with the given sequence.
func (r *Replenisher) mark(ctx context.Context, in events.PurchaseIntent, seq uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	seq, err := r.bus.MarkIntent(ctx, in, seq)
	if err != nil {
		return 0, &fault{step: "mark", ours: true, err: fmt.Errorf("mark a purchase intent: %w", err)}
	}
	return seq, nil
}

// note is mark for the last word on a number: who was quicker has the same to say, or
// something newer.
func (r *Replenisher) note(ctx context.Context, in events.PurchaseIntent, seq uint64) error {
	if _, err := r.mark(ctx, in, seq); err != nil && !errors.Is(err, events.ErrOvertaken) {
		return err
	}
	return nil
}
