package router

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const (
	called  = "+12025550101"
	calling = "+12025550102"
)

func TestCallIsConnectedWithTimesAndBothNumbers(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, nil)
	a := f.call(t, called, calling)
	require.Equal(t, 200, a.status)
	require.Equal(t, "text/x-test", a.header.Get("Content-Type"))
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	to := destination(12025550101, 12025550102).E164()
	require.Equal(t, "connected "+to+" "+called+" order-1 call-1 30 3600", a.body)
	require.EqualValues(t, 1, f.lookup.calls.Load())
	require.EqualValues(t, 1, f.value(t, "callmask_router_decisions_total", "carrier", "tel", "reason", "connected"))
	require.EqualValues(t, 1, f.value(t, "callmask_router_decision_seconds"))
	require.Zero(t, f.value(t, "callmask_router_in_flight"))
}

func TestEveryReasonReachesTheCarrierWithoutNumbers(t *testing.T) {
	t.Parallel()
	for _, reason := range []vn.Reason{vn.NumberNotAssigned, vn.CallerNotAllowed, vn.OrderEnded} {
		f := serve(t, func(_ context.Context, _, _ vn.Number, d *vn.Decision) (byte, error) {
			d.Reason, d.Destination, d.CallerID = reason, 12025550111, 12025550112 // left behind by a bad Lookup
			return 7, nil
		}, nil)
		a := f.call(t, called, calling)
		require.Equal(t, 200, a.status)
		require.Equal(t, reason.String()+" +0 +0  call-1 0 0", a.body)
		require.EqualValues(t, 1, f.value(t, "callmask_router_decisions_total", "carrier", "tel", "reason", reason.String()))
	}
}

func TestWithheldCallerAndOddNumberAskNoLookup(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, nil)
	require.Contains(t, f.call(t, called, "anonymous").body, "caller_withheld ")
	require.Contains(t, f.call(t, "odd", calling).body, "number_not_assigned ")
	require.Zero(t, f.lookup.calls.Load())
}

func TestNumberOfAnotherCarrierDoesNotExist(t *testing.T) {
	t.Parallel()
	for _, reason := range []vn.Reason{vn.Connected, vn.CallerNotAllowed, vn.OrderEnded} {
		f := serve(t, func(ctx context.Context, called, calling vn.Number, d *vn.Decision) (byte, error) {
			carrier, err := connecting(ctx, called, calling, d)
			d.Reason = reason
			return carrier, err
		}, nil)
		a := f.ask(t, http.MethodPost, callPath("other", called, calling), "X-Token", testToken)
		require.Equal(t, "number_not_assigned +0 +0  call-1 0 0", a.body)
		resolve := strings.Replace(callPath("x", called, calling), "/v1/carriers/x/voice", "/v1/resolve", 1)
		require.Contains(t, f.ask(t, http.MethodGet, resolve, "X-Token", "api-token").body, reason.String())
		require.Contains(t, f.ask(t, http.MethodGet, resolve, "X-Token", "pbx-token").body, reason.String())
	}
}

func TestLookupOutageIsAnsweredWithinTheBudget(t *testing.T) {
	t.Parallel()
	const budget = 50 * time.Millisecond
	f := serve(t, func(ctx context.Context, _, _ vn.Number, d *vn.Decision) (byte, error) {
		if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
			t.Error("a look-up begins with a deadline ahead")
		}
		<-ctx.Done()
		d.Reason, d.Destination, d.CallerID = vn.Connected, 12025550111, 12025550112
		return 7, ctx.Err()
	}, func(c *Config) { c.Budget = budget })
	for range 3 { // a budget that ran out is not used again
		start := time.Now()
		a := f.call(t, called, calling)
		require.GreaterOrEqual(t, time.Since(start), budget)
		require.Less(t, time.Since(start), budget+2*time.Second)
		require.Equal(t, 503, a.status)
		require.Equal(t, "unavailable +0 +0  call-1 0 0", a.body)
	}
	require.EqualValues(t, 3, f.lookup.calls.Load(), "no time was left to ask again")
	require.EqualValues(t, 3, f.value(t, "callmask_router_lookup_errors_total"))
	require.NotContains(t, f.logs.String(), "2025550")
}

func TestLookupThatFailsAtOnceIsAskedOnceMore(t *testing.T) {
	t.Parallel()
	var broken atomic.Int64
	broken.Store(1)
	f := serve(t, func(ctx context.Context, called, calling vn.Number, d *vn.Decision) (byte, error) {
		if broken.Add(-1) >= 0 {
			d.Reason, d.OrderID = vn.OrderEnded, append(d.OrderID, "left-over"...)
			return 0, errors.New("connection reset")
		}
		return connecting(ctx, called, calling, d)
	}, nil)
	require.Contains(t, f.call(t, called, calling).body, "connected ")
	require.EqualValues(t, 2, f.lookup.calls.Load())
	broken.Store(5)
	require.Contains(t, f.call(t, called, calling).body, "unavailable ")
	require.EqualValues(t, 4, f.lookup.calls.Load(), "once more, not for ever")
	require.EqualValues(t, 2, f.value(t, "callmask_router_lookup_retries_total"))
}

