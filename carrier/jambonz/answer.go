package jambonz

import (
	"net/http"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// contentType makes jambonz read an answer; the body of any other it passes over.
const contentType = "application/json"

// assertedHost is the host of the identity that we assert. Unverified: drachtio puts its own
// address in the place of localhost in From and Contact; here the carrier may see the word. What
// matters is the user part, which sbc-outbound and carriers take for the caller's number.
const assertedHost = "localhost"

// AppendAnswer appends the verbs of the decision to dst. On our own failure, and for a
// connection that lacks either number, it appends nothing and gives 503: jambonz then
// ends the call with SIP 480.
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	switch {
	case d.Reason == vn.Connected && d.Destination.Valid() && d.CallerID.Valid():
		return c.appendDial(dst, d), contentType, http.StatusOK
	case d.Reason == vn.Connected || d.Reason == vn.Unavailable:
		return dst, contentType, http.StatusServiceUnavailable
	}
	return append(dst, c.refusal...), contentType, http.StatusOK
}

// appendDial appends the connection. answerOnBridge lets the caller hear ringing and
// answers that leg only once the other side answers.
//
// The headers are not for decoration. Several versions of jambonz-feature-server copy
// P-Asserted-Identity and Privacy from the caller's leg to the callee's (issues 277, 459, 1277
// and 1506 of jambonz/jambonz-feature-server), and sbc-outbound forwards them to the carrier:
// the first shows the caller's real number, the second hides the VN. What the verb names
// itself takes precedence in all of them. A display name is sent only when callerName asks
// for one.
// https://docs.jambonz.org/docs/webhooks/dial
func (c *Codec) appendDial(dst []byte, d *vn.Decision) []byte {
	dst = append(dst, `[{"verb":"dial","callerId":"`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, `","headers":{"P-Asserted-Identity":"<sip:`...)
	dst = d.CallerID.AppendE164(dst)
	dst = append(dst, `@`+assertedHost+`>","Privacy":"none"},"answerOnBridge":true,"timeout":`...)
	dst = text.AppendSeconds(dst, d.RingTimeout)
	dst = append(dst, `,"timeLimit":`...)
	dst = text.AppendSeconds(dst, d.MaxDuration)
	if !c.status.None() {
		dst = c.status.AppendJSON(append(dst, `,"actionHook":`...), d.OrderID)
	}
	dst = append(dst, `,"target":[{"type":"phone","number":"`...)
	dst = d.Destination.AppendE164(dst)
	dst = append(dst, '"')
	dst = append(dst, c.trunk...)
	return append(dst, `}]}]`...)
}

// AppendProgressAnswer appends the answer to every callback: no further verbs, so that the
// call ends with its dial verb.
func (*Codec) AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return append(dst, `[]`...), contentType
}
