package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// RestoreStore is what a Restorer needs of *scripts.Store.
type RestoreStore interface {
	Store
	Restore(ctx context.Context, recs []scripts.Recorded, sure scripts.Sure) ([]scripts.Restored, error)
	Forget(ctx context.Context, orderID string, number vn.Number) ([]vn.Number, error)
	Remind(ctx context.Context, orderID string, partition int, until time.Time, sure bool) (bool, error)
	RemindEnded(ctx context.Context, orders []scripts.EndedOrder) error
	Reap(ctx context.Context) (ended []scripts.Release, more bool, err error)
	MarkReady(ctx context.Context, partitions ...int) error
	PartitionOf(n vn.Number) int
	Partitions() int
}

// RestoreBus is what a Restorer needs of *events.Bus.
type RestoreBus interface {
	Bus
	Records(ctx context.Context, each func(rec events.Record, seq uint64) error) error
	RecordCount(ctx context.Context) (uint64, error)
	OrdersReleased(ctx context.Context, since time.Time, each func(e events.VNReleased, at time.Time) error) error
}

// Restorer brings Redis back to what the ledger says, after a failover to a server that
// had not heard of everything, or after the loss of all of Redis. Whatever it does may be
// done again, by any number of them, beside traffic.
type Restorer struct {
	*Ledger

	store    RestoreStore
	bus      RestoreBus
	carriers map[string]byte
}

// NewRestorer returns a Restorer that writes what the ledger lacks through l, which must
// be of the same store and bus. carriers are all that are configured.
func NewRestorer(l *Ledger, store RestoreStore, bus RestoreBus, carriers []scripts.Carrier) *Restorer {
	r := &Restorer{Ledger: l, store: store, bus: bus, carriers: make(map[string]byte, len(carriers))}
	for _, c := range carriers {
		r.carriers[c.Name] = c.ID
	}
	return r
}

// PartitionsError says that the orders in the ledger were made with another number of
// partitions than Redis has now. Nothing is restored then, and nothing recorded.
type PartitionsError struct {
	Have int
	Fits int // the number that fits the orders looked at
}

func (e *PartitionsError) Error() string {
	return fmt.Sprintf("the orders in the ledger were made with another number of partitions (%d fits) than the %d that Redis has now: "+
		"set CALLMASK_PARTITIONS to it, delete the keys that begin with cm1: and start again", e.Fits, e.Have)
}

// restoreSteps is how often the state of one VN may turn out to be another while it is
// restored: each step but the last has found out something, and done something about it.
const restoreSteps = 8

// Restore makes Redis say of a VN what its last ledger record says. What is under way is
// left alone, unless idle tells that nothing is: then a VN is also restored where Redis
// knows its record, but its states do not agree. It returns scripts.RestoreDone,
// scripts.RestoreKnown when there was nothing to do, or scripts.RestoreBusy when the VN is
// being changed at this moment. A VN without a record is vn.ErrNumberUnknown. After any
// other error the same call may be made again.
func (r *Restorer) Restore(ctx context.Context, number vn.Number, idle bool) (scripts.RestoreStatus, error) {
	sure := scripts.Unsure
	if idle {
		if err := r.reapAll(ctx); err != nil {
			return 0, err
		}
		sure = scripts.Idle
	}
	return r.restore(ctx, number, sure, 0)
}

// deepest is how many orders that hold VNs against the ledger may be found in one another's way.
const deepest = 5

func (r *Restorer) restore(ctx context.Context, number vn.Number, sure scripts.Sure, depth int) (scripts.RestoreStatus, error) {
	for range restoreSteps {
		rec, seq, err := r.bus.LastRecord(ctx, number)
		if err != nil {
			return 0, fmt.Errorf("read the ledger: %w", err)
		}
		if seq == 0 {
			return 0, vn.ErrNumberUnknown
		}
		status, now, err := r.step(ctx, &rec, seq, sure, depth)
		if err != nil || status != 0 {
			return status, err
		}
		sure = max(sure, now)
	}
	return 0, fmt.Errorf("%w: number %s keeps changing", vn.ErrUnavailable, number)
}

