package conformance

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// TestEveryCarrierPutsCallsThroughAlike holds every kind of carrier against the same calls.
func TestEveryCarrierPutsCallsThroughAlike(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, r *rig) {
		t.Helper()
		t.Run("both ways", r.bothWays)
		t.Run("strangers and the like", r.refusals)
		t.Run("too many refusals", r.tooMany)
		t.Run("withheld", r.withheldCallers)
		t.Run("not authentic", r.notAuthentic)
		t.Run("two keys", r.twoKeys)
		t.Run("replays", r.replays)
		t.Run("twice", r.twice)
		t.Run("hostile values", r.hostileCalls)
		t.Run("the wrong door", r.wrongDoor)
		t.Run("Redis away", r.redisAway)
	})
}

// connected makes the customer's call to the agent and checks that it is put through.
func (r *rig) connected(t *testing.T, c ringing) (outcome, answer) {
	t.Helper()
	o, a := r.call(t, c)
	r.requireConnected(t, &o, &a, r.customer, r.agent, r.live.ofCustomer)
	return o, a
}

// requireConnected checks an answer to caller: destination is dialled and shown is what it
// sees.
func (r *rig) requireConnected(t *testing.T, o *outcome, a *answer, caller, destination, shown vn.Number) {
	t.Helper()
	require.True(t, o.connect, "the call is not put through: %s", a)
	requireNumber(t, destination, o.destination, "the number dialled")
	requireNumber(t, shown, o.callerID, "the number shown")
	require.Equal(t, 1, times(a.body, destination), "the number dialled stands in one place of %s", a)
	require.Zero(t, times(a.body, caller), "the caller's own number stands in %s", a)
	if o.callback != "" || o.orderID != "" {
		require.Equal(t, r.live.id, o.orderID)
	}
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	for key, values := range a.header {
		for _, n := range []vn.Number{r.customer, r.agent} {
			require.Zero(t, times(strings.Join(values, " "), n), "a real number is in the header %s", key)
		}
	}
}

func (r *rig) bothWays(t *testing.T) {
	r.told.take()
	r.connected(t, r.good())
	o, a := r.call(t, r.ringing(r.agent.E164(), r.live.ofCustomer.E164()))
	r.requireConnected(t, &o, &a, r.agent, r.customer, r.live.ofAgent)
	calls := r.told.take().calls
	require.Len(t, calls, 2)
	for _, c := range calls {
		require.Equal(t, toldCall{c.id, r.live.id, vn.Connected}, c)
		require.NotEmpty(t, c.id)
	}
	require.NotEqual(t, calls[0].id, calls[1].id, "two calls have two ids")
}

// refused makes a call and checks that it is refused in the carrier's own words, for this
// reason.
func (r *rig) refused(t *testing.T, c ringing, reason vn.Reason) answer {
	t.Helper()
	r.told.take()
	o, a := r.call(t, c)
	require.True(t, o.refused, "the call is not refused: %s", &a)
	for _, n := range []vn.Number{r.customer, r.agent, r.stranger} {
		require.Zero(t, times(a.body, n), "a real number is in the refusal %s", &a)
	}
	calls := r.told.take().calls
	require.Len(t, calls, 1)
	require.Equal(t, reason, calls[0].reason)
	return a
}

// refusals holds that whoever is not a party of the VN's live order is refused, and cannot
// tell why.
func (r *rig) refusals(t *testing.T) {
	agent := r.live.ofAgent.E164()
	stranger := r.refused(t, r.ringing(r.stranger.E164(), agent), vn.CallerNotAllowed)
	for what, c := range map[string]struct {
		calling, called vn.Number
		reason          vn.Reason
	}{
		"a number of nobody":            {r.customer, r.unassigned, vn.NumberNotAssigned},
		"an order that ended":           {r.customer, r.ended.ofAgent, vn.OrderEnded},
		"a stranger to it":              {r.stranger, r.ended.ofAgent, vn.NumberNotAssigned},
		"another carrier's number":      {r.customer, r.foreign.ofAgent, vn.NumberNotAssigned},
		"a stranger to that":            {r.stranger, r.foreign.ofAgent, vn.NumberNotAssigned},
		"one's own virtual number":      {r.customer, r.live.ofCustomer, vn.CallerNotAllowed},
		"a party by its virtual number": {r.live.ofCustomer, r.live.ofAgent, vn.CallerNotAllowed},
		"a real number":                 {r.customer, r.agent, vn.NumberNotAssigned},
	} {
		a := r.refused(t, r.ringing(c.calling.E164(), c.called.E164()), c.reason)
		if !r.tells {
			require.True(t, a.same(&stranger), "%s is told from a stranger: %s and %s", what, &a, &stranger)
		}
	}
}

