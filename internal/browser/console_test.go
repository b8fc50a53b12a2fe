//go:build browser

package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// hostile is a carrier's id of a call as somebody who means harm would choose it: the one
// free text that comes from outside.
const hostile = `<img src=x onerror="window.hacked=1">'"&</td><script>window.hacked=1</script>`

// live waits until a page is kept up to date.
func (b *browser) live(t *testing.T) {
	t.Helper()
	b.await(t, "live updates", "document.body.dataset.updates > 0")
}

func (b *browser) signIn(t *testing.T, name, token string) {
	t.Helper()
	b.visit(t, "sign-in")
	b.fill(t, "name", name, "secret", token)
	b.click(t, "Sign in")
	b.says(t, "Overview")
}

// TestTheConsole plays a day of an operator, in one browser: each part goes on where the
// one before has left off.
func TestTheConsole(t *testing.T) {
	s := start(t)
	b := open(t, "http://"+s.at.Admin+"/console/")
	agent := s.order(t, "order-1")
	for _, part := range []struct {
		name string
		play func(*testing.T, *system, *browser, string)
	}{
		{"signing in", playSigningIn},
		{"calls are seen and explained", playCalls},
		{"stock", playStock},
		{"acting", playActing},
		{"two operators at once", playTwoOperators},
		{"keyboard", playKeyboard},
		{"accessible, in light and dark, and on a telephone", playAccessible},
		{"somebody who may only look", playReader},
		{"Redis and NATS away", playOutages},
		{"callmask away", playAway},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.play(t, s, b, agent) }) {
			b.screenshot(t, "failed")
			return
		}
	}
}

func playSigningIn(t *testing.T, _ *system, b *browser, _ string) {
	t.Helper()
	b.visit(t, "")
	b.says(t, "Your name")
	b.accessible(t)
	b.screenshot(t, "sign-in")
	b.fill(t, "name", "Ana", "secret", "not-the-token-012345")
	b.click(t, "Sign in")
	b.says(t, "neither the API token nor the read token")
	b.accessible(t)
	b.signIn(t, "Ana", apiToken)
	require.Empty(t, eval[string](t, b, "document.cookie"), "no script can read the cookie")
	b.complaints() // the refused sign-in
}

func playCalls(t *testing.T, s *system, b *browser, agent string) {
	t.Helper()
	b.visit(t, "calls")
	b.live(t)
	s.call(t, agent, "+12025550123", "call-1")
	s.call(t, agent, "+12025550199", "call-2")
	s.call(t, agent, "+12025550188", hostile)
	b.says(t, "call-2")
	b.says(t, hostile)
	require.Zero(t, eval[int](t, b, "document.querySelectorAll('main img, main script').length"))
	require.False(t, eval[bool](t, b, "'hacked' in window"))
	for _, real := range []string{"2025550123", "2025550145", "2025550199", "2025550188"} {
		require.NotContains(t, eval[string](t, b, "document.documentElement.outerHTML"), real)
	}
	b.screenshot(t, "calls")
	b.visit(t, "")
	b.live(t)
	b.says(t, "caller not allowed 2")
	b.await(t, "drawn charts", "document.querySelectorAll('.chart canvas').length === 2")
	b.screenshot(t, "overview")

	// why was call-2 refused?
	b.visit(t, "search")
	b.fill(t, "text", "order-1")
	b.click(t, "Search")
	b.says(t, "agent is reached by")
	b.says(t, "assigned until")
	b.says(t, "put through")
	b.screenshot(t, "order")
	b.visit(t, "search")
	b.fill(t, "text", hostile)
	b.click(t, "Search")
	b.says(t, "it called from another telephone, or is a stranger")
	require.False(t, eval[bool](t, b, "'hacked' in window"))
	b.visit(t, "search")
	b.fill(t, "text", agent)
	b.click(t, "Search")
	b.says(t, "held by order")
	b.click(t, "Explain a call to it")
	b.says(t, "Every step of the decision")
	b.fill(t, "calling", "+12025550199")
	b.click(t, "Explain")
	b.says(t, "It would be refused: caller_not_allowed")
	b.says(t, "of which the caller is no party")
	require.NotContains(t, b.words(t), "2025550199")
	b.screenshot(t, "explain")
	b.fill(t, "calling", "+12025550123")
	b.do(t, chromedp.Click(chromedp.CSS(`[name="reveal"]`)))
	b.click(t, "Explain")
	b.says(t, "connect to +12025550145")
	b.visit(t, "search")
	b.fill(t, "text", "+12025550199")
	b.click(t, "Search")
	b.says(t, "This is none of our virtual numbers")
	require.NotContains(t, eval[string](t, b, "location.href"), "555")
	require.Empty(t, b.complaints())
}

