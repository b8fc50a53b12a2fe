package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

func TestNobodyGetsInWithoutAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nobody := w.person(t)
	for _, path := range []string{"", "stock", "pool?name=dc", "calls", "search", "order?id=o-1", "number?number=%2B12025550160", "call?id=1", "explain", "confirm?do=release_order&order=o-1", "audit", "nothing"} {
		page := nobody.get(t, path)
		require.Equal(t, Root+"sign-in", page.path, path)
		require.NotContains(t, page.body, "o-1", path)
	}
	require.Equal(t, http.StatusUnauthorized, nobody.get(t, "live?view=overview").status)
	for _, path := range []string{"search", "explain", "act", "sign-out"} {
		require.Equal(t, http.StatusUnauthorized, nobody.post(t, path, "do", "release_order", "order", "o-1").status, path)
	}
	for _, secret := range []string{"", "wrong", token + "x", token[:len(token)-1], strings.ToUpper(token)} {
		refused := nobody.post(t, "sign-in", "name", "Eve", "secret", secret)
		require.Equal(t, http.StatusForbidden, refused.status)
		require.Empty(t, refused.header.Values("Set-Cookie"))
	}
	for _, name := range []string{"", "  ", strings.Repeat("x", 65), "a\x00b", "a\nb", "\xff"} {
		require.Equal(t, http.StatusBadRequest, nobody.post(t, "sign-in", "name", name, "secret", token).status, "%q", name)
	}
	require.Contains(t, w.trail(t), "sign_in_refused  failed by Eve")
	for range 30 {
		nobody.post(t, "sign-in", "name", "Eve", "secret", "wrong")
	}
	limited := nobody.post(t, "sign-in", "name", "Eve", "secret", "wrong")
	require.Equal(t, http.StatusTooManyRequests, limited.status)
	require.NotEmpty(t, limited.header.Get("Retry-After"))
	w.signedIn(t, token) // guessing keeps nobody out who knows the token
}

func TestACookieIsBelievedOnlyAsItWasGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, readToken)
	at, err := url.Parse(w.server.URL + Root)
	require.NoError(t, err)
	value := p.http.Jar.Cookies(at)[0].Value
	lets := func(value string) bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.String(), http.NoBody)
		require.NoError(t, err)
		r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
		s, _ := w.doors.read(r, time.Now())
		return s != nil
	}
	require.True(t, lets(value))
	head, tail, _ := strings.Cut(value, ".")
	text, err := encoding.DecodeString(head)
	require.NoError(t, err)
	require.NotContains(t, string(text), readToken)
	raised := encoding.EncodeToString([]byte(strings.Replace(string(text), "read-only", "operator", 1)))
	for _, forged := range []string{"", ".", head, head + ".", "." + tail, raised + "." + tail, head + "." + tail[:len(tail)-2], head + "." + tail + "AA", "x" + value, value + ".x"} {
		require.False(t, lets(forged), forged)
	}

	// time and other tokens end it
	s, d := w.doors.read(requestWith(t, value), time.Now())
	require.Equal(t, []any{reader, "Ana"}, []any{s.Role, s.Name})
	none, _ := w.doors.read(requestWith(t, value), time.Now().Add(sessionFor+time.Second))
	require.Nil(t, none)
	none, _ = w.doors.read(requestWith(t, value), time.Now().Add(-time.Minute))
	require.Nil(t, none, "a session from the future")
	others, err := newDoors(token, "another-read-token-01")
	require.NoError(t, err)
	none, _ = others.read(requestWith(t, value), time.Now())
	require.Nil(t, none, "a new read token ends the sessions of the old one")
	twice := requestWith(t, value)
	twice.AddCookie(&http.Cookie{Name: cookieName, Value: value})
	none, _ = w.doors.read(twice, time.Now())
	require.Nil(t, none)

	// it is renewed while it is used, not for ever
	require.Nil(t, s.renewed(time.Unix(s.Until, 0).Add(-sessionFor/2-time.Minute)))
	later := s
	for range 100 {
		next := later.renewed(time.Unix(later.Until, 0).Add(-time.Minute))
		if next == nil {
			break
		}
		later = next
	}
	require.Equal(t, s.Began+int64(sessionMost/time.Second), later.Until)

	c, err := d.cookie(s, true)
	require.NoError(t, err)
	require.Equal(t, []any{true, true, http.SameSiteStrictMode, Root}, []any{c.HttpOnly, c.Secure, c.SameSite, c.Path})
	_, err = newDoors("", "")
	require.NoError(t, err)
}