// tooMany holds that a caller who is refused too often is refused without a look, in
// the same words.
func (r *rig) tooMany(t *testing.T) {
	limited := r.at(r.serve(t, patience, 1))
	c := limited.ringing(r.stranger.E164(), r.live.ofAgent.E164())
	first := limited.refused(t, c, vn.CallerNotAllowed)
	before := r.reads(t)
	second := limited.refused(t, limited.ringing(c.calling, c.called), vn.RateLimited)
	require.Equal(t, before, r.reads(t), "no look")
	if !r.tells {
		require.True(t, first.same(&second), "the limit is told: %s and %s", &first, &second)
	}
}

func (r *rig) withheldCallers(t *testing.T) {
	stranger := r.refused(t, r.ringing(r.stranger.E164(), r.live.ofAgent.E164()), vn.CallerNotAllowed)
	require.NotEmpty(t, r.phone.withheld())
	before := r.reads(t)
	for _, marker := range r.phone.withheld() {
		a := r.refused(t, r.ringing(marker, r.live.ofAgent.E164()), vn.CallerWithheld)
		if !r.tells {
			require.True(t, a.same(&stranger), "withheld as %q is told from a stranger: %s and %s", marker, &a, &stranger)
		}
	}
	require.Equal(t, before, r.reads(t), "no look")
}

// requireForbidden makes a request that is not authentic: nothing is told, and nothing
// is read.
func (r *rig) requireForbidden(t *testing.T, req *http.Request, what string) {
	t.Helper()
	r.told.take()
	before := r.reads(t)
	a := r.send(t, req)
	require.Equal(t, r.forbidden(), a.status, "%s: %s", what, &a)
	if !r.resolver {
		require.Empty(t, a.body, what)
	}
	require.Zero(t, times(a.body, r.agent), what)
	require.Equal(t, before, r.reads(t), "%s: no look", what)
	require.Equal(t, taken{}, r.told.take(), what)
}

func (r *rig) notAuthentic(t *testing.T) {
	wrong, changed := r.good(), r.good()
	wrong.key, changed.tampered = -1, true
	r.requireForbidden(t, r.phone.ring(wrong), "a key that is not ours")
	r.requireForbidden(t, r.phone.ring(changed), "one byte changed")
	r.requireForbidden(t, r.unsigned(r.phone.ring(r.good())), "no signature")
	r.connected(t, r.good())
}

// unsigned leaves out what makes a request authentic: every header but the type of the
// body, or the secret in the path.
func (r *rig) unsigned(req *http.Request) *http.Request {
	if r.secretPath {
		req.URL.Path = req.URL.Path[:strings.LastIndexByte(req.URL.Path, '/')]
		return req
	}
	req.Header = http.Header{"Content-Type": req.Header["Content-Type"]}
	return req
}

func (r *rig) twoKeys(t *testing.T) {
	for key := range 2 {
		c := r.good()
		c.key = key
		r.connected(t, c)
	}
}

// replays sends the very same request again: within the window it gets the same answer
// and changes nothing, after it it is no longer authentic.
func (r *rig) replays(t *testing.T) {
	before := r.state(t)
	req := r.phone.ring(r.good())
	first := r.send(t, req)
	for range 1000 {
		again := r.send(t, req)
		require.True(t, again.same(&first), "a replay gets %s instead of %s", &again, &first)
	}
	require.Equal(t, before, r.state(t))
	if r.phone.window() == 0 {
		return
	}
	for what, at := range map[string]time.Duration{
		"within the window":         -r.phone.window() + time.Minute,
		"before the window's start": r.phone.window() - time.Minute,
	} {
		c := r.good()
		c.at = c.at.Add(at)
		o, a := r.call(t, c)
		require.True(t, o.connect, "%s: %s", what, &a)
	}
	for what, at := range map[string]time.Duration{"after the window": -r.phone.window() - 5*time.Second, "from the future": r.phone.window() + time.Minute} {
		c := r.good()
		c.at = c.at.Add(at)
		r.requireForbidden(t, r.phone.ring(c), what)
	}
}