func playStock(t *testing.T, _ *system, b *browser, _ string) {
	t.Helper()
	b.visit(t, "stock")
	b.live(t)
	b.await(t, "two leased numbers", `document.querySelector('[data-text="pool.demo.leased"]').textContent === "2"`)
	b.says(t, "bought +1201555")
	b.fill(t, "q", "nowhere")
	b.click(t, "Filter")
	b.says(t, "No pool's name holds that")
	b.visit(t, "stock")
	b.screenshot(t, "stock")
	b.click(t, "demo")
	b.says(t, "How it is kept")
	b.live(t)
	b.await(t, "a drawn chart", "document.querySelectorAll('.chart canvas').length === 1")
	b.screenshot(t, "pool")
	b.visit(t, "pool?name=nowhere")
	b.says(t, "There is no such pool")
	require.Empty(t, b.complaints())
}

func playActing(t *testing.T, s *system, b *browser, _ string) {
	t.Helper()
	b.visit(t, "pool?name=demo")
	b.click(t, "Top up this pool")
	b.says(t, "How many numbers")
	b.screenshot(t, "confirm")
	b.fill(t, "numbers", "3")
	b.click(t, "Buy numbers")
	b.says(t, "3 numbers are asked for")
	b.visit(t, "pool?name=demo")
	b.await(t, "21 free of 23", `document.querySelector('[data-text="pool.demo.free"]').textContent === "21"`)

	b.visit(t, "stock")
	b.click(t, "Pause sim")
	b.says(t, "Nothing more is bought of it")
	b.click(t, "Pause the carrier")
	b.says(t, "until somebody resumes it")
	b.await(t, "paused", "fetch('/console/stock').then((r) => r.text()).then((t) => t.includes('Resume sim'))")
	b.visit(t, "stock")
	b.says(t, "by Ana")
	b.click(t, "Resume sim")
	b.says(t, "Ana paused it")
	b.click(t, "Resume the carrier")
	b.says(t, "bought of sim again")

	spare := s.order(t, "order-2")
	b.visit(t, "order?id=order-2")
	b.click(t, "Release this order")
	b.says(t, "never comes back")
	b.click(t, "Release the order")
	b.says(t, "order-2 is released (cancelled)")
	b.click(t, "Go on")
	b.says(t, "ended (cancelled)")
	b.says(t, "released: cancelled")

	b.visit(t, "number?number=%2B"+strings.TrimPrefix(spare, "+"))
	b.click(t, "Drain this number")
	b.click(t, "Take the number out")
	b.says(t, "has left pool demo")
	b.visit(t, "number?number=%2B"+strings.TrimPrefix(spare, "+"))
	b.says(t, "none of our virtual numbers")

	b.visit(t, "audit")
	for _, action := range []string{"reveal", "top_up_pool", "pause_carrier", "resume_carrier", "release_order", "drain_number", "sign_in_refused"} {
		b.says(t, action)
	}
	b.screenshot(t, "audit")
	require.Empty(t, b.complaints())
}

