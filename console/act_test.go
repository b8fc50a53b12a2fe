package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

func TestWhatAnOperatorDoesIsInTheAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, token)

	got := p.act(t, p.form(t, "confirm?do=release_order&order=o-1"), "reason", "cancelled")
	require.Contains(t, got.body, "Order o-1 is released (cancelled).")
	o, err := w.store.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, []any{vn.Ended, vn.Cancelled}, []any{o.State, o.EndReason})
	require.Equal(t, http.StatusConflict, p.get(t, "confirm?do=release_order&order=o-1").status)

	got = p.act(t, p.form(t, "confirm?do=drain_number&"+query("number", w.toAgent)))
	require.Contains(t, got.body, "has left pool dc")
	require.Equal(t, http.StatusNotFound, p.get(t, "confirm?do=drain_number&"+query("number", w.toAgent)).status)

	form := p.form(t, "confirm?do=top_up_pool&pool=dc")
	for _, numbers := range []string{"", "0", "-1", "1001", "1e2", "x"} {
		require.Equal(t, http.StatusBadRequest, p.act(t, form, "numbers", numbers).status, numbers)
	}
	got = p.act(t, p.form(t, "confirm?do=top_up_pool&pool=dc"), "numbers", "5")
	require.Contains(t, got.body, "5 numbers are asked for")
	asked, _, err := w.bus.LastTopUp(t.Context(), "dc")
	require.NoError(t, err)
	require.Equal(t, []any{5, "Ana"}, []any{asked.Numbers, asked.By})

	got = p.act(t, p.form(t, "confirm?do=pause_carrier&carrier=sim"))
	require.Contains(t, got.body, "until somebody resumes it")
	require.Equal(t, http.StatusConflict, p.get(t, "confirm?do=pause_carrier&carrier=sim").status)
	got = p.act(t, p.form(t, "confirm?do=resume_carrier&carrier=sim"))
	require.Contains(t, got.body, "bought of sim again")

	trail := w.trail(t)
	for _, entry := range []string{
		"release_order o-1 asked by Ana", "release_order o-1 done by Ana", "drain_number " + w.toAgent + " done by Ana",
		"top_up_pool dc failed by Ana", "top_up_pool dc done by Ana", "pause_carrier sim done by Ana", "resume_carrier sim done by Ana",
	} {
		require.Contains(t, trail, entry)
	}
	require.Contains(t, p.get(t, "audit").body, "resume_carrier")
	for _, path := range []string{"confirm?do=nothing", "confirm?do=release_order&order=nobody", "confirm?do=top_up_pool&pool=mars", "confirm?do=pause_carrier&carrier=pbx"} {
		require.Equal(t, http.StatusNotFound, p.get(t, path).status, path)
	}
	require.Equal(t, http.StatusBadRequest, p.get(t, "confirm?do=drain_number&number=x").status)
}

func TestOfTwoOperatorsAtOnceOneActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana, ben := w.signedIn(t, token), w.signedIn(t, token)
	for _, c := range []struct {
		confirm string
		pairs   []string
	}{
		{"confirm?do=top_up_pool&pool=dc", []string{"numbers", "5"}},
		{"confirm?do=top_up_pool&pool=dc", []string{"numbers", "5"}}, // and again, over an earlier one
	} {
		forms := []url.Values{ana.form(t, c.confirm), ben.form(t, c.confirm)}
		var both sync.WaitGroup
		statuses := make([]int, 2)
		for i, p := range []*person{ana, ben} {
			both.Go(func() { statuses[i] = p.act(t, forms[i], c.pairs...).status })
		}
		both.Wait()
		require.ElementsMatch(t, []int{http.StatusOK, http.StatusConflict}, statuses)
	}
	// a form that is sent twice is one wish
	form := ana.form(t, "confirm?do=top_up_pool&pool=dc")
	require.Equal(t, http.StatusOK, ana.act(t, form, "numbers", "7").status)
	require.Equal(t, http.StatusOK, ana.act(t, form, "numbers", "7").status)
	require.Equal(t, http.StatusConflict, ben.act(t, ben.form(t, "confirm?do=top_up_pool&pool=dc"), "numbers", "7", "seen", "0").status)

	one, two := ana.form(t, "confirm?do=release_order&order=o-1"), ben.form(t, "confirm?do=release_order&order=o-1")
	require.Equal(t, http.StatusOK, ana.act(t, one, "reason", "completed").status)
	late := ben.act(t, two, "reason", "cancelled")
	require.Equal(t, http.StatusConflict, late.status)
	require.Contains(t, late.body, "had ended already (completed)")
	one, two = ana.form(t, "confirm?do=drain_number&"+query("number", w.toAgent)), ben.form(t, "confirm?do=drain_number&"+query("number", w.toAgent))
	require.Equal(t, http.StatusOK, ana.act(t, one).status)
	require.Equal(t, http.StatusNotFound, ben.act(t, two).status)
}

// deaf is a Bus whose audit takes nothing, as when its disk is full.
type deaf struct{ Bus }

