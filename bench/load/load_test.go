package load

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/vn"
)

func table() *world.Table {
	t := &world.Table{IDs: world.Short}
	for order := range 50 {
		for p := range 2 {
			t.Bindings = append(t.Bindings, world.Binding{
				Called: world.VN(2*order + 1 - p), Calling: world.Party(order, p), Destination: world.Party(order, 1-p),
				CallerID: world.VN(2*order + p), Order: uint64(order),
			})
		}
	}
	return t
}

// listen answers as handle says, on a free port, until the test ends.
func listen(t *testing.T, handle fasthttp.RequestHandler) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &fasthttp.Server{Handler: handle}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Shutdown())
		require.NoError(t, <-done)
	})
	return ln.Addr().String()
}

// carrier answers from the table with callmask's own codec; change may spoil the
// decision.
func carrier(t *testing.T, change func(*vn.Decision)) fasthttp.RequestHandler {
	t.Helper()
	codec, err := twilio.New(twilio.Config{AccountSID: world.AccountSID, AuthTokens: []string{world.AuthToken}, PublicURL: world.PublicURL})
	require.NoError(t, err)
	known := map[[2]vn.Number]world.Binding{}
	for _, b := range table().Bindings {
		known[[2]vn.Number{b.Called, b.Calling}] = b
	}
	return func(ctx *fasthttp.RequestCtx) {
		var call vn.Call
		if err := codec.Decode(ctx, nil, &call); err != nil {
			ctx.SetStatusCode(http.StatusForbidden)
			return
		}
		d := vn.Decision{Reason: vn.CallerNotAllowed}
		if b, ok := known[[2]vn.Number{call.Called, call.Calling}]; ok {
			d = vn.Decision{Destination: b.Destination, CallerID: b.CallerID, RingTimeout: 30 * time.Second, MaxDuration: time.Hour}
			change(&d)
		}
		body, contentType, status := codec.AppendAnswer(nil, &call, &d)
		ctx.SetStatusCode(status)
		ctx.SetContentType(contentType)
		ctx.SetBody(body)
	}
}

func do(t *testing.T, spec Spec) Result {
	t.Helper()
	r, err := Prepare(t.Context(), NewCalls(table(), Twilio, 1), spec)
	require.NoError(t, err)
	defer r.Close()
	result, err := r.Go(t.Context())
	require.NoError(t, err)
	return result
}

func TestRightAnswersAreCountedAndTimed(t *testing.T) {
	t.Parallel()
	addr := listen(t, carrier(t, func(*vn.Decision) {}))
	r := do(t, Spec{Addr: addr, Conns: 4, For: 100 * time.Millisecond, Miss: 0.5, Warm: 10 * time.Millisecond})
	require.Positive(t, r.Answered)
	require.Zero(t, r.Wrong, r.Example)
	require.Zero(t, r.Broken+r.Late+r.Busy+r.Unsent)
	require.EqualValues(t, r.Answered, r.Latency.Count)
	require.Positive(t, r.Latency.Percentile(50))
}

func TestSeveralServersShareTheConnections(t *testing.T) {
	t.Parallel()
	right := carrier(t, func(*vn.Decision) {})
	var asked [2]atomic.Int64
	addrs := make([]string, len(asked))
	for i := range asked {
		addrs[i] = listen(t, func(ctx *fasthttp.RequestCtx) { asked[i].Add(1); right(ctx) })
	}
	r := do(t, Spec{Addr: strings.Join(addrs, ","), Conns: 4, For: 100 * time.Millisecond})
	require.Zero(t, r.Wrong, r.Example)
	require.Positive(t, asked[0].Load())
	require.Positive(t, asked[1].Load())
	require.EqualValues(t, r.Answered, asked[0].Load()+asked[1].Load())
}

func TestEveryWrongAnswerIsFound(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*vn.Decision){
		"another number to dial": func(d *vn.Decision) { d.Destination++ },
		"another VN to show":     func(d *vn.Decision) { d.CallerID++ },
		"the real number shown":  func(d *vn.Decision) { d.CallerID = d.Destination },
		"a refusal":              func(d *vn.Decision) { d.Reason = vn.OrderEnded },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := do(t, Spec{Addr: listen(t, carrier(t, change)), Conns: 2, For: 30 * time.Millisecond})
			require.Positive(t, r.Wrong)
			require.Zero(t, r.Answered)
			require.NotRegexp(t, `\+\d`, r.Example)
		})
	}
}

func TestACallThatWaitsForAStalledServerCountsFromWhenItWasDue(t *testing.T) {
	t.Parallel()
	const stall = 200 * time.Millisecond
	var stalled atomic.Bool
	right := carrier(t, func(*vn.Decision) {})
	addr := listen(t, func(ctx *fasthttp.RequestCtx) {
		if stalled.CompareAndSwap(false, true) {
			<-time.After(stall)
		}
		right(ctx)
	})
	r := do(t, Spec{Addr: addr, Conns: 1, Rate: 500, For: 400 * time.Millisecond})
	require.Zero(t, r.Wrong, r.Example)
	// A hundred calls were due during the stall. Counted from their sending, one was slow.
	require.Greater(t, r.Latency.Percentile(75), float64(stall.Microseconds())/4)
	require.Less(t, r.Service.Percentile(75), float64(stall.Microseconds())/4)
}

func TestBusyAnswersAndCallsGivenUpAreCounted(t *testing.T) {
	t.Parallel()
	r := do(t, Spec{Addr: listen(t, func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(http.StatusServiceUnavailable) }), Conns: 1, For: 30 * time.Millisecond})
	require.Positive(t, r.Busy)
	require.EqualValues(t, r.Busy, r.Refused.Count)
	slow := listen(t, func(ctx *fasthttp.RequestCtx) {
		<-time.After(50 * time.Millisecond)
		ctx.SetStatusCode(http.StatusServiceUnavailable)
	})
	require.Positive(t, do(t, Spec{Addr: slow, Conns: 1, Rate: 1000, For: 200 * time.Millisecond, GiveUp: 20 * time.Millisecond}).Unsent)
}

func TestAConnectionThatEndsIsCountedAndMadeAgain(t *testing.T) {
	t.Parallel()
	right := carrier(t, func(*vn.Decision) {})
	var n atomic.Int64
	addr := listen(t, func(ctx *fasthttp.RequestCtx) {
		if n.Add(1)%5 == 0 {
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(net.Conn) {})
			return
		}
		right(ctx)
	})
	r := do(t, Spec{Addr: addr, Conns: 2, For: 100 * time.Millisecond})
	require.Positive(t, r.Broken)
	require.Greater(t, r.Answered, r.Broken)
	require.Zero(t, r.Wrong, r.Example)
}

func TestARunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r, err := Prepare(t.Context(), NewCalls(table(), Twilio, 1),
		Spec{Addr: listen(t, carrier(t, func(*vn.Decision) {})), Conns: 1, For: time.Hour})
	require.NoError(t, err)
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = r.Go(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
