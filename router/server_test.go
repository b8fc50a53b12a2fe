package router

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const voiceTail = "called=%2B12025550101&calling=%2B12025550102"

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, nil)
	f := func(method, path string, status int, allow string) {
		t.Helper()
		a := r.ask(t, method, path, "X-Token", testToken)
		require.Equal(t, status, a.status, "%s %s", method, path)
		require.Equal(t, allow, a.header.Get("Allow"))
		require.Empty(t, a.header.Get("Server"))
		if status >= 400 && method != http.MethodHead {
			require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
			require.True(t, json.Valid([]byte(a.body)), a.body)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		f(method, "/v1/carriers/tel/voice?"+voiceTail, 200, "")
		f(method, "/v1/carriers/tel/voice/"+testToken+"?"+voiceTail, 200, "")
		for _, path := range []string{
			"/", "/v1", "/v1/", "/v1/carriers", "/v1/carriers/", "/v1/carriers/tel", "/v1/carriers/tel/",
			"/v1/carriers/nobody/voice", "/v1/carriers//voice", "/v1/carriers/tel/voice/", "/v1/carriers/tel/voice//",
			"/v1/carriers/tel/voice/" + testToken + "/", "/v1/carriers/tel/voice/" + testToken + "/x",
			"/v1/carriers/tel/mms", "/v1/carriers/tel/Voice", "/v1/carriers/TEL/voice",
			"/v1//carriers/tel/voice", "/v1/carriers/./tel/voice", "/v1/x/../carriers/tel/voice", "/v1/carriers/te%6c/voice",
			"/v1/resolve/", "/V1/resolve", "/metrics", "/debug/pprof/", "/livez",
		} {
			f(method, path+"?"+voiceTail, 404, "")
		}
		f(method, "/v1/carriers/tel/sms?"+voiceTail, 501, "") // testCodec takes calls only
		f(method, "/v1/carriers/tel/status?"+voiceTail, 501, "")
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, http.MethodOptions, "BREW"} {
		f(method, "/v1/carriers/tel/voice?"+voiceTail, 405, "GET, POST")
		f(method, "/v1/carriers/tel/sms", 405, "GET, POST")
		f(method, "/v1/resolve?"+voiceTail, 405, "GET")
		f(method, "/v1/carriers/nobody/voice", 404, "")
	}
	f(http.MethodPost, "/v1/resolve?"+voiceTail, 405, "GET")
	require.EqualValues(t, 4, r.lookup.calls.Load(), "only the answered calls")
}

func TestForgedRequestGetsAnEmpty403AndNoLookup(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, nil)
	for _, path := range []string{callPath("tel", called, calling), "/v1/carriers/tel/sms", "/v1/carriers/tel/voice/wrong?" + voiceTail, "/v1/carriers/tel/voice"} {
		a := r.ask(t, http.MethodPost, path, "X-Token", "wrong")
		require.Equal(t, 403, a.status)
		require.Empty(t, a.body)
		require.Empty(t, a.header.Get("Content-Type"))
	}
	require.Zero(t, r.lookup.calls.Load())
	require.EqualValues(t, 4, r.value(t, "callmask_router_forbidden_total", "carrier", "tel"))
}

func TestResolveWithoutATokenIs401(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, nil)
	for _, token := range []string{"", "wrong", testToken} {
		a := r.ask(t, http.MethodGet, "/v1/resolve?"+voiceTail, "X-Token", token)
		require.Equal(t, 401, a.status)
		require.Equal(t, "Bearer", a.header.Get("WWW-Authenticate"))
		require.Contains(t, a.body, `"code":"unauthorized"`)
	}
	require.Zero(t, r.lookup.calls.Load())
	require.EqualValues(t, 3, r.value(t, "callmask_router_unauthorized_total"))
	a := r.ask(t, http.MethodGet, "/v1/resolve?"+voiceTail, "X-Token", "pbx-token")
	require.Equal(t, 200, a.status)
	require.EqualValues(t, 1, r.value(t, "callmask_router_decisions_total", "carrier", "pbx", "reason", "connected"))
}

func TestMalformedFieldIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, nil)
	f := func(query, field string) {
		t.Helper()
		for path, token := range map[string]string{"/v1/carriers/tel/voice?": testToken, "/v1/resolve?": "api-token"} {
			a := r.ask(t, http.MethodGet, path+query, "X-Token", token)
			require.Equal(t, 400, a.status)
			require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
			var p struct {
				Type, Title, Code, Field, Detail string
				Status                           int
			}
			require.NoError(t, json.Unmarshal([]byte(a.body), &p))
			require.Equal(t, "about:blank", p.Type)
			require.Equal(t, "Bad Request", p.Title)
			require.Equal(t, 400, p.Status)
			require.Equal(t, "invalid", p.Code)
			require.Equal(t, field, p.Field)
			require.Contains(t, p.Detail, field+" ")
			require.NotContains(t, a.body, "2025550")
		}
	}
	f("called=%2B120255501011234567&calling=%2B12025550102", "called")
	f("called=12025550101&calling=%2B12025550102", "called")
	f("called=%2B12025550101&called=%2B12025550103&calling=%2B12025550102", "called")
	f("calling=%2B12025550102", "called")
	f("called=%2B12025550101&calling=+12025550102", "calling")
	f("called=%2B12025550101&calling=%2B1202555010%D9%A2", "calling")
	require.Zero(t, r.lookup.calls.Load())
	require.NotContains(t, r.logs.String(), "2025550")
	require.EqualValues(t, 6, r.value(t, "callmask_router_malformed_total", "carrier", "tel"))
}

// raw sends bytes as they are and returns the whole answer.
func (f *fixture) raw(tb testing.TB, request string) string {
	tb.Helper()
	c := f.dial(tb)
	_, err := io.WriteString(c, request)
	require.NoError(tb, err)
	res, err := io.ReadAll(c)
	require.NoError(tb, err)
	return string(res)
}

func TestBodyOverTheLimitIs413(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, nil)
	const head = "POST /v1/carriers/tel/voice HTTP/1.1\r\nHost: x\r\n"
	over := strings.Repeat("x", DefaultMaxBody+1)
	f := func(request string) {
		t.Helper()
		got := r.raw(t, request)
		require.True(t, strings.HasPrefix(got, "HTTP/1.1 413 "), got)
		require.Contains(t, got, "body_too_large")
		require.NotContains(t, got, "Server:")
	}
	f(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(over), over))
	f(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, 9*len(over), strings.Repeat(over, 9))) // read on, or the close resets the answer away
	f(fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(over), over))

	expect := r.raw(t, fmt.Sprintf("%sContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", head, len(over)))
	require.True(t, strings.HasPrefix(expect, "HTTP/1.1 413 "), expect)

	just := strings.Repeat("x", DefaultMaxBody)
	got := r.raw(t, fmt.Sprintf("%sX-Token: wrong\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", head, len(just), just))
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 403 "), got)
	require.Zero(t, r.lookup.calls.Load())
	require.EqualValues(t, 3, r.value(t, "callmask_router_requests_turned_away_total", "cause", "body_too_large"))
}