func TestConnectionWithoutBothNumbersIsRefused(t *testing.T) {
	t.Parallel()
	f := func(destination, callerID vn.Number, reason vn.Reason) {
		t.Helper()
		r := serve(t, func(_ context.Context, _, _ vn.Number, d *vn.Decision) (byte, error) {
			d.Reason, d.Destination, d.CallerID = reason, destination, callerID
			return 7, nil
		}, nil)
		require.Contains(t, r.call(t, called, calling).body, "unavailable +0 +0 ")
	}
	f(12025550111, 0, vn.Connected)
	f(0, 12025550111, vn.Connected)
	f(12025550111, 12025550112, vn.Unavailable)
	f(12025550111, 12025550112, vn.Reasons+3)
}

type recorded struct {
	carrier string
	call    vn.Call
	d       vn.Decision
	took    time.Duration
}

type recorderFunc func(recorded)

func (f recorderFunc) Record(carrier string, call *vn.Call, d *vn.Decision, took time.Duration) {
	r := recorded{carrier, *call, *d, took}
	r.call.ID = append([]byte(nil), call.ID...)
	r.d.OrderID = append([]byte(nil), d.OrderID...)
	f(r)
}

func (recorderFunc) Message(string, *vn.Message, *vn.Decision, vn.Verdict) {}
func (recorderFunc) Progress(string, *vn.Progress)                         {}

func TestRecorderIsToldOfEveryDecision(t *testing.T) {
	t.Parallel()
	got := make(chan recorded, 8)
	f := build(t, connecting, recorderFunc(func(r recorded) { got <- r }), nil)
	f.run(t)
	f.call(t, called, calling)
	f.call(t, called, "anonymous")
	f.ask(t, http.MethodPost, callPath("tel", called, calling)) // forbidden: nothing was decided
	f.stop()
	close(got)
	first := <-got
	require.Equal(t, "tel", first.carrier)
	require.Equal(t, "call-1", string(first.call.ID))
	require.Equal(t, vn.Number(12025550101), first.call.Called)
	require.Equal(t, vn.Connected, first.d.Reason)
	require.Equal(t, "order-1", string(first.d.OrderID))
	require.Positive(t, first.took)
	require.Equal(t, vn.CallerWithheld, (<-got).d.Reason)
	_, more := <-got
	require.False(t, more)
}

func TestTooManyRefusedCallsAreRefusedUnseen(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	f := build(t, answering(vn.CallerNotAllowed), nil, func(c *Config) { c.RefusalsPerMinute = 3 })
	f.limiter.clock = func(time.Time) int64 { return now.Load() }
	f.run(t)
	const other = "+12025550103"
	for range 3 {
		require.Contains(t, f.call(t, called, calling).body, "caller_not_allowed")
	}
	require.Contains(t, f.call(t, called, calling).body, "rate_limited")
	require.EqualValues(t, 1, f.value(t, "callmask_router_limited_total", "by", "caller"))
	require.Contains(t, f.call(t, "+12025550104", calling).body, "rate_limited", "the caller, whatever it dials")
	require.Contains(t, f.call(t, called, other).body, "rate_limited", "the number, whoever dials it")
	require.EqualValues(t, 1, f.value(t, "callmask_router_limited_total", "by", "number"))
	require.Contains(t, f.call(t, called, "anonymous").body, "rate_limited")
	require.EqualValues(t, 3, f.lookup.calls.Load())

	resolve := strings.Replace(callPath("x", called, calling), "/v1/carriers/x/voice", "/v1/resolve", 1)
	for range 9 { // the API token is exempt and spends nothing
		require.Contains(t, f.ask(t, http.MethodGet, resolve, "X-Token", "api-token").body, "caller_not_allowed")
	}
	require.Contains(t, f.ask(t, http.MethodGet, resolve, "X-Token", "pbx-token").body, "rate_limited")

	now.Add(int64(20 * time.Second)) // a token of three is back
	require.Contains(t, f.call(t, called, calling).body, "caller_not_allowed")
	require.Contains(t, f.call(t, called, calling).body, "rate_limited")
}

func TestConnectedCallsAreNeverLimited(t *testing.T) {
	t.Parallel()
	f := serve(t, connecting, func(c *Config) { c.RefusalsPerMinute = 1 })
	for range 20 {
		require.Contains(t, f.call(t, called, calling).body, "connected")
		require.Contains(t, f.call(t, called, "anonymous").body, "caller_withheld", "tells nothing, costs nothing")
	}
}
