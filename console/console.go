package console

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Root is the path that the console is served under.
const Root = "/console/"

// Store is what the console needs of *scripts.Store.
type Store interface {
	Stock(ctx context.Context) ([]scripts.Stock, error)
	Clock(ctx context.Context) (time.Time, error)
	Order(ctx context.Context, orderID string) (vn.Assignment, error)
	Explain(ctx context.Context, called, calling vn.Number) (*scripts.Facts, error)
}

// Bus is what the console needs of *events.Bus.
type Bus interface {
	TailCalls() *events.CallTail
	TailPools() *events.PoolTail
	History(ctx context.Context, of events.Sought, since time.Time) (events.History, error)
	Audit(ctx context.Context, e events.AuditEntry) error
	AuditTrail(ctx context.Context, most int) ([]events.AuditEntry, error)
	LastTopUp(ctx context.Context, pool string) (events.TopUp, uint64, error)
	AskTopUp(ctx context.Context, t events.TopUp, last uint64) error
	CarrierPause(ctx context.Context, carrier string) (events.Pause, uint64, error)
	PutPause(ctx context.Context, p events.Pause, last uint64) error
}

// Orders is what the console needs of *allocator.Allocator.
type Orders interface {
	End(ctx context.Context, orderID string, reason vn.EndReason) error
	Remove(ctx context.Context, pool, number string) (left bool, err error)
}

// Keeper is what the console needs of *replenisher.Replenisher.
type Keeper interface{ Status() replenisher.Status }

// Explainer is what the console needs of *explain.Explainer.
type Explainer interface {
	Explain(ctx context.Context, ask explain.Ask, by explain.Person) (*explain.Explanation, error)
}

// Config says what the console is to know of the settings.
type Config struct {
	Token     string   // of operators: the API token
	ReadToken string   // of readers; empty: there are none
	Role      string   // of this process, as people know it
	Pools     []string // the configured ones
	Carriers  []string // the configured ones
	Sellers   []string // those of them that sell numbers
	// CallsRecorded is false when the setting record_calls is off: then nothing is known of calls.
	CallsRecorded bool
}

// Deps are the parts that the console looks at and acts on. Orders is nil in a process
// without the allocator and Keeper in one without the replenisher: what needs them says so.
type Deps struct {
	Store     Store
	Bus       Bus
	Explainer Explainer
	Orders    Orders
	Keeper    Keeper
}

// Console serves the pages below Root. It is made by New; Run keeps it up to date.
type Console struct {
	Deps

	config  Config
	log     zerolog.Logger
	doors   doors
	refused *rate.Limiter // of sign-ins that may fail
	pages   *pages
	mux     *http.ServeMux
	hub     *hub
	sampler *sampler
	now     func() time.Time

	snap    atomic.Pointer[snapshot]
	newer   atomic.Pointer[chan struct{}] // closed when there is a newer snapshot
	seen    atomic.Int64                  // when somebody last asked for a page, Unix seconds
	finding chan struct{}                 // a token for each search of the streams that may run
}

// New returns a Console and registers its metrics with reg.
func New(config Config, deps Deps, reg prometheus.Registerer, log zerolog.Logger) (*Console, error) {
	if config.Token == "" {
		return nil, errors.New("console: the API token is missing")
	}
	p, err := parsePages()
	if err != nil {
		return nil, err
	}
	h, err := newHub(reg)
	if err != nil {
		return nil, err
	}
	c := &Console{
		Deps: deps, config: config, log: log, pages: p, hub: h, now: time.Now,
		refused: rate.NewLimiter(rate.Every(time.Second), 20), finding: make(chan struct{}, mostSearches),
	}
	if c.doors, err = newDoors(config.Token, config.ReadToken); err != nil {
		return nil, err
	}
	c.sampler = newSampler(&c.Deps, &c.config)
	c.mux = c.routes()
	first := make(chan struct{})
	c.newer.Store(&first)
	return c, nil
}

// Run keeps the snapshot up to date and tells the watchers, until ctx ends; then it lets
// the watchers go and returns nil.
func (c *Console) Run(ctx context.Context) error {
	defer c.hub.close()
	var g errgroup.Group
	g.Go(func() error { c.sample(ctx); return nil })
	return g.Wait()
}

// sample reads again and again: often while somebody looks.
func (c *Console) sample(ctx context.Context) {
	for {
		next := c.sampler.sample(ctx, c.watched(), c.snap.Load())
		if ctx.Err() != nil {
			return
		}
		c.snap.Store(next)
		after := make(chan struct{})
		close(*c.newer.Swap(&after))
		c.hub.tell(func(v view) []byte { return c.render(&v, next, false) })
		if !c.pause(ctx, c.sampler.cost) {
			return
		}
	}
}

const (
	watchedEvery = time.Second
	idleEvery    = 15 * time.Second
	// oneIn is the part of Redis's time that counting the stock may take, one in fifty: with
	// ten thousand pools it is the one thing here that Redis feels.
	oneIn = 50
	// lately is how long a page that somebody asked for counts as being looked at.
	lately = 5 * time.Second
)

// pause waits for the next reading; false when ctx has ended. A watcher who comes shortens
// a long pause.
func (c *Console) pause(ctx context.Context, cost time.Duration) bool {
	least := time.NewTimer(min(max(watchedEvery, cost*oneIn), idleEvery))
	defer least.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-least.C:
	}
	if c.watched() {
		return true
	}
	idle := time.NewTimer(idleEvery - watchedEvery)
	defer idle.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-idle.C:
	case <-c.hub.came:
	}
	return true
}

const (
	// old is from when on a snapshot is too old to begin a page with, and freshen how long
	// the page then waits for a newer one.
	old     = 3 * time.Second
	freshen = time.Second
)

// fresh waits for a moment when nobody has looked for long, so that whoever comes sees what is.
func (c *Console) fresh(ctx context.Context) {
	newer := *c.newer.Load()
	if s := c.snap.Load(); s != nil && c.now().Sub(s.At) < old {
		return
	}
	c.hub.wake()
	wait := time.NewTimer(freshen)
	defer wait.Stop()
	select {
	case <-newer:
	case <-wait.C:
	case <-ctx.Done():
	}
}

func (c *Console) watched() bool {
	return c.hub.watchers() > 0 || c.now().Unix()-c.seen.Load() < int64(lately/time.Second)
}
