package exotel

import (
	"net/http"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

const contentType = "application/json"

// refusal dials nobody: the flow takes its way "We didn't dial anyone", where an applet
// of the operator's may speak. It is the one answer to every refused call, so that nobody
// learns from it which numbers are in use. (Seen in use by others; Exotel documents no
// other answer that refuses.)
const refusal = `{"fetch_after_attempt":false,"destination":{"numbers":[]}}`

// AppendAnswer appends the Connect applet's settings for the decision to dst. Our own
// failure, and a connection that lacks either number, appends nothing and gives 503 when
// the applet has a fallback, for Exotel asks it after any status but 200; otherwise it
// is answered like a refusal.
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	switch {
	case d.Reason == vn.Connected && d.Destination.Valid() && d.CallerID.Valid():
		return c.appendConnect(dst, d), contentType, http.StatusOK
	case c.fallback && (d.Reason == vn.Connected || d.Reason == vn.Unavailable):
		return dst, contentType, http.StatusServiceUnavailable
	}
	return append(dst, refusal...), contentType, http.StatusOK
}

// appendConnect appends the connection. outgoing_phone_number is the caller ID and must be
// a number of the account; fetch_after_attempt is off because our answer would be the same.
// https://support.exotel.com/support/solutions/articles/3000096873
func (c *Codec) appendConnect(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, `{"fetch_after_attempt":false,"destination":{"numbers":["`...)
	dst = d.Destination.AppendE164(dst)
	dst = append(dst, `"]},"outgoing_phone_number":"`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, `","record":false,"max_ringing_duration":`...)
	dst = text.AppendSeconds(dst, d.RingTimeout)
	dst = append(dst, `,"max_conversation_duration":`...)
	dst = text.AppendSeconds(dst, d.MaxDuration)
	dst = append(dst, `,"music_on_hold":{"type":"operator_tone"},"parallel_ringing":{"activate":false}`...)
	if !c.status.None() {
		dst = append(dst, `,"dial_passthru_event_url":`...)
		dst = c.status.AppendJSON(dst, d.OrderID)
	}
	return append(dst, '}')
}
