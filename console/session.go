package console

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	cookieName = "callmask_console"
	// sessionFor is how long a sign-in lasts when nobody uses it, and sessionMost how long
	// when somebody does.
	sessionFor  = time.Hour
	sessionMost = 12 * time.Hour
)

// role says what somebody may do.
type role string

const (
	operator role = "operator"
	reader   role = "read-only"
)

// session is what a cookie says of who is signed in. Its signature makes it believable.
type session struct {
	Role  role   `json:"role"`
	Name  string `json:"name"` // as given at sign-in
	ID    string `json:"id"`
	Began int64  `json:"began"` // Unix seconds
	Until int64  `json:"until"`
}

// door is one token that lets people in, and the key that signs their sessions: derived
// from the token, so that a new token ends all sessions of the old one.
type door struct {
	role role
	sum  [sha256.Size]byte
	key  []byte
}

type doors []door

func newDoors(token, readToken string) (doors, error) {
	var all doors
	for _, d := range []struct {
		role  role
		token string
	}{{operator, token}, {reader, readToken}} {
		if d.token == "" {
			continue
		}
		key, err := hkdf.Key(sha256.New, []byte(d.token), nil, "callmask console session "+string(d.role), sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("console: derive a key: %w", err)
		}
		all = append(all, door{role: d.role, sum: sha256.Sum256([]byte(d.token)), key: key})
	}
	return all, nil
}

// open returns the door that a token opens. All are compared, in constant time.
func (d doors) open(token string) (found *door) {
	sum := sha256.Sum256([]byte(token))
	for i := range d {
		if subtle.ConstantTimeCompare(sum[:], d[i].sum[:]) == 1 {
			found = &d[i]
		}
	}
	return found
}

func (d *door) sign(purpose string, text []byte) []byte {
	mac := hmac.New(sha256.New, d.key)
	mac.Write([]byte(purpose)) // a hash never returns an error
	mac.Write([]byte{0})
	mac.Write(text)
	return mac.Sum(nil)
}

// begin returns a new session.
func (d *door) begin(name string, now time.Time) *session {
	return &session{Role: d.role, Name: name, ID: rand.Text(), Began: now.Unix(), Until: now.Add(sessionFor).Unix()}
}

var encoding = base64.RawURLEncoding

// cookie returns the session's cookie.
func (d *door) cookie(s *session, secure bool) (*http.Cookie, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	value := encoding.EncodeToString(text) + "." + encoding.EncodeToString(d.sign("session", text))
	return wrap(value, int(time.Until(time.Unix(s.Until, 0))/time.Second), secure), nil
}

// wrap makes a cookie that is for this origin alone, and that scripts cannot read.
func wrap(value string, maxAge int, secure bool) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure where the request was: the private listener may be plain HTTP on a loopback
		Name: cookieName, Value: value, Path: Root, MaxAge: maxAge, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
}

// read returns the session of a request and the door it came by; nil when there is none, or
// its time is over.
func (d doors) read(r *http.Request, now time.Time) (*session, *door) {
	given := r.CookiesNamed(cookieName)
	if len(given) != 1 {
		return nil, nil
	}
	head, tail, _ := strings.Cut(given[0].Value, ".")
	text, err := encoding.DecodeString(head)
	if err != nil {
		return nil, nil
	}
	mac, err := encoding.DecodeString(tail)
	if err != nil {
		return nil, nil
	}
	for i := range d {
		if !hmac.Equal(mac, d[i].sign("session", text)) {
			continue
		}
		var s session
		if json.Unmarshal(text, &s) != nil || s.Role != d[i].role || s.Until <= now.Unix() || s.Until > now.Add(sessionFor).Unix()+1 {
			return nil, nil
		}
		return &s, &d[i]
	}
	return nil, nil
}

// renewed returns the session with more time when less than half is left, else nil.
func (s *session) renewed(now time.Time) *session {
	if time.Unix(s.Until, 0).Sub(now) > sessionFor/2 {
		return nil
	}
	next := *s
	next.Until = min(now.Add(sessionFor).Unix(), time.Unix(s.Began, 0).Add(sessionMost).Unix())
	if next.Until <= s.Until {
		return nil
	}
	return &next
}

// formToken is what a form of this session must hold to be believed.
func (d *door) formToken(s *session) string {
	return encoding.EncodeToString(d.sign("form", []byte(s.ID)))
}

// meant tells whether a form holds the session's token.
func (d *door) meant(s *session, given string) bool {
	return hmac.Equal([]byte(given), []byte(d.formToken(s)))
}
