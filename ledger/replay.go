package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const (
	replayBatch   = 200 // records restored with one round trip for each partition
	replayWorkers = 4   // batches under way
	// endedFor is how long ago an order may have ended to be remembered again: as long as
	// its tombstone would have stayed by default. Older events no stream delivers.
	endedFor = 25 * time.Hour
)

// Replayed counts what a Replay did.
type Replayed struct {
	Records  int // looked at
	Restored int // of which Redis knew an older one, or nothing
	// Busy are being changed meanwhile, as far as Redis tells. Whatever changes them meets
	// the fence; what was cut short long ago does not, and is restored when it is known to be.
	Busy   []vn.Number
	Ended  int // orders of which it was made known again that they have ended
	Failed int // that could not be restored: Replay returns an error too
}

// Stage is a part of a Replay.
type Stage string

// The stages of a Replay. How many orders have ended is not known beforehand: their total is 0.
const (
	StageOrders  Stage = "orders"
	StageNumbers Stage = "numbers"
)

// Progress is called now and then, from one goroutine at a time, with what was done, of
// about how much.
type Progress func(stage Stage, done, total int)

// Replay restores every VN of the given partitions, all if none is given. With cold these
// partitions have lost everything: then it is also made known again which orders have
// ended, and the partitions are marked ready when all of it has succeeded. progress may
// be nil. It may be broken off and started again: what Redis knows already costs little.
func (r *Restorer) Replay(ctx context.Context, partitions []int, cold bool, progress Progress) (Replayed, error) {
	if progress == nil {
		progress = func(Stage, int, int) {}
	}
	run := &replay{Restorer: r, cold: cold, progress: progress, wanted: make([]bool, r.store.Partitions())}
	for i := range run.wanted {
		run.wanted[i] = len(partitions) == 0
	}
	for _, p := range partitions {
		run.wanted[p] = true
	}
	err := func() error {
		if run.cold {
			// First, so that no late event finds an order forgotten.
			if err := run.endings(ctx); err != nil {
				return err
			}
		}
		if err := run.records(ctx); err != nil {
			return err
		}
		if n := run.failed.Load(); n > 0 {
			return fmt.Errorf("%d numbers could not be restored, the first: %w", n, run.first)
		}
		if run.cold {
			return r.store.MarkReady(ctx, partitions...)
		}
		return nil
	}()
	return Replayed{
		Records: int(run.read.Load()), Restored: int(run.restored.Load()), Busy: run.busy,
		Ended: run.ended, Failed: int(run.failed.Load()),
	}, err
}

// replay is one call of Replay.
type replay struct {
	*Restorer

	wanted   []bool // by partition
	cold     bool
	progress Progress

	read, restored, failed atomic.Int64
	mu                     sync.Mutex // of busy and progress
	busy                   []vn.Number
	ended                  int
	announced              map[string]bool // orders whose end the apps were told
	once                   sync.Once
	first                  error // why the first of the failed did
}

