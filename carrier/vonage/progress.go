package vonage

import (
	"bytes"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/jsonform"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// DecodeProgress reads an event webhook: of the callee's leg from the address that our
// answer asked for, and of the caller's leg when the application's event URL is the same
// address. Both name the conversation, which is the call's id.
//
// It checks the signature first: without a valid one nothing but vn.ErrForbidden is told.
// known is false for events that say nothing of a leg's progress, such as "transfer" or
// an error in an NCCO. A wrong field gives a *vn.FieldError. p has its own memory.
//
// https://developer.vonage.com/en/voice/voice-api/webhook-reference#event-webhook
func (c *Codec) DecodeProgress(ctx *fasthttp.RequestCtx, _ []byte, p *vn.Progress) (known bool, err error) {
	body := ctx.PostBody()
	if !ctx.IsPost() || !c.verifier.verify(ctx.Request.Header.Peek("Authorization"), body) {
		return false, vn.ErrForbidden
	}
	var query form.Form
	_, raw, _ := bytes.Cut(ctx.RequestURI(), []byte{'?'})
	if !query.Parse(raw) {
		return false, &vn.FieldError{Field: "query", Problem: "is not well formed"}
	}
	order, err := callback.Order(&query)
	if err != nil {
		return false, err
	}
	o, err := jsonform.Parse(body, "conversation_uuid", "direction", "status", "detail", "duration", "timestamp")
	if err != nil {
		return false, err
	}
	status, known := legStatus(o.Optional("status"))
	if !known {
		return false, nil
	}
	id, err := o.String("conversation_uuid")
	if err != nil {
		return false, err
	}
	if !text.Printable(id, maxUUID) {
		return false, &vn.FieldError{Field: "conversation_uuid", Problem: "is not the id of a conversation"}
	}
	told := vn.Progress{CallID: []byte(id), OrderID: order, Status: status, Cause: text.Cause(o.Optional("detail")), At: at(o.Optional("timestamp"))}
	switch o.Optional("direction") {
	case "inbound":
		told.Leg = vn.CallerLeg
	case "outbound":
		told.Leg = vn.CalleeLeg
	default:
		return false, &vn.FieldError{Field: "direction", Problem: "must be inbound or outbound"}
	}
	if status == vn.LegCompleted {
		told.Duration = duration(o.Optional("duration"))
	}
	*p = told
	return true, nil
}

// AppendProgressAnswer appends the answer to an event: nothing, for Vonage ignores it.
func (c *Codec) AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return dst, "text/plain"
}

// legStatus reads status. "started" comes before anything has rung.
func legStatus(word string) (vn.LegStatus, bool) {
	switch word {
	case "ringing":
		return vn.LegRinging, true
	case "answered":
		return vn.LegAnswered, true
	case "completed":
		return vn.LegCompleted, true
	case "busy":
		return vn.LegBusy, true
	case "unanswered", "timeout":
		return vn.LegNoAnswer, true
	case "cancelled":
		return vn.LegCancelled, true
	case "failed", "rejected":
		return vn.LegFailed, true
	}
	return 0, false
}

// duration reads whole seconds, which Vonage writes as a string; 0 for anything else.
func duration(value string) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// at reads the event's time; zero for anything else.
func at(timestamp string) time.Time {
	t, err := time.Parse(time.RFC3339, timestamp)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
