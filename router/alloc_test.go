//go:build !race

package router

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// cheapCodec is a Codec that allocates nothing itself.
type cheapCodec struct{ err error }

func (c cheapCodec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	call.Called, call.Calling = 12025550101, 12025550102
	call.ID = ctx.RequestURI()
	return c.err
}

func (cheapCodec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, contentType string, status int) {
	return d.CallerID.AppendE164(d.Destination.AppendE164(dst)), "text/xml", 200
}

type ignore struct{}

func (ignore) Record(string, *vn.Call, *vn.Decision, time.Duration)  {}
func (ignore) Message(string, *vn.Message, *vn.Decision, vn.Verdict) {}
func (ignore) Progress(string, *vn.Progress)                         {}

// handler makes a router's handler and a request to it.
func handler(tb testing.TB, lookup func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error), codec Codec, path string) (*Router, *fasthttp.RequestCtx) {
	tb.Helper()
	f := build(tb, lookup, ignore{}, func(c *Config) {
		c.Carriers = []Carrier{{Name: "tel", ID: 7, Codec: codec}}
		c.Resolvers = []Carrier{{Name: "no", Codec: cheapCodec{vn.ErrForbidden}}, {Name: "pbx", ID: 7, Codec: codec}}
	})
	var req fasthttp.Request
	req.SetRequestURI("http://x" + path)
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(&req, nil, quietLogger{zerolog.Nop()})
	return f.Router, ctx
}

func TestResolveAllocatesNothing(t *testing.T) {
	f := func(what string, lookup func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error), codec Codec, path string, status int) {
		t.Helper()
		r, ctx := handler(t, lookup, codec, path)
		n := testing.AllocsPerRun(1000, func() {
			ctx.Response.Reset()
			r.handle(ctx)
		})
		require.Equal(t, status, ctx.Response.StatusCode(), what)
		require.Zero(t, n, what)
	}
	const voice = "/v1/carriers/tel/voice/secret?x=1"
	f("connected", connecting, cheapCodec{}, voice, 200)
	f("refused, then limited", answering(vn.CallerNotAllowed), cheapCodec{}, voice, 200)
	f("by /v1/resolve", connecting, cheapCodec{}, resolvePath, 200)
	f("forged", connecting, cheapCodec{vn.ErrForbidden}, voice, 403)
	f("unknown path", connecting, cheapCodec{}, "/v1/carriers/nobody/voice", 404)
}

func TestLimiterAllocatesNothing(t *testing.T) {
	l := newLimiter(60)
	caller := vn.Number(12025550100)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		caller++
		l.check(time.Now(), caller, 12025550101)
		l.refused(time.Now(), caller, 12025550101)
	}))
}

func BenchmarkResolve(b *testing.B) {
	r, first := handler(b, connecting, cheapCodec{}, "/v1/carriers/tel/voice?x=1")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx := new(fasthttp.RequestCtx)
		ctx.Init(&first.Request, nil, quietLogger{zerolog.Nop()})
		for pb.Next() {
			ctx.Response.Reset()
			r.handle(ctx)
		}
	})
}