func TestNumberInARequestThatCannotBeReadNeverReachesTheLog(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, nil)
	const number = "12025550102"
	f := func(request, status string) {
		t.Helper()
		got := r.raw(t, request)
		require.True(t, strings.HasPrefix(got, "HTTP/1.1 "+status), "%q got %q", request, got)
		require.NotContains(t, got, number)
	}
	const head = "POST /v1/carriers/tel/voice?From=" + number + " HTTP/1.1\r\nHost: x\r\n"
	f("From=%2B"+number+"&To=x\r\n\r\n", "400")
	f("\x16\x03\x01"+number+"\r\n\r\n", "400")
	f(head+number+"\r\n\r\n", "400")
	f(head+"Content-Length: "+number+"x\r\n\r\n", "400")
	f(head+"Content-Length: 5\r\nContent-Length: 6\r\nX: "+number+"\r\n\r\n", "400")
	f(head+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nX: "+number+"\r\n\r\n0\r\n\r\n", "400") // smuggling
	f(head+"Transfer-Encoding: "+number+"\r\n\r\n", "400")
	f(head+"Transfer-Encoding: chunked\r\n\r\n"+number+"zz\r\n", "400")
	f(head+"X-Long: "+strings.Repeat(number, 2000)+"\r\n\r\n", "431")
	f("POST /"+strings.Repeat(number, 2000)+" HTTP/1.1\r\nHost: x\r\n\r\n", "431")
	c := r.dial(t) // disconnected in the middle
	_, err := io.WriteString(c, head+"Content-Length: 999\r\n\r\n"+number)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	r.stop() // every line is written
	logs := r.logs.String()
	require.Contains(t, logs, "error when serving connection", "fasthttp did log")
	require.NotContains(t, logs, number)
	require.NotContains(t, logs, "2025550")
	require.Zero(t, r.lookup.calls.Load())
}

func TestCodecsOwnLoggerDoesNotPrintTheRequest(t *testing.T) {
	t.Parallel()
	codec := testCodec{token: testToken, hook: func(ctx *fasthttp.RequestCtx) {
		ctx.Logger().Printf("called %s", ctx.QueryArgs().Peek("called"))
	}}
	r := serve(t, connecting, func(c *Config) { c.Carriers[0].Codec = codec })
	require.Equal(t, 200, r.call(t, called, calling).status)
	r.stop()
	require.NotContains(t, r.logs.String(), "2025550")
}

func TestSlowClientIsCutByTheReadTimeout(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, func(c *Config) { c.ReadTimeout = 100 * time.Millisecond })
	c := r.dial(t)
	start := time.Now()
	sent := make(chan int)
	go func() { // a byte now and then keeps no request alive
		n := 0
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := c.Write([]byte("G")); err != nil || n > 10_000 {
				break
			}
			n++
		}
		sent <- n
	}()
	res, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, res, "408")
	require.Less(t, time.Since(start), patience)
	require.NoError(t, c.Close())
	require.Positive(t, <-sent)
	require.EqualValues(t, 1, r.value(t, "callmask_router_requests_turned_away_total", "cause", "timeout"))
}

func TestIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, func(c *Config) { c.IdleTimeout = 100 * time.Millisecond })
	got := r.raw(t, "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n") // returns when the router closes
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 404 "), got)
}

func TestPanicOfOneCallLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	codec := testCodec{token: testToken, hook: func(ctx *fasthttp.RequestCtx) {
		if ctx.QueryArgs().Has("boom") {
			panic(fmt.Sprintf("called %s", ctx.QueryArgs().Peek("called")))
		}
	}}
	r := serve(t, connecting, func(c *Config) { c.Carriers[0].Codec = codec })
	a := r.ask(t, http.MethodPost, callPath("tel", called, calling)+"&boom=1", "X-Token", testToken)
	require.Equal(t, 500, a.status)
	require.Empty(t, a.body)
	require.Contains(t, r.call(t, called, calling).body, "connected ")
	require.EqualValues(t, 1, r.value(t, "callmask_router_panics_total"))
	require.Zero(t, r.value(t, "callmask_router_in_flight"))
	require.Contains(t, r.logs.String(), "router.(*Router).serveCarrier")
	require.NotContains(t, r.logs.String(), "2025550")
}

type brokenCodec struct{ testCodec }

func (brokenCodec) Decode(ctx *fasthttp.RequestCtx, _ []byte, _ *vn.Call) error {
	return fmt.Errorf("cannot read %q", ctx.RequestURI())
}

