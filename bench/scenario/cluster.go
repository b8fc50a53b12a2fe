package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
)

const (
	clusterScenario = "cluster"
	// clusterRate is the fixed rate at which latencies are compared.
	clusterRate = 2000
	// The largest Cluster is only looked at for how evenly its masters share the calls.
	wideMasters, widePartitions, wideOrders = 12, 64, 20_000
	// wideTime is long enough for chance to move no master's share by more than some percent.
	wideTime = 10 * time.Second
)

// deployment is a Redis or a Cluster with orders, and routers before it.
type deployment struct {
	variant    string
	url, path  string // of the Redis, and of the table of calls
	partitions int
	masters    *masters
	routers    []rig.Server
	close      func() error // ends the Redis, unless others use it
}

// masters are the nodes of a deployment. It is the meter of all together and remembers its
// last two readings, between which lies what was measured last.
type masters struct {
	read         func(ctx context.Context) ([]rig.Use, error)
	last, now    []rig.Use
	atSaturation []int64 // commands of each, over all rounds
}

// CPU implements meter.
func (m *masters) CPU(ctx context.Context) (sum time.Duration, err error) {
	m.last = m.now
	if m.now, err = m.read(ctx); err != nil {
		return 0, err
	}
	for _, u := range m.now {
		sum += u.CPU
	}
	return sum, nil
}

// clusters compares Clusters of several sizes with a single Redis. All of them stand at the
// same time and take turns.
func clusters(ctx context.Context, e *Env) error {
	e.Report.Note("cluster: router, masters and load generator share %d processors. That shows what a call costs each of them and how "+
		"evenly masters share the calls, not how many calls more masters or routers could answer on machines of their own.", runtime.NumCPU())
	all, err := e.deployments(ctx)
	if err != nil {
		return err
	}
	rates, counts := []float64{0, clusterRate}, []int{1, 2}
	e.Progress.More(e.Rounds*len(all)*len(rates)*len(counts) + 1)
	for round := range e.Rounds {
		for i := range all {
			d := all[(i+round)%len(all)]
			if err := e.Load.Table(ctx, d.path, load.Twilio, e.Seed); err != nil {
				return err
			}
			for _, rate := range rates {
				for _, routers := range counts {
					if err := e.measureMasters(ctx, d, round, rate, routers); err != nil {
						return err
					}
				}
			}
		}
	}
	for i, d := range all {
		e.addSpread(d)
		shared := 0
		if i == 0 {
			shared = 1 // the router that other scenarios use as well
		}
		if err := d.stop(shared); err != nil {
			return err
		}
	}
	return e.wide(ctx)
}

