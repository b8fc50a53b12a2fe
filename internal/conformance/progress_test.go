package conformance

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// TestEveryCarrierTellsOfCallsAlike holds every kind of carrier that tells what became of
// a call against the same callbacks, and the others to saying that they do not.
func TestEveryCarrierTellsOfCallsAlike(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, r *rig) {
		t.Helper()
		if _, ok := r.phone.(watcher); !ok {
			r.notSupported(t, "status")
			return
		}
		t.Run("every status", r.everyStatus)
		t.Run("not authentic", r.forgedProgress)
		t.Run("twice", r.progressTwice)
		t.Run("hostile values", r.hostileProgress)
	})
}

// legStatuses are what telling.status may say, and what the recorder is told then.
var legStatuses = map[string]vn.LegStatus{
	"ringing": vn.LegRinging, "answered": vn.LegAnswered, "completed": vn.LegCompleted, "busy": vn.LegBusy,
	"no_answer": vn.LegNoAnswer, "cancelled": vn.LegCancelled, "failed": vn.LegFailed,
}

const talked = 42

// telling is what the carrier tells of the customer's call to the agent.
func (r *rig) telling(status, callback string) telling {
	p := telling{ringing: r.good(), callback: callback, status: status}
	p.path = path("status")
	if status == "completed" {
		p.seconds = talked
	}
	return p
}

// progress makes the request, nil where the carrier never tells this.
func (r *rig) progress(t *testing.T, p telling) *http.Request {
	t.Helper()
	return r.phone.(watcher).progress(p)
}

// everyStatus puts a call through and lets the carrier tell each status of it.
func (r *rig) everyStatus(t *testing.T) {
	r.told.take()
	call := r.good()
	o, _ := r.connected(t, call)
	id := r.told.take().calls[0].id
	for word, status := range legStatuses {
		p := r.telling(word, o.callback)
		p.id = call.id
		req := r.progress(t, p)
		if req == nil {
			require.NotEqual(t, "completed", word, "every carrier tells of the end")
			continue
		}
		a := r.send(t, req)
		require.Equal(t, http.StatusOK, a.status, "%s: %s", word, &a)
		require.Zero(t, times(a.body, r.agent)+times(a.body, r.customer), "a real number is in %s", &a)
		got := r.told.take()
		require.Len(t, got.progress, 1, word)
		r.requireTold(t, &got.progress[0], id, word, status, o.callback)
	}
}

// requireTold checks what the recorder was told of the callee's leg.
func (r *rig) requireTold(t *testing.T, p *vn.Progress, id, word string, status vn.LegStatus, callback string) {
	t.Helper()
	require.Equal(t, id, string(p.CallID), "%s is told of the call", word)
	require.Equal(t, vn.CalleeLeg, p.Leg, word)
	require.Equal(t, status, p.Status, word)
	require.Zero(t, times(string(p.Cause), r.agent)+times(string(p.Cause), r.customer), word)
	if word == "completed" {
		require.Equal(t, talked*time.Second, p.Duration)
		if callback != "" {
			require.Equal(t, r.live.id, string(p.OrderID), "the order comes back")
		}
		return
	}
	require.Zero(t, p.Duration, word)
	if len(p.OrderID) > 0 {
		require.Equal(t, r.live.id, string(p.OrderID), word)
	}
}

// callback puts a call through and returns the address for its progress.
func (r *rig) callback(t *testing.T) string {
	t.Helper()
	o, _ := r.connected(t, r.good())
	r.told.take()
	return o.callback
}

func (r *rig) forgedProgress(t *testing.T) {
	callback := r.callback(t)
	wrong, changed := r.telling("completed", callback), r.telling("completed", callback)
	wrong.key, changed.tampered = -1, true
	r.requireForbidden(t, r.progress(t, wrong), "a key that is not ours")
	r.requireForbidden(t, r.progress(t, changed), "one byte changed")
	r.requireForbidden(t, r.unsigned(r.progress(t, r.telling("completed", callback))), "no signature")
	if window := r.phone.window(); window > 0 {
		old := r.telling("completed", callback)
		old.at = old.at.Add(-window - 5*time.Second)
		r.requireForbidden(t, r.progress(t, old), "after the window")
	}
	second := r.telling("completed", callback)
	second.key = 1
	require.Equal(t, http.StatusOK, r.send(t, r.progress(t, second)).status)
}

// progressTwice holds that the same callback is accepted again and told in the same words.
func (r *rig) progressTwice(t *testing.T) {
	before := r.state(t)
	req := r.progress(t, r.telling("completed", r.callback(t)))
	first, second := r.send(t, req), r.send(t, req)
	require.Equal(t, http.StatusOK, first.status)
	require.True(t, first.same(&second))
	got := r.told.take().progress
	require.Len(t, got, 2)
	require.Equal(t, got[0], got[1])
	require.Equal(t, before, r.state(t))
}

// hostileProgress fills every field that the router does not need.
func (r *rig) hostileProgress(t *testing.T) {
	callback := r.callback(t)
	for i, value := range hostile() {
		p := r.telling("completed", callback)
		p.hostile = value
		a := r.send(t, r.progress(t, p))
		require.Equal(t, http.StatusOK, a.status, "value %d: %s", i, &a)
		got := r.told.take().progress
		require.Len(t, got, 1, "value %d", i)
		require.Equal(t, vn.LegCompleted, got[0].Status)
		require.Equal(t, talked*time.Second, got[0].Duration)
		require.NotContains(t, string(got[0].Cause), "2025550199", "value %d", i)
		for _, c := range got[0].Cause {
			require.True(t, c >= ' ' && c <= '~', "value %d: the cause is not printable", i)
		}
	}
}
