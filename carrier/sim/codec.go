package sim

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// SignatureHeader carries "t=<unix seconds>,v1=<hex HMAC-SHA256 of t.body>".
const SignatureHeader = "X-Sim-Signature"

// Window is how far the time of a signature may lie from the receiver's clock.
const Window = 5 * time.Minute

const jsonType = "application/json"

// The causes of a refusal, as the caller hears them. A number that is not assigned
// and a caller who is not allowed are told the same.
const (
	NotInService = "not_in_service"
	Ended        = "order_ended"
	Withheld     = "caller_withheld"
	Declined     = "declined"
)

// Config holds the settings of the simulated carrier's webhook.
type Config struct {
	// Secrets sign the webhook: one, or two while the secret is rotated.
	Secrets []string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Codec reads the webhook {"call_id","from","to"} and writes the JSON answer. It is
// safe for concurrent use.
type Codec struct {
	secrets [][]byte
	now     func() time.Time
}

// NewCodec checks the settings and returns a codec. An error names the setting.
func NewCodec(cfg Config) (*Codec, error) {
	if len(cfg.Secrets) == 0 || len(cfg.Secrets) > 2 {
		return nil, &vn.FieldError{Field: "secrets", Problem: "must hold one secret, or two while it is rotated"}
	}
	c := &Codec{now: cfg.Now}
	if c.now == nil {
		c.now = time.Now
	}
	for _, secret := range cfg.Secrets {
		if secret == "" {
			return nil, &vn.FieldError{Field: "secrets", Problem: "holds an empty secret"}
		}
		c.secrets = append(c.secrets, []byte(secret))
	}
	return c, nil
}

// Sign returns the value of SignatureHeader for a body sent at the given time.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	sum := mac([]byte(secret), []byte(t), body)
	return "t=" + t + ",v1=" + hex.EncodeToString(sum[:])
}

func mac(secret, timestamp, body []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, secret)
	h.Write(timestamp)
	h.Write([]byte{'.'})
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

// Decode checks the signature and its time, then reads the call. Without a valid
// signature nothing but vn.ErrForbidden is told; a wrong field gives a
// *vn.FieldError. call.ID belongs to the call. secret is not used.
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	body := ctx.PostBody()
	if !ctx.IsPost() || !c.signed(ctx.Request.Header.Peek(SignatureHeader), body) {
		return vn.ErrForbidden
	}
	w, err := readWebhook(body)
	if err != nil {
		return err
	}
	if !text.Printable(w.CallID, 128) {
		return &vn.FieldError{Field: "call_id", Problem: "may hold 1 to 128 printable ASCII characters"}
	}
	calling, ok := vn.ParseE164(w.From)
	if !ok && !text.Withheld(w.From) {
		return &vn.FieldError{Field: "from", Problem: "is neither a number with + and country code nor a word such as anonymous"}
	}
	called, ok := vn.ParseE164(w.To)
	if !ok {
		return &vn.FieldError{Field: "to", Problem: "is not a number with + and country code"}
	}
	call.ID, call.Calling, call.Called = []byte(w.CallID), calling, called
	return nil
}

// signed tells whether header is a signature of body by one of the secrets, made
// within the window. Every secret is compared.
func (c *Codec) signed(header, body []byte) bool {
	rest, ok := bytes.CutPrefix(header, []byte("t="))
	if !ok {
		return false
	}
	timestamp, signature, ok := bytes.Cut(rest, []byte(",v1="))
	if !ok || len(signature) != 2*sha256.Size || len(timestamp) == 0 || len(timestamp) > 12 {
		return false
	}
	var at int64
	for _, d := range timestamp {
		if d < '0' || d > '9' {
			return false
		}
		at = at*10 + int64(d-'0')
	}
	if age := c.now().Sub(time.Unix(at, 0)); age > Window || age < -Window {
		return false
	}
	found := false
	for _, secret := range c.secrets {
		sum := mac(secret, timestamp, body)
		var want [2 * sha256.Size]byte
		hex.Encode(want[:], sum[:])
		if hmac.Equal(want[:], signature) {
			found = true
		}
	}
	return found
}

// webhook announces a call.
type webhook struct {
	CallID string `json:"call_id"`
	From   string `json:"from"` // +E.164 or a word for a withheld number
	To     string `json:"to"`   // +E.164
}

// readWebhook reads the body strictly: each field once, a string that is not empty,
// and nothing else.
func readWebhook(body []byte) (w webhook, err error) {
	broken := &vn.FieldError{Field: "body", Problem: "is not a JSON object"}
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return w, broken
	}
	fields := [...]struct {
		name  string
		value *string
		seen  bool
	}{{name: "call_id", value: &w.CallID}, {name: "from", value: &w.From}, {name: "to", value: &w.To}}
next:
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return w, broken
		}
		for i := range fields {
			f := &fields[i]
			if key != f.name {
				continue
			}
			if f.seen {
				return w, &vn.FieldError{Field: f.name, Problem: "is given more than once"}
			}
			f.seen = true
			value, err := dec.Token()
			if err != nil {
				return w, broken
			}
			s, ok := value.(string)
			if !ok {
				return w, &vn.FieldError{Field: f.name, Problem: "must be a string"}
			}
			*f.value = s
			continue next
		}
		return w, &vn.FieldError{Field: "body", Problem: "may hold only call_id, from and to"}
	}
	if _, err := dec.Token(); err != nil {
		return w, broken
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return w, broken
	}
	for i := range fields {
		if !fields[i].seen {
			return w, &vn.FieldError{Field: fields[i].name, Problem: "is missing"}
		}
		if *fields[i].value == "" {
			return w, &vn.FieldError{Field: fields[i].name, Problem: "is empty"}
		}
	}
	return w, nil
}

// AppendAnswer appends the decision as {"action":"dial","number","caller_id",
// "ring_timeout_s","max_duration_s"} or {"action":"refuse","cause"}. On our own
// failure, and for a connection that lacks either number, it appends nothing and
// gives 503.
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	cause := Declined
	switch d.Reason {
	case vn.Connected:
		if !d.Destination.Valid() || !d.CallerID.Valid() {
			return dst, jsonType, http.StatusServiceUnavailable
		}
		dst = append(dst, `{"action":"dial","number":"`...)
		dst = d.Destination.AppendE164(dst)
		dst = append(dst, `","caller_id":"`...)
		dst = d.CallerID.AppendE164(dst)
		dst = append(dst, `","ring_timeout_s":`...)
		dst = text.AppendSeconds(dst, d.RingTimeout)
		dst = append(dst, `,"max_duration_s":`...)
		dst = text.AppendSeconds(dst, d.MaxDuration)
		return append(dst, '}'), jsonType, http.StatusOK
	case vn.Unavailable:
		return dst, jsonType, http.StatusServiceUnavailable
	case vn.NumberNotAssigned, vn.CallerNotAllowed:
		cause = NotInService
	case vn.OrderEnded:
		cause = Ended
	case vn.CallerWithheld:
		cause = Withheld
	}
	dst = append(dst, `{"action":"refuse","cause":"`...)
	dst = append(dst, cause...)
	return append(dst, `"}`...), jsonType, http.StatusOK
}
