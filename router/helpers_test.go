package router

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/vn"
)

// patience is how long a condition may take on a loaded machine.
const patience = 10 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"), // one per process, for ever
	)
}

// testCodec reads called, calling and id from the query, and the token from a
// header or from the path. It answers in one line of text.
type testCodec struct {
	token string
	hook  func(*fasthttp.RequestCtx) // called in Decode, after the token's check
}

func (c testCodec) Decode(ctx *fasthttp.RequestCtx, secret []byte, call *vn.Call) error {
	if string(secret) != c.token && string(ctx.Request.Header.Peek("X-Token")) != c.token {
		return vn.ErrForbidden
	}
	if c.hook != nil {
		c.hook(ctx)
	}
	seen := 0
	for key := range ctx.QueryArgs().All() {
		if string(key) == "called" {
			seen++
		}
	}
	if seen != 1 {
		return &vn.FieldError{Field: "called", Problem: "must be there exactly once"}
	}
	called := ctx.QueryArgs().Peek("called")
	var ok bool
	if string(called) != "odd" {
		if call.Called, ok = vn.ParseE164(called); !ok {
			return &vn.FieldError{Field: "called", Problem: "is not a number"}
		}
	}
	if calling := ctx.QueryArgs().Peek("calling"); string(calling) != "anonymous" {
		if call.Calling, ok = vn.ParseE164(calling); !ok {
			return &vn.FieldError{Field: "calling", Problem: "is not a number"}
		}
	}
	call.ID = ctx.QueryArgs().Peek("id")
	return nil
}

func (testCodec) AppendAnswer(dst []byte, call *vn.Call, d *vn.Decision) (body []byte, contentType string, status int) {
	dst = append(append(dst, d.Reason.String()...), ' ')
	dst = append(d.Destination.AppendE164(dst), ' ')
	dst = append(d.CallerID.AppendE164(dst), ' ')
	dst = append(append(dst, d.OrderID...), ' ')
	dst = append(append(dst, call.ID...), ' ')
	dst = strconv.AppendInt(dst, int64(d.RingTimeout/time.Second), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(d.MaxDuration/time.Second), 10)
	status = 200
	if d.Reason == vn.Unavailable {
		status = 503
	}
	return dst, "text/x-test", status
}

// lookupFunc is a Lookup that counts its calls.
type lookupFunc struct {
	f     func(ctx context.Context, called, calling vn.Number, d *vn.Decision) (byte, error)
	calls atomic.Int64
}

func (l *lookupFunc) Lookup(ctx context.Context, called, calling vn.Number, d *vn.Decision) (byte, error) {
	l.calls.Add(1)
	return l.f(ctx, called, calling, d)
}

// connecting connects every call, on carrier 7, to a number made of both.
func connecting(_ context.Context, called, calling vn.Number, d *vn.Decision) (byte, error) {
	d.Reason = vn.Connected
	d.Destination, d.CallerID = destination(called, calling), called
	d.OrderID = append(d.OrderID[:0], "order-1"...)
	return 7, nil
}

func destination(called, calling vn.Number) vn.Number { return 12025550000 + (3*called+calling)%1000 }

func answering(reason vn.Reason) func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error) {
	return func(_ context.Context, _, _ vn.Number, d *vn.Decision) (byte, error) {
		d.Reason = reason
		return 7, nil
	}
}

// safeBuffer takes log lines from several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type fixture struct {
	*Router

	lookup *lookupFunc
	reg    *prometheus.Registry
	logs   *safeBuffer
	client *http.Client
	stop   func() // ends the router and waits for it; a second call does nothing
}

const testToken = "test-token"

// build makes a router with carrier tel (7), carrier other (8), a resolver pbx (7)
// and a resolver api for every carrier; edit may be nil.
func build(tb testing.TB, lookup func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error), recorder Recorder, edit func(*Config)) *fixture {
	tb.Helper()
	f := &fixture{lookup: &lookupFunc{f: lookup}, reg: prometheus.NewRegistry(), logs: &safeBuffer{}, stop: func() {}}
	cfg := Config{
		Addr:   "127.0.0.1:0",
		Budget: 5 * time.Second, // only the tests of the budget hurry
		Carriers: []Carrier{
			{Name: "tel", ID: 7, Codec: testCodec{token: testToken}},
			{Name: "other", ID: 8, Codec: testCodec{token: testToken}},
		},
		Resolvers: []Carrier{
			{Name: "pbx", ID: 7, Codec: testCodec{token: "pbx-token"}},
			{Name: "api", Any: true, Codec: testCodec{token: "api-token"}},
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	f.Router, err = New(cfg, f.lookup, recorder, f.reg, zerolog.New(f.logs))
	require.NoError(tb, err)
	return f
}

// serve is build, with the router serving on a free port.
func serve(tb testing.TB, lookup func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error), edit func(*Config)) *fixture {
	tb.Helper()
	f := build(tb, lookup, nil, edit)
	f.run(tb)
	return f
}

func (f *fixture) run(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	f.client = &http.Client{Transport: transport, Timeout: patience}
	f.stop = sync.OnceFunc(func() {
		cancel()
		transport.CloseIdleConnections()
		select {
		case err := <-ended:
			require.NoError(tb, err)
		case <-time.After(2 * patience):
			require.Fail(tb, "the router did not end")
		}
	})
	tb.Cleanup(func() { f.stop() })
	select {
	case <-f.Listening():
	case <-time.After(patience):
		require.Fail(tb, "the router does not listen")
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request; headers are key, value, key, value and so on.
func (f *fixture) ask(tb testing.TB, method, path string, headers ...string) answer {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, "http://"+f.Addr().String()+path, http.NoBody)
	require.NoError(tb, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := f.client.Do(req)
	require.NoError(tb, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(tb, err)
	return answer{res.StatusCode, res.Header, string(body)}
}

// call places a call through carrier tel.
func (f *fixture) call(tb testing.TB, called, calling string) answer {
	tb.Helper()
	return f.ask(tb, http.MethodPost, callPath("tel", called, calling), "X-Token", testToken)
}

func callPath(carrier, called, calling string) string {
	return "/v1/carriers/" + carrier + "/voice?called=" + strings.Replace(called, "+", "%2B", 1) +
		"&calling=" + strings.Replace(calling, "+", "%2B", 1) + "&id=call-1"
}

// dial opens a plain connection to the router.
func (f *fixture) dial(tb testing.TB) net.Conn {
	tb.Helper()
	var d net.Dialer
	c, err := d.DialContext(tb.Context(), "tcp", f.Addr().String())
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = c.Close() })
	require.NoError(tb, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// value reads one metric, its labels written as name{a="b"}, 0 when there is none.
func (f *fixture) value(tb testing.TB, name string, labels ...string) float64 {
	tb.Helper()
	families, err := f.reg.Gather()
	require.NoError(tb, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	metric:
		for _, m := range family.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue metric
				}
			}
			switch {
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				return m.GetGauge().GetValue()
			default:
				return float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}
