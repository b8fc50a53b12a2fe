package scenario

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/proc"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
)

const (
	overloadConns  = 2048
	overloadFactor = 3
	overloadRounds = 5
	// overloadOrders is small: what is overloaded is the router.
	overloadOrders = 20_000
	// hangUp is how long a caller's carrier waits for a connection in the overload.
	hangUp = time.Second
)

// overload offers several times what the router can do. Router and Redis share one
// processor and the generator has the others, or it could not offer that much.
func overload(ctx context.Context, e *Env) error {
	const name = "overload"
	l, err := e.load(ctx, min(e.Orders, overloadOrders), 0, false)
	if err != nil {
		return err
	}
	defer l.stop()
	if l.router, err = e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL()}); err != nil {
		return err
	}
	restore, err := e.pin(ctx, l)
	if err != nil {
		e.Report.Note("overload: router, Redis and the load generator share all processors: %v", err)
	} else {
		defer restore()
	}
	if err := e.Load.Table(ctx, l.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	e.Progress.More(3 * min(e.Rounds, overloadRounds))
	t := l.target()
	for round := range min(e.Rounds, overloadRounds) {
		result, err := e.measure(ctx, report.Key{Scenario: name, Point: report.CapacityAt}, round, t, e.spec(round))
		if err != nil {
			return err
		}
		capacity := float64(result.Answered) / result.Took.Seconds()
		spec := e.spec(round)
		spec.Rate, spec.Conns, spec.GiveUp = overloadFactor*capacity, overloadConns, hangUp
		if !e.Short {
			spec.For = max(spec.For, 2*time.Second) // longer than it takes until queues are full
		}
		if _, err := e.measure(ctx, report.Key{Scenario: name, Point: report.Overloaded}, round, t, spec); err != nil {
			return err
		}
		spec = e.spec(round)
		spec.Rate, spec.Warm = capacity/2, 0
		if _, err := e.measure(ctx, report.Key{Scenario: name, Point: report.Recovered}, round, t, spec); err != nil {
			return err
		}
	}
	return nil
}

// pin gives the first processor to the router and its Redis and the others to the
// load generator; restore lets the generator go where it likes again.
func (e *Env) pin(ctx context.Context, l *loaded) (restore func(), err error) {
	cpus := runtime.NumCPU()
	if cpus < 2 {
		return nil, fmt.Errorf("there is only one")
	}
	for _, c := range []*proc.Child{l.router.Child, l.redis.Child} {
		if err := taskset(ctx, "0", c.Pid()); err != nil {
			return nil, err
		}
	}
	if err := taskset(ctx, fmt.Sprintf("1-%d", cpus-1), e.Load.Pid()); err != nil {
		return nil, err
	}
	all := fmt.Sprintf("0-%d", cpus-1)
	return func() {
		if err := taskset(context.WithoutCancel(ctx), all, e.Load.Pid()); err != nil {
			e.Report.Note("overload: the load generator stays on its processors: %v", err)
		}
	}, nil
}

// taskset binds all threads of a process to processors.
func taskset(ctx context.Context, cpus string, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", cpus, strconv.Itoa(pid)).CombinedOutput() //nolint:gosec // G204: numbers only
	if err != nil {
		return fmt.Errorf("taskset (package util-linux): %w: %.200s", err, out)
	}
	return nil
}
