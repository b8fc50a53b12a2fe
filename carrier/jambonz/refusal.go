package jambonz

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// Refusal is the way a refused caller is told.
type Refusal string

// The ways to refuse. Reject and Busy end the call before it is answered; Say answers it
// to speak a text.
const (
	Reject Refusal = "reject" // SIP 603 Decline
	Busy   Refusal = "busy"   // SIP 486 Busy Here
	Say    Refusal = "say"    // the caller hears Config.Text
)

// DefaultText is what Say speaks when Config.Text is empty.
const DefaultText = "The number you have dialled is not available."

// maxText is how many characters jambonz-feature-server speaks in one piece. It splits a
// longer text, and takes each piece that begins as an address for one.
const maxText = 900

// address is how a text begins that jambonz-feature-server plays as a file instead of
// speaking it: whatever JavaScript's URL takes, so that "Sorry: …" is one too, and
// silence_stream. https://url.spec.whatwg.org/#concept-basic-url-parser
var address = regexp.MustCompile(`^[\x00-\x20]*[A-Za-z][\w+.\t\r\n-]*:`)

// refusalVerbs makes the one answer to every refused call, so that nobody learns from it
// which numbers are in use. 603 keeps the caller's network from trying the same number
// another way (RFC 3261 section 21.6.2); 486 lets it (section 21.4.24).
// https://docs.jambonz.org/verbs/verbs/sip-decline https://docs.jambonz.org/docs/webhooks/say
func refusalVerbs(cfg Config) ([]byte, error) {
	switch cfg.Refusal {
	case "", Reject:
		return []byte(`[{"verb":"sip:decline","status":603,"reason":"Decline"}]`), nil
	case Busy:
		return []byte(`[{"verb":"sip:decline","status":486,"reason":"Busy Here"}]`), nil
	case Say:
		return sayVerbs(cfg)
	}
	return nil, &vn.FieldError{Field: "refusal", Problem: "must be reject, busy or say"}
}

func sayVerbs(cfg Config) ([]byte, error) {
	words := cfg.Text
	if words == "" {
		words = DefaultText
	}
	switch {
	case strings.TrimSpace(words) == "":
		return nil, &vn.FieldError{Field: "text", Problem: "holds nothing to speak"}
	case utf8.RuneCountInString(words) > maxText:
		return nil, &vn.FieldError{Field: "text", Problem: "is longer than 900 characters, the most that jambonz speaks in one piece"}
	case address.MatchString(words):
		return nil, &vn.FieldError{Field: "text", Problem: "begins with a word and a colon, as an address does: jambonz would play it, not speak it"}
	}
	b := text.AppendJSON([]byte(`[{"verb":"say","text":`), words)
	if cfg.Language != "" {
		// jambonz refuses a synthesizer without vendor. default is the application's.
		b = append(b, `,"synthesizer":{"vendor":"default","language":`...)
		b = append(text.AppendJSON(b, cfg.Language), '}')
	}
	return append(b, `},{"verb":"hangup"}]`...), nil
}
