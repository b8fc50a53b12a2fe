package twilio

import (
	"bytes"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// Refusal is the way a refused caller is told.
type Refusal string

// The ways to refuse. Reject and Busy end the call before it is answered, which
// Twilio does not bill; Say answers it to speak a text.
// https://www.twilio.com/docs/voice/twiml/reject
const (
	Reject Refusal = "reject" // the caller hears that the number is not in service
	Busy   Refusal = "busy"   // the caller hears a busy signal
	Say    Refusal = "say"    // the caller hears Config.Text
)

// DefaultText is what Say speaks when Config.Text is empty.
const DefaultText = "The number you have dialled is not available."

// Config holds the settings of one Twilio account.
type Config struct {
	// AccountSID is the account's id, "AC" and 32 hexadecimal digits.
	AccountSID string
	// AuthTokens sign Twilio's requests: one, or two while the token is rotated.
	AuthTokens []string
	// PublicURL is the base of the URLs that Twilio calls, such as
	// https://calls.example.com; the request's path and query are appended to it.
	PublicURL string
	// Refusal is how callers are refused; empty means Reject.
	Refusal Refusal
	// Text is what Say speaks; empty means DefaultText. Every refusal says the same.
	Text string
	// Language is the language of Text, such as "id-ID"; empty means Twilio's default.
	Language string
}

// Codec reads Twilio's voice webhook and writes TwiML. It is safe for concurrent use.
type Codec struct {
	account  []byte
	verifier *verifier
	refusal  []byte // the whole answer to every refused call
}

// New checks the settings and returns the account's codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	if err := checkAccount(cfg.AccountSID); err != nil {
		return nil, err
	}
	if len(cfg.AuthTokens) == 0 || len(cfg.AuthTokens) > 2 {
		return nil, &vn.FieldError{Field: "auth_tokens", Problem: "must hold one token, or two while it is rotated"}
	}
	for _, token := range cfg.AuthTokens {
		if token == "" || token != strings.TrimSpace(token) {
			return nil, &vn.FieldError{Field: "auth_tokens", Problem: "holds a token that is empty or has spaces around it"}
		}
	}
	bases, err := publicBases(cfg.PublicURL)
	if err != nil {
		return nil, err
	}
	refusal, err := refusalTwiML(cfg)
	if err != nil {
		return nil, err
	}
	return &Codec{account: []byte(cfg.AccountSID), verifier: newVerifier(cfg.AuthTokens, bases), refusal: refusal}, nil
}

func checkAccount(sid string) error {
	const field = "account_sid"
	if sid == "" {
		return &vn.FieldError{Field: field, Problem: "is missing"}
	}
	if !strings.HasPrefix(sid, "AC") {
		return &vn.FieldError{Field: field, Problem: "must begin with AC: it is the account's id, not the id of an API key"}
	}
	for i := range len(sid) {
		if c := sid[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return &vn.FieldError{Field: field, Problem: "may hold only letters and digits"}
		}
	}
	return nil
}

// publicBases returns the bases of the URLs that Twilio may have signed: the
// configured one, and the one with the scheme's port added or the given port left
// out, because Twilio's own libraries accept either.
// https://www.twilio.com/docs/usage/security (and what the npm package twilio 6.2.0 does)
func publicBases(public string) ([]string, error) {
	const field = "public_url"
	if public == "" {
		return nil, &vn.FieldError{Field: field, Problem: "is missing: it is the address that Twilio calls, such as https://calls.example.com"}
	}
	u, err := url.Parse(public)
	if err != nil || u.Host == "" || strings.HasSuffix(u.Host, ":") || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, &vn.FieldError{Field: field, Problem: "must be an http or https address, such as https://calls.example.com"}
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(public, "#") {
		return nil, &vn.FieldError{Field: field, Problem: "must not hold a password, a query or a fragment: it is the base that paths are appended to"}
	}
	scheme, rest, _ := strings.Cut(public, "://")
	path := strings.TrimRight(rest[len(u.Host):], "/")
	first := scheme + "://" + u.Host + path
	host := u.Host
	if port := u.Port(); port != "" {
		host = strings.TrimSuffix(host, ":"+port)
	} else if u.Scheme == "https" {
		host += ":443"
	} else {
		host += ":80"
	}
	return []string{first, scheme + "://" + host + path}, nil
}

// Decode checks the signature and the account, then reads the call. The signature
// comes before everything else: without a valid one nothing but vn.ErrForbidden is
// told. A field that is wrong gives a *vn.FieldError. call.ID points into the
// request. secret is not used: the signature covers the path.
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	v := c.verifier.get()
	defer c.verifier.put(v)
	if !v.verify(&ctx.Request) {
		return vn.ErrForbidden
	}
	// A token signs for one account; the field guards against a token that was
	// configured with another account's id.
	for i := range v.form.Params {
		if p := &v.form.Params[i]; string(p.Key) == "AccountSid" && !bytes.Equal(p.Value, c.account) {
			return vn.ErrForbidden
		}
	}
	// https://www.twilio.com/docs/voice/twiml
	id, err := v.form.Get("CallSid")
	if err != nil {
		return err
	}
	if !text.Printable(id.Value, 64) {
		return &vn.FieldError{Field: "CallSid", Problem: "is not the id of a call"}
	}
	from, err := v.form.Get("From")
	if err != nil {
		return err
	}
	calling, ok := caller(from.Value)
	if !ok {
		return &vn.FieldError{Field: "From", Problem: "is neither a number with + and country code nor a known marker"}
	}
	to, err := v.form.Get("To")
	if err != nil {
		return err
	}
	called, ok := vn.ParseE164(to.Value)
	if !ok {
		return &vn.FieldError{Field: "To", Problem: "is not a number with + and country code"}
	}
	call.ID, call.Calling, call.Called = id.Keep(), calling, called
	return nil
}

// withheld are the numbers that stand for a caller who is not shown: the words
// ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on a telephone's keys. They
// are seen in practice but stand in no reference page of Twilio's. None of them is
// a valid number of its country, so nobody is refused by mistake.
var withheld = [...]vn.Number{266696687, 7378742833, 2562533, 8656696, 86282452253}

// caller reads From: 0 and true for a caller without a number (withheld, a Twilio
// client, a SIP address), false for what is neither that nor a number.
// https://www.twilio.com/docs/voice/twiml
func caller(from []byte) (vn.Number, bool) {
	if n, ok := vn.ParseE164(from); ok {
		for _, w := range withheld {
			if n == w {
				return 0, true
			}
		}
		return n, true
	}
	return 0, text.Withheld(from) || text.HasPrefixFold(from, "client:") ||
		text.HasPrefixFold(from, "sip:") || text.HasPrefixFold(from, "sips:")
}
