package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// callers is how many goroutines call the scripts, each waiting for its answer.
const callers = 16

// perSecond is more than a Redis of today allocates in a second, for the size of pools.
const perSecond = 60_000

// restShort lets a VN rest no longer than it takes to see that it rests.
const restShort = time.Millisecond

// releaseRound is the most orders that a round of release ends.
const releaseRound = 10_000

// writer allocates orders and remembers what they got.
type writer struct {
	redis *rig.Redis
	next  atomic.Int64 // number of the next order
	taken sync.Map     // of VNs that an order holds now

	cooldown time.Duration
}

// taken by two orders: promise 3 is broken.
var errTwice = fmt.Errorf("%w: one VN was given to two orders", ErrWrong)

func (w *writer) allocate(ctx context.Context, order int) (scripts.Allocation, error) {
	request := world.Request(world.Short, order)
	request.Cooldown = w.cooldown
	a, err := w.redis.Store.Allocate(ctx, request)
	if err != nil {
		return a, err
	}
	if a.Replayed || len(a.Numbers) != len(world.Roles) {
		return a, fmt.Errorf("%w: a new order was taken for another", ErrWrong)
	}
	for _, n := range a.Numbers {
		if _, twice := w.taken.LoadOrStore(n.VN, order); twice {
			return a, errTwice
		}
	}
	return a, nil
}

// release ends an order.
func (w *writer) release(ctx context.Context, order int) (scripts.Release, error) {
	r, err := w.redis.Store.Release(ctx, world.Short.OrderID(order), vn.Completed)
	if err != nil {
		return r, err
	}
	if !r.Known || len(r.Numbers) != len(world.Roles) {
		return r, fmt.Errorf("%w: a live order was not known at its end", ErrWrong)
	}
	for _, n := range r.Numbers {
		w.taken.Delete(n.VN)
	}
	return r, nil
}

// cycle is the whole life of an order in Redis, as package ledger leads it.
func (w *writer) cycle(ctx context.Context) error {
	order := int(w.next.Add(1)) - 1
	a, err := w.allocate(ctx, order)
	if err != nil {
		return err
	}
	fences := make([]uint64, len(a.Numbers))
	for i := range fences {
		fences[i] = a.Numbers[i].Fence + 1
	}
	if err := w.redis.Store.SettleAssigned(ctx, &a, fences); err != nil {
		return err
	}
	r, err := w.release(ctx, order)
	if err != nil {
		return err
	}
	for i := range r.Numbers {
		fences[i] = r.Numbers[i].Fence + 1
	}
	return w.redis.Store.SettleReleased(ctx, &r, fences)
}

