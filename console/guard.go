package console

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callmask/callmask/events"
)

// policy lets a page load what comes from here and nothing else, and run no script that a
// string on the page could bring.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// maxForm is the longest form that is read, in bytes.
const maxForm = 8 << 10

// request is a request of somebody who is signed in.
type request struct {
	*http.Request

	who  *session
	door *door
}

// operates tells whether whoever asks may change something.
func (r *request) operates() bool { return r.who.Role == operator }

// from is the address that a request came from.
func from(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// ServeHTTP sets what holds for every answer and lets no other site send a form.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		c.turnAway(w, http.StatusForbidden, "This form was sent by another site, so nothing was done.")
		return
	}
	c.mux.ServeHTTP(w, r)
}

// signedIn lets only who is signed in through, and sends others to the sign-in page.
func (c *Console) signedIn(handle func(http.ResponseWriter, *request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := c.now()
		s, d := c.doors.read(r, now)
		if s == nil {
			if r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, Root+"live") {
				http.Redirect(w, r, Root+"sign-in", http.StatusSeeOther)
				return
			}
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if next := s.renewed(now); next != nil {
			if cookie, err := d.cookie(next, secure(r)); err == nil {
				http.SetCookie(w, cookie)
				s = next
			}
		}
		c.seen.Store(now.Unix())
		c.fresh(r.Context())
		handle(w, &request{Request: r, who: s, door: d})
	})
}

// form is signedIn for what a form of ours sends.
func (c *Console) form(handle func(http.ResponseWriter, *request)) http.Handler {
	return c.signedIn(func(w http.ResponseWriter, r *request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			c.fail(w, r, http.StatusBadRequest, "The form could not be read, so nothing was done.")
			return
		}
		if !r.door.meant(r.who, r.PostForm.Get("token")) {
			c.fail(w, r, http.StatusForbidden, "The form is not of this sign-in, so nothing was done. Go back, load the page again and try once more.")
			return
		}
		handle(w, r)
	})
}

// secure tells whether the browser speaks TLS, to us or to a proxy before us.
func secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func (c *Console) getSignIn(w http.ResponseWriter, r *http.Request) {
	if s, _ := c.doors.read(r, c.now()); s != nil {
		http.Redirect(w, r, Root, http.StatusSeeOther)
		return
	}
	c.show(w, http.StatusOK, "sign-in", &page{Title: "Sign in"})
}

func (c *Console) postSignIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	again := func(status int, problem string) {
		c.show(w, status, "sign-in", &page{Title: "Sign in", Problem: problem})
	}
	if err := r.ParseForm(); err != nil {
		again(http.StatusBadRequest, "The form could not be read.")
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("name"))
	if !printable(name) {
		again(http.StatusBadRequest, "Say who you are, in 1 to 64 characters: the audit keeps it with all that you do.")
		return
	}
	d := c.doors.open(strings.TrimSpace(r.PostForm.Get("secret")))
	if d == nil {
		c.hub.signIns.WithLabelValues("refused").Inc()
		if !c.refused.AllowN(c.now(), 1) {
			w.Header().Set("Retry-After", "10")
			again(http.StatusTooManyRequests, "Too many wrong tokens. Wait some seconds and try again.")
			return
		}
		c.entry(r.Context(), events.AuditEntry{Who: name, From: from(r), Action: events.AuditSignInRefused, Outcome: events.AuditFailed})
		again(http.StatusForbidden, "This token is neither the API token nor the read token.")
		return
	}
	s := d.begin(name, c.now())
	cookie, err := d.cookie(s, secure(r))
	if err != nil {
		c.turnAway(w, http.StatusInternalServerError, "The sign-in failed.")
		return
	}
	c.hub.signIns.WithLabelValues(string(d.role)).Inc()
	c.entry(r.Context(), events.AuditEntry{Who: name, Role: string(d.role), From: from(r), Action: events.AuditSignIn, Outcome: events.AuditDone})
	http.SetCookie(w, cookie)
	http.Redirect(w, r, Root, http.StatusSeeOther)
}

// entry writes an audit entry that nothing depends on: whoever signs in because NATS is away
// must be let in.
func (c *Console) entry(ctx context.Context, e events.AuditEntry) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	e.ID = events.NewAuditID()
	if err := c.Bus.Audit(ctx, e); err != nil {
		c.log.Warn().Err(err).Str("action", e.Action).Msg("the audit does not take an entry")
	}
}

func (c *Console) postSignOut(w http.ResponseWriter, r *request) {
	http.SetCookie(w, wrap("", -1, secure(r.Request)))
	http.Redirect(w, r.Request, Root+"sign-in", http.StatusSeeOther)
}

// printable tells whether a name can be shown: 1 to 64 characters that can be seen.
func printable(name string) bool {
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > 64 {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
