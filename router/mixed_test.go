package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// TestAnswerOutlivesTheNextCall pins that an answer not yet written to its caller
// shares nothing with the state that the next call gets from the pool.
func TestAnswerOutlivesTheNextCall(t *testing.T) {
	t.Parallel()
	f := build(t, connecting, nil, nil)
	handle := func(called, calling vn.Number) *fasthttp.RequestCtx {
		var req fasthttp.Request
		req.SetRequestURI("http://x" + callPath("tel", called.E164(), calling.E164()))
		req.Header.Set("X-Token", testToken)
		ctx := new(fasthttp.RequestCtx)
		ctx.Init(&req, nil, quietLogger{zerolog.Nop()})
		f.handle(ctx)
		return ctx
	}
	for i := range vn.Number(20) { // the pool may drop a state now and then
		first := handle(12025550101, 447700900100+i)
		second := handle(12025550102, 447700900200+i)
		require.Contains(t, string(first.Response.Body()), destination(12025550101, 447700900100+i).E164())
		require.Contains(t, string(second.Response.Body()), destination(12025550102, 447700900200+i).E164())
	}
}

// TestAnswersAreNeverMixedUp pins that of many calls at once, with answers of many
// kinds and lengths, each gets the answer to its own question: buffers, decisions
// and budgets are used again, never shared.
func TestAnswersAreNeverMixedUp(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	// What becomes of a call follows from its numbers alone.
	outcome := func(called, calling vn.Number) (vn.Reason, string) {
		order := fmt.Sprintf("order-%0*d", 1+(called*7+calling)%50, (called*31+calling)%10)
		return vn.Reason((called + calling) % 4), order
	}
	f := serve(t, func(_ context.Context, called, calling vn.Number, d *vn.Decision) (byte, error) {
		var order string
		d.Reason, order = outcome(called, calling)
		switch d.Reason {
		case vn.Connected:
			d.Destination, d.CallerID = destination(called, calling), called
			d.OrderID = append(d.OrderID[:0], order...)
		case vn.OrderEnded:
			d.OrderID = append(d.OrderID[:0], order...)
		case vn.NumberNotAssigned, vn.CallerNotAllowed, vn.CallerWithheld, vn.RateLimited, vn.Unavailable:
		}
		return 7, nil
	}, func(c *Config) { c.RefusalsPerMinute = -1 })

	const callers, each = 24, 60
	var wg sync.WaitGroup
	for worker := range callers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(worker)))
			for i := range each {
				called, calling := vn.Number(12025550100+rnd.IntN(100)), vn.Number(447700900000+rnd.IntN(1000))
				id := fmt.Sprintf("id-%d-%d", worker, i)
				from := calling.E164()
				reason, order := outcome(called, calling)
				if rnd.IntN(10) == 0 {
					from, reason = "anonymous", vn.CallerWithheld
				}
				want := reason.String() + " +0 +0  " + id + " 0 0"
				switch reason {
				case vn.Connected:
					want = "connected " + destination(called, calling).E164() + " " + called.E164() + " " + order + " " + id + " 30 3600"
				case vn.OrderEnded:
					want = "order_ended +0 +0 " + order + " " + id + " 0 0"
				case vn.NumberNotAssigned, vn.CallerNotAllowed, vn.CallerWithheld, vn.RateLimited, vn.Unavailable:
				}
				path := callPath("tel", called.E164(), from) + "&ignored=1"
				a := f.ask(t, http.MethodPost, path[:len(path)-len("&id=call-1&ignored=1")]+"&id="+id, "X-Token", testToken)
				if a.status != 200 || a.body != want {
					t.Errorf("call %s: got %d %q, want %q", id, a.status, a.body, want)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, f.value(t, "callmask_router_in_flight"))
}
