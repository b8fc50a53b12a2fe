package vonage

import (
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

const contentType = "application/json"

// DefaultText is what a refused caller hears when Config.Text is empty.
const DefaultText = "The number you have dialled is not available."

// The limits of the actions talk and connect.
// https://developer.vonage.com/en/voice/voice-api/ncco-reference
const (
	maxText  = 1500          // characters
	maxLimit = 2 * time.Hour // of a connection
)

// AppendAnswer appends the NCCO of the decision to dst. On our own failure, and for a
// connection that lacks either number, it appends nothing and gives 503, which makes
// Vonage ask the application's fallback URL (500 would not).
// https://developer.vonage.com/en/voice/voice-api/webhook-reference#fallback-url
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	switch {
	case d.Reason == vn.Connected && d.Destination.Valid() && d.CallerID.Valid():
		return c.appendConnect(dst, d), contentType, http.StatusOK
	case d.Reason == vn.Connected || d.Reason == vn.Unavailable:
		return dst, contentType, http.StatusServiceUnavailable
	}
	return append(dst, c.refusal...), contentType, http.StatusOK
}

// appendConnect appends the connection. from must be a number of the account: with
// another one, or none, the callee does not see the VN.
// https://developer.vonage.com/en/voice/voice-api/ncco-reference#connect
func (c *Codec) appendConnect(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, `[{"action":"connect","from":"`...)
	dst = d.CallerID.AppendDigits(dst)
	dst = append(dst, `","timeout":`...)
	dst = text.AppendSeconds(dst, d.RingTimeout)
	dst = append(dst, `,"limit":`...)
	dst = text.AppendSeconds(dst, min(d.MaxDuration, maxLimit))
	dst = append(dst, `,"endpoint":[{"type":"phone","number":"`...)
	dst = d.Destination.AppendDigits(dst)
	dst = append(dst, `"}]`...)
	if !c.status.None() {
		dst = append(dst, `,"eventUrl":[`...)
		dst = c.status.AppendJSON(dst, d.OrderID)
		dst = append(dst, ']')
	}
	return append(dst, `}]`...)
}

// refusalNCCO makes the one answer to every refused call, so that nobody learns from it
// which numbers are in use. It answers the call, for which Vonage bills, and speaks: no
// action is documented that refuses a call unanswered. The call ends with its last action.
// https://developer.vonage.com/en/voice/voice-api/ncco-reference#talk
func refusalNCCO(cfg Config) ([]byte, error) {
	words := cfg.Text
	if words == "" {
		words = DefaultText
	}
	if strings.TrimSpace(words) == "" {
		return nil, &vn.FieldError{Field: "text", Problem: "holds nothing to speak"}
	}
	if utf8.RuneCountInString(words) > maxText {
		return nil, &vn.FieldError{Field: "text", Problem: "is longer than 1500 characters, the most that Vonage speaks"}
	}
	b := text.AppendJSON([]byte(`[{"action":"talk","text":`), words)
	if cfg.Language != "" {
		b = text.AppendJSON(append(b, `,"language":`...), cfg.Language)
	}
	return append(b, `}]`...), nil
}
