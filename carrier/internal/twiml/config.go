package twiml

import (
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// Refusal is the way a refused caller is told.
type Refusal string

// The ways to refuse. Reject and Busy end the call before it is answered, which is
// not billed; Say answers it to speak a text.
// https://www.twilio.com/docs/voice/twiml/reject
// https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/reject
const (
	Reject Refusal = "reject" // the caller hears that the number is not in service
	Busy   Refusal = "busy"   // the caller hears a busy signal
	Say    Refusal = "say"    // the caller hears Config.Text
)

// DefaultText is what Say speaks when Config.Text is empty.
const DefaultText = "The number you have dialled is not available."

// maxText is the shortest limit among Twilio's voices, and an empty text is refused.
// https://www.twilio.com/docs/api/errors/13521 https://www.twilio.com/docs/api/errors/13520
const maxText = 3000

// Config holds the settings of a Writer.
type Config struct {
	Refusal   Refusal // empty means Reject
	Text      string  // what Say speaks; empty means DefaultText
	Language  string  // of Text; empty means the carrier's default
	StatusURL string  // where the result of a connected call is told; empty asks for none
	// Attributes are further attributes of <Dial>, ready to be written, each with a
	// space before it.
	Attributes string
	Ring, Talk Span // what the carrier takes as timeout and as timeLimit of <Dial>
}

// Span bounds a duration: one outside is moved to the nearer end. The zero Span bounds
// nothing.
type Span struct{ Least, Most time.Duration }

func (s Span) clamp(d time.Duration) time.Duration {
	if s == (Span{}) {
		return d
	}
	return min(max(d, s.Least), s.Most)
}

// Writer writes answers. It is safe for concurrent use.
type Writer struct {
	refusal    []byte // the whole answer to every refused call
	attributes string
	action     []byte // the attributes of <Dial> up to the order's id; empty without StatusURL
	ring, talk Span
}

// NewWriter checks the settings and returns a Writer. An error is a *vn.FieldError
// that names the setting.
func NewWriter(cfg Config) (*Writer, error) {
	refusal, err := refusalOf(cfg)
	if err != nil {
		return nil, err
	}
	w := &Writer{refusal: refusal, attributes: cfg.Attributes, ring: cfg.Ring, talk: cfg.Talk}
	if cfg.StatusURL == "" {
		return w, nil
	}
	// The address is made of the setting public_url, which an error therefore names.
	if _, err := ParseURL("public_url", cfg.StatusURL); err != nil {
		return nil, err
	}
	w.action = append(text.AppendXML([]byte(` action="`), cfg.StatusURL), "?"+callback.OrderID+"="...)
	return w, nil
}

// refusalOf makes the one answer to every refused call, so that nobody learns from it
// which numbers are in use.
// https://www.twilio.com/docs/voice/twiml/reject https://www.twilio.com/docs/voice/twiml/say
func refusalOf(cfg Config) ([]byte, error) {
	switch cfg.Refusal {
	case "", Reject:
		return []byte(head + `<Response><Reject reason="rejected"/></Response>`), nil
	case Busy:
		return []byte(head + `<Response><Reject reason="busy"/></Response>`), nil
	case Say:
	default:
		return nil, &vn.FieldError{Field: "refusal", Problem: "must be reject, busy or say"}
	}
	words := cfg.Text
	if words == "" {
		words = DefaultText
	}
	if strings.TrimSpace(words) == "" {
		return nil, &vn.FieldError{Field: "text", Problem: "holds nothing to speak"}
	}
	if len(words) > maxText {
		return nil, &vn.FieldError{Field: "text", Problem: "is longer than 3000 bytes, the most that every voice speaks"}
	}
	b := []byte(head + `<Response><Say`)
	if cfg.Language != "" {
		b = append(b, ` language="`...)
		b = text.AppendXML(b, cfg.Language)
		b = append(b, '"')
	}
	b = append(b, '>')
	b = text.AppendXML(b, words)
	return append(b, `</Say><Hangup/></Response>`...), nil
}

// ParseURL reads the http or https address in a setting. It must not hold what cannot
// stand before a path or query that is appended to it. An error is a *vn.FieldError
// that names the field.
func ParseURL(field, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || strings.HasSuffix(u.Host, ":") || (u.Scheme != "https" && u.Scheme != "http") || !utf8.ValidString(s) {
		return nil, &vn.FieldError{Field: field, Problem: "must be an http or https address, such as https://calls.example.com"}
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#") {
		return nil, &vn.FieldError{Field: field, Problem: "must not hold a password, a query or a fragment: more is appended to it"}
	}
	return u, nil
}
