package plivo

import (
	"bytes"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// Refusal is the way a refused caller is told.
type Refusal string

// The ways to refuse. Reject and Busy end the call before it is answered; Say answers
// it, which Plivo bills, to speak a text.
// https://docs.plivo.com/docs/voice/xml/hangup
const (
	Reject Refusal = "reject" // the caller hears that the call is not taken
	Busy   Refusal = "busy"   // the caller hears a busy signal
	Say    Refusal = "say"    // the caller hears Config.Text
)

// DefaultText is what Say speaks when Config.Text is empty.
const DefaultText = "The number you have dialled is not available."

// DefaultMediaText is what the sender of files is told when Config.MediaText is empty.
const DefaultMediaText = "This number takes text only: pictures and files are not passed on."

// Config holds the settings of one Plivo account.
type Config struct {
	// AuthID is the id of the account ("MA…") or of a subaccount ("SA…").
	AuthID string
	// AuthTokens sign Plivo's requests: one, or two while the token is rotated.
	AuthTokens []string
	// PublicURL is the base of the URLs that Plivo calls, such as
	// https://calls.example.com; the request's path and query are appended to it.
	PublicURL string
	// StatusURL is where Plivo tells what became of a connected call; it begins with
	// PublicURL. Empty asks for no such callback.
	StatusURL string
	// Refusal is how callers are refused; empty means Reject.
	Refusal Refusal
	// Text is what Say speaks; empty means DefaultText. Every refusal says the same.
	Text string
	// Language is the language of Text, such as "es-ES"; empty means Plivo's default.
	Language string
	// MediaText is what the sender of files is told by text message; empty means
	// DefaultMediaText.
	MediaText string
}

// Codec reads Plivo's webhooks and writes Plivo XML. It is safe for concurrent use.
type Codec struct {
	account   []byte // the main account's id; empty when only a subaccount's is known
	verifier  *verifier
	callbacks callbacks
	refusal   []byte // the whole answer to every refused call
	mediaText string
}

// New checks the settings and returns the account's codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	if err := checkAuth(cfg.AuthID, cfg.AuthTokens); err != nil {
		return nil, err
	}
	base, err := address("public_url", cfg.PublicURL)
	if err != nil {
		return nil, err
	}
	c := &Codec{verifier: newVerifier(cfg.AuthTokens, base), mediaText: cfg.MediaText}
	if strings.HasPrefix(cfg.AuthID, mainAccount) {
		c.account = []byte(cfg.AuthID)
	}
	if cfg.StatusURL != "" {
		// It is made of the setting public_url, which an error therefore names.
		status, err := address("public_url", cfg.StatusURL)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(status, base+"/") {
			return nil, &vn.FieldError{Field: "public_url", Problem: "must be what the address for call progress begins with: the signature is checked by it"}
		}
		c.callbacks = newCallbacks(status)
	}
	if c.refusal, err = refusalXML(cfg); err != nil {
		return nil, err
	}
	if c.mediaText == "" {
		c.mediaText = DefaultMediaText
	}
	if err := checkMediaText(c.mediaText); err != nil {
		return nil, err
	}
	return c, nil
}

// mainAccount and subAccount begin the ids of accounts and of their subaccounts.
// https://www.plivo.com/docs/account/api/subaccount
const (
	mainAccount = "MA"
	subAccount  = "SA"
)

func checkAuth(id string, tokens []string) error {
	const field = "auth_id"
	if id == "" {
		return &vn.FieldError{Field: field, Problem: "is missing"}
	}
	if !strings.HasPrefix(id, mainAccount) && !strings.HasPrefix(id, subAccount) {
		return &vn.FieldError{Field: field, Problem: "must begin with MA (an account) or SA (a subaccount): it is the Auth ID of the console"}
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return &vn.FieldError{Field: field, Problem: "may hold only letters and digits"}
		}
	}
	if len(tokens) == 0 || len(tokens) > 2 {
		return &vn.FieldError{Field: "auth_tokens", Problem: "must hold one token, or two while it is rotated"}
	}
	for _, token := range tokens {
		if token == "" || token != strings.TrimSpace(token) {
			return &vn.FieldError{Field: "auth_tokens", Problem: "holds a token that is empty or has spaces around it"}
		}
	}
	return nil
}

