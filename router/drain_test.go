package router

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// gate is a Lookup that holds every call until it is opened.
type gate struct {
	entered atomic.Int64
	open    chan struct{}
}

func (g *gate) lookup(ctx context.Context, called, calling vn.Number, d *vn.Decision) (byte, error) {
	g.entered.Add(1)
	select {
	case <-g.open:
		return connecting(ctx, called, calling, d)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

const voiceRequest = "GET /v1/carriers/tel/voice?" + voiceTail + " HTTP/1.1\r\nHost: x\r\nX-Token: " + testToken + "\r\n\r\n"

func TestDrainAnswersCallsInFlightAndTakesNoMore(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	f := serve(t, g.lookup, func(c *Config) { c.Budget = 2 * patience })
	const calls = 20
	answers := make(chan string, calls)
	for range calls {
		c := f.dial(t)
		_, err := io.WriteString(c, voiceRequest)
		require.NoError(t, err)
		go func() {
			res, err := io.ReadAll(c) // returns when the router closes the connection
			answers <- string(res)
			if err != nil {
				t.Error(err)
			}
		}()
	}
	require.Eventually(t, func() bool { return g.entered.Load() == calls }, patience, time.Millisecond)
	require.False(t, f.Draining())

	stopped := make(chan struct{})
	go func() { f.stop(); close(stopped) }()
	require.Eventually(t, f.Draining, patience, time.Millisecond)
	require.Eventually(t, func() bool { // nothing accepts any more
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", f.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, patience, time.Millisecond)
	select {
	case <-stopped:
		require.Fail(t, "ended before its calls were answered")
	default:
	}

	close(g.open)
	for range calls {
		res := <-answers
		require.True(t, strings.HasPrefix(res, "HTTP/1.1 200 "), res)
		require.Contains(t, res, "\r\nConnection: close\r\n")
		require.Contains(t, res, "connected ")
	}
	<-stopped
	require.Zero(t, f.value(t, "callmask_router_open_connections"))
}

func TestDrainDelayGoesOnServing(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, func(c *Config) { c.DrainDelay = 300 * time.Millisecond })
	start := time.Now()
	stopped := make(chan struct{})
	go func() { f.stop(); close(stopped) }()
	require.Eventually(t, f.Draining, patience, time.Millisecond)
	res := f.raw(t, voiceRequest)
	require.Contains(t, res, "connected ")
	require.Contains(t, res, "\r\nConnection: close\r\n")
	<-stopped
	require.GreaterOrEqual(t, time.Since(start), 300*time.Millisecond)
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, func(c *Config) {
		c.DrainTimeout = 50 * time.Millisecond
		c.ReadTimeout = time.Hour
	})
	c := f.dial(t)
	_, err := io.WriteString(c, "GET /v1/carr") // and never goes on
	require.NoError(t, err)
	require.Eventually(t, func() bool { return f.value(t, "callmask_router_open_connections") == 1 }, patience, time.Millisecond)
	start := time.Now()
	f.stop()
	require.Less(t, time.Since(start), patience)
	require.Contains(t, f.logs.String(), `"cut":1`)
	require.Zero(t, f.value(t, "callmask_router_open_connections"))
}

func TestDrainClosesIdleConnectionsAtOnce(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, nil)
	c := f.dial(t)
	_, err := io.WriteString(c, voiceRequest)
	require.NoError(t, err)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	start := time.Now()
	f.stop()
	require.Less(t, time.Since(start), DefaultReadTimeout)
	_, err = br.ReadByte()
	require.Error(t, err)
}

func TestRouterEndedBeforeItServedEnds(t *testing.T) {
	t.Parallel()
	f := build(t, connecting, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cancel()
	require.NoError(t, f.Serve(ctx, ln))
	require.ErrorContains(t, f.Serve(ctx, ln), "serves only once")
	require.Equal(t, ln.Addr(), f.Addr())
}

func TestTakenAddressIsNamed(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, nil)
	other := build(t, connecting, nil, func(c *Config) { c.Addr = f.Addr().String() })
	require.Nil(t, other.Addr())
	require.ErrorContains(t, other.Run(t.Context()), f.Addr().String())
}

// flakyListener fails with err a few times before it accepts, or for ever.
type flakyListener struct {
	net.Listener

	err  error
	left atomic.Int64
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: l.err}
	}
	return l.Listener.Accept()
}

func TestRouterOutlivesTooManyOpenFiles(t *testing.T) {
	t.Parallel()
	f := build(t, connecting, nil, func(c *Config) { c.ReadTimeout = 100 * time.Millisecond })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	flaky := &flakyListener{Listener: ln, err: syscall.EMFILE}
	flaky.left.Store(3)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx, flaky) }()
	<-f.Listening()
	require.Contains(t, f.raw(t, strings.Replace(voiceRequest, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)), "connected ")
	flaky.left.Store(1 << 40) // fails again, and is told to end meanwhile
	f.dial(t)
	cancel()
	require.NoError(t, <-ended)
}

func TestBrokenListenerEndsTheRouterWithAnError(t *testing.T) {
	t.Parallel()
	f := build(t, connecting, nil, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	flaky := &flakyListener{Listener: ln, err: syscall.EINVAL}
	flaky.left.Store(1)
	require.ErrorIs(t, f.Serve(t.Context(), flaky), syscall.EINVAL)
	require.True(t, f.Draining())

	f = build(t, connecting, nil, nil)
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, f.Serve(t.Context(), ln), net.ErrClosed)
}
