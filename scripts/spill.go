package scripts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/vn"
)

const (
	noMark  = "0"    // of who was refused nowhere yet
	nowhere = "-"    // as `next`: this is the order's own partition, and it shall point to no other
	here    = "here" // as `next`: this is another one, and the mark points here

	// readingAge is how old a reading of the stock may be to choose a partition by.
	readingAge = time.Second
	// sweepEvery is how often the partitions are read at most, however many orders wait.
	sweepEvery = 100 * time.Millisecond
	// fanOut is how many partitions are spoken to at the same time.
	fanOut = 16
)

// mark says in which partition an order is, or is to be, that its own had too few VNs for.
type mark struct {
	made string // ms; a later mark is greater
	at   int    // partition
}

func (s *Store) readMark(made, at string) (*mark, error) {
	partition, err := strconv.Atoi(at)
	if err != nil || partition < 0 || partition >= len(s.layout.prefixes) {
		return nil, errRecord
	}
	return &mark{made: made, at: partition}, nil
}

// spill finds a partition for the order: its own, the one that a mark points to, or the
// fullest. Every step may be repeated, and made by many at a time (lib_spill.lua).
func (w *allocation) spill(ctx context.Context) (Allocation, error) {
	began := time.Now()
	home := w.store.layout.home(w.request.Order.ID)
	refusedBy, next := noMark, nowhere
	candidates, since, last := []int(nil), began.Add(-readingAge), false
	for {
		a, m, err := w.step(ctx, home, refusedBy, next)
		if m != nil {
			refusedBy = m.made
			a, _, err = w.step(ctx, m.at, m.made, here)
		}
		if last || !errors.Is(err, vn.ErrPoolExhausted) {
			return a, err
		}
		if len(candidates) == 0 {
			if candidates, last, err = w.candidates(ctx, &since, began); err != nil {
				return Allocation{}, err
			}
		}
		if next = nowhere; len(candidates) > 0 {
			if candidates[0] != home {
				next = strconv.Itoa(candidates[0])
			}
			candidates = candidates[1:]
		} else if refusedBy == noMark {
			return Allocation{}, vn.ErrPoolExhausted
		}
		// Without a candidate the order's own partition is asked once more, and lets the mark go.
	}
}

// candidates returns the partitions that have enough VNs, the fullest first, by a
// reading that is not older than since, which it moves on. none tells that a reading
// made since the order came found no such partition.
func (w *allocation) candidates(ctx context.Context, since *time.Time, began time.Time) (list []int, none bool, err error) {
	for {
		r, err := w.store.stockSince(ctx, *since)
		if err != nil {
			return nil, false, err
		}
		if list = r.enough(w.request); len(list) > 0 {
			*since = time.Now()
			return list, false, nil
		}
		if !r.began.Before(began) {
			// A partition that did not answer may have some: that is not "exhausted".
			return nil, true, r.err
		}
		*since = began
	}
}

// reading is the stock of every partition.
type reading struct {
	began time.Time
	free  []map[string]int // by partition: "<pool>:<carrier>" → free; nil for one that cannot allocate now
	err   error            // why one of them did not answer
}

// enough returns the partitions that have a VN of one carrier for each party, the
// fullest first.
func (r *reading) enough(request *AllocateRequest) []int {
	var list []int
	most := make([]int, len(r.free))
	for p, free := range r.free {
		for _, c := range request.Carriers {
			most[p] = max(most[p], free[request.Order.Pool+":"+c.Name])
		}
		if most[p] >= len(request.Order.Parties) {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(most[b], most[a]) })
	return list
}

// sweeps lets one caller at a time read the stock, for all that wait.
type sweeps struct {
	turn chan struct{} // capacity 1: held by who reads
	last atomic.Pointer[reading]
}

// stockSince returns a reading that began at t or later.
func (s *Store) stockSince(ctx context.Context, t time.Time) (*reading, error) {
	if r := s.sweeps.last.Load(); r != nil && !r.began.Before(t) {
		return r, nil
	}
	select {
	case s.sweeps.turn <- struct{}{}:
		defer func() { <-s.sweeps.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a reading of the stock: %w", unavailable(ctx.Err()))
	}
	r := s.sweeps.last.Load()
	if r != nil && !r.began.Before(t) {
		return r, nil
	}
	if r != nil {
		select {
		case <-time.After(sweepEvery - time.Since(r.began)):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a reading of the stock: %w", unavailable(ctx.Err()))
		}
	}
	// Others wait for it too, so it does not end with this caller.
	r = s.sweep(context.WithoutCancel(ctx))
	s.sweeps.last.Store(r)
	return r, nil
}

// sweep reaps every partition once, so that a pool recovers with no reaper alive, and
// reads its stock.
func (s *Store) sweep(ctx context.Context) *reading {
	r := &reading{began: time.Now(), free: make([]map[string]int, len(s.layout.prefixes))}
	r.err = s.eachPartition(ctx, func(ctx context.Context, i int) error {
		p := s.layout.prefixes[i]
		// What ends here is not ours to publish: the reaper finds it due in a moment.
		if _, _, err := s.reapPartition(ctx, p, time.Second); err != nil {
			return err
		}
		ready, err := s.client.HGet(ctx, metaKey(p), "ready").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return unavailable(err)
		}
		if ready != "1" {
			return vn.ErrCold
		}
		rows, err := s.stockOf(ctx, p)
		if err != nil {
			return err
		}
		free := make(map[string]int, len(rows))
		for _, row := range rows {
			free[row.Pool+":"+row.Carrier] = row.Free
		}
		r.free[i] = free
		return nil
	})
	return r
}

// eachPartition calls f for every partition, several at a time, each call bounded by
// Config.Timeout. One that fails does not stop the others; the errors are joined.
func (s *Store) eachPartition(ctx context.Context, f func(ctx context.Context, partition int) error) error {
	errs := make([]error, len(s.layout.prefixes))
	var g errgroup.Group
	g.SetLimit(fanOut)
	for i := range s.layout.prefixes {
		g.Go(func() error {
			ctx, cancel := s.bound(ctx)
			defer cancel()
			if err := f(ctx, i); err != nil {
				errs[i] = fmt.Errorf("partition %d: %w", i, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the calls give no errors to it
	return errors.Join(errs...)
}