// step restores one record, or does something about what is in its way and returns no
// status; now is what the next step may be sure of.
func (r *Restorer) step(
	ctx context.Context, rec *events.Record, seq uint64, sure scripts.Sure, depth int,
) (status scripts.RestoreStatus, now scripts.Sure, err error) {
	recorded, err := r.recorded(rec, seq)
	if err != nil {
		return 0, 0, err
	}
	answers, err := r.store.Restore(ctx, []scripts.Recorded{recorded}, sure)
	if err == nil && answers[0].Status == scripts.RestorePartial {
		var reason string
		if reason, err = r.lacks(ctx, rec); err == nil && reason != "" {
			return 0, 0, r.recordEnd(ctx, rec, seq, reason, time.Now())
		}
		recorded.Whole = true
		if err == nil {
			answers, err = r.store.Restore(ctx, []scripts.Recorded{recorded}, sure)
		}
	}
	if err != nil {
		return 0, 0, err
	}
	switch a := &answers[0]; a.Status {
	case scripts.RestoreHeld:
		return 0, 0, r.forget(ctx, a.OrderID, recorded.VN, depth)
	case scripts.RestoreAdrift:
		return 0, scripts.Reaped, r.reapAll(ctx)
	case scripts.RestoreEnded:
		return 0, 0, r.recordEnd(ctx, rec, seq, string(a.Reason), a.EndedAt)
	case scripts.RestoreMoved:
		return r.moved(ctx, rec, seq, a.Partition)
	case scripts.RestoreDone, scripts.RestoreKnown:
		told, err := r.tellHome(ctx, rec, &recorded)
		if err != nil || !told {
			return 0, 0, err
		}
		return a.Status, 0, nil
	default:
		return a.Status, 0, nil
	}
}

// lacks tells with what reason an order gave a VN up that is not whole in the ledger: it
// was never acknowledged, or its end was under way. It is empty when the order is whole.
func (r *Restorer) lacks(ctx context.Context, rec *events.Record) (string, error) {
	reason := ""
	for _, d := range rec.VNs {
		n, _ := vn.ParseDigits(d)
		last, _, err := r.bus.LastRecord(ctx, n)
		if err != nil {
			return "", fmt.Errorf("read the ledger: %w", err)
		}
		switch own := last.OrderID == rec.OrderID; {
		case own && last.Kind == events.KindAssigned:
		case own && last.Kind == events.KindReleased && last.Reason != events.ReasonGivenUp:
			return last.Reason, nil
		case own && last.Kind == events.KindRetired:
			reason = string(vn.Completed) // it left with its order
		case reason == "":
			reason = events.ReasonGivenUp
		}
	}
	return reason, nil
}

// moved records that an order which has other VNs by now gave this one back. A pointer of
// it to a partition that does not know the order is none.
func (r *Restorer) moved(
	ctx context.Context, rec *events.Record, seq uint64, partition int,
) (scripts.RestoreStatus, scripts.Sure, error) {
	if partition >= 0 {
		switch _, err := r.store.Order(ctx, rec.OrderID); {
		case errors.Is(err, vn.ErrOrderUnknown):
			return 0, scripts.Reaped, nil
		case err != nil:
			return 0, 0, fmt.Errorf("read order %s: %w", rec.OrderID, err)
		}
	}
	return 0, 0, r.recordEnd(ctx, rec, seq, events.ReasonGivenUp, time.Now())
}

// recordEnd writes the end that the ledger lacks, and tells the apps unless the order goes on.
func (r *Restorer) recordEnd(ctx context.Context, rec *events.Record, seq uint64, reason string, at time.Time) error {
	end := events.Record{
		Kind: events.KindReleased, VN: rec.VN, Pool: rec.Pool, Carrier: rec.Carrier, Ref: rec.Ref, After: seq,
		OrderID: rec.OrderID, Reason: reason, EndedAt: at, Cooldown: rec.Cooldown,
	}
	if _, _, err := r.write(ctx, []events.Record{end}, overEnded); err != nil {
		return fmt.Errorf("record the end of order %s: %w", rec.OrderID, err)
	}
	if reason == events.ReasonGivenUp {
		return nil
	}
	return r.tellEnd(ctx, rec.OrderID, reason)
}