func TestCodecErrorOfAnotherKindIs500AndNotLogged(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, func(c *Config) { c.Carriers[0].Codec = brokenCodec{} })
	a := r.call(t, called, calling)
	require.Equal(t, 500, a.status)
	require.Empty(t, a.body)
	require.Contains(t, r.logs.String(), "a codec failed")
	require.NotContains(t, r.logs.String(), "2025550")
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, func(c *Config) { c.MaxConns = 2 })
	for range 2 {
		r.dial(t)
	}
	require.Eventually(t, func() bool { return r.value(t, "callmask_router_open_connections") == 2 }, patience, time.Millisecond)
	got, err := io.ReadAll(r.dial(t))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(got), "HTTP/1.1 503 "), string(got))
	require.NotContains(t, string(got), "Server:")
}

func TestConnectionsOfOneAddressAreBounded(t *testing.T) {
	t.Parallel()
	r := serve(t, connecting, func(c *Config) { c.MaxConnsPerIP = 2 })
	first := r.dial(t)
	r.dial(t)
	require.Eventually(t, func() bool { return r.value(t, "callmask_router_open_connections") == 2 }, patience, time.Millisecond)
	_, err := io.ReadAll(r.dial(t)) // closed at once, without an answer
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return r.value(t, "callmask_router_open_connections") == 1 }, patience, time.Millisecond)
	require.Equal(t, 200, r.call(t, called, calling).status, "there is room again")
}

func TestWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	f := func(want string, edit func(*Config)) {
		t.Helper()
		var cfg Config
		edit(&cfg)
		_, err := New(cfg, &lookupFunc{}, nil, prometheus.NewRegistry(), zerolog.Nop())
		require.ErrorContains(t, err, want)
	}
	codec := testCodec{}
	f("HeaderBuffer", func(c *Config) { c.HeaderBuffer = 100 })
	f("MaxBody", func(c *Config) { c.MaxBody = -1 })
	f("MaxConns", func(c *Config) { c.MaxConns = -1 })
	f("MaxConnsPerIP", func(c *Config) { c.MaxConnsPerIP = -1 })
	f("ReadTimeout", func(c *Config) { c.ReadTimeout = -1 })
	f("WriteTimeout", func(c *Config) { c.WriteTimeout = -1 })
	f("IdleTimeout", func(c *Config) { c.IdleTimeout = -1 })
	f("DrainDelay", func(c *Config) { c.DrainDelay = -1 })
	f("DrainTimeout", func(c *Config) { c.DrainTimeout = -1 })
	f("RingTimeout", func(c *Config) { c.RingTimeout = time.Millisecond })
	f("MaxDuration", func(c *Config) { c.MaxDuration = time.Millisecond })
	f("Budget", func(c *Config) { c.Budget = time.Microsecond })
	f("RefusalsPerMinute", func(c *Config) { c.RefusalsPerMinute = 1 << 40 })
	f("Carriers[0].Name", func(c *Config) { c.Carriers = []Carrier{{Codec: codec}} })
	f("Carriers[0].Codec", func(c *Config) { c.Carriers = []Carrier{{Name: "tel"}} })
	f("Carriers[1].Name", func(c *Config) { c.Carriers = []Carrier{{Name: "tel", Codec: codec}, {Name: "tel", Codec: codec}} })
	f("Resolvers[0].Name", func(c *Config) { c.Resolvers = []Carrier{{Name: "A B", Codec: codec}} })

	_, err := New(Config{}, nil, nil, prometheus.NewRegistry(), zerolog.Nop())
	require.ErrorContains(t, err, "Lookup")
	reg := prometheus.NewRegistry()
	_, err = New(Config{}, &lookupFunc{}, nil, reg, zerolog.Nop())
	require.NoError(t, err)
	_, err = New(Config{}, &lookupFunc{}, nil, reg, zerolog.Nop())
	require.ErrorContains(t, err, "register metrics")
}
