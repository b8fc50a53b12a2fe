package plivo

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// contentType is what Plivo takes for the answer to a message; for a call it takes
// text/xml as well.
// https://www.plivo.com/docs/sms/api/message/handling-incoming
const contentType = "application/xml"

// maxText bounds what Say speaks: about four minutes. Plivo names no limit but that of
// the whole answer, 100 KB (https://docs.plivo.com/docs/voice/xml/request).
const maxText = 3000

const (
	xmlHead = `<?xml version="1.0" encoding="UTF-8"?>`
	nothing = xmlHead + `<Response/>`
)

// callbacks are the attributes of <Dial> by which Plivo tells what becomes of the call,
// each up to the order's id; empty when nothing is asked for.
type callbacks struct{ action, event []byte }

// stopField and its value follow the order's id in a callback's address. Plivo signs
// "order_id=", the id, "." and the body's fields joined, and an id may hold dots: without a
// mark that no id can hold, "order_id=order.A7" could be sent on as "order_id=order" and a
// field that begins with "A7.".
const (
	stopField = "stop"
	stopValue = "1"
	stop      = "&amp;" + stopField + "=" + stopValue
)

// newCallbacks asks for both kinds: callbackUrl tells at once that the other side
// answers, and how long the two talked; action tells why nobody answered. Without
// redirect the call does not wait for our answer to action, nor hangs on it.
// https://docs.plivo.com/docs/voice/xml/dial
func newCallbacks(statusURL string) callbacks {
	to := append(text.AppendXML(nil, statusURL), "?order_id="...)
	return callbacks{
		action: append([]byte(`" action="`), to...),
		event:  append([]byte(stop+`" method="POST" redirect="false" callbackMethod="POST" callbackUrl="`), to...),
	}
}

// AppendAnswer appends the XML of the decision to dst. On our own failure it appends
// nothing and gives 503, which makes Plivo ask the application's fallback URL. So does
// a connection that lacks either number: <Dial> without callerId would show the
// caller's real number.
// https://www.plivo.com/docs/voice/xml/routing (default of callerId)
// https://docs.plivo.com/docs/voice/concepts/callback-configurations
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	switch {
	case d.Reason == vn.Connected && d.Destination.Valid() && d.CallerID.Valid():
		return c.appendDial(dst, d), contentType, http.StatusOK
	case d.Reason == vn.Connected || d.Reason == vn.Unavailable:
		return dst, contentType, http.StatusServiceUnavailable
	}
	return append(dst, c.refusal...), contentType, http.StatusOK
}

// appendDial appends the connection. Both callerId and callerName are the caller's own when
// they are left out, and a caller's name may hold the real number. timeout and timeLimit must
// be positive whole seconds; an order's id needs no escaping.
// https://docs.plivo.com/docs/voice/xml/dial https://www.plivo.com/docs/voice/xml/routing
func (c *Codec) appendDial(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, xmlHead+`<Response><Dial callerId="`...)
	dst = d.CallerID.AppendDigits(dst)
	dst = append(dst, `" callerName="`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, `" timeout="`...)
	dst = text.AppendSeconds(dst, d.RingTimeout)
	dst = append(dst, `" timeLimit="`...)
	dst = text.AppendSeconds(dst, d.MaxDuration)
	if len(c.callbacks.action) > 0 {
		dst = append(append(dst, c.callbacks.action...), d.OrderID...)
		dst = append(append(append(dst, c.callbacks.event...), d.OrderID...), stop...)
	}
	dst = append(dst, `"><Number>`...)
	dst = d.Destination.AppendDigits(dst)
	return append(dst, `</Number></Dial></Response>`...)
}

// refusalXML makes the one answer to every refused call, so that nobody learns from it
// which numbers are in use. <Hangup> as the first element ends a call unanswered.
// https://docs.plivo.com/docs/voice/xml/hangup https://docs.plivo.com/docs/voice/xml/audio-output
func refusalXML(cfg Config) ([]byte, error) {
	switch cfg.Refusal {
	case "", Reject:
		return []byte(xmlHead + `<Response><Hangup reason="rejected"/></Response>`), nil
	case Busy:
		return []byte(xmlHead + `<Response><Hangup reason="busy"/></Response>`), nil
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
		return nil, &vn.FieldError{Field: "text", Problem: "is longer than 3000 bytes"}
	}
	b := []byte(xmlHead + `<Response><Speak`)
	if cfg.Language != "" {
		b = append(b, ` language="`...)
		b = text.AppendXML(b, cfg.Language)
		b = append(b, '"')
	}
	b = append(b, '>')
	b = text.AppendXML(b, words)
	return append(b, `</Speak><Hangup/></Response>`...), nil
}

func checkMediaText(words string) error {
	const field = "media_text"
	if strings.TrimSpace(words) == "" {
		return &vn.FieldError{Field: field, Problem: "holds nothing to send"}
	}
	if utf8.RuneCountInString(words) > maxUnicode {
		return &vn.FieldError{Field: field, Problem: "is longer than 737 characters, the most that Plivo sends in any alphabet"}
	}
	return nil
}
