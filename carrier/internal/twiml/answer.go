package twiml

import (
	"net/http"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// ContentType is what both carriers take for their markup.
// https://www.twilio.com/docs/voice/twiml
const ContentType = "text/xml"

const (
	head     = `<?xml version="1.0" encoding="UTF-8"?>`
	hangup   = head + `<Response><Hangup/></Response>`
	response = head + `<Response/>`
)

// AppendAnswer appends the markup of the decision to dst, with status 200. On our own
// failure it appends nothing and gives 503, which makes the carrier ask the fallback
// URL. So does a connection that lacks either number: <Dial> without callerId would
// show the caller's real number.
func (w *Writer) AppendAnswer(dst []byte, d *vn.Decision) (body []byte, mediaType string, status int) {
	switch {
	case d.Reason == vn.Connected && d.Destination.Valid() && d.CallerID.Valid():
		return w.appendDial(dst, d), ContentType, http.StatusOK
	case d.Reason == vn.Connected || d.Reason == vn.Unavailable:
		return dst, ContentType, http.StatusServiceUnavailable
	}
	return append(dst, w.refusal...), ContentType, http.StatusOK
}

// appendDial appends the connection. timeout and timeLimit must be positive whole
// seconds (https://www.twilio.com/docs/api/errors/13212, .../13216). action is asked
// once when the connection has ended, however it ended; an order's id needs no
// escaping in its query.
// https://www.twilio.com/docs/voice/twiml/dial https://www.twilio.com/docs/voice/twiml/number
func (w *Writer) appendDial(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, head+`<Response><Dial callerId="`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, '"')
	dst = append(dst, w.attributes...)
	dst = append(dst, ` timeout="`...)
	dst = text.AppendSeconds(dst, w.ring.clamp(d.RingTimeout))
	dst = append(dst, `" timeLimit="`...)
	dst = text.AppendSeconds(dst, w.talk.clamp(d.MaxDuration))
	dst = append(dst, '"')
	if len(w.action) > 0 {
		dst = append(dst, w.action...)
		dst = text.AppendXML(dst, d.OrderID)
		dst = append(dst, `" method="POST"`...)
	}
	dst = append(dst, `><Number>`...)
	dst = d.Destination.AppendE164(dst)
	return append(dst, `</Number></Dial></Response>`...)
}

// AppendProgressAnswer appends the answer to a callback. The one that action asked for
// says how the caller's leg goes on, now that the callee's has ended: it ends too. The
// others do not read it.
func AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return append(dst, hangup...), ContentType
}

// AppendMessage appends the markup that sends a text. Both numbers must be valid.
// https://www.twilio.com/docs/messaging/twiml/message
func AppendMessage[T ~string | ~[]byte](dst []byte, callerID, destination vn.Number, words T) []byte {
	dst = append(dst, head+`<Response><Message from="`...)
	dst = callerID.AppendE164(dst)
	dst = append(dst, `" to="`...)
	dst = destination.AppendE164(dst)
	dst = append(dst, `">`...)
	dst = text.AppendXML(dst, words)
	return append(dst, `</Message></Response>`...)
}

// AppendNothing appends the markup that does nothing.
func AppendNothing(dst []byte) []byte { return append(dst, response...) }
