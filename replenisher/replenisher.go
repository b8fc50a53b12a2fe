package replenisher

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/replenisher/forecast"
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
	pool   Pool
	wake   chan struct{} // capacity 1: triggers that come during a look are one more look
	placed atomic.Int64  // orders placed since the last look
	wished atomic.Int64  // numbers asked for by hand since the last look
	shown  atomic.Pointer[PoolStatus]

	lease *lease // nil for unknownPool
	term  string // of the lease, when the intents were last read

	looked  bool                 // there was a first look in this term
	cold    bool                 // the last look found Redis not ready
	open    int                  // open intents that the last reading left
	read    time.Time            // when the intents were last read
	filling bool                 // free fell below low water and has not been back at target yet
	reason  string               // why it is filling
	seen    map[string]*sighting // by tag: the open intents
	unsent  map[string]struct{}  // tags of intents of ours that were never sent to the carrier
	taken   map[string]struct{}  // VNs that are not to be bought: with an open intent, of any pool, or paid for by this one

	strays map[string]*worker // of unknownPool: the pools that have open intents and are not configured

	demand forecast.Demand
	plan   forecast.Levels
	short  bool // running out, and announced

	budget    *budget
	capped    bool          // the cap was reached, and announced
	restUntil time.Time     // a pool whose cap is reached asks for nothing until then,
	restAt    carrier.Money // as long as this is committed

	surplus surplus
	wish    wish
}

func (r *Replenisher) newWorker(p Pool) *worker {
	w := &worker{
		pool: p, wake: make(chan struct{}, 1), seen: make(map[string]*sighting), unsent: make(map[string]struct{}),
		plan: forecast.Levels{LowWater: p.LowWater, Target: p.Target}, budget: newBudget(p.MonthlyCap, time.Time{}),
	}
	if p.Name == unknownPool {
		w.strays = make(map[string]*worker)
	} else {
		w.lease = r.newLease(p.Name)
	}
	return w
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
		r.workers[p.Name] = r.newWorker(p)
	}
	return r, nil
}

// Run looks at every pool at once, then on each pools.low and orders.placed that
// names it and every Sweep, until ctx ends; then it finishes the purchase that is
// under way (for Config.Grace at most) and returns nil. It
// returns an error only when the events cannot be consumed at all.
//
// Open intents are settled before anything is bought. Of several processes that run
// at once, one acts for each pool: when it ends, another one takes over at once, and
// when it dies, after Config.Lease.
func (r *Replenisher) Run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	for _, w := range r.workers {
		g.Go(func() error { r.work(running, w); return nil })
	}
	for _, s := range r.sellers {
		g.Go(func() error { r.reconciles(running, s); return nil })
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

// work is the one goroutine that buys for a pool. It gives the pool up when it ends.
func (r *Replenisher) work(ctx context.Context, w *worker) {
	defer r.keep(ctx, w)()
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

// keep renews the pool's lease, while it is ours, until the function it returns is
// called; that also gives it up.
func (r *Replenisher) keep(ctx context.Context, w *worker) (end func()) {
	if w.lease == nil {
		return func() {}
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	keeping.Go(func() {
		for rest(longer, r.cfg.Lease/3) == nil {
			if err := w.lease.renew(longer); err != nil && w.lease.held() && longer.Err() == nil {
				r.log.Warn().Str("pool", w.pool.Name).Err(err).Msg("the lease of the pool could not be renewed; trying again")
			}
			r.showActing(w)
		}
	})
	return func() {
		cancel()
		keeping.Wait()
		if err := w.lease.giveUp(context.WithoutCancel(ctx)); err != nil {
			r.log.Warn().Str("pool", w.pool.Name).Err(err).Msg("the lease of the pool could not be given up; others wait until it ends")
		}
		r.showActing(w)
	}
}

// Chief tells whether this process acts for the first pool by name: of all that share an
// installation one at most does, so it does what is to be done once for all of them. For a
// moment after a pause of its own two may think so.
func (r *Replenisher) Chief() bool {
	first := ""
	for name := range r.workers {
		if name != unknownPool && (first == "" || name < first) {
			first = name
		}
	}
	return first != "" && r.workers[first].lease.held()
}

func (r *Replenisher) showActing(w *worker) {
	acting := 0.0
	if w.lease.held() {
		acting = 1
	}
	r.metrics.acting.WithLabelValues(w.pool.Name).Set(acting)
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
