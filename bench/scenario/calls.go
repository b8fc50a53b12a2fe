package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
)

// growthRate is the fixed rate at which sizes are compared.
const growthRate = 5000

// resolveJSON measures the plain JSON contract.
func resolveJSON(ctx context.Context, e *Env) error {
	return e.alone(ctx, "resolve-json", load.JSON, 0)
}

// miss measures calls of strangers: two reads and a refusal each.
func miss(ctx context.Context, e *Env) error { return e.alone(ctx, "miss", load.Twilio, 1) }

func (e *Env) alone(ctx context.Context, name string, form load.Form, strangers float64) error {
	l, err := e.shared(ctx)
	if err != nil {
		return err
	}
	if err := e.Load.Table(ctx, l.path, form, e.Seed); err != nil {
		return err
	}
	e.Progress.More(2 * e.Rounds)
	for round := range e.Rounds {
		for _, rate := range []float64{0, 2000} {
			spec, point := e.spec(round), report.Saturation
			spec.Miss, spec.Rate = strangers, rate
			if rate > 0 {
				point = report.RatePoint(rate)
			}
			if _, err := e.measure(ctx, report.Key{Scenario: name, Point: point}, round, l.target(), spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// soak looks whether the router's memory stays as it is under full load.
func soak(ctx context.Context, e *Env) error {
	l, err := e.shared(ctx)
	if err != nil {
		return err
	}
	if err := e.Load.Table(ctx, l.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	minutes := max(2, int(e.Soak/time.Minute))
	e.Progress.More(minutes)
	for minute := range minutes {
		spec := e.spec(minute)
		spec.For = e.Soak / time.Duration(minutes)
		point := fmt.Sprintf("minute %d", minute+1)
		if _, err := e.measure(ctx, report.Key{Scenario: "soak", Point: point}, 0, l.target(), spec); err != nil {
			return err
		}
		// The first and the last are kept under a name of their own for the goal.
		for at, name := range map[int]string{0: report.SoakFirst, minutes - 1: report.SoakLast} {
			if at == minute {
				again := e.Report.Samples[len(e.Report.Samples)-1]
				again.Point = name
				e.Report.Add(again)
			}
		}
	}
	return nil
}

// growth compares numbers of active orders, each in a Redis of its own.
func growth(ctx context.Context, e *Env) error {
	sizes := []int{1000, 10_000, 100_000, 1_000_000, 5_000_000}
	if e.Short {
		sizes = []int{100, 300}
	}
	var all []*loaded
	defer func() {
		for _, l := range all {
			l.stop()
		}
	}()
	for _, orders := range sizes {
		l, err := e.load(ctx, orders, 0, false)
		if err != nil {
			return err
		}
		all = append(all, l)
		if l.router, err = e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL()}); err != nil {
			return err
		}
		used, err := l.redis.Memory(ctx)
		if err != nil {
			return err
		}
		e.Report.Add(report.Sample{
			Scenario: "growth", Variant: "memory, with inventory, per order", Point: report.OrdersPoint(orders),
			Values: map[report.Metric]float64{report.Bytes: float64(used) / float64(orders)},
		})
	}
	e.Progress.More(2 * e.Rounds * len(sizes))
	for round := range e.Rounds {
		for i := range all {
			at := (i + round) % len(all)
			if err := e.Load.Table(ctx, all[at].path, load.Twilio, e.Seed); err != nil {
				return err
			}
			for _, rate := range []float64{0, growthRate} {
				spec, point := e.spec(round), report.OrdersPoint(sizes[at])
				if spec.Rate = rate; rate > 0 {
					point += " at " + report.RatePoint(rate)
				}
				if _, err := e.measure(ctx, report.Key{Scenario: "growth", Point: point}, round, all[at].target(), spec); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// stop ends the servers of l.
func (l *loaded) stop() {
	if l.router != nil {
		l.router.Stop()
	}
	l.redis.Stop()
}