// endings makes known again which orders have ended lately.
func (r *replay) endings(ctx context.Context) error {
	var batch []scripts.EndedOrder
	send := func() error {
		if err := r.store.RemindEnded(ctx, batch); err != nil {
			return err
		}
		r.ended += len(batch)
		batch = batch[:0]
		r.progress(StageOrders, r.ended, 0)
		return nil
	}
	r.announced = make(map[string]bool)
	err := r.bus.OrdersReleased(ctx, time.Now().Add(-endedFor), func(e events.VNReleased, at time.Time) error {
		r.announced[e.OrderID] = true
		batch = append(batch, scripts.EndedOrder{ID: e.OrderID, Reason: vn.EndReason(e.Reason), At: at})
		if len(batch) < replayBatch {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	if err != nil {
		return fmt.Errorf("make known again which orders have ended: %w", err)
	}
	return nil
}

// records restores the last record of each VN.
func (r *replay) records(ctx context.Context) error {
	total, err := r.bus.RecordCount(ctx)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	batches := make(chan []numbered, replayWorkers)
	for range replayWorkers {
		g.Go(func() error {
			for batch := range batches {
				if err := r.batch(gctx, batch); err != nil {
					return err
				}
				r.mu.Lock()
				r.progress(StageNumbers, int(r.read.Load()), int(total))
				r.mu.Unlock()
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(batches)
		var batch []numbered
		send := func() error {
			select {
			case batches <- batch:
				batch = make([]numbered, 0, replayBatch)
				return nil
			case <-gctx.Done():
				return gctx.Err()
			}
		}
		add := func(rec numbered) error {
			if batch = append(batch, rec); len(batch) < replayBatch {
				return nil
			}
			return send()
		}
		parts := make(map[string][]numbered) // of orders, until they are whole
		err := r.bus.Records(gctx, func(rec events.Record, seq uint64) error {
			n, ok := vn.ParseDigits(rec.VN)
			switch {
			case !ok || !r.wanted[r.store.PartitionOf(n)]:
				r.read.Add(1)
				return nil
			case rec.Kind != events.KindAssigned:
				return add(numbered{Record: rec, seq: seq})
			}
			parts[rec.OrderID] = append(parts[rec.OrderID], numbered{Record: rec, seq: seq, whole: true})
			whole := parts[rec.OrderID]
			if len(whole) < len(rec.VNs) {
				return nil
			}
			delete(parts, rec.OrderID)
			for _, part := range whole {
				if err := add(part); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		for _, part := range parts {
			for _, rec := range part {
				rec.whole = false
				if err := add(rec); err != nil {
					return err
				}
			}
		}
		return send()
	})
	return g.Wait()
}

// numbered is a record and its sequence.
type numbered struct {
	events.Record

	seq   uint64
	whole bool // the records of all VNs of its order were read
}

// batch restores some records at once, and those that are not so simple one by one.
func (r *replay) batch(ctx context.Context, batch []numbered) error {
	recs, at := make([]scripts.Recorded, 0, len(batch)), make([]int, 0, len(batch))
	for i := range batch {
		rec, err := r.recorded(&batch[i].Record, batch[i].seq)
		if other := (*PartitionsError)(nil); errors.As(err, &other) {
			other.Fits = fitting(batch)
			return other
		}
		if err != nil {
			r.fail(err)
			continue
		}
		rec.Whole = batch[i].whole
		recs, at = append(recs, rec), append(at, i)
	}
	answers, err := r.store.Restore(ctx, recs, scripts.Unsure)
	if err != nil {
		return err
	}
	for i, a := range answers {
		status := a.Status
		switch status {
		case scripts.RestoreDone, scripts.RestoreKnown:
			if r.cold && recs[i].Kind == scripts.RecordedReleased {
				err = r.announce(ctx, &batch[at[i]].Record)
				break // which orders have ended was made known first
			}
			var told bool
			if told, err = r.tellHome(ctx, &batch[at[i]].Record, &recs[i]); err == nil && !told {
				status, err = r.Restore(ctx, recs[i].VN, false)
			}
		case scripts.RestoreBusy:
		default:
			status, err = r.Restore(ctx, recs[i].VN, false)
		}
		switch {
		case errors.Is(err, vn.ErrUnavailable) || ctx.Err() != nil:
			return err
		case err != nil:
			r.fail(err)
		case status == scripts.RestoreDone:
			r.restored.Add(1)
		case status == scripts.RestoreBusy:
			r.mu.Lock()
			r.busy = append(r.busy, recs[i].VN)
			r.mu.Unlock()
		}
	}
	r.read.Add(int64(len(batch)))
	return nil
}

// fitting returns the number of partitions that the orders of a batch were made with, or
// a multiple of it.
func fitting(batch []numbered) int {
	var orders [][]vn.Number
	for i := range batch {
		if batch[i].Kind != events.KindAssigned {
			continue
		}
		var vns []vn.Number
		for _, d := range batch[i].VNs {
			n, _ := vn.ParseDigits(d)
			vns = append(vns, n)
		}
		orders = append(orders, vns)
	}
	return scripts.FittingPartitions(orders)
}

// announce makes an end known that is in the ledger and that nobody was told: Redis was
// lost between the two, and with it who would have gone on.
func (r *replay) announce(ctx context.Context, rec *events.Record) error {
	if rec.Reason == events.ReasonGivenUp || r.announced[rec.OrderID] || time.Since(rec.EndedAt) > endedFor {
		return nil
	}
	if err := r.tellEnd(ctx, rec.OrderID, rec.Reason); err != nil {
		return err
	}
	return r.store.RemindEnded(ctx, []scripts.EndedOrder{{ID: rec.OrderID, Reason: vn.EndReason(rec.Reason), At: rec.EndedAt}})
}

func (r *replay) fail(err error) {
	r.failed.Add(1)
	r.once.Do(func() { r.first = err })
}
