package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const (
	ownReads = 64  // inventory and ledger reads in flight while Own looks at its numbers
	ownBatch = 500 // numbers recorded and refilled together
)

// HeldError says which of the numbers given to Own an order still holds according
// to the ledger although Redis does not know it: Redis has lost data.
type HeldError struct {
	Indexes []int // ascending, never empty
}

func (e *HeldError) Error() string {
	return "numbers[" + strconv.Itoa(e.Indexes[0]) + "] is held by an order that Redis does not know; run `callmask rebuild`"
}

// plan is what Own has found out about one number.
type plan struct {
	fence uint64 // of its last record
	owned bool   // its `owned` record exists, or it is in the inventory already
	held  bool
}

// Own brings numbers of a carrier into a pool: a ledger record `owned` for each that
// has none yet, then Refill with the records' sequences. The Fence of the numbers
// given is ignored. Numbers of another pool or carrier are left alone and returned
// as Foreign. With a *HeldError nothing was done; after any other error the same
// call may be made again.
func (l *Ledger) Own(ctx context.Context, pool, carrier string, numbers []scripts.Owned) (scripts.Refilled, error) {
	plans, err := l.plan(ctx, pool, carrier, numbers)
	if err != nil {
		return scripts.Refilled{}, err
	}
	var sum scripts.Refilled
	for from := 0; from < len(numbers); from += ownBatch {
		to := min(from+ownBatch, len(numbers))
		done, err := l.own(ctx, pool, carrier, numbers[from:to], plans[from:to])
		if err != nil {
			return sum, err
		}
		sum.Added += done.Added
		sum.Present += done.Present
		sum.Foreign = append(sum.Foreign, done.Foreign...)
	}
	return sum, nil
}

func (l *Ledger) own(ctx context.Context, pool, carrier string, numbers []scripts.Owned, plans []plan) (scripts.Refilled, error) {
	batch := make([]scripts.Owned, len(numbers))
	recs, at := make([]events.Record, 0, len(numbers)), make([]int, 0, len(numbers))
	for i, n := range numbers {
		batch[i] = n
		batch[i].Fence = plans[i].fence
		if !plans[i].owned {
			rec := ownedRecord(pool, carrier, n)
			rec.After = plans[i].fence
			recs, at = append(recs, rec), append(at, i)
		}
	}
	if len(recs) > 0 {
		seqs, losses, err := l.write(ctx, recs, l.overUnused)
		if err == nil && len(losses) > 0 {
			err = fmt.Errorf("%w: an order has taken some of them meanwhile", vn.ErrUnavailable)
		}
		if err != nil {
			return scripts.Refilled{}, fmt.Errorf("record numbers of carrier %s as owned: %w", carrier, err)
		}
		for i, seq := range seqs {
			batch[at[i]].Fence = seq
		}
	}
	done, err := l.store.Refill(ctx, pool, carrier, batch)
	if err != nil {
		return done, fmt.Errorf("refill pool %s: %w", pool, err)
	}
	return done, nil
}

