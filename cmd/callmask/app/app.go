package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/internal/embedded"
	"github.com/callmask/callmask/internal/tracing"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
)

// Config is what an App is made of.
type Config struct {
	Settings *settings.Settings
	Role     settings.Role
	Logger   zerolog.Logger
	// Banner gets a few lines for people once the App has started: addresses, paths,
	// what to try next. nil: none.
	Banner io.Writer
}

// App is one callmask process.
type App struct {
	cfg Config
	set *settings.Settings
	log zerolog.Logger
	reg *prometheus.Registry

	endings  []ending // run in reverse order
	failed   chan error
	started  chan struct{}
	draining atomic.Bool
	parts    parts

	at        Endpoints
	admin     *stage            // of the private listener
	httpLn    net.Listener      // for carriers; nil without the router
	simURLs   map[string]string // of the simulated carriers started here, by name
	tracer    *tracing.Tracer   // nil unless OTEL_* ask for one
	keys      *seal.Keyset
	store     *scripts.Store // for everything but calls
	bus       *events.Bus
	explainer *explain.Explainer
	adminAPI  atomic.Pointer[http.Handler] // the orders and pools API once it is there
	// keeperAPI is the replenisher's part of the private API once it is there.
	keeperAPI atomic.Pointer[http.Handler]
	// explainAPI is in every process but a router alone once Redis and NATS are there.
	explainAPI atomic.Pointer[http.Handler]
	// consoleAPI is in the same processes once all their parts are there.
	consoleAPI atomic.Pointer[http.Handler]
}

// Endpoints says where a started App can be reached.
type Endpoints struct {
	HTTP       string // host:port of the listener for carriers; empty without the router
	Admin      string // host:port of the private listener
	RedisURL   string // with the password if there is one: not for logs
	NATSURL    string
	NATSToken  string
	APIToken   string
	TokenFile  string // where `all` keeps the token it made; empty when it was given
	KeysetFile string
	SimURL     string // of the simulated carrier started here; empty when there is none
}

// ending is one step of the shutdown.
type ending struct {
	name string
	end  func(ctx context.Context) error
}

// New checks that the role has all settings that it needs. It starts nothing.
func New(cfg Config) (*App, error) {
	if err := cfg.Settings.Check(cfg.Role); err != nil {
		return nil, err
	}
	a := &App{
		cfg: cfg, set: cfg.Settings, log: cfg.Logger, reg: prometheus.NewRegistry(),
		failed: make(chan error, 1), started: make(chan struct{}), simURLs: map[string]string{},
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := a.reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return a, nil
}

// Started is closed when everything runs and Endpoints has its values.
func (a *App) Started() <-chan struct{} { return a.started }

// Endpoints returns where the App can be reached. It is complete once Started is
// closed.
func (a *App) Endpoints() Endpoints { return a.at }

// Run starts everything, serves until ctx ends or a part fails, and ends everything
// in reverse order within the setting shutdown_timeout. It returns nil after a clean
// end. An App runs once.
func (a *App) Run(ctx context.Context) error {
	err := a.start(ctx)
	if err == nil {
		close(a.started)
		a.banner()
		a.log.Info().Str("role", string(a.cfg.Role)).Msg("started")
		select {
		case <-ctx.Done():
		case err = <-a.failed:
			a.log.Error().Err(err).Msg("a part failed: ending")
		}
	}
	a.draining.Store(true)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.set.DrainDelay+a.set.ShutdownTimeout)
	defer cancel()
	endErr := a.end(end)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // the start was interrupted, as asked
	}
	a.log.Info().Msg("ended")
	return errors.Join(err, endErr)
}

func (a *App) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{a.prepare, a.trace, a.listen, a.servers, a.base, a.workers, a.drainAPI, a.front} {
		if err := step(ctx); err != nil {
			return err
		}
		select {
		case err := <-a.failed: // a part of an earlier step
			return err
		default:
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// onEnd adds a step to the shutdown; the last added runs first.
func (a *App) onEnd(name string, end func(ctx context.Context) error) {
	a.endings = append(a.endings, ending{name, end})
}

func (a *App) end(ctx context.Context) error {
	var errs []error
	for i := len(a.endings) - 1; i >= 0; i-- {
		e := a.endings[i]
		began := time.Now()
		if err := e.end(ctx); err != nil {
			errs = append(errs, fmt.Errorf("ending %s: %w", e.name, err))
		}
		a.log.Debug().Str("part", e.name).Dur("took", time.Since(began)).Msg("ended")
	}
	return errors.Join(errs...)
}

// stage is a group of services that end together.
type stage struct {
	app    *App
	ctx    context.Context //nolint:containedctx // the stage's own life, not a request's
	cancel context.CancelFunc
	group  errgroup.Group
}

// newStage returns a stage that lives until the shutdown reaches it; parent gives
// values only.
func (a *App) newStage(parent context.Context, name string) *stage {
	s := &stage{app: a}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(parent))
	a.onEnd(name, s.end)
	return s
}

// run starts a service. One that returns before it was asked to is a failure of the
// App.
func (s *stage) run(name string, service func(context.Context) error) {
	s.group.Go(func() error {
		err := service(s.ctx)
		if s.ctx.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			err = fmt.Errorf("%s: %w", name, err)
			select {
			case s.app.failed <- err:
			default: // one failure is enough to end everything
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func (s *stage) end(ctx context.Context) error {
	s.cancel()
	done := make(chan error, 1)
	go func() { done <- s.group.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("still busy: %w", ctx.Err())
	}
}

// servers starts what `all` was given no URL of.
func (a *App) servers(ctx context.Context) error {
	a.at.RedisURL, a.at.NATSURL, a.at.NATSToken = a.set.RedisURL, a.set.NATSURL, a.set.NATSToken
	if a.set.RedisURL == "" {
		r, err := embedded.StartRedis(ctx, embedded.RedisConfig{
			Addr: a.set.EmbeddedRedisAddr, Dir: a.set.DataDir, Password: a.set.EmbeddedRedisPassword,
			Logger: a.log.With().Str("room", "redis").Logger(),
		})
		if err != nil {
			return settings.Named("embedded_redis_addr", err)
		}
		a.onEnd("redis-server", r.Stop)
		a.at.RedisURL = r.URL()
		restarts := prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "callmask_embedded_redis_restarts_total", Help: "How often the redis-server child died and was started again.",
		}, func() float64 { return float64(r.Restarts()) })
		if err := a.reg.Register(restarts); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	if a.set.NATSURL == "" {
		n, err := embedded.StartNATS(ctx, embedded.NATSConfig{
			Addr: a.set.EmbeddedNATSAddr, Dir: a.set.DataDir, Token: a.set.EmbeddedNATSToken,
			Logger: a.log.With().Str("room", "nats").Logger(),
		})
		if err != nil {
			return settings.Named("embedded_nats_addr", err)
		}
		a.onEnd("nats", n.Stop)
		a.at.NATSURL, a.at.NATSToken = n.URL(), a.set.EmbeddedNATSToken
	}
	return a.simServers(ctx)
}

// host replaces an address that listens everywhere by one that can be dialled.
func host(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
}
