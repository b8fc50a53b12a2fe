package ledger

import (
	"context"
	"errors"
	"fmt"
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
	Record(ctx context.Context, recs ...events.Record) ([]uint64, error)
	LastRecord(ctx context.Context, number vn.Number) (events.Record, uint64, error)
	Assigned(ctx context.Context, e events.VNAssigned) error
	Released(ctx context.Context, e events.VNReleased) error
}

// Ledger publishes and settles what the Store has done. It keeps no state of its
// own: any number of them may work on the same Store and Bus.
type Ledger struct {
	store Store
	bus   Bus
	log   zerolog.Logger
}

// New returns a Ledger over store and bus.
func New(store Store, bus Bus, log zerolog.Logger) *Ledger {
	return &Ledger{store: store, bus: bus, log: log}
}

// Assign makes an allocation known: the records of all its VNs at once, then
// vn.assigned, then SettleAssigned. Nothing is done when it is settled.
//
// It returns vn.ErrOrderEnded when the order ended while its records were under way:
// then nothing is announced, and the ledger's last word on its VNs is the end. After
// any other error the outcome is unknown and the same call may be made again.
func (l *Ledger) Assign(ctx context.Context, a *scripts.Allocation) error {
	if a.Settled {
		return nil
	}
	id := a.Assignment.OrderID
	recs, err := l.assignedRecords(ctx, a)
	if err != nil {
		return fmt.Errorf("assignment of order %s: %w", id, err)
	}
	fences, err := l.bus.Record(ctx, recs...)
	if err != nil {
		return fmt.Errorf("record the assignment of order %s: %w", id, err)
	}
	// An end that Redis learns of from here on is recorded after these records.
	switch o, err := l.store.Order(ctx, id); {
	case errors.Is(err, vn.ErrOrderUnknown):
		return fmt.Errorf("order %s: %w: Redis has forgotten it", id, vn.ErrUnavailable)
	case err != nil:
		return fmt.Errorf("read order %s again: %w", id, err)
	case o.State == vn.Ended:
		return l.overtaken(ctx, id)
	}
	if err := l.bus.Assigned(ctx, assignedEvent(&a.Assignment)); err != nil {
		return fmt.Errorf("announce the assignment of order %s: %w", id, err)
	}
	if err := l.store.SettleAssigned(ctx, a, fences); err != nil {
		return fmt.Errorf("settle the assignment of order %s: %w", id, err)
	}
	return nil
}

// End makes the end of an order known: `released` of all its VNs at once, then
// `retired` of those that left their pool with it, then vn.released, then
// SettleReleased. Nothing is done when it is settled or when the order never had
// an assignment. After an error the same call may be made again.
func (l *Ledger) End(ctx context.Context, r *scripts.Release) error {
	if r.Settled || !r.Known {
		return nil
	}
	if time.Now().Add(lateMargin).After(r.RestedBy) {
		return l.endLate(ctx, r)
	}
	released, retired, err := l.releasedRecords(ctx, r)
	if err != nil {
		return fmt.Errorf("end of order %s: %w", r.OrderID, err)
	}
	fences, err := l.bus.Record(ctx, released...)
	if err != nil {
		return fmt.Errorf("record the end of order %s: %w", r.OrderID, err)
	}
	if len(retired) > 0 {
		seqs, err := l.bus.Record(ctx, retired...)
		if err != nil {
			return fmt.Errorf("record the numbers that left with order %s: %w", r.OrderID, err)
		}
		for i, n := range r.Numbers {
			if n.Retired {
				fences[i], seqs = seqs[0], seqs[1:]
			}
		}
	}
	return l.ended(ctx, r, fences)
}

// ended announces and settles the end of an order whose records are written.
func (l *Ledger) ended(ctx context.Context, r *scripts.Release, fences []uint64) error {
	if err := l.bus.Released(ctx, events.VNReleased{OrderID: r.OrderID, Reason: string(r.Reason)}); err != nil {
		return fmt.Errorf("announce the end of order %s: %w", r.OrderID, err)
	}
	if err := l.store.SettleReleased(ctx, r, fences); err != nil {
		return fmt.Errorf("settle the end of order %s: %w", r.OrderID, err)
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
