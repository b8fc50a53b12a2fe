package twilio

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/carrier/internal/twiml"
	"github.com/callmask/callmask/vn"
)

// Refusal is the way a refused caller is told.
type Refusal = twiml.Refusal

// The ways to refuse. Reject and Busy end the call before it is answered, which
// Twilio does not bill; Say answers it to speak a text.
// https://www.twilio.com/docs/voice/twiml/reject
const (
	Reject = twiml.Reject // the caller hears that the number is not in service
	Busy   = twiml.Busy   // the caller hears a busy signal
	Say    = twiml.Say    // the caller hears Config.Text
)

// DefaultText is what Say speaks when Config.Text is empty.
const DefaultText = twiml.DefaultText

// Config holds the settings of one Twilio account.
type Config struct {
	// AccountSID is the account's id, "AC" and 32 hexadecimal digits.
	AccountSID string
	// AuthTokens sign Twilio's requests: one, or two while the token is rotated.
	AuthTokens []string
	// PublicURL is the base of the URLs that Twilio calls, all of them by POST, such as
	// https://calls.example.com; the request's path and query are appended to it.
	PublicURL string
	// Refusal is how callers are refused; empty means Reject.
	Refusal Refusal
	// Text is what Say speaks; empty means DefaultText. Every refusal says the same.
	Text string
	// Language is the language of Text, such as "id-ID"; empty means Twilio's default.
	Language string
	// StatusURL is where Twilio tells how a connected call ended; it begins with
	// PublicURL. Empty asks for no such callback.
	StatusURL string
	// MediaText is what the sender of files is told by text message; empty means
	// DefaultMediaText.
	MediaText string
}

// Codec reads Twilio's webhooks and writes TwiML. It is safe for concurrent use.
type Codec struct {
	account   []byte
	verifier  *verifier
	reader    twiml.Reader
	writer    *twiml.Writer
	mediaText string
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
	// The address is made of the setting public_url, which an error therefore names.
	if cfg.StatusURL != "" && !strings.HasPrefix(cfg.StatusURL, bases[0]+"/") {
		return nil, &vn.FieldError{Field: "public_url", Problem: "must be what the address for call progress begins with: the signature is checked by it"}
	}
	writer, err := twiml.NewWriter(twiml.Config{
		Refusal: cfg.Refusal, Text: cfg.Text, Language: cfg.Language, StatusURL: cfg.StatusURL, Attributes: answerOnBridge,
	})
	if err != nil {
		return nil, err
	}
	if cfg.MediaText == "" {
		cfg.MediaText = DefaultMediaText
	}
	if err := checkMediaText(cfg.MediaText); err != nil {
		return nil, err
	}
	return &Codec{
		account: []byte(cfg.AccountSID), verifier: newVerifier(cfg.AuthTokens, bases), writer: writer, mediaText: cfg.MediaText,
		reader: twiml.Reader{Caller: caller, MaxID: maxID, Cause: "SipResponseCode"},
	}, nil
}

// maxID bounds the length of Twilio's ids, which have 34 characters.
const maxID = 64

// answerOnBridge lets the caller hear ringing, and be billed, until the other side
// answers.
// https://www.twilio.com/docs/voice/twiml/dial
const answerOnBridge = ` answerOnBridge="true"`

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
	u, err := twiml.ParseURL(field, public)
	if err != nil {
		return nil, err
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
	if !c.authentic(v, ctx) {
		return vn.ErrForbidden
	}
	return c.reader.Call(&v.form, call)
}

// DecodeProgress is Decode for a callback about a call: the result of <Dial> that
// AppendAnswer asked for, and the progress of a leg that the operator set a status
// callback for. known is false when it tells nothing that a vn.Progress can hold.
// p.CallID is the id that vn.Call.ID was. Its order's id is as true as the rest: the
// signature covers the query.
func (c *Codec) DecodeProgress(ctx *fasthttp.RequestCtx, _ []byte, p *vn.Progress) (known bool, err error) {
	v := c.verifier.get()
	defer c.verifier.put(v)
	if !c.authentic(v, ctx) {
		return false, vn.ErrForbidden
	}
	return c.reader.Progress(&v.form, ctx.Request.Header.RequestURI(), p)
}

// accountField is the field that Twilio signs first: no other of its fields sorts before it.
const accountField = "AccountSid"

// authentic tells whether Twilio signed the request for this account, and leaves its
// fields in v.form. A token signs for one account; the field guards against a token that
// was configured with another account's id.
//
// It must be there, once, and come first, so that the signed text says where the URL ends.
// Otherwise "…/status?order_id=order-12" and "AccountSid" could be sent on as
// "…/status?order_id=order-1" and a field "2AccountSid", or "…?order_id=A" without its
// last letter and with a field "A" that is empty: another order's call.
func (c *Codec) authentic(v *check, ctx *fasthttp.RequestCtx) bool {
	if !v.verify(&ctx.Request) || len(v.order) == 0 {
		return false
	}
	first := &v.order[0]
	if string(first.Key) != accountField || !bytes.Equal(first.Value, c.account) {
		return false
	}
	return len(v.order) == 1 || string(v.order[1].Key) != accountField
}

// AppendAnswer appends the TwiML of the decision to dst. On our own failure it
// appends nothing and gives 503, which makes Twilio ask the number's fallback URL
// (https://www.twilio.com/docs/api/errors/11200, .../11205). So does a
// connection that lacks either number: <Dial> without callerId would show the
// caller's real number (https://www.twilio.com/docs/voice/twiml/dial, its default).
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	return c.writer.AppendAnswer(dst, d)
}

// AppendProgressAnswer appends the TwiML that ends the call, to be sent with status 200.
func (c *Codec) AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return twiml.AppendProgressAnswer(dst)
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