// closed calls do with n, n+1, … by all callers until the time is up or most calls
// were made, and keeps a sample. It returns how many calls were made.
func (e *Env) closed(
	ctx context.Context, k report.Key, round int, redis *rig.Redis, first, most int, do func(ctx context.Context, order int) error,
) (int, error) {
	k.Variant = report.Scripts
	e.Progress.Doing(fmt.Sprintf("%s: %s, round %d", k.Scenario, k.Point, round+1))
	defer e.Progress.Step()
	before, err := redis.CPU(ctx)
	if err != nil {
		return 0, err
	}
	latencies := load.NewRecorder()
	var next atomic.Int64
	start := time.Now()
	end := start.Add(e.length())
	g, gctx := errgroup.WithContext(ctx)
	for range callers {
		g.Go(func() error {
			for time.Now().Before(end) {
				i := int(next.Add(1)) - 1
				if i >= most {
					return nil
				}
				at := time.Now()
				if err := do(gctx, first+i); err != nil {
					return err
				}
				latencies.Record(time.Since(at))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("%s, %s: %w", k.Scenario, k.Point, err)
	}
	took := time.Since(start)
	after, err := redis.CPU(ctx)
	if err != nil {
		return 0, err
	}
	l := latencies.Latency()
	e.Report.Add(report.Sample{
		Scenario: k.Scenario, Variant: k.Variant, Point: k.Point, Round: round, Latency: &l,
		Values: map[report.Metric]float64{
			report.RPS: float64(l.Count) / took.Seconds(), report.StoreCPU: float64((after - before).Microseconds()) / float64(l.Count),
			report.P50: l.Percentile(50), report.P99: l.Percentile(99), report.MaxUS: l.Max,
		},
	})
	return int(l.Count), nil
}

// filled starts a Redis with free numbers.
func (e *Env) filled(ctx context.Context, numbers int, aof bool) (*writer, error) {
	e.Progress.Doing(fmt.Sprintf("filling a pool with %d numbers", numbers))
	redis, err := e.Rig.Redis(ctx, aof)
	if err != nil {
		return nil, err
	}
	return &writer{redis: redis, cooldown: restShort}, world.Fill(ctx, redis.Store, numbers, loaders, func(int) {})
}

// allocate measures the script alone, with and without an AOF, and the whole way from
// an order's event to the VNs.
func allocate(ctx context.Context, e *Env) error {
	const name = "allocate"
	most := int(e.Seconds*perSecond) + 1000
	points := []string{report.NoAOF, report.WithAOF}
	writers := make([]*writer, len(points))
	for i, point := range points {
		var err error
		if writers[i], err = e.filled(ctx, 2*most*e.Rounds, point == report.WithAOF); err != nil {
			return err
		}
		defer writers[i].redis.Stop()
	}
	variants, dirs := []string{report.ThroughNATS}, []string{""}
	if memory, err := e.Rig.MemoryDir(); err == nil {
		variants, dirs = append(variants, report.InMemory), append(dirs, memory)
	} else {
		e.Report.Note("%s: %s is left out: %v", name, report.InMemory, err)
	}
	systems := make([]*throughEvents, len(variants))
	for i, variant := range variants {
		var err error
		if systems[i], err = e.startEvents(ctx, variant, dirs[i]); err != nil {
			return err
		}
		defer systems[i].stop()
	}
	e.Progress.More((3 + len(systems)) * e.Rounds)
	for round := range e.Rounds {
		for i, w := range writers {
			first := round * most
			done, err := e.closed(ctx, report.Key{Scenario: name, Point: points[i]}, round, w.redis, first, most,
				func(ctx context.Context, order int) error { _, err := w.allocate(ctx, order); return err })
			if err != nil {
				return err
			}
			if i > 0 {
				continue
			}
			_, err = e.closed(ctx, report.Key{Scenario: name, Point: report.Replay}, round, w.redis, first, done, w.replay)
			if err != nil {
				return err
			}
		}
		if err := e.syncTime(round); err != nil {
			return err
		}
		for _, s := range systems {
			if err := s.measure(ctx, e, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// replay allocates an order that has its VNs already.
func (w *writer) replay(ctx context.Context, order int) error {
	a, err := w.redis.Store.Allocate(ctx, world.Request(world.Short, order))
	if err == nil && !a.Replayed {
		err = fmt.Errorf("%w: an order was allocated twice", ErrWrong)
	}
	return err
}

// release measures the end of orders, the script alone.
func release(ctx context.Context, e *Env) error {
	most := min(int(e.Seconds*perSecond), releaseRound)
	w, err := e.filled(ctx, 2*most, false)
	if err != nil {
		return err
	}
	defer w.redis.Stop()
	e.Progress.More(e.Rounds)
	for round := range e.Rounds {
		first := round * most
		if err := each(ctx, first, most, func(ctx context.Context, order int) error {
			_, err := w.allocate(ctx, order)
			return err
		}); err != nil {
			return err
		}
		var ended sync.Map
		done, err := e.closed(ctx, report.Key{Scenario: "release", Point: report.NoAOF}, round, w.redis, first, most,
			func(ctx context.Context, order int) error {
				r, err := w.release(ctx, order)
				ended.Store(order, &r)
				return err
			})
		if err != nil {
			return err
		}
		// What follows brings the VNs back for the next round.
		if err := each(ctx, first+done, most-done, func(ctx context.Context, order int) error {
			r, err := w.release(ctx, order)
			ended.Store(order, &r)
			return err
		}); err != nil {
			return err
		}
		if err := w.settle(ctx, &ended, most, first); err != nil {
			return err
		}
	}
	return nil
}

// settle lets the VNs of ended orders rest no longer than their cool-down.
func (w *writer) settle(ctx context.Context, ended *sync.Map, n, first int) error {
	err := each(ctx, first, n, func(ctx context.Context, order int) error {
		v, _ := ended.Load(order)
		r, ok := v.(*scripts.Release)
		if !ok {
			return errors.New("an order that was to end did not")
		}
		return w.redis.Store.SettleReleased(ctx, r, make([]uint64, len(r.Numbers)))
	})
	if err != nil {
		return err
	}
	return wait(ctx, w.cooldown)
}

// each calls do with first … first+n-1 by many callers.
func each(ctx context.Context, first, n int, do func(ctx context.Context, order int) error) error {
	return eachOf(ctx, loaders, first, n, do)
}

func eachOf(ctx context.Context, workers, first, n int, do func(ctx context.Context, order int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range workers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := do(ctx, first+i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// wait waits.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