func (deaf) Audit(context.Context, events.AuditEntry) error {
	return errors.New("no space left on device")
}

func TestNothingIsDoneWithoutTheAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *Config, d *Deps) { d.Bus = deaf{d.Bus} })
	p := w.signedIn(t, token) // signing in needs no audit: somebody has to be able to look
	for _, c := range []struct{ confirm, field, value string }{
		{"confirm?do=release_order&order=o-1", "reason", "completed"},
		{"confirm?do=top_up_pool&pool=dc", "numbers", "5"},
		{"confirm?do=pause_carrier&carrier=sim", "", ""},
		{"confirm?do=drain_number&" + query("number", w.toAgent), "", ""},
	} {
		got := p.act(t, p.form(t, c.confirm), c.field, c.value)
		require.Equal(t, http.StatusServiceUnavailable, got.status, c.confirm)
		require.Contains(t, got.body, "is its disk full?")
	}
	o, err := w.store.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, vn.Active, o.State)
	_, seq, err := w.bus.LastTopUp(t.Context(), "dc")
	require.NoError(t, err)
	require.Zero(t, seq)
}

func TestAProcessSaysWhatItDoesNotRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *Config, d *Deps) { d.Orders = nil })
	p := w.signedIn(t, token)
	require.Contains(t, p.get(t, "order?id=o-1").body, "of a process that runs the allocator")
	require.NotContains(t, p.get(t, "order?id=o-1").body, "confirm?do=release_order")
	refused := p.get(t, "confirm?do=release_order&order=o-1")
	require.Equal(t, http.StatusNotFound, refused.status)
	require.Contains(t, refused.body, "does not run the allocator")
	require.Contains(t, p.get(t, "stock").body, "needs a process that runs the replenisher")
}

func TestWhatComesFromOutsideIsShownAsText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, token)
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	number, _ := vn.ParseE164(w.toAgent)
	w.bus.Decided(&events.Decision{Carrier: evil, CallID: []byte(evil), OrderID: []byte(evil), VN: number, Reason: vn.CallerNotAllowed})
	require.NoError(t, w.bus.Released(t.Context(), events.VNReleased{OrderID: "o-1", Reason: evil}))
	require.NoError(t, w.bus.Assigned(t.Context(), events.VNAssigned{OrderID: "o-1", Parties: []events.VNParty{{Role: evil, VN: w.toAgent}}}))
	safe := func(path string, times int) {
		require.Eventually(t, func() bool { return strings.Count(p.get(t, path).body, "alert(1)") >= times }, within, tick, path)
		body := p.get(t, path).body
		require.NotContains(t, body, "<script>alert", path)
		require.NotContains(t, body, "<img", path)
		require.NotContains(t, body, `"'>`, path)
	}
	safe("calls", 3)
	safe("order?id=o-1", 2)
	safe("number?"+query("number", w.toAgent), 2)
	safe("call?"+query("id", evil), 2)
	tokenOf := p.form(t, "search").Get("token")
	safe(strings.TrimPrefix(p.post(t, "search", "token", tokenOf, "text", evil).path, Root), 1)
	safe("stock?"+query("q", evil), 1)
	named := w.person(t)
	got := named.post(t, "sign-in", "name", evil, "secret", token)
	require.NotContains(t, got.body, "<script>alert")
	update := string(w.render(&view{Name: "calls"}, w.snap.Load(), true))
	require.NotContains(t, update, "<", "an update is JSON without markup")
	require.NotContains(t, update, "\n", "and one line, or it would be several events")
}

func TestASearchLeadsToWhatWasMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, token)
	tokenOf := p.form(t, "search").Get("token")
	find := func(text string) got { return p.post(t, "search", "token", tokenOf, "text", text, "back", "1h") }
	require.Equal(t, Root+"order?back=1h&id=o-1", find(" o-1 ").path)
	require.Equal(t, Root+"number?back=1h&"+query("number", w.toAgent), find(w.toAgent).path)
	require.Equal(t, Root+"call?back=1h&id=nobody-knows", find("nobody-knows").path)
	for _, text := range []string{"+12025550101", "+1 (202) 555-0101"} {
		somebody := find(text)
		require.Equal(t, http.StatusNotFound, somebody.status)
		require.Equal(t, Root+"search", somebody.path)
		require.NotContains(t, somebody.body, "0101", "a person's number is not even given back")
	}
	require.Equal(t, http.StatusBadRequest, find("").status)
	require.Equal(t, http.StatusBadRequest, find(strings.Repeat("x", 201)).status)
	require.Equal(t, http.StatusBadRequest, p.get(t, "order?id=a%2Fb").status)
	require.Contains(t, p.get(t, "order?id=nobody").body, "Redis does not know this order")
	w.nats.Stop(t)
	require.Equal(t, http.StatusServiceUnavailable, p.get(t, "order?id=o-1").status)
	w.redis.Kill()
	require.Equal(t, http.StatusServiceUnavailable, find("o-1").status)
}
