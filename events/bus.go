package events

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/vn"
)

// Config says where NATS is and how its streams are named.
type Config struct {
	URL       string // nats:// or tls://, several separated by commas
	Name      string // shown in the server's list of connections; default callmask
	Token     string // empty: none
	CredsFile string // path of a NATS credentials file (JWT and NKey); empty: none
	TLS       *tls.Config
	// OrdersStream and OrdersPrefix map the incoming stream to an operator's own:
	// its name (default ORDERS) and what stands before .assigned, .completed …
	// in its subjects (default orders).
	OrdersStream string
	OrdersPrefix string
	Replicas     int           // of the streams callmask creates: 1 (default), 3 or 5
	Timeout      time.Duration // deadline of every publish and request; default 5s
	// Lazy lets Connect succeed while NATS cannot be reached: the connection is
	// then made in the background, and every call gives vn.ErrUnavailable until then.
	Lazy bool
	// CallsQueue is how many calls.decided may wait to be published (default 8192);
	// more are dropped and counted.
	CallsQueue int
	Registerer prometheus.Registerer // nil: the metrics are kept but not registered
	Logger     zerolog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, errors.New("nats url: is missing; set it to the server's address, such as nats://127.0.0.1:4222")
	}
	if c.Name == "" {
		c.Name = "callmask"
	}
	if c.OrdersStream == "" {
		c.OrdersStream = streamOrders
	}
	if c.OrdersPrefix == "" {
		c.OrdersPrefix = "orders"
	}
	if err := checkStreamName(c.OrdersStream); err != nil {
		return c, fmt.Errorf("orders stream: %w", err)
	}
	if err := checkSubjectPrefix(c.OrdersPrefix); err != nil {
		return c, fmt.Errorf("orders subject prefix: %w", err)
	}
	if c.CredsFile != "" {
		if _, err := os.Stat(c.CredsFile); err != nil {
			return c, fmt.Errorf("nats credentials file: %w", err)
		}
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 {
		return c, fmt.Errorf("nats replicas: is %d; use 1, 3 or 5", c.Replicas)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Timeout < 0 {
		return c, errors.New("nats timeout: must be positive")
	}
	if c.CallsQueue <= 0 {
		c.CallsQueue = 8192
	}
	return c, nil
}

// Bus is a connection to NATS JetStream. Its methods may be called at the same
// time; each has a deadline of Config.Timeout and gives vn.ErrUnavailable when
// NATS did not answer by then, which leaves the outcome unknown: all of them may be
// repeated. While the connection is lost they give vn.ErrUnavailable at once.
type Bus struct {
	cfg     Config
	log     zerolog.Logger
	nc      *nats.Conn
	js      jetstream.JetStream
	metrics *metrics
	calls   *callWriter

	mu        sync.Mutex
	ledger    jetstream.Stream // looked up at its first use
	consumers map[*consumption]struct{}
	link      context.Context // ends when the connection is lost: no answer will come then
	linkLost  context.CancelFunc
}

// Connect connects to NATS and keeps reconnecting for as long as the Bus lives.
// Unless Config.Lazy is set it fails when no server answers within Config.Timeout
// (vn.ErrUnavailable) or refuses the credentials.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bus{cfg: cfg, log: cfg.Logger, consumers: make(map[*consumption]struct{})}
	b.link, b.linkLost = context.WithCancel(context.Background())
	if b.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	if err := b.dial(ctx); err != nil {
		return nil, err
	}
	b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(cfg.Timeout),
		jetstream.WithPublishAsyncTimeout(cfg.Timeout))
	if err == nil {
		b.calls, err = newCallWriter(b) //nolint:contextcheck // it lives as long as the Bus
	}
	if err != nil {
		b.nc.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bus) dial(ctx context.Context) error {
	connected := make(chan struct{}, 1)
	failed := make(chan error, 1)
	opts := []nats.Option{
		nats.Name(b.cfg.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		nats.Timeout(min(b.cfg.Timeout, 2*time.Second)),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		// Nothing is buffered while disconnected: a record that went out long after
		// its caller gave up could overwrite a newer one.
		nats.ReconnectBufSize(-1),
		nats.ConnectHandler(func(nc *nats.Conn) {
			b.metrics.connected.Set(1)
			b.log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("nats connected")
			offer(connected, struct{}{})
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.metrics.connected.Set(1)
			b.log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("nats connected again")
			offer(connected, struct{}{})
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.metrics.connected.Set(0)
			b.dropRequests()
			b.log.Warn().Err(err).Msg("nats connection lost; reconnecting")
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			b.log.Debug().Err(err).Msg("nats connection attempt failed")
			offer(failed, err)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn().Str("error", masked(err.Error())).Msg("nats reported an error")
		}),
		// Without it the connection is given up for good when a server refuses the
		// credentials twice, as it may while they are being rotated.
		nats.IgnoreAuthErrorAbort(),
	}
	if b.cfg.Token != "" {
		opts = append(opts, nats.Token(b.cfg.Token))
	}
	if b.cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(b.cfg.CredsFile))
	}
	if b.cfg.TLS != nil {
		opts = append(opts, nats.Secure(b.cfg.TLS))
	}
	nc, err := nats.Connect(b.cfg.URL, opts...)
	if err != nil {
		return fmt.Errorf("nats url: %w", err)
	}
	b.nc = nc
	if nc.IsConnected() || b.cfg.Lazy {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	var last error
	for {
		select {
		case <-connected:
			return nil
		case last = <-failed:
			if errors.Is(last, nats.ErrAuthorization) {
				nc.Close()
				return fmt.Errorf("nats url: the server refused the credentials: %w", last)
			}
		case <-ctx.Done():
			nc.Close()
			if last == nil {
				last = ctx.Err()
			}
			return fmt.Errorf("connecting to nats: %w: %w", vn.ErrUnavailable, last)
		}
	}
}

func offer[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// Close publishes the calls.decided that still wait (for at most Config.Timeout)
// and closes the connection. Every Consume must have returned before.
func (b *Bus) Close() {
	b.calls.close()
	b.nc.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.linkLost()
}

// OrderSubject returns the subject of an incoming event, such as EventAssigned.
func (b *Bus) OrderSubject(event string) string { return b.cfg.OrdersPrefix + "." + event }

// OrdersStream returns the name of the stream of incoming orders.
func (b *Bus) OrdersStream() string { return b.cfg.OrdersStream }

// Connected tells whether there is a connection at this moment.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// deadline bounds a request by Config.Timeout and by the life of the connection it
// is sent on.
func (b *Bus) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	b.mu.Lock()
	stop := context.AfterFunc(b.link, cancel)
	b.mu.Unlock()
	return ctx, func() {
		stop()
		cancel()
	}
}

// dropRequests ends the requests that were sent on a connection now lost.
func (b *Bus) dropRequests() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.linkLost()
	b.link, b.linkLost = context.WithCancel(context.Background())
}

// failed wraps an error of NATS and marks with vn.ErrUnavailable those that mean
// "no answer": they say nothing about the outcome.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if isUnavailable(err) {
		return fmt.Errorf("%s: %w: %w", doing, vn.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func isUnavailable(err error) bool {
	for _, e := range []error{
		context.DeadlineExceeded, context.Canceled, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrNoServers,
		nats.ErrConnectionDraining, nats.ErrStaleConnection,
		jetstream.ErrNoStreamResponse, jetstream.ErrTooManyStalledMsgs, jetstream.ErrAsyncPublishTimeout,
		jetstream.ErrJetStreamPublisherClosed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503
}