// tellHome tells the order's own partition of what was restored in another one. It
// returns false when that knows better: then the order gave the VN back.
func (r *Restorer) tellHome(ctx context.Context, rec *events.Record, recorded *scripts.Recorded) (bool, error) {
	switch {
	case recorded.Kind == scripts.RecordedReleased && !recorded.GivenUp && time.Since(rec.EndedAt) < endedFor:
		return true, r.store.RemindEnded(ctx, []scripts.EndedOrder{{ID: rec.OrderID, Reason: recorded.Reason, At: rec.EndedAt}})
	case recorded.Kind != scripts.RecordedAssigned:
		return true, nil
	}
	partition := r.store.PartitionOf(recorded.VN)
	done, err := r.store.Remind(ctx, rec.OrderID, partition, rec.ExpiresAt, false)
	if err != nil || done {
		return done, err
	}
	o, err := r.store.Order(ctx, rec.OrderID)
	switch {
	case errors.Is(err, vn.ErrOrderUnknown):
		return r.store.Remind(ctx, rec.OrderID, partition, rec.ExpiresAt, true)
	case err != nil:
		return false, fmt.Errorf("read order %s: %w", rec.OrderID, err)
	}
	reason := events.ReasonGivenUp
	if o.State == vn.Ended {
		reason = string(o.EndReason)
	}
	// The next step finds this record, and ends what was restored under the one before.
	return false, r.recordEnd(ctx, rec, recorded.Fence, reason, time.Now())
}

// forget has an order forgotten that holds a VN against the ledger, and restores the others
// that it holds: what they were to it is in the ledger.
func (r *Restorer) forget(ctx context.Context, orderID string, number vn.Number, depth int) error {
	if depth == deepest {
		return fmt.Errorf("%w: too many orders hold numbers of each other", vn.ErrUnavailable)
	}
	numbers, err := r.store.Forget(ctx, orderID, number)
	if err != nil {
		return err
	}
	r.log.Warn().Str("order", orderID).Int("numbers", len(numbers)).Msg("an order held numbers that the ledger has given to others; Redis had lost data")
	for _, n := range numbers {
		if n == number {
			continue
		}
		// A number that has no record is none of ours.
		if _, err := r.restore(ctx, n, scripts.Reaped, depth+1); err != nil && !errors.Is(err, vn.ErrNumberUnknown) {
			return err
		}
	}
	return nil
}

// reapAll ends the orders that ran out.
func (r *Restorer) reapAll(ctx context.Context) error {
	for more := true; more; {
		var ended []scripts.Release
		var err error
		if ended, more, err = r.store.Reap(ctx); err != nil {
			return fmt.Errorf("end what ran out: %w", err)
		}
		for i := range ended {
			if err := r.End(ctx, &ended[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// recorded turns a ledger record into what Restore takes.
func (r *Restorer) recorded(rec *events.Record, seq uint64) (scripts.Recorded, error) {
	number, _ := vn.ParseDigits(rec.VN)
	out := scripts.Recorded{
		Kind: scripts.RecordedKind(rec.Kind), OrderID: rec.OrderID, At: rec.EndedAt, Cooldown: rec.Cooldown,
		Reason: vn.EndReason(rec.Reason), GivenUp: rec.Reason == events.ReasonGivenUp,
	}
	out.VN, out.Fence, out.Ref, out.Pool, out.Carrier = number, seq, rec.Ref, rec.Pool, rec.Carrier
	if rec.Kind == events.KindAssigned {
		id, ok := r.carriers[rec.Carrier]
		if !ok {
			return out, fmt.Errorf("ledger record %d: carrier %q is not among the configured ones: its numbers cannot be restored without", seq, rec.Carrier)
		}
		out.At, out.CarrierID, out.KeyID, out.Party, out.Roles = rec.ExpiresAt, id, rec.KeyID, rec.Party, rec.Roles
		for _, d := range rec.VNs {
			n, _ := vn.ParseDigits(d)
			out.VNs = append(out.VNs, n)
			if r.store.PartitionOf(n) != r.store.PartitionOf(out.VNs[0]) {
				return out, &PartitionsError{Have: r.store.Partitions(), Fits: 1}
			}
		}
		for i, t := range rec.Tokens {
			if len(t) != len(seal.Token{}) || i >= len(rec.Sealed) || i != rec.Party && len(rec.Sealed[i]) != len(seal.Sealed{}) {
				return out, fmt.Errorf("ledger record %d: a token or sealed number has not the right length", seq)
			}
			out.Tokens = append(out.Tokens, seal.Token(t))
			var sealed seal.Sealed
			copy(sealed[:], rec.Sealed[i])
			out.Sealed = append(out.Sealed, sealed)
		}
	}
	if err := out.Check(); err != nil {
		return out, fmt.Errorf("ledger record %d is damaged: %w", seq, err)
	}
	return out, nil
}
