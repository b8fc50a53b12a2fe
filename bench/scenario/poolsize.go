package scenario

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/callmask/callmask/bench/report"
)

// poolRound is how many orders of each size a round allocates in one go, and again
// until its time is over.
const poolRound = 5000

// poolSize compares pools: the more VNs, the more memory a random choice touches.
func poolSize(ctx context.Context, e *Env) error {
	sizes := []int{1000, 45_000, 100_000, 200_000, 1_000_000}
	switch {
	case e.Short:
		sizes = []int{200, 500}
	case !e.Full:
		sizes = sizes[:3]
	}
	writers := make([]*writer, len(sizes))
	for i, size := range sizes {
		var err error
		if writers[i], err = e.filled(ctx, size, false); err != nil {
			return err
		}
		defer writers[i].redis.Stop()
	}
	e.Progress.More(e.Rounds * len(sizes))
	for round := range e.Rounds {
		for i := range sizes {
			at := (i + round) % len(sizes)
			e.Progress.Doing(fmt.Sprintf("pool-size: %s, round %d", report.VNsPoint(sizes[at]), round+1))
			if err := e.poolCost(ctx, writers[at], sizes[at], round); err != nil {
				return err
			}
			e.Progress.Step()
		}
	}
	return nil
}

// poolCost allocates and gives back, and counts only what the allocations cost.
func (e *Env) poolCost(ctx context.Context, w *writer, size, round int) error {
	var spent, took time.Duration
	var done int
	for took < e.length()/2 {
		n := min(size/4, poolRound)
		first := int(w.next.Add(int64(n))) - n
		before, err := w.redis.CPU(ctx)
		if err != nil {
			return err
		}
		start := time.Now()
		err = eachOf(ctx, callers, first, n, func(ctx context.Context, order int) error {
			_, err := w.allocate(ctx, order)
			return err
		})
		took += time.Since(start)
		if err != nil {
			return fmt.Errorf("pool-size, %s: %w", report.VNsPoint(size), err)
		}
		after, err := w.redis.CPU(ctx)
		if err != nil {
			return err
		}
		spent, done = spent+after-before, done+n
		if err := w.giveBack(ctx, first, n); err != nil {
			return err
		}
	}
	e.Report.Add(report.Sample{
		Scenario: "pool-size", Variant: report.Scripts, Point: report.VNsPoint(size), Round: round,
		Values: map[report.Metric]float64{
			report.RPS: float64(done) / took.Seconds(), report.StoreCPU: float64(spent.Microseconds()) / float64(done),
		},
	})
	return nil
}

// giveBack ends orders and brings their VNs back to the free ones.
func (w *writer) giveBack(ctx context.Context, first, n int) error {
	var ended sync.Map
	if err := each(ctx, first, n, func(ctx context.Context, order int) error {
		r, err := w.release(ctx, order)
		ended.Store(order, &r)
		return err
	}); err != nil {
		return err
	}
	if err := w.settle(ctx, &ended, n, first); err != nil {
		return err
	}
	return drainReaper(ctx, w.redis.Store)
}
