package twilio

import (
	"net/http"
	"strings"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// contentType is what Twilio takes for TwiML.
// https://www.twilio.com/docs/voice/twiml
const contentType = "text/xml"

// maxText is the shortest limit among Twilio's voices, and an empty text is refused.
// https://www.twilio.com/docs/api/errors/13521 https://www.twilio.com/docs/api/errors/13520
const maxText = 3000

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>`

// AppendAnswer appends the TwiML of the decision to dst. On our own failure it
// appends nothing and gives 503, which makes Twilio ask the number's fallback URL
// (https://www.twilio.com/docs/api/errors/11200, .../11205). So does a
// connection that lacks either number: <Dial> without callerId would show the
// caller's real number (https://www.twilio.com/docs/voice/twiml/dial, its default).
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	switch {
	case d.Reason == vn.Connected && d.Destination.Valid() && d.CallerID.Valid():
		return appendDial(dst, d), contentType, http.StatusOK
	case d.Reason == vn.Connected || d.Reason == vn.Unavailable:
		return dst, contentType, http.StatusServiceUnavailable
	}
	return append(dst, c.refusal...), contentType, http.StatusOK
}

// appendDial appends the connection. answerOnBridge lets the caller hear ringing and
// be billed only once the other side answers; timeout and timeLimit must be positive
// whole seconds (https://www.twilio.com/docs/api/errors/13212, .../13216).
// https://www.twilio.com/docs/voice/twiml/dial https://www.twilio.com/docs/voice/twiml/number
func appendDial(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, xmlHead+`<Response><Dial callerId="`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, `" answerOnBridge="true" timeout="`...)
	dst = text.AppendSeconds(dst, d.RingTimeout)
	dst = append(dst, `" timeLimit="`...)
	dst = text.AppendSeconds(dst, d.MaxDuration)
	dst = append(dst, `"><Number>`...)
	dst = d.Destination.AppendE164(dst)
	return append(dst, `</Number></Dial></Response>`...)
}

// refusalTwiML makes the one answer to every refused call, so that nobody learns from
// it which numbers are in use.
// https://www.twilio.com/docs/voice/twiml/reject https://www.twilio.com/docs/voice/twiml/say
func refusalTwiML(cfg Config) ([]byte, error) {
	switch cfg.Refusal {
	case "", Reject:
		return []byte(xmlHead + `<Response><Reject reason="rejected"/></Response>`), nil
	case Busy:
		return []byte(xmlHead + `<Response><Reject reason="busy"/></Response>`), nil
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
		return nil, &vn.FieldError{Field: "text", Problem: "is longer than 3000 bytes, the most that every voice of Twilio speaks"}
	}
	b := []byte(xmlHead + `<Response><Say`)
	if cfg.Language != "" {
		b = append(b, ` language="`...)
		b = text.AppendXML(b, cfg.Language)
		b = append(b, '"')
	}
	b = append(b, '>')
	b = text.AppendXML(b, words)
	return append(b, `</Say><Hangup/></Response>`...), nil
}
