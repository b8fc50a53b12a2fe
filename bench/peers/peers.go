// Package peers holds what one would build instead of callmask, for the same work: check
// Twilio's signature, read the call, find the order's other party, open its sealed
// number, answer TwiML. They read the very data that callmask wrote to Redis.
//
//	bare      fasthttp, a fixed answer: what HTTP alone costs
//	naive     fasthttp + go-redis, one command per request
//	nethttp   net/http + go-redis, one command per request
//	evalsha   net/http + go-redis, a script per request (EVALSHA_RO)
//	pgx       net/http + pgx + PostgreSQL, index on (vn, caller)
//	node/     Node.js, Express and ioredis
//
// Nothing of the product imports it.
package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/seal"
)

// PoolSize is how many connections to Redis a peer has: one for each connection of
// the load generator at saturation.
const PoolSize = 64

// redisTimeout is callmask's own default for a call that waits.
const redisTimeout = 100 * time.Millisecond

// Config is what a peer needs to know.
type Config struct {
	Redis  string // host:port
	Prefix string // of the keys, up to "vn:"
	Keyset string // path of the keyset file
	DSN    string // of PostgreSQL
}

// Kinds are the peers written in Go.
func Kinds() []string { return []string{"bare", "naive", "nethttp", "evalsha", "pgx"} }

// Serve runs a peer on a free port of the loopback until ctx ends. It writes its
// address to out as soon as it can be called.
func Serve(ctx context.Context, kind string, cfg Config, out io.Writer) error {
	if !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("%q is not a peer", kind)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("peer %s: %w", kind, err)
	}
	defer func() { _ = ln.Close() }() // the server has closed it already, as a rule
	if kind == "bare" {
		return serveFast(ctx, ln, out, bare)
	}
	if kind == "pgx" {
		h, end, err := newPostgres(ctx, cfg)
		if err != nil {
			return err
		}
		defer end()
		return serveStd(ctx, ln, out, h)
	}
	keys, err := seal.Open(cfg.Keyset)
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{
		Addr: cfg.Redis, PoolSize: PoolSize, ContextTimeoutEnabled: true, DisableIdentity: true,
		ReadTimeout: redisTimeout, WriteTimeout: redisTimeout, PoolTimeout: redisTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer func() { _ = client.Close() }()
	if kind == "naive" {
		h, err := newNaive(ctx, cfg, client, keys)
		if err != nil {
			return err
		}
		return serveFast(ctx, ln, out, h)
	}
	get := plain(client)
	if kind == "evalsha" {
		if get, err = scripted(ctx, client); err != nil {
			return err
		}
	}
	return serveStd(ctx, ln, out, newStd(cfg.Prefix, keys, redisTimeout, get))
}

func serveFast(ctx context.Context, ln net.Listener, out io.Writer, h fasthttp.RequestHandler) error {
	srv := &fasthttp.Server{
		Handler: h, NoDefaultServerHeader: true, NoDefaultDate: true, Logger: quiet{},
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
	return serve(ctx, ln, out, srv.Serve, srv.ShutdownWithContext)
}

func serveStd(ctx context.Context, ln net.Listener, out io.Writer, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute}
	return serve(ctx, ln, out, srv.Serve, srv.Shutdown)
}

func serve(
	ctx context.Context, ln net.Listener, out io.Writer,
	run func(net.Listener) error, shutdown func(context.Context) error,
) error {
	done := make(chan error, 1)
	go func() { done <- run(ln) }()
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // a connection that is kept alive is no failure
	}
	return err
}

// quiet drops fasthttp's log, which prints requests.
type quiet struct{}

// Printf implements fasthttp.Logger.
func (quiet) Printf(string, ...any) {}
