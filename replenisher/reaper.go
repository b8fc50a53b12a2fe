package replenisher

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// ReaperConfig is what the reaper is told. What is 0 takes its default.
type ReaperConfig struct {
	Every   time.Duration // a round starts this often (default 1s)
	Timeout time.Duration // deadline of a call to Redis, and of making one end known (default 5s)
	Workers int           // ends made known at the same time (default 16)
}

// ReaperStore is what the reaper needs of *scripts.Store.
type ReaperStore interface {
	// Reap ends the orders whose lease has run out, at most 50 in a call, and returns
	// them with those that ended earlier and are not settled yet; more tells whether
	// to call again at once. It also brings matured cooling VNs back. An order that
	// was returned and is not settled comes again 30 s later.
	Reap(ctx context.Context) (ended []scripts.Release, more bool, err error)
}

// Ender is what the reaper needs of *ledger.Ledger.
type Ender interface {
	// End makes the end of an order known and settles it; it may be repeated.
	End(ctx context.Context, r *scripts.Release) error
}

// Reaper brings the VNs of ended leases and cool-downs back and publishes the ends
// that nobody has published. Any number of them may run, in any process. Nothing
// depends on one being alive but the speed: a lease that ran out stops routing by
// itself, and an allocation that finds too few free VNs reaps for itself.
type Reaper struct {
	cfg   ReaperConfig
	store ReaperStore
	ender Ender
	log   zerolog.Logger

	ended    prometheus.Counter
	failures *prometheus.CounterVec // step
	last     prometheus.Gauge
}

// NewReaper completes the settings with their defaults and binds the metrics.
func NewReaper(cfg ReaperConfig, store ReaperStore, ender Ender, reg prometheus.Registerer, log zerolog.Logger) (*Reaper, error) {
	if cfg.Every < 0 || cfg.Timeout < 0 || cfg.Workers < 0 {
		return nil, errors.New("reaper: Every, Timeout and Workers must not be negative")
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Workers == 0 {
		cfg.Workers = 16
	}
	const room = "reaper"
	r := &Reaper{
		cfg: cfg, store: store, ender: ender, log: log,
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: room, Name: "ended_total",
			Help: "Ended orders that the reaper made known and settled.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: room, Name: "failures_total",
			Help: "Failed steps: reap (Redis) and end (the ledger or Redis; the order comes again).",
		}, []string{"step"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: room, Name: "last_round_timestamp_seconds",
			Help: "When a round last ended with success.",
		}),
	}
	return r, register(reg, r.ended, r.failures, r.last)
}

// Run reaps every ReaperConfig.Every until ctx ends, finishes the ends that are
// under way (for ReaperConfig.Timeout at most) and returns nil. Errors are logged
// and counted; the next round goes on.
func (r *Reaper) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	failing := false
	for {
		err := r.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			r.log.Warn().Err(err).Msg("leases could not be reaped; trying again every round")
		case err == nil && failing:
			r.log.Info().Msg("leases are reaped again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round reaps until nothing is left to do. It stops at the first batch that could
// not be made known at all: the ledger is away then, and what was reaped comes again.
func (r *Reaper) round(ctx context.Context) error {
	for ctx.Err() == nil {
		reaping, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		ended, more, err := r.store.Reap(reaping)
		cancel()
		// Reap may have ended orders before it failed; they are made known first.
		done, failure := r.endAll(ctx, ended)
		if err != nil {
			if errors.Is(err, vn.ErrCold) {
				return fmt.Errorf("reap: %w", err)
			}
			r.failures.WithLabelValues("reap").Inc()
			return errors.Join(fmt.Errorf("reap: %w", err), failure)
		}
		if failure != nil && done == 0 || !more {
			if failure == nil {
				r.last.SetToCurrentTime()
			}
			return failure
		}
		if failure != nil {
			r.log.Warn().Err(failure).Msg("an ended order could not be made known; it comes again")
		}
	}
	return ctx.Err()
}

// endAll makes the ends known, a few at the same time. It returns how many were, and
// the first failure.
func (r *Reaper) endAll(ctx context.Context, ended []scripts.Release) (int, error) {
	var (
		g    errgroup.Group
		done atomic.Int64
	)
	g.SetLimit(r.cfg.Workers)
	for i := range ended {
		if ctx.Err() != nil {
			break // they come again, to whoever reaps then
		}
		g.Go(func() error {
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
			defer cancel()
			if err := r.ender.End(ending, &ended[i]); err != nil {
				r.failures.WithLabelValues("end").Inc()
				return fmt.Errorf("order %s: %w", ended[i].OrderID, err)
			}
			r.ended.Inc()
			done.Add(1)
			return nil
		})
	}
	err := g.Wait()
	return int(done.Load()), err
}
