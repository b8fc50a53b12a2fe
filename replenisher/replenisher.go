package replenisher

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// Replenisher buys numbers for the pools that run low. Any number of goroutines of
// one Replenisher never buy for one pool at the same time; several processes may
// run one each, see Run.
type Replenisher struct {
	cfg     Config
	store   Store
	bus     Bus
	ledger  Ledger
	log     zerolog.Logger
	metrics *metrics
	now     func() time.Time

	sellers map[string]*seller // by carrier name
	workers map[string]*worker // by pool name, unknownPool included
	keeper  *keeper
}

// worker is one pool and what is remembered of it between two looks.
type worker struct {
	pool Pool
	wake chan struct{} // capacity 1: triggers that come during a look are one more look

	looked  bool                // there was a first look
	cold    bool                // the last look found Redis not ready
	open    int                 // open intents that the last reading left
	read    time.Time           // when the intents were last read
	filling bool                // free fell below low_water and has not been back at target yet
	missed  map[string]struct{} // tags of intents that the carrier's list was once without
	unsent  map[string]struct{} // tags of intents of ours that were never sent to the carrier
	taken   map[string]struct{} // VNs of the open intents of all pools, as last read
	surplus surplus
}

// New checks the settings, completes them with their defaults and binds the metrics.
// It talks to nobody.
func New(cfg Config, store Store, bus Bus, ledger Ledger, reg prometheus.Registerer, log zerolog.Logger) (*Replenisher, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	k, err := newKeeper(reg)
	if err != nil {
		return nil, err
	}
	r := &Replenisher{
		cfg: cfg, store: store, bus: bus, ledger: ledger, metrics: m, now: time.Now,
		log: log, keeper: k,
		sellers: make(map[string]*seller, len(cfg.Carriers)),
		workers: make(map[string]*worker, len(cfg.Pools)+1),
	}
	for name, c := range cfg.Carriers {
		r.sellers[name] = &seller{CarrierConfig: c, name: name, first: cfg.BackoffFirst, most: cfg.BackoffMost}
	}
	for _, p := range append([]Pool{{Name: unknownPool}}, cfg.Pools...) {
		r.workers[p.Name] = &worker{pool: p, wake: make(chan struct{}, 1), unsent: make(map[string]struct{}), taken: make(map[string]struct{})}
	}
	return r, nil
}

// Run looks at every pool at once, then on each pools.low and orders.placed that
// names it and every Sweep, until ctx ends; then it finishes the purchase that is
// under way (for Config.Grace at most) and returns nil. It
// returns an error only when the events cannot be consumed at all.
//
// Open intents are settled before anything is bought. Several processes may run
// at once: what each is about to buy is checked against the intents of all.
func (r *Replenisher) Run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	for _, w := range r.workers {
		g.Go(func() error { r.work(running, w); return nil })
	}
	for _, s := range r.sellers {
		g.Go(func() error { r.keep(running, s); return nil })
	}
	for _, c := range r.consumers() {
		g.Go(func() error { return r.bus.Consume(running, c, r.handle) })
	}
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}

// work is the one goroutine that buys for a pool.
func (r *Replenisher) work(ctx context.Context, w *worker) {
	sweep := time.NewTimer(0)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-sweep.C:
		}
		if err := r.look(ctx, w); err != nil && ctx.Err() == nil {
			r.metrics.lookFailures.Inc()
			r.log.Warn().Str("pool", w.pool.Name).Err(err).Msg("the pool could not be looked at; trying again at the next sweep")
		}
		gap := time.NewTimer(r.cfg.Gap)
		select {
		case <-ctx.Done():
			gap.Stop()
			return
		case <-gap.C:
		}
		sweep.Reset(jitter(r.cfg.Sweep))
	}
}

// trigger has the pool looked at soon. It never blocks, and tells whether the pool
// is known.
func (r *Replenisher) trigger(pool string) bool {
	w, ok := r.workers[pool]
	if !ok || pool == unknownPool {
		return false
	}
	select {
	case w.wake <- struct{}{}:
	default: // a look is due already, and it reads the stock anew
	}
	return true
}

// jitter spreads the sweeps of many pools and processes: d ±10 %.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreading load is no secret
}

// lingering returns a context that outlives ctx by the grace: a purchase that has
// begun is finished when we are told to stop, but not for ever.
func lingering(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}
