package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/internal/tracing"
	"github.com/callmask/callmask/vn"
)

// Config says where NATS is and how its streams are named.
type Config struct {
	URL       string // nats:// or tls://, several separated by commas
	Name      string // shown in the server's list of connections; default callmask
	Inbox     string // first part of the subjects that answers come to; default _INBOX
	Token     string // empty: none
	CredsFile string // path of a NATS credentials file (JWT and NKey), or of an NKey seed alone; empty: none
	// CAFile, CertFile and KeyFile are paths of PEM files: who may have signed the
	// server's certificate (empty: whom the system trusts), and this client's own
	// certificate and key, where the server asks for one. Like CredsFile they are read
	// at every connection, so that they may be replaced meanwhile. Any of them makes
	// the connection TLS.
	CAFile, CertFile, KeyFile string
	// OrdersStream and OrdersPrefix map the incoming stream to an operator's own:
	// its name (default ORDERS) and what stands before .assigned, .completed …
	// in its subjects (default orders).
	OrdersStream string
	OrdersPrefix string
	Replicas     int           // of the streams callmask creates: 1, 3 or 5; 0: 3 on a cluster, else 1
	Timeout      time.Duration // deadline of every publish and request; default 5s
	// Lazy lets Connect succeed while NATS cannot be reached: the connection is
	// then made in the background, and every call gives vn.ErrUnavailable until then.
	Lazy bool
	// CallsQueue is how many calls.decided may wait to be published (default 8192);
	// more are dropped and counted.
	CallsQueue int
	Registerer prometheus.Registerer // nil: the metrics are kept but not registered
	Tracer     *tracing.Tracer       // nil: no spans of what is handled
	Logger     zerolog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, &ConfigError{"URL", errors.New("nats url: is missing; set it to the server's address, such as nats://127.0.0.1:4222")}
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
	if err := c.checkFiles(); err != nil {
		return c, err
	}
	if c.Replicas != 0 && c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 {
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
	closing atomic.Bool   // the connection ends because it is meant to
	closed  chan struct{} // it has ended

	mu        sync.Mutex
	ledger    jetstream.Stream // looked up at its first use
	consumers map[*consumption]struct{}
	link      context.Context // ends when the connection is lost: no answer will come then
	linkLost  context.CancelFunc
}

// Connect connects to NATS and keeps reconnecting for as long as the Bus lives.
// Unless Config.Lazy is set it fails when no server answers within Config.Timeout
// (vn.ErrUnavailable), or with a *ConfigError when the server refuses the credentials or
// one of the two does not trust the other's certificate.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bus{cfg: cfg, log: cfg.Logger, consumers: make(map[*consumption]struct{}), closed: make(chan struct{})}
	b.link, b.linkLost = context.WithCancel(context.Background())
	b.metrics = newMetrics()
	if err := b.dial(ctx); err != nil {
		return nil, err
	}
	b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(cfg.Timeout),
		jetstream.WithPublishAsyncTimeout(cfg.Timeout))
	if err == nil {
		err = b.metrics.register(cfg.Registerer) // only now: a Connect that failed may be repeated
	}
	if err == nil {
		b.calls, err = newCallWriter(b) //nolint:contextcheck // it lives as long as the Bus
	}
	if err != nil {
		b.hangUp()
		return nil, err
	}
	return b, nil
}

// Close publishes the calls.decided that still wait (for at most Config.Timeout)
// and closes the connection. Every Consume must have returned before.
func (b *Bus) Close() {
	b.calls.close()
	b.hangUp()
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
