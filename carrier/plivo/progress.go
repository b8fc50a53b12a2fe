package plivo

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// DecodeProgress is Decode for a callback about a call. p.CallID is the CallUUID of the
// caller's leg, which Decode gave as the call's id. Plivo has three callbacks, and none
// that tells when the other side rings:
//
//   - callbackUrl of <Dial> (DialAction): the callee answers; is gone, after how long
//   - action of <Dial> (DialStatus): how it went, also when nobody answered
//   - the application's hangup URL (Event=Hangup): the caller is gone
//
// Plivo writes times without a zone, so p.At stays zero.
// https://docs.plivo.com/docs/voice/xml/dial https://www.plivo.com/docs/account/api/application
// https://docs.plivo.com/docs/voice/troubleshooting/hangup-causes
func (c *Codec) DecodeProgress(ctx *fasthttp.RequestCtx, _ []byte, p *vn.Progress) (known bool, err error) {
	v := c.verifier.get()
	defer c.verifier.put(v)
	if !c.authentic(v, &ctx.Request) {
		return false, vn.ErrForbidden
	}
	got, known, err := readProgress(v.fields)
	if err != nil || !known {
		return false, err
	}
	if got.OrderID, err = orderID(&v.query); err != nil {
		return false, err
	}
	*p = got
	return true, nil
}

// orderID reads the order's id back, which counts only when its end is marked.
func orderID(query *form.Form) ([]byte, error) {
	id, err := callback.Order(query)
	if err != nil || id == nil {
		return nil, err
	}
	mark, err := query.Text(stopField)
	if err != nil {
		return nil, err
	}
	if string(mark.Value) != stopValue {
		return nil, &vn.FieldError{Field: callback.OrderID, Problem: "has no " + stopField + "=" + stopValue + " behind it, which marks its end"}
	}
	return id, nil
}

// AppendProgressAnswer appends an answer that asks for nothing.
func (c *Codec) AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return append(dst, nothing...), contentType
}

// report is one kind of them: whose leg it is about, and which fields hold what.
type report struct {
	leg                     vn.Leg
	status, cause, duration string
}

// The kinds of callbacks, in the order in which they are told apart.
var (
	dialEvent  = report{vn.CalleeLeg, "DialAction", "DialBLegHangupCause", "DialBLegDuration"}
	dialResult = report{vn.CalleeLeg, "DialStatus", "DialHangupCause", "DialBLegDuration"}
	hangup     = report{vn.CallerLeg, "CallStatus", "HangupCause", "Duration"}
)

// readProgress reads everything but the order's id.
func readProgress(f *form.Form) (p vn.Progress, known bool, err error) {
	kind, known, err := kindOf(f)
	if err != nil || !known {
		return p, false, err
	}
	word, err := f.Text(kind.status)
	if err != nil {
		return p, false, err
	}
	why, err := f.Text(kind.cause)
	if err != nil {
		return p, false, err
	}
	seconds, err := duration(f, kind.duration)
	if err != nil {
		return p, false, err
	}
	p.Leg = kind.leg
	if p.Status, known = legStatus(word.Value, why.Value, seconds); !known {
		return p, false, nil
	}
	if p.CallID, err = callerLeg(f); err != nil {
		return p, false, err
	}
	if p.Status.Final() {
		p.Cause = text.Cause(why.Value)
	}
	if p.Status == vn.LegCompleted {
		p.Duration = seconds
	}
	return p, true, nil
}

// kindOf tells which callback it is.
func kindOf(f *form.Form) (kind report, known bool, err error) {
	for _, kind := range [...]report{dialEvent, dialResult} {
		p, err := f.Text(kind.status)
		if err != nil || len(p.Value) > 0 {
			return kind, true, err
		}
	}
	event, err := f.Text("Event")
	if err != nil {
		return report{}, false, err
	}
	direction, err := f.Text("Direction")
	return hangup, string(event.Value) == "Hangup" && string(direction.Value) != "outbound", err
}

// callerLeg reads the id of the caller's leg. Callbacks about the callee's name it apart.
func callerLeg(f *form.Form) ([]byte, error) {
	const apart = "DialALegUUID"
	if p, err := f.Text(apart); err != nil || len(p.Value) > 0 {
		return identifier(f, apart)
	}
	return identifier(f, "CallUUID")
}

// legStatus reads the word for a leg's status; why and talked are why it ended and after
// how long. What is known of these words is what Plivo's pages list and what requests
// show; they are kept in this one place.
//
//   - The cause comes first: the words for a caller who gave up differ by callback.
//   - DialAction=hangup is told of every leg that ends. Without a cause that says more,
//     and without time to talk, it is left to DialStatus to say how the leg ended.
//
// https://docs.plivo.com/docs/voice/use-cases/dial-status-reporting-xml
func legStatus(word, why []byte, talked time.Duration) (status vn.LegStatus, known bool) {
	switch string(why) {
	case "ORIGINATOR_CANCEL":
		return vn.LegCancelled, true
	case "USER_BUSY", "CALL_REJECTED":
		return vn.LegBusy, true
	case "NO_ANSWER", "NO_USER_RESPONSE":
		return vn.LegNoAnswer, true
	}
	switch string(word) {
	case "answer", "connected":
		return vn.LegAnswered, true
	case "hangup":
		return vn.LegCompleted, talked > 0
	case "completed":
		return vn.LegCompleted, true
	case "busy":
		return vn.LegBusy, true
	case "no-answer":
		return vn.LegNoAnswer, true
	case "cancel":
		return vn.LegCancelled, true
	case "failed", "timeout":
		return vn.LegFailed, true
	}
	return 0, false
}

// duration reads whole seconds; a field that is missing or empty is 0.
func duration(f *form.Form, field string) (time.Duration, error) {
	p, err := f.Text(field)
	if err != nil || len(p.Value) == 0 {
		return 0, err
	}
	n, err := strconv.ParseUint(string(p.Value), 10, 31)
	if err != nil {
		return 0, &vn.FieldError{Field: field, Problem: "is not a number of seconds"}
	}
	return time.Duration(n) * time.Second, nil
}
