package allocator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Store is what the allocator needs of *scripts.Store.
type Store interface {
	ledger.Store
	Ready(ctx context.Context) (bool, error)
	MarkReady(ctx context.Context, partitions ...int) error
	Allocate(ctx context.Context, r scripts.AllocateRequest) (scripts.Allocation, error)
	Release(ctx context.Context, orderID string, reason vn.EndReason) (scripts.Release, error)
	Extend(ctx context.Context, orderID string, ttl time.Duration) (scripts.Allocation, error)
	Stock(ctx context.Context) ([]scripts.Stock, error)
	IsVN(n vn.Number) bool
	RefreshVNs(ctx context.Context) error
}

// Bus is what the allocator needs of *events.Bus.
type Bus interface {
	ledger.Bus
	Failed(ctx context.Context, e events.VNFailed, sequence uint64) error
	PoolLow(ctx context.Context, e events.PoolLow) error
	LedgerLastSeq(ctx context.Context) (uint64, error)
	OrdersStream() string
	OrderSubject(event string) string
	Consume(ctx context.Context, c events.Consumer, handle func(context.Context, events.Message) events.Result) error
}

// refreshEvery is how often the index of our own VNs and the state of Redis are
// looked at.
const refreshEvery = time.Second

// Allocator assigns VNs to orders and takes them back. Its methods may be used
// from any goroutine and whether Run is running or not; until the first look at
// Redis has succeeded they answer vn.ErrUnavailable.
type Allocator struct {
	config  Config
	pools   map[string]*pool
	store   Store
	bus     Bus
	ledger  *ledger.Ledger
	keys    *seal.Keyset
	log     zerolog.Logger
	metrics *metrics
	orders  stripes
	state   atomic.Pointer[state]
}

// state is what the last look at Redis found.
type state struct {
	indexed bool  // the index of our own VNs was loaded at least once
	err     error // nil: ready to allocate
}

// New checks the configuration; an error begins with the setting that is wrong.
func New(config Config, store Store, bus Bus, keys *seal.Keyset, reg prometheus.Registerer, log zerolog.Logger) (*Allocator, error) {
	if err := config.setDefaults(); err != nil {
		return nil, err
	}
	pools, err := config.pools()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	a := &Allocator{
		config: config, pools: pools, store: store, bus: bus, keys: keys, log: log, metrics: m,
		ledger: ledger.New(store, bus, config.Conflict, log), orders: newStripes(),
	}
	a.state.Store(&state{err: errors.New("allocator: has not looked at Redis yet")})
	return a, nil
}

// Run consumes order events and watches Redis until ctx ends; what is in hand then
// is finished first. It returns nil after ctx has ended.
func (a *Allocator) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	looked := make(chan struct{})
	g.Go(func() error {
		a.watch(gctx, looked)
		return nil
	})
	g.Go(func() error {
		select {
		case <-looked:
		case <-gctx.Done():
			return nil
		}
		return a.consume(gctx)
	})
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// Check returns nil when orders can be served: Redis answers, is marked ready, and
// the index of our own VNs is loaded. Otherwise it says what is missing.
func (a *Allocator) Check(context.Context) error { return a.state.Load().err }

// watch looks at Redis every second, and closes looked after the first look that
// loaded the index: no number may be accepted before our own VNs are known.
func (a *Allocator) watch(ctx context.Context, looked chan<- struct{}) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for first := true; ; {
		if a.look(ctx); first && a.state.Load().indexed {
			close(looked)
			first = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look refreshes the index and the state, and logs when the state has changed.
func (a *Allocator) look(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	old := a.state.Load()
	now := &state{indexed: old.indexed}
	now.err = a.store.RefreshVNs(bound)
	now.indexed = now.indexed || now.err == nil
	if now.err == nil {
		now.err = a.warm(bound)
	}
	if ctx.Err() != nil {
		return // stopping: what failed was cancelled
	}
	a.state.Store(now)
	a.metrics.ready.Set(0)
	switch {
	case now.err == nil:
		a.metrics.ready.Set(1)
		if old.err != nil {
			a.log.Info().Msg("ready to allocate")
		}
	case old.err == nil || old.err.Error() != now.err.Error():
		a.log.Error().Err(now.err).Msg("not ready to allocate")
	}
}

// warm marks an empty Redis ready when nothing was ever recorded in the ledger.
// Any other Redis that is not marked has lost its data.
func (a *Allocator) warm(ctx context.Context) error {
	ready, err := a.store.Ready(ctx)
	if err != nil || ready {
		return err
	}
	seq, err := a.bus.LedgerLastSeq(ctx)
	if err != nil {
		return err
	}
	if seq > 0 {
		return fmt.Errorf("%w: the ledger holds records that this Redis does not know", vn.ErrCold)
	}
	return a.store.MarkReady(ctx)
}

// usable refuses work until our own VNs are known.
func (a *Allocator) usable() error {
	if s := a.state.Load(); !s.indexed {
		return fmt.Errorf("%w: the numbers of the pools are not loaded yet", vn.ErrUnavailable)
	}
	return nil
}
