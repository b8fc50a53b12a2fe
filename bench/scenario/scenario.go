// Package scenario holds what is measured, one scenario a file.
//
//	Scenario.Run ─▶ Env: rig, load generator, orders in Redis ─▶ report.Sample
//
// Whatever is compared takes turns (A B C A B C …), so that a disturbance of the machine
// falls on all alike. Every answer is checked; a wrong one ends the run.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/proc"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/scripts"
)

// Scenario is one thing that can be measured.
type Scenario struct {
	Name    string
	Summary string
	// Full marks what takes long: it runs only when asked for.
	Full bool
	Run  func(ctx context.Context, e *Env) error
}

// All lists the scenarios in the order they run.
func All() []Scenario {
	return []Scenario{
		{Name: "resolve", Summary: "signed Twilio calls, against every peer: at saturation and at fixed rates", Run: resolve},
		{Name: "resolve-json", Summary: "the same calls by GET /v1/resolve", Run: resolveJSON},
		{Name: "miss", Summary: "signed Twilio calls of strangers", Run: miss},
		{Name: "mixed", Summary: "calls while orders come and go, replenisher and reaper at work, AOF on", Run: mixed},
		{Name: "allocate", Summary: "VNs for orders: the script alone, and from orders.assigned to vn.assigned", Run: allocate},
		{Name: "release", Summary: "the end of orders, the script alone", Run: release},
		{Name: "pool-size", Summary: "allocation from pools of 1k to 100k VNs, with --full to 1M", Run: poolSize},
		{Name: "memory", Summary: "bytes in Redis of an order, a VN, and what an order leaves", Run: memory},
		{Name: "storage", Summary: "messages and bytes in each NATS stream of an order and a call", Run: storage},
		{Name: "overload", Summary: "three times what the router can do, and how it recovers", Run: overload},
		{Name: "cluster", Summary: "signed calls before a Redis Cluster of 1, 3, 6 and 12 masters, 1 and 2 routers, and a single Redis", Run: clusters},
		{Name: "growth", Summary: "calls with 1k to 5M active orders (about 8 GB of memory)", Full: true, Run: growth},
		{Name: "soak", Summary: "minutes at saturation: does the router's memory grow?", Full: true, Run: soak},
	}
}

// Options says how much is measured.
type Options struct {
	Rounds  int
	Seconds float64 // of one measurement
	Orders  int     // active orders during most scenarios
	Conns   int     // connections at saturation
	Full    bool
	Short   bool // a moment each: only whether everything works
	Soak    time.Duration
	Seed    uint64
	Versus  string   // another build of callmask that takes part in resolve
	Peers   []string // who takes part in resolve beside callmask; empty: all
}

// Progress is told how far things are.
type Progress interface {
	Begin(scenario string)
	More(steps int) // measurements to come
	Doing(what string)
	Step()
}

// Env is what scenarios run in.
type Env struct {
	Options

	Rig      *rig.Rig
	Load     *load.Client
	Report   *report.Report
	Progress Progress

	main *loaded
}

// loaded is a Redis with orders, and what stands before it.
type loaded struct {
	redis  *rig.Redis
	table  *world.Table
	path   string // of the table, for the load generator
	router *rig.Callmask
}

// target is something that calls are sent to.
type target struct {
	variant string
	servers []rig.Server // they share the calls
	store   meter        // Redis or PostgreSQL; nil: none
	fixed   bool
}

// meter tells the CPU time that something has used.
type meter interface {
	CPU(ctx context.Context) (time.Duration, error)
}

// addr returns the addresses of the servers as load.Spec takes them.
func (t *target) addr() string {
	addrs := make([]string, len(t.servers))
	for i, s := range t.servers {
		addrs[i] = s.Addr
	}
	return strings.Join(addrs, ",")
}

// spec returns the load of the scenarios' ordinary form.
func (e *Env) spec(round int) load.Spec {
	return load.Spec{
		Conns: e.Conns, For: e.length(), Warm: e.length() / 10, Seed: e.Seed + uint64(round),
	}
}

func (e *Env) length() time.Duration { return time.Duration(e.Seconds * float64(time.Second)) }

// load loads a Redis with orders and starts a router before it.
func (e *Env) load(ctx context.Context, orders, spare int, aof bool) (*loaded, error) {
	l := &loaded{}
	var err error
	if l.redis, err = e.Rig.Redis(ctx, aof); err != nil {
		return nil, err
	}
	l.path = filepath.Join(e.Rig.Dir, l.redis.Name+".table")
	l.table, err = e.fill(ctx, l.redis.Store, orders, spare, l.path)
	return l, err
}

// fill loads an empty Redis with orders and writes the table of their calls to path.
func (e *Env) fill(ctx context.Context, store *scripts.Store, orders, spare int, path string) (*world.Table, error) {
	e.Progress.Doing(fmt.Sprintf("loading %d orders", orders))
	table, err := world.Load(ctx, store, world.Options{
		Orders: orders, Spare: spare, IDs: world.Short, Workers: loaders,
		Done: func(part float64) { e.Progress.Doing(fmt.Sprintf("loading %d orders: %.0f %%", orders, 100*part)) },
	})
	if err != nil {
		return nil, err
	}
	return table, table.Write(path)
}