func requestWith(t *testing.T, value string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+Root, http.NoBody)
	require.NoError(t, err)
	r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
	return r
}

func TestFormsOfOtherSitesAndSessionsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana, ben := w.signedIn(t, token), w.signedIn(t, token)
	form := ana.form(t, "confirm?do=release_order&order=o-1")
	for name, header := range map[string]http.Header{
		"another origin":      {"Origin": {"https://evil.example"}},
		"a cross-site fetch":  {"Sec-Fetch-Site": {"cross-site"}},
		"another subdomain":   {"Sec-Fetch-Site": {"same-site"}},
		"no origin of itself": {"Origin": {"null"}},
	} {
		got := ana.do(t, http.MethodPost, "act", form.Encode(), header)
		require.Equal(t, http.StatusForbidden, got.status, name)
	}
	require.Equal(t, http.StatusForbidden, ben.act(t, form).status, "of another sign-in")
	stolen := url.Values{"do": form["do"], "order": form["order"], "id": form["id"], "reason": {"completed"}}
	require.Equal(t, http.StatusForbidden, ana.act(t, stolen).status, "without its token")
	require.Equal(t, http.StatusForbidden, ana.act(t, stolen, "token", "x").status)
	o, err := w.store.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, vn.Active, o.State)
	require.Equal(t, http.StatusBadRequest, ana.do(t, http.MethodPost, "act", strings.Repeat("x", maxForm+1), nil).status)
	require.Equal(t, http.StatusOK, ana.act(t, form, "reason", "completed").status, "the form itself is good")
	require.Equal(t, Root+"sign-in", ana.post(t, "sign-out", "token", form.Get("token")).path)
	require.Equal(t, Root+"sign-in", ana.get(t, "").path, "signed out")
}

func TestEveryAnswerForbidsForeignScripts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, token)
	for _, path := range []string{"", "sign-in", "stock", "nothing", "calls", "assets/nothing"} {
		h := p.get(t, path).header
		csp := h.Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'; script-src 'self'; style-src 'self'")
		require.Contains(t, csp, "frame-ancestors 'none'")
		require.NotContains(t, csp, "unsafe")
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", h.Get("Cache-Control"), path)
	}
	page := p.get(t, "").body
	require.NotRegexp(t, `(?i)<script>|<style| style=| on[a-z]+=|https?://`, page, "nothing inline, nothing from elsewhere")
	for address := range w.pages.files {
		file := p.get(t, address)
		require.Equal(t, http.StatusOK, file.status)
		require.Contains(t, file.header.Get("Cache-Control"), "immutable")
	}
	require.NotContains(t, w.pages.files, "assets/fetch")
}

func TestReadersChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, readToken)
	tokenOf := p.form(t, "search").Get("token")
	for _, page := range []string{"order?id=o-1", "stock", "pool?name=dc", "explain"} {
		body := p.get(t, page).body
		require.NotContains(t, body, "/console/confirm", page)
		require.NotContains(t, body, `name="reveal"`, page)
	}
	for name := range actions() {
		require.Equal(t, http.StatusForbidden, p.get(t, "confirm?do="+name+"&order=o-1&pool=dc&carrier=sim").status, name)
		got := p.post(t, "act", "token", tokenOf, "do", name, "order", "o-1", "pool", "dc", "carrier", "sim", "id", events.NewAuditID(), "seen", "0", "numbers", "1")
		require.Equal(t, http.StatusForbidden, got.status, name)
	}
	require.Equal(t, http.StatusForbidden, p.post(t, "explain", "token", tokenOf, "called", w.toAgent, "calling", "+12025550101", "reveal", "yes").status)
	explained := p.post(t, "explain", "token", tokenOf, "called", w.toAgent, "calling", "+12025550101")
	require.Contains(t, explained.body, "It would be put through")
	require.NotContains(t, explained.body, "2025550102")
	require.Equal(t, []string{"sign_in  done by Ana"}, w.trail(t))
}