func (l *Ledger) plan(ctx context.Context, pool, carrier string, numbers []scripts.Owned) ([]plan, error) {
	plans := make([]plan, len(numbers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(ownReads)
	for i, n := range numbers {
		g.Go(func() error {
			var err error
			plans[i], err = l.look(gctx, pool, carrier, n.VN)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var held HeldError
	for i, p := range plans {
		if p.held {
			held.Indexes = append(held.Indexes, i)
		}
	}
	if len(held.Indexes) > 0 {
		return nil, &held
	}
	return plans, nil
}

func (l *Ledger) look(ctx context.Context, pool, carrier string, n vn.Number) (plan, error) {
	inv, err := l.store.Inventory(ctx, n)
	if err == nil {
		return plan{fence: inv.Fence, owned: true}, nil
	}
	if !errors.Is(err, vn.ErrNumberUnknown) {
		return plan{}, fmt.Errorf("read the inventory: %w", err)
	}
	rec, seq, err := l.bus.LastRecord(ctx, n)
	if err != nil {
		return plan{}, fmt.Errorf("read the ledger: %w", err)
	}
	switch {
	case seq == 0:
		return plan{}, nil
	case rec.Kind == events.KindOwned && rec.Pool == pool && rec.Carrier == carrier:
		// An Own that stopped before its Refill: the record stands.
		return plan{fence: seq, owned: true}, nil
	case rec.Kind == events.KindAssigned && time.Now().Before(rec.ExpiresAt):
		held, err := l.held(ctx, rec.OrderID)
		return plan{fence: seq, held: held}, err
	}
	return plan{fence: seq}, nil
}

// held tells whether an order that holds a number according to the ledger may still
// do so: it does unless Redis knows that it has ended.
func (l *Ledger) held(ctx context.Context, orderID string) (bool, error) {
	o, err := l.store.Order(ctx, orderID)
	switch {
	case errors.Is(err, vn.ErrOrderUnknown):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("read order %s: %w", orderID, err)
	}
	return o.State != vn.Ended, nil
}

// Retire takes a number out of its pool, at once or when its order ends
// (scripts.Drained.Left), and records `retired` when it has left. It returns
// vn.ErrNumberUnknown when the pool has no such number; a number that had left
// before, but whose record a crash kept back, is recorded now and reported as left.
func (l *Ledger) Retire(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error) {
	return l.retire(ctx, pool, number, l.store.Drain)
}

// RetireFree is Retire for a number that is free. One that is not is left as it is:
// scripts.ErrBusy.
func (l *Ledger) RetireFree(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error) {
	return l.retire(ctx, pool, number, l.store.DrainFree)
}

func (l *Ledger) retire(ctx context.Context, pool string, number vn.Number,
	drain func(context.Context, string, vn.Number) (scripts.Drained, error),
) (scripts.Drained, error) {
	d, err := drain(ctx, pool, number)
	if errors.Is(err, vn.ErrNumberUnknown) {
		if d, err = l.missed(ctx, pool, number); err != nil {
			return scripts.Drained{}, err
		}
	}
	if err != nil {
		return scripts.Drained{}, fmt.Errorf("drain a number of pool %s: %w", pool, err)
	}
	if !d.Left {
		return d, nil
	}
	rec := ownedRecord(d.Pool, d.Carrier, d.Owned)
	rec.Kind, rec.After = events.KindRetired, d.Fence
	seqs, losses, err := l.write(ctx, []events.Record{rec}, l.overUnused)
	if err == nil && len(losses) > 0 {
		err = fmt.Errorf("%w: an order holds it according to the ledger: Redis has lost data", vn.ErrUnavailable)
	}
	if err != nil {
		return scripts.Drained{}, fmt.Errorf("record that a number left pool %s: %w", pool, err)
	}
	d.Fence = seqs[0]
	return d, nil
}

// missed finds a number that is in no inventory although the ledger still counts it
// as this pool's and unused: its `retired` is missing.
func (l *Ledger) missed(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error) {
	_, err := l.store.Inventory(ctx, number)
	switch {
	case err == nil: // it is another pool's
		return scripts.Drained{}, vn.ErrNumberUnknown
	case !errors.Is(err, vn.ErrNumberUnknown):
		return scripts.Drained{}, fmt.Errorf("read the inventory: %w", err)
	}
	rec, seq, err := l.bus.LastRecord(ctx, number)
	if err != nil {
		return scripts.Drained{}, fmt.Errorf("read the ledger: %w", err)
	}
	if seq == 0 || rec.Pool != pool || (rec.Kind != events.KindOwned && rec.Kind != events.KindReleased) {
		return scripts.Drained{}, vn.ErrNumberUnknown
	}
	l.log.Info().Str("pool", pool).Stringer("number", number).Msg("a number had left its pool before its record was written; recorded now")
	d := scripts.Drained{Left: true}
	d.VN, d.Ref, d.Pool, d.Carrier, d.Fence = number, rec.Ref, rec.Pool, rec.Carrier, seq
	return d, nil
}

func ownedRecord(pool, carrier string, n scripts.Owned) events.Record {
	return events.Record{Kind: events.KindOwned, VN: n.VN.Digits(), Pool: pool, Carrier: carrier, Ref: n.Ref}
}