// address checks the address in a setting and returns it without a slash at its end.
// Its port stays as it is written: Plivo signs the address as it was set, so that
// https://h and https://h:443 are two (the npm package plivo 4.79.0 does the same).
func address(field, s string) (string, error) {
	if s == "" {
		return "", &vn.FieldError{Field: field, Problem: "is missing: it is the address that Plivo calls, such as https://calls.example.com"}
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || strings.HasSuffix(u.Host, ":") || (u.Scheme != "https" && u.Scheme != "http") || !utf8.ValidString(s) {
		return "", &vn.FieldError{Field: field, Problem: "must be an http or https address, such as https://calls.example.com"}
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#") {
		return "", &vn.FieldError{Field: field, Problem: "must not hold a password, a query or a fragment: more is appended to it"}
	}
	return strings.TrimRight(s, "/"), nil
}

// Decode checks the signature and the account, then reads the call. The signature
// comes before everything else: without a valid one nothing but vn.ErrForbidden is
// told. A field that is wrong gives a *vn.FieldError, and nothing is written to call.
// call.ID lives as long as the request. secret is not used: the signature covers the
// path.
// https://docs.plivo.com/docs/voice/xml/request
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	v := c.verifier.get()
	defer c.verifier.put(v)
	if !c.authentic(v, &ctx.Request) {
		return vn.ErrForbidden
	}
	// An application without a hangup URL tells the end of a call here.
	// https://www.plivo.com/docs/account/api/application
	if event, err := v.fields.Text("Event"); err != nil || string(event.Value) == "Hangup" {
		return &vn.FieldError{Field: "Event", Problem: "must be that of a new call: the application's hangup URL must be the /status address"}
	}
	id, err := identifier(v.fields, "CallUUID")
	if err != nil {
		return err
	}
	from, err := v.fields.Get(fromField)
	if err != nil {
		return err
	}
	calling, ok := caller(from.Value)
	if !ok {
		return &vn.FieldError{Field: fromField, Problem: "is neither a number with country code nor a known marker"}
	}
	called, err := dialled(v.fields)
	if err != nil {
		return err
	}
	call.ID, call.Calling, call.Called = id, calling, called
	return nil
}

// authentic tells whether Plivo signed the request for our account, and leaves its
// fields in v. A token signs for one account; ParentAuthID, which requests carry though
// no reference page names it, guards against a token that was set with another
// account's id. It names the main account also where a subaccount is called.
func (c *Codec) authentic(v *check, req *fasthttp.Request) bool {
	if !v.verify(req) {
		return false
	}
	for i := range v.fields.Params {
		p := &v.fields.Params[i]
		if len(c.account) > 0 && string(p.Key) == "ParentAuthID" && !bytes.Equal(p.Value, c.account) {
			return false
		}
	}
	return true
}

// identifier reads the id of a call or of a message: a UUID, but Plivo promises no
// more than that it is unique. It lives as long as the request.
func identifier(f *form.Form, field string) ([]byte, error) {
	p, err := f.Get(field)
	if err != nil {
		return nil, err
	}
	if !text.Printable(p.Value, 64) {
		return nil, &vn.FieldError{Field: field, Problem: "is not an id"}
	}
	return p.Keep(), nil
}

// dialled reads the VN that was called or written to.
func dialled(f *form.Form) (vn.Number, error) {
	p, err := f.Get("To")
	if err != nil {
		return 0, err
	}
	n, ok := number(p.Value)
	if !ok {
		return 0, &vn.FieldError{Field: "To", Problem: "is not a number with country code"}
	}
	return n, nil
}

// number reads a number as Plivo writes it: the country code and digits, without a plus
// sign. One with a plus sign is taken too: Plivo's pages do not rule it out.
func number(s []byte) (vn.Number, bool) { return vn.ParseDigits(bytes.TrimPrefix(s, []byte{'+'})) }

// caller reads From: 0 and true for a caller without a number (withheld, or a SIP
// endpoint), false for what is neither that nor a number. Plivo's pages do not say
// what stands for a withheld number; these are the words that switches use.
func caller(from []byte) (vn.Number, bool) {
	if n, ok := number(from); ok {
		return n, true
	}
	return 0, text.Withheld(from) || text.HasPrefixFold(from, "sip:") || text.HasPrefixFold(from, "sips:")
}
