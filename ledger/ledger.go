package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Store is what the ledger needs of *scripts.Store.
type Store interface {
	SettleAssigned(ctx context.Context, a *scripts.Allocation, fences []uint64) error
	SettleReleased(ctx context.Context, r *scripts.Release, fences []uint64) error
	Release(ctx context.Context, orderID string, reason vn.EndReason) (scripts.Release, error)
	Order(ctx context.Context, orderID string) (vn.Assignment, error)
	Inventory(ctx context.Context, number vn.Number) (scripts.Inventory, error)
	Refill(ctx context.Context, pool, carrier string, numbers []scripts.Owned) (scripts.Refilled, error)
	Drain(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error)
	DrainFree(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error)
}

// Bus is what the ledger needs of *events.Bus.
type Bus interface {
	Record(ctx context.Context, recs ...events.Record) (seqs []uint64, refused []int, err error)
	LastRecord(ctx context.Context, number vn.Number) (events.Record, uint64, error)
	Assigned(ctx context.Context, e events.VNAssigned) error
	Released(ctx context.Context, e events.VNReleased) error
}

// Ledger publishes and settles what the Store has done. It keeps no state of its
// own: any number of them may work on the same Store and Bus.
type Ledger struct {
	store    Store
	bus      Bus
	conflict func(vn.Number)
	log      zerolog.Logger
}

// New returns a Ledger over store and bus. conflict, unless nil, is told of every VN that
// the ledger gave to somebody else than Redis did, and must not block.
func New(store Store, bus Bus, conflict func(vn.Number), log zerolog.Logger) *Ledger {
	if conflict == nil {
		conflict = func(vn.Number) {}
	}
	return &Ledger{store: store, bus: bus, conflict: conflict, log: log}
}

// LostError says that other orders have some VNs of an assignment according to the ledger:
// Redis has lost data. Nothing of the assignment was announced.
type LostError struct {
	Lost []vn.Number
	Won  []scripts.Fenced // the others, with their `released` in the ledger again
}

func (e *LostError) Error() string {
	return "another order has " + strconv.Itoa(len(e.Lost)) + " of the order's numbers in the ledger: Redis has lost data"
}

// Unwrap makes a LostError vn.ErrUnavailable for whoever does not know better: the same
// call may be made again.
func (*LostError) Unwrap() error { return vn.ErrUnavailable }

// Assign makes an allocation known: the records of all its VNs at once, then
// vn.assigned, then SettleAssigned. Nothing is done when it is settled.
//
// It returns vn.ErrOrderEnded when the order ended meanwhile: then nothing is announced.
// After a *LostError scripts.Store.Allocate must be told of it, and gives the order other
// VNs. After any other error the outcome is unknown and the same call may be made again.
func (l *Ledger) Assign(ctx context.Context, a *scripts.Allocation) error {
	if a.Settled {
		return nil
	}
	id := a.Assignment.OrderID
	recs, err := l.assignedRecords(ctx, a)
	if err != nil {
		return fmt.Errorf("assignment of order %s: %w", id, err)
	}
	fences, losses, err := l.write(ctx, recs, l.overAssigned)
	if err != nil {
		return fmt.Errorf("record the assignment of order %s: %w", id, err)
	}
	o, err := l.store.Order(ctx, id)
	switch {
	case errors.Is(err, vn.ErrOrderUnknown):
		return fmt.Errorf("order %s: %w: Redis has forgotten it", id, vn.ErrUnavailable)
	case err != nil:
		return fmt.Errorf("read order %s again: %w", id, err)
	case o.State == vn.Ended:
		return fmt.Errorf("order %s was overtaken by its end: %w", id, vn.ErrOrderEnded)
	case len(losses) > 0:
		return l.giveUp(ctx, a, recs, fences, losses)
	}
	// Another process may have extended it since; what Redis says now is announced.
	if err := l.bus.Assigned(ctx, assignedEvent(&o)); err != nil {
		return fmt.Errorf("announce the assignment of order %s: %w", id, err)
	}
	switch err := l.store.SettleAssigned(ctx, a, fences); {
	case errors.Is(err, scripts.ErrBehind): // it stands all the same, and is restored
		for _, n := range a.Numbers {
			l.conflict(n.VN)
		}
	case err != nil:
		return fmt.Errorf("settle the assignment of order %s: %w", id, err)
	}
	return nil
}

