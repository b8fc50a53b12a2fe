package softswitch

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// maxCallID bounds the length of call_id.
const maxCallID = 128

const contentType = "application/json"

// Config holds the settings of one softswitch carrier, or of the API token.
type Config struct {
	// Tokens are the bearer tokens that may ask: one, or several while they rotate.
	Tokens []string
}

// Codec reads and answers resolve requests. It is safe for concurrent use.
type Codec struct {
	tokens [][sha256.Size]byte // hashes, so that comparing tells nothing of their length
	forms  sync.Pool
}

// New checks the settings and returns a codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	if len(cfg.Tokens) == 0 {
		return nil, &vn.FieldError{Field: "tokens", Problem: "must hold at least one token"}
	}
	c := &Codec{forms: sync.Pool{New: func() any { return new(form.Form) }}}
	for _, token := range cfg.Tokens {
		if !text.Printable(token, 4096) || strings.Contains(token, " ") {
			return nil, &vn.FieldError{Field: "tokens", Problem: "holds a token that is empty or has spaces or other than printable ASCII characters in it"}
		}
		c.tokens = append(c.tokens, sha256.Sum256([]byte(token)))
	}
	return c, nil
}

// Decode checks the token, then reads the call. Without a valid token nothing but
// vn.ErrForbidden is told; a wrong parameter gives a *vn.FieldError. call.ID points
// into the request. secret is not used.
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	if !c.authorised(ctx.Request.Header.Peek("Authorization")) {
		return vn.ErrForbidden
	}
	f := c.forms.Get().(*form.Form) //nolint:errcheck // the pool makes nothing else
	defer c.forms.Put(f)
	return decode(ctx.RequestURI(), f, call)
}

// authorised tells whether the header is "Bearer" (RFC 6750; the scheme's case does
// not matter, RFC 9110 section 11.1) and one of the tokens. Every token is compared.
func (c *Codec) authorised(header []byte) bool {
	const scheme = "bearer "
	if !text.HasPrefixFold(header, scheme) {
		return false
	}
	sum := sha256.Sum256(header[len(scheme):])
	found := 0
	for i := range c.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], c.tokens[i][:])
	}
	return found == 1
}

func decode(uri []byte, f *form.Form, call *vn.Call) error {
	_, query, _ := bytes.Cut(uri, []byte{'?'})
	if !f.Parse(query) {
		return &vn.FieldError{Field: "query", Problem: "is not well formed: percent-encode the values"}
	}
	p, err := f.Get("called")
	if err != nil {
		return err
	}
	called, ok := vn.ParseE164(p.Value)
	if !ok {
		return notNumber("called", p.Value, "is not a number with + and country code")
	}
	p, err = f.Get("calling")
	if err != nil {
		return err
	}
	calling, ok := vn.ParseE164(p.Value)
	if !ok && !text.Withheld(p.Value) {
		return notNumber("calling", p.Value, "is neither a number with + and country code nor a word such as anonymous")
	}
	p, err = f.Get("call_id")
	if err != nil {
		return err
	}
	if !text.Printable(p.Value, maxCallID) {
		return &vn.FieldError{Field: "call_id", Problem: "may hold 1 to " + strconv.Itoa(maxCallID) + " printable ASCII characters"}
	}
	call.ID, call.Calling, call.Called = p.Keep(), calling, called
	return nil
}

// notNumber names the usual mistake: a plus sign that was not percent-encoded
// arrives as a space.
func notNumber(field string, value []byte, problem string) error {
	if value[0] == ' ' {
		problem = "begins with a space: write its plus sign as %2B"
	}
	return &vn.FieldError{Field: field, Problem: problem}
}

// AppendAnswer appends the decision's JSON object to dst. The status is 200, but 503
// when the decision could not be made, so that a switch tries its next router. A
// connection that lacks either number is refused as unavailable: without a caller ID
// the caller's real number would be shown.
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	reason := d.Reason
	if reason == vn.Connected {
		if d.Destination.Valid() && d.CallerID.Valid() {
			return appendConnect(dst, d), contentType, http.StatusOK
		}
		reason = vn.Unavailable
	}
	status = http.StatusOK
	if reason == vn.Unavailable {
		status = http.StatusServiceUnavailable
	}
	code, phrase := reason.SIP()
	dst = append(dst, `{"action":"reject","reason":`...)
	dst = text.AppendJSON(dst, reason.String())
	dst = append(dst, `,"sip_code":`...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, `,"sip_reason":`...)
	dst = text.AppendJSON(dst, phrase)
	return append(dst, '}'), contentType, status
}

func appendConnect(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, `{"action":"connect","destination":"`...)
	dst = d.Destination.AppendE164(dst)
	dst = append(dst, `","caller_id":"`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, `","order_id":`...)
	dst = text.AppendJSON(dst, d.OrderID)
	dst = append(dst, `,"ring_timeout_s":`...)
	dst = text.AppendSeconds(dst, d.RingTimeout)
	dst = append(dst, `,"max_duration_s":`...)
	dst = text.AppendSeconds(dst, d.MaxDuration)
	return append(dst, '}')
}