// twice announces a call a second time, as carriers do that missed the answer.
func (r *rig) twice(t *testing.T) {
	before := r.state(t)
	r.told.take()
	c := r.good()
	_, first := r.connected(t, c)
	_, second := r.connected(t, c)
	require.True(t, first.same(&second), "the second time %s instead of %s", &second, &first)
	calls := r.told.take().calls
	require.Len(t, calls, 2)
	require.Equal(t, calls[0], calls[1])
	require.Equal(t, before, r.state(t))
}

// hostileCalls fills every field that the router does not need.
func (r *rig) hostileCalls(t *testing.T) {
	_, calm := r.connected(t, r.good())
	for i, value := range hostile() {
		c := r.good()
		c.hostile = value
		_, a := r.connected(t, c)
		require.True(t, a.same(&calm), "value %d changes the answer: %s", i, &a)
		c = r.ringing(r.stranger.E164(), r.live.ofAgent.E164())
		c.hostile = value
		r.refused(t, c, vn.CallerNotAllowed)
	}
}

// wrongDoor asks where nobody is, and in a way that is not asked.
func (r *rig) wrongDoor(t *testing.T) {
	r.told.take()
	for what, req := range map[string]*http.Request{"PUT": r.phone.ring(r.good()), "DELETE": r.phone.ring(r.good())} {
		req.Method = what
		a := r.send(t, req)
		require.Equal(t, http.StatusMethodNotAllowed, a.status, what)
		require.NotEmpty(t, a.header.Get("Allow"))
	}
	if r.resolver {
		return // its door has no name on it
	}
	for _, path := range []string{"/v1/carriers/nobody/voice", "/v1/carriers/" + another + "/voice", "/v1/carriers/" + name + "/voices"} {
		c := r.good()
		c.path = path
		a := r.send(t, r.phone.ring(c))
		require.Equal(t, http.StatusNotFound, a.status, path)
	}
	require.Equal(t, taken{}, r.told.take())
}

// redisAway holds that without Redis the carrier gets, soon, what makes it use its
// fallback, and that calls go on when Redis is back.
func (r *rig) redisAway(t *testing.T) {
	hasty := r.at(r.serve(t, 100*time.Millisecond, -1)) // the default of CALLMASK_RESOLVE_TIMEOUT
	fallsBack := func(what string) {
		hasty.told.take()
		o, a := hasty.call(t, hasty.good())
		require.True(t, o.fallback, "%s: %s", what, &a)
		require.Zero(t, times(a.body, r.agent), what)
		require.Less(t, a.took, promptly, what)
		calls := hasty.told.take().calls
		require.Len(t, calls, 1)
		require.Equal(t, vn.Unavailable, calls[0].reason)
	}
	goesOn := func(what string) {
		end, again := time.After(patience), time.NewTicker(10*time.Millisecond)
		defer again.Stop()
		for {
			if o, _ := hasty.call(t, hasty.good()); o.connect {
				return
			}
			select {
			case <-end:
				require.Fail(t, "calls do not go on", what)
			case <-again.C:
			}
		}
	}
	goesOn("before")
	r.server.Pause(t)
	fallsBack("Redis takes requests and answers none")
	wrong := hasty.good()
	wrong.key = -1
	a := hasty.send(t, r.phone.ring(wrong))
	require.Equal(t, r.forbidden(), a.status, "what is not authentic is refused without Redis")
	hasty.withoutRedis(t)
	r.server.Resume(t)
	goesOn("after a pause")
	r.server.Kill()
	fallsBack("Redis is gone")
	r.server.Restart(t)
	goesOn("after a restart")
}

// withoutRedis sends what else a carrier may send while there is no Redis.
func (r *rig) withoutRedis(t *testing.T) {
	t.Helper()
	if _, ok := r.phone.(texter); ok {
		a := r.send(t, r.text(t, r.writing("hello")))
		require.Equal(t, http.StatusServiceUnavailable, a.status, "a message: %s", &a)
		require.Less(t, a.took, promptly)
	}
	if _, ok := r.phone.(watcher); ok {
		a := r.send(t, r.progress(t, r.telling("completed", "")))
		require.Equal(t, http.StatusOK, a.status, "call progress needs no Redis: %s", &a)
	}
}
