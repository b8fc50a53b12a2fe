package sim

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/vn"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp keeps a clock for the whole process, and lets the cleaner of a worker
		// pool that has stopped, and its idle workers, sleep to their end.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// deadline is how long a test waits for anything.
const deadline = 10 * time.Second

// start serves a carrier on a free port until the test ends, and returns a client.
func start(t *testing.T, cfg ServerConfig, timeout time.Duration) (*Server, *Numbers) {
	t.Helper()
	cfg.Tokens = []string{"token"}
	s, err := NewServer(cfg)
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context(), "127.0.0.1:0"))
	ctx, stop := context.WithCancel(context.Background()) //nolint:usetesting // it must outlive the test's own context until Cleanup
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	n, err := NewNumbers(NumbersConfig{APIURL: s.URL() + "/", Token: "token", Timeout: timeout})
	require.NoError(t, err)
	t.Cleanup(func() {
		n.Close()
		stop()
		require.NoError(t, <-done)
	})
	return s, n
}

// decoder is the part of a codec that a router uses.
type decoder interface {
	Decode(ctx *fasthttp.RequestCtx, secret []byte, call *vn.Call) error
	AppendAnswer(dst []byte, call *vn.Call, d *vn.Decision) (body []byte, contentType string, status int)
}

// serve stands in for the router: it answers every call that the codec accepts with
// what decide says.
func serve(t *testing.T, c decoder, decide func(call *vn.Call) vn.Decision) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		var call vn.Call
		if err := c.Decode(ctx, nil, &call); err != nil {
			ctx.SetStatusCode(fasthttp.StatusBadRequest)
			if err == vn.ErrForbidden { //nolint:errorlint // the contract: it is returned itself
				ctx.SetStatusCode(fasthttp.StatusForbidden)
			}
			return
		}
		d := decide(&call)
		body, contentType, status := c.AppendAnswer(nil, &call, &d)
		ctx.SetContentType(contentType)
		ctx.SetStatusCode(status)
		ctx.SetBody(body)
	}}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown())
		require.NoError(t, <-done)
	})
	return "http://" + l.Addr().String() + "/v1/carriers/sim/voice"
}