func playTwoOperators(t *testing.T, s *system, b *browser, _ string) {
	t.Helper()
	s.order(t, "order-3")
	b.visit(t, "confirm?do=release_order&order=order-3")
	s.ask(t, "DELETE", "http://"+s.at.Admin+"/v1/orders/order-3", nil) // somebody else was quicker
	b.click(t, "Release the order")
	b.says(t, "had ended already (completed). Nothing was done.")

	b.visit(t, "confirm?do=pause_carrier&carrier=sim")
	form := `fetch("/console/confirm?do=pause_carrier&carrier=sim").then((r) => r.text()).then((text) => {
		const form = new DOMParser().parseFromString(text, "text/html").querySelector("main form");
		return fetch("/console/act", {method: "POST", body: new URLSearchParams(new FormData(form))});
	}).then((r) => r.status === 200)`
	b.await(t, "another tab pauses it", form)
	b.click(t, "Pause the carrier")
	b.says(t, "until somebody resumes it") // a repeat by the same person says the same
	b.visit(t, "confirm?do=resume_carrier&carrier=sim")
	b.click(t, "Resume the carrier")
	b.says(t, "bought of sim again")
	b.complaints()
}

func playKeyboard(t *testing.T, _ *system, b *browser, _ string) {
	t.Helper()
	b.visit(t, "")
	b.do(t, chromedp.KeyEvent(kb.Tab))
	require.Equal(t, "Skip to content", eval[string](t, b, "document.activeElement.textContent"))
	b.do(t, chromedp.KeyEvent(kb.Enter))
	b.await(t, "the content has the focus", "document.activeElement.id === 'main'")
	b.visit(t, "search")
	b.do(t, chromedp.KeyEvent("order-1"), chromedp.KeyEvent(kb.Enter)) // the field has the focus
	b.says(t, "agent is reached by")
	require.Empty(t, b.complaints())
}

func playAccessible(t *testing.T, _ *system, b *browser, agent string) {
	t.Helper()
	pages := []string{
		"", "stock", "calls", "order?id=order-1", "search", "explain", "audit", "pool?name=demo", "call?id=call-2",
		"number?number=%2B" + strings.TrimPrefix(agent, "+"), "confirm?do=top_up_pool&pool=demo", "nothing",
	}
	b.do(t, chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile))
	for i, page := range pages {
		b.light(t, i%2 == 0)
		b.visit(t, page)
		b.fits(t)
		b.accessible(t)
		if i < 4 {
			b.screenshot(t, fmt.Sprintf("telephone-%d", i))
		}
	}
	b.do(t, chromedp.EmulateViewport(1280, 900))
	for i, page := range []string{"", "stock", "calls", "order?id=order-1"} { // in the other colours, where there is room
		b.light(t, i%2 == 1)
		b.visit(t, page)
		b.accessible(t)
	}
	b.visit(t, "")
	b.live(t)
	b.light(t, false)
	b.screenshot(t, "overview-dark")
	b.light(t, true)
	b.complaints() // the page that is not there
}

func playReader(t *testing.T, _ *system, b *browser, _ string) {
	t.Helper()
	b.do(t, chromedp.Click(chromedp.CSS("header button")))
	b.says(t, "Your name")
	b.signIn(t, "Ben", readToken)
	b.visit(t, "order?id=order-1")
	b.says(t, "agent is reached by")
	require.NotContains(t, b.words(t), "Release this order")
	b.visit(t, "explain")
	require.NotContains(t, b.words(t), "Show real numbers")
	b.visit(t, "confirm?do=release_order&order=order-1")
	b.says(t, "Only operators may do this")
	b.complaints()
}

func playOutages(t *testing.T, s *system, b *browser, _ string) {
	t.Helper()
	b.visit(t, "")
	b.live(t)
	s.redis.Pause(t)
	b.says(t, "Redis has not answered since")
	b.screenshot(t, "redis-away")
	b.accessible(t)
	s.redis.Resume(t)
	b.await(t, "all is well again", "document.getElementById('trouble').hidden")
	s.nats.Stop(t)
	b.says(t, "NATS has not answered since")
	b.visit(t, "calls")
	b.says(t, "NATS has not answered since")
	s.nats.Start(t)
	b.await(t, "all is well again", "document.getElementById('trouble').hidden")
	b.complaints()
}

func playAway(t *testing.T, s *system, b *browser, _ string) {
	t.Helper()
	b.visit(t, "")
	b.live(t)
	s.stop()
	b.says(t, "callmask does not answer")
	b.screenshot(t, "callmask-away")
}