// giveUp records the VNs that an assignment won as released again, and returns the LostError.
func (l *Ledger) giveUp(ctx context.Context, a *scripts.Allocation, recs []events.Record, fences []uint64, losses []int) error {
	out, now := &LostError{}, time.Now()
	var back []events.Record
	var at []int // indexes of back
	for i, n := range a.Numbers {
		if slices.Contains(losses, i) {
			out.Lost = append(out.Lost, n.VN)
			continue
		}
		at = append(at, i)
		back = append(back, events.Record{
			Kind: events.KindReleased, VN: recs[i].VN, Pool: recs[i].Pool, Carrier: recs[i].Carrier, Ref: recs[i].Ref,
			OrderID: recs[i].OrderID, Reason: events.ReasonGivenUp, EndedAt: now, Cooldown: a.Cooldown, After: fences[i],
		})
	}
	seqs, gone, err := l.write(ctx, back, overEnded)
	if err != nil {
		return fmt.Errorf("record the numbers that order %s gives back: %w", a.Assignment.OrderID, err)
	}
	for i, seq := range seqs {
		if number := a.Numbers[at[i]].VN; slices.Contains(gone, i) {
			out.Lost = append(out.Lost, number)
		} else {
			out.Won = append(out.Won, scripts.Fenced{VN: number, Fence: seq})
		}
	}
	l.log.Warn().Str("order", a.Assignment.OrderID).Int("lost", len(out.Lost)).Int("partition", a.Partition).
		Msg("another order has numbers of this one in the ledger; it gets others")
	return out
}

// End makes the end of an order known: `released` of all its VNs at once, or `retired` of
// those that left their pool with it, then vn.released, then SettleReleased. What was
// recorded of a VN since is left alone. Nothing is done when the end is settled or when the
// order never had an assignment. After an error the same call may be made again.
func (l *Ledger) End(ctx context.Context, r *scripts.Release) error {
	if r.Settled || !r.Known {
		return nil
	}
	recs, err := l.endedRecords(ctx, r)
	if err != nil {
		return fmt.Errorf("end of order %s: %w", r.OrderID, err)
	}
	fences, _, err := l.write(ctx, recs, overEnded)
	if err != nil {
		return fmt.Errorf("record the end of order %s: %w", r.OrderID, err)
	}
	return l.ended(ctx, r, fences)
}

// ended announces and settles the end of an order whose records are written.
func (l *Ledger) ended(ctx context.Context, r *scripts.Release, fences []uint64) error {
	if err := l.tellEnd(ctx, r.OrderID, string(r.Reason)); err != nil {
		return err
	}
	if err := l.store.SettleReleased(ctx, r, fences); err != nil {
		if errors.Is(err, scripts.ErrBehind) { // it still routes: whoever asked asks again, and meanwhile it is restored
			for _, n := range r.Numbers {
				l.conflict(n.VN)
			}
		}
		return fmt.Errorf("settle the end of order %s: %w", r.OrderID, err)
	}
	return nil
}

// tellEnd tells the apps of the end of an order.
func (l *Ledger) tellEnd(ctx context.Context, orderID, reason string) error {
	if err := l.bus.Released(ctx, events.VNReleased{OrderID: orderID, Reason: reason}); err != nil {
		return fmt.Errorf("announce the end of order %s: %w", orderID, err)
	}
	return nil
}

// knownRefs returns the carrier's id of each number, from the allocation itself where
// that has them.
func (l *Ledger) knownRefs(ctx context.Context, a *scripts.Allocation, numbers []vn.Number) ([]string, error) {
	refs := make([]string, len(a.Numbers))
	for i, n := range a.Numbers {
		if refs[i] = n.Ref; n.Ref == "" {
			return l.refs(ctx, numbers)
		}
	}
	return refs, nil
}

// refs reads the carrier's id of each number: each record replaces the one before, so
// each must carry it on. A number that has left the inventory has it in its last record.
func (l *Ledger) refs(ctx context.Context, numbers []vn.Number) ([]string, error) {
	refs := make([]string, len(numbers))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range numbers {
		g.Go(func() error {
			inv, err := l.store.Inventory(ctx, n)
			if err == nil {
				refs[i] = inv.Ref
				return nil
			}
			if !errors.Is(err, vn.ErrNumberUnknown) {
				return fmt.Errorf("read the inventory: %w", err)
			}
			rec, _, err := l.bus.LastRecord(ctx, n)
			if err != nil {
				return fmt.Errorf("read the ledger: %w", err)
			}
			refs[i] = rec.Ref
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return refs, nil
}