// loaders is how many orders are allocated at the same time.
const loaders = 32

// spareVNs is how many VNs stay free beside so many orders.
func spareVNs(orders int) int { return orders/10 + 20_000 }

// shared returns the orders and the router that most scenarios use.
func (e *Env) shared(ctx context.Context) (*loaded, error) {
	if e.main != nil {
		return e.main, nil
	}
	l, err := e.load(ctx, e.Orders, spareVNs(e.Orders), false)
	if err != nil {
		return nil, err
	}
	if l.router, err = e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL()}); err != nil {
		return nil, err
	}
	e.main = l
	return l, nil
}

func (l *loaded) target() target {
	return target{variant: report.Callmask, servers: []rig.Server{l.router.Server}, store: l.redis}
}

// warmUp sends calls to each target that are not measured, so that caches are filled
// and compilers at run time have done their work.
func (e *Env) warmUp(ctx context.Context, targets []target) error {
	for i := range targets {
		t := &targets[i]
		e.Progress.Doing("warming up " + t.variant)
		spec := e.spec(0)
		spec.Addr, spec.Fixed = t.addr(), t.fixed
		if !e.Short {
			spec.For = max(spec.For, time.Second)
		}
		nothing := func() error { return nil }
		result, err := e.Load.Run(ctx, spec, nothing, nothing)
		if err == nil {
			err = judge(&result, true)
		}
		if err != nil {
			return fmt.Errorf("warm up %s: %w", t.variant, err)
		}
	}
	return nil
}

// cost is what the processes of a target had cost at one moment.
type cost struct {
	server, load proc.Usage
	store        time.Duration
}

func (e *Env) cost(ctx context.Context, t *target) (c cost, err error) {
	for i := range t.servers {
		one, err := t.servers[i].Usage()
		if err != nil {
			return c, err
		}
		c.server.CPU += one.CPU
		c.server.RSS += one.RSS
	}
	if t.store != nil {
		if c.store, err = t.store.CPU(ctx); err != nil {
			return c, err
		}
	}
	c.load, err = e.Load.Usage()
	return c, err
}

// measure makes one load on one target and keeps what came of it.
func (e *Env) measure(ctx context.Context, k report.Key, round int, t target, spec load.Spec) (load.Result, error) {
	e.Progress.Doing(fmt.Sprintf("%s: %s, %s, round %d", k.Scenario, t.variant, k.Point, round+1))
	defer e.Progress.Step()
	spec.Addr, spec.Fixed = t.addr(), t.fixed
	var before, after cost
	result, err := e.Load.Run(ctx, spec,
		func() (err error) { before, err = e.cost(ctx, &t); return err },
		func() (err error) { after, err = e.cost(ctx, &t); return err })
	if err == nil {
		err = judge(&result, spec.GiveUp > 0)
	}
	if err != nil {
		return result, fmt.Errorf("%s, %s, %s: %w", k.Scenario, t.variant, k.Point, err)
	}
	each := func(before, after time.Duration) float64 {
		return float64((after - before).Microseconds()) / float64(result.Answered+result.Busy)
	}
	values := map[report.Metric]float64{
		report.RPS: float64(result.InTime) / result.Took.Seconds(), report.ServerCPU: each(before.server.CPU, after.server.CPU),
		report.LoadCPU: each(before.load.CPU, after.load.CPU), report.Resident: float64(after.server.RSS) / (1 << 20),
		report.P50: result.Latency.Percentile(50), report.P99: result.Latency.Percentile(99), report.P999: result.Latency.Percentile(99.9),
		report.MaxUS: result.Latency.Max, report.Busy: float64(result.Busy), report.Unsent: float64(result.Unsent),
	}
	if t.store != nil {
		values[report.StoreCPU] = each(before.store, after.store)
	}
	if result.Busy > 0 {
		values[report.BusyP99] = result.Refused.Percentile(99)
	}
	values[report.ServiceP9] = result.Service.Percentile(99)
	e.Report.Add(report.Sample{
		Scenario: k.Scenario, Variant: t.variant, Point: k.Point, Round: round, Values: values, Latency: &result.Latency,
	})
	return result, nil
}

// ErrWrong means that a server answered a call wrongly: what it measures is void.
var ErrWrong = errors.New("wrong answer")

func judge(r *load.Result, overloaded bool) error {
	switch {
	case r.Wrong > 0:
		return fmt.Errorf("%w: %d of them, such as %s", ErrWrong, r.Wrong, r.Example)
	case r.Answered == 0:
		return errors.New("not one call was answered")
	case r.Broken > 0 && !overloaded:
		return fmt.Errorf("%d connections were closed instead of answered", r.Broken)
	case r.Late > 0 && !overloaded:
		return fmt.Errorf("%d calls were never answered", r.Late)
	}
	return nil
}
