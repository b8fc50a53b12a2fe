package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// Carrier is somebody who asks the router what to do with a call.
type Carrier struct {
	Name string // the {name} of its paths and its label in metrics
	ID   byte   // which VNs are its own, as Lookup tells it
	// Any lets it resolve the VNs of every carrier and frees it from the limit on
	// refused calls. It is for the operator's own API token.
	Any   bool
	Codec Codec
}

// Codec speaks one carrier's language. It is called by many goroutines at once and
// keeps nothing of what it is given: all of it is used again for the next request.
type Codec interface {
	// Decode authenticates the request first and then reads the call into call,
	// which comes zeroed; call.ID may point into the request. secret is the last
	// segment of /v1/carriers/{name}/voice/{secret}, empty where there is none.
	// Errors are vn.ErrForbidden or a *vn.FieldError (400), which never holds a
	// value of the request.
	Decode(ctx *fasthttp.RequestCtx, secret []byte, call *vn.Call) error
	// AppendAnswer appends the carrier's form of the decision to dst and returns
	// it with its content type and HTTP status.
	AppendAnswer(dst []byte, call *vn.Call, d *vn.Decision) (body []byte, contentType string, status int)
}

// Lookup finds what is to be done with a call from calling to called.
type Lookup interface {
	// Lookup sets d.Reason to vn.Connected (with Destination, CallerID and
	// OrderID), vn.NumberNotAssigned, vn.CallerNotAllowed or vn.OrderEnded (with
	// OrderID), and returns the carrier that called belongs to, which has a
	// meaning unless the reason is vn.NumberNotAssigned. With an error the call
	// is refused as unavailable. It returns by ctx's deadline, and does not use
	// ctx after it has returned, for the same ctx serves later calls.
	Lookup(ctx context.Context, called, calling vn.Number, d *vn.Decision) (carrier byte, err error)
}

// Recorder is told of everything that was answered, once the answer is built. It must
// copy what it keeps, since what it is given is used again, and must never block: the
// caller is waiting.
type Recorder interface {
	Record(carrier string, call *vn.Call, d *vn.Decision, took time.Duration)
	Message(carrier string, m *vn.Message, d *vn.Decision, v vn.Verdict)
	Progress(carrier string, p *vn.Progress)
}

// Router serves the carriers. It is made by New and serves once.
type Router struct {
	cfg      Config
	lookup   Lookup
	recorder Recorder
	log      zerolog.Logger
	sampled  zerolog.Logger // for what a sender of requests can cause at will
	metrics  *metrics
	limiter  *limiter

	messageLimiter *limiter // of refused messages
	relays         *limiter // of relayed messages, per pair

	carriers  map[string]*carrier
	resolvers []*carrier
	states    sync.Pool // of *state

	server    *fasthttp.Server
	conns     *connSet
	inFlight  atomic.Int64
	draining  atomic.Bool
	used      atomic.Bool
	addr      atomic.Pointer[net.Addr]
	listening chan struct{}
}

// carrier is a Carrier with its metrics bound.
type carrier struct {
	Carrier

	decisions [vn.Reasons]prometheus.Counter
	messages  [vn.Verdicts]prometheus.Counter
	progress  [vn.Legs][vn.LegStatuses]prometheus.Counter
	forbidden prometheus.Counter
	malformed prometheus.Counter
}

