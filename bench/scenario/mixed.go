package scenario

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/world"
)

const (
	// cycleRate of orders beside the calls is more than any real traffic has: an order
	// lives for many calls.
	cycleRate = 1000
	// mixedSpare is how many VNs rest or are on their way at any moment, and some more.
	mixedSpare = 10 * 2 * cycleRate
)

// mixedRates are the rates of the calls; 0: as many as go.
var mixedRates = []float64{2000, 8000, 0}

// mixed measures calls while orders come and go on the same Redis, with the
// replenisher and its reaper at work. Every order is settled as package ledger does.
func mixed(ctx context.Context, e *Env) error {
	const name = "mixed"
	orders := min(e.Orders, 100_000)
	l, err := e.load(ctx, orders, mixedSpare, true)
	if err != nil {
		return err
	}
	defer l.stop()
	if l.router, err = e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL()}); err != nil {
		return err
	}
	nats, err := e.streams(ctx)
	if err != nil {
		return err
	}
	replenisher, err := e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "replenisher", Redis: l.redis.URL(), NATS: nats})
	if err != nil {
		return err
	}
	defer replenisher.Stop()
	if err := e.Load.Table(ctx, l.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	w := &writer{redis: l.redis, cooldown: world.Cooldown}
	w.next.Store(int64(orders))
	e.Progress.More(2 * len(mixedRates) * e.Rounds)
	for round := range e.Rounds {
		for _, rate := range mixedRates {
			alone, beside := report.MixedPoint(rate, report.Alone), report.MixedPoint(rate, report.Beside)
			spec := e.spec(round)
			spec.Rate = rate
			if _, err := e.measure(ctx, report.Key{Scenario: name, Point: alone}, round, l.target(), spec); err != nil {
				return err
			}
			stop := w.start(ctx)
			_, err := e.measure(ctx, report.Key{Scenario: name, Point: beside}, round, l.target(), spec)
			cycles, per, errCycles := stop()
			if err != nil {
				return err
			}
			if errCycles != nil {
				return fmt.Errorf("%s: the orders beside the calls: %w", name, errCycles)
			}
			e.Report.Add(report.Sample{
				Scenario: name, Variant: "orders allocated and released", Point: beside, Round: round,
				Values: map[report.Metric]float64{report.RPS: float64(cycles.Count) / per.Seconds(), report.P50: cycles.Percentile(50), report.P99: cycles.Percentile(99)},
			})
		}
	}
	return nil
}

// start lets orders come and go at the fixed rate until stop is called.
func (w *writer) start(ctx context.Context) (stop func() (load.Latency, time.Duration, error)) {
	ctx, cancel := context.WithCancel(ctx)
	latencies := load.NewRecorder()
	began := time.Now()
	due := make(chan time.Time, cycleRate) // a second of orders may wait
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(due)
		for i := 0; ; i++ {
			at := began.Add(time.Duration(i) * time.Second / cycleRate)
			if wait(gctx, time.Until(at)) != nil {
				return nil // asked to stop, or a caller failed
			}
			select {
			case due <- at:
			case <-gctx.Done():
				return nil
			}
		}
	})
	for range callers {
		g.Go(func() error {
			for at := range due {
				if ctx.Err() != nil {
					return nil
				}
				// The order that has begun is brought to its end.
				if err := w.cycle(context.WithoutCancel(gctx)); err != nil {
					return err
				}
				latencies.Record(time.Since(at))
			}
			return nil
		})
	}
	return func() (load.Latency, time.Duration, error) {
		cancel()
		err := g.Wait()
		return latencies.Latency(), time.Since(began), err
	}
}