// deployments starts what is compared: with 1 to 3 masters the partitions that callmask takes by
// itself, with more the number that docs/sizing.md advises.
func (e *Env) deployments(ctx context.Context) (all []*deployment, err error) {
	l, err := e.shared(ctx)
	if err != nil {
		return nil, err
	}
	all = []*deployment{{
		variant: report.SingleRedis, url: l.redis.URL(), path: l.path, partitions: 1, masters: &masters{read: l.redis.Use},
		routers: []rig.Server{l.router.Server}, close: func() error { return nil },
	}}
	sizes := []struct{ masters, partitions int }{{3, 16}, {1, 16}, {6, 64}}
	if e.Short {
		sizes = sizes[:1]
	}
	for _, c := range sizes {
		d, err := e.deploy(ctx, c.masters, c.partitions, e.Orders, spareVNs(e.Orders))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	var targets []target
	for _, d := range all {
		for len(d.routers) < 2 {
			r, err := e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: d.url})
			if err != nil {
				return nil, err
			}
			d.routers = append(d.routers, r.Server)
		}
		targets = append(targets, d.target(2))
	}
	for i, t := range targets { // each with its own calls
		if err := e.Load.Table(ctx, all[i].path, load.Twilio, e.Seed); err != nil {
			return nil, err
		}
		if err := e.warmUp(ctx, []target{t}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// stop ends the routers that were started for the deployment, and its Redis.
func (d *deployment) stop(shared int) error {
	for _, r := range d.routers[shared:] {
		r.Stop()
	}
	return d.close()
}

// deploy starts a Cluster and fills it.
func (e *Env) deploy(ctx context.Context, nodes, partitions, orders, spare int) (*deployment, error) {
	variant := report.ClusterOf(nodes)
	e.Progress.Doing("starting a " + variant)
	c, err := e.Rig.RedisCluster(ctx, nodes, partitions)
	if err != nil {
		return nil, err
	}
	d := &deployment{
		variant: variant, url: c.URL(), path: filepath.Join(e.Rig.Dir, fmt.Sprintf("cluster-%d.table", nodes)), partitions: partitions,
		masters: &masters{read: c.Use}, close: c.Close,
	}
	_, err = e.fill(ctx, c.Store, orders, spare, d.path)
	return d, err
}

func (d *deployment) target(routers int) target {
	return target{variant: d.variant, servers: d.routers[:routers], store: d.masters}
}

// measureMasters makes one load on a deployment, and keeps what came of it and what each
// master did.
func (e *Env) measureMasters(ctx context.Context, d *deployment, round int, rate float64, routers int) error {
	spec, k := e.spec(round), report.Key{Scenario: clusterScenario, Point: report.RoutersPoint(rate, routers)}
	spec.Rate = rate
	result, err := e.measure(ctx, k, round, d.target(routers), spec)
	if err != nil || rate > 0 {
		return err
	}
	m := d.masters
	if m.atSaturation == nil {
		m.atSaturation = make([]int64, len(m.now))
	}
	for i := range m.now {
		commands := m.now[i].Commands - m.last[i].Commands
		m.atSaturation[i] += commands
		if len(m.now) > 1 && routers == 1 {
			e.Report.Add(report.Sample{
				Scenario: k.Scenario, Variant: report.NodeOf(d.variant, i+1), Point: k.Point, Round: round,
				Values: map[report.Metric]float64{
					report.Commands: float64(commands) / result.Took.Seconds(),
					report.StoreCPU: float64((m.now[i].CPU - m.last[i].CPU).Microseconds()) / float64(max(1, commands)),
				},
			})
		}
	}
	return nil
}

// addSpread keeps how evenly the masters shared what was measured at saturation.
func (e *Env) addSpread(d *deployment) {
	if all := d.masters.atSaturation; len(all) > 1 {
		e.Report.Add(report.Sample{
			Scenario: clusterScenario, Variant: d.variant, Point: report.PartitionsPoint(d.partitions),
			Values: map[report.Metric]float64{report.Spread: float64(slices.Max(all)) / float64(max(1, slices.Min(all)))},
		})
	}
}

// wide looks how evenly many masters share the calls; what a call costs is not kept, as so many
// processes on so few processors would be what decides it.
func (e *Env) wide(ctx context.Context) error {
	nodes := wideMasters
	if e.Short {
		nodes = 4
	}
	d, err := e.deploy(ctx, nodes, widePartitions, min(e.Orders, wideOrders), wideOrders)
	if err != nil {
		return err
	}
	router, err := e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: d.url})
	if err != nil {
		return err
	}
	d.routers = []rig.Server{router.Server}
	if err := e.Load.Table(ctx, d.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	e.Progress.Doing(fmt.Sprintf("%s: %s", clusterScenario, d.variant))
	defer e.Progress.Step()
	spec := e.spec(0)
	if spec.Addr = router.Addr; !e.Short {
		spec.For = wideTime
	}
	read := func() error { _, err := d.masters.CPU(ctx); return err }
	result, err := e.Load.Run(ctx, spec, read, read)
	if err == nil {
		err = judge(&result, false)
	}
	if err != nil {
		return fmt.Errorf("%s, %s: %w", clusterScenario, d.variant, err)
	}
	for i, u := range d.masters.now {
		d.masters.atSaturation = append(d.masters.atSaturation, u.Commands-d.masters.last[i].Commands)
	}
	e.addSpread(d)
	return d.stop(0)
}