// New makes a router. recorder may be nil. The metrics callmask_router_… are
// registered with reg; an error names the setting that is wrong.
func New(cfg Config, lookup Lookup, recorder Recorder, reg prometheus.Registerer, log zerolog.Logger) (*Router, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if lookup == nil {
		return nil, errors.New("router: the Lookup is missing")
	}
	r := &Router{
		cfg:      cfg,
		lookup:   lookup,
		recorder: recorder,
		log:      log,
		sampled:  log.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Second}),
		limiter:  newLimiter(cfg.RefusalsPerMinute),

		messageLimiter: newLimiter(cfg.RefusalsPerMinute),
		relays:         newLimiter(cfg.MessagesPerMinute),

		carriers:  make(map[string]*carrier, len(cfg.Carriers)),
		listening: make(chan struct{}),
	}
	r.states.New = func() any { return newState() }
	r.conns = newConnSet(cfg.MaxConnsPerIP, newTimeouts(cfg.ReadTimeout, cfg.WriteTimeout, cfg.IdleTimeout), r.sampled)
	var err error
	if r.metrics, err = newMetrics(reg, r); err != nil {
		return nil, fmt.Errorf("router: register metrics: %w", err)
	}
	for _, c := range cfg.Carriers {
		r.carriers[c.Name] = r.metrics.bind(c)
	}
	for _, c := range cfg.Resolvers {
		r.resolvers = append(r.resolvers, r.metrics.bind(c))
	}
	r.server = r.newServer()
	return r, nil
}

// Run listens on Config.Addr and serves until ctx ends; then it drains and returns
// nil. A router runs once.
func (r *Router) Run(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", r.cfg.Addr)
	if err != nil {
		return fmt.Errorf("router: listen on %s: %w", r.cfg.Addr, err)
	}
	return r.Serve(ctx, ln)
}

// Serve is Run on a listener that is open already. It closes ln.
func (r *Router) Serve(ctx context.Context, ln net.Listener) error {
	if !r.used.CompareAndSwap(false, true) {
		return errors.Join(errors.New("router: serves only once; make another one"), ln.Close())
	}
	l := r.conns.listen(ln)
	defer r.conns.timeouts.watch(r.conns)()
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(l) }()
	addr := ln.Addr()
	r.addr.Store(&addr)
	close(r.listening)
	r.log.Info().Stringer("addr", addr).Int("carriers", len(r.carriers)).Msg("router: serving")

	select {
	case err := <-served:
		r.drain(ctx, l)
		if err == nil {
			err = net.ErrClosed
		}
		return fmt.Errorf("router: accepting on %s ended: %w", addr, err)
	case <-ctx.Done():
	}
	r.draining.Store(true)
	if r.cfg.DrainDelay > 0 {
		wait := time.NewTimer(r.cfg.DrainDelay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case err := <-served:
			served <- err
		}
	}
	err := l.Close()
	if serr := <-served; serr != nil { // at once: nothing is left to accept from
		err = errors.Join(err, serr)
	}
	r.drain(ctx, l)
	if err != nil {
		return fmt.Errorf("router: close the listener on %s: %w", addr, err)
	}
	return nil
}

// drain waits until the requests in flight are answered, and cuts what is left
// after DrainTimeout. Nothing accepts any more.
func (r *Router) drain(ctx context.Context, l *listener) {
	r.draining.Store(true)
	start := time.Now()
	ctx = context.WithoutCancel(ctx)
	graceful, cancel := context.WithTimeout(ctx, r.cfg.DrainTimeout)
	defer cancel()
	err := r.server.ShutdownWithContext(graceful)
	cut := 0
	if err != nil {
		cut = l.set.cut()
		last, stop := context.WithTimeout(ctx, r.cfg.Budget+time.Second)
		defer stop()
		err = r.server.ShutdownWithContext(last)
	}
	if err == nil {
		l.set.wait()
	}
	event := r.log.Info()
	if cut > 0 || err != nil {
		event = r.log.Warn().Err(err).Int("cut", cut)
	}
	event.Dur("took", time.Since(start)).Msg("router: drained")
}

// Listening is closed when Addr has a value.
func (r *Router) Listening() <-chan struct{} { return r.listening }

// Addr returns the address that the router serves on, nil before it does.
func (r *Router) Addr() net.Addr {
	if a := r.addr.Load(); a != nil {
		return *a
	}
	return nil
}

// Draining tells whether the router is ending: a load balancer should look for
// another one.
func (r *Router) Draining() bool { return r.draining.Load() }
