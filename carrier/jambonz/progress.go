package jambonz

import (
	"bytes"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/jsonform"
	"github.com/callmask/callmask/vn"
)

// DecodeProgress checks the signature, then reads one of two callbacks:
//   - the actionHook of the dial verb, once, when dialling is over. It has the order's id
//     in its query and the callee's leg in dial_call_status and dial_sip_status.
//   - the application's call_status_hook, at every change of either leg: an inbound call
//     is the caller's, an outbound one with a parent_call_sid the callee's.
//
// Without a valid signature nothing but vn.ErrForbidden is told; a wrong field gives a
// *vn.FieldError. known is false for what says nothing of a masked call: an outbound call
// without a parent, a leg that is only being tried, a status of a later version. p.At is the
// time of the signature. secret is not used. The callbacks' from and to are never read.
// https://docs.jambonz.org/docs/webhooks/dial https://docs.jambonz.org/reference/websocket-api/call-control/call-status
func (c *Codec) DecodeProgress(ctx *fasthttp.RequestCtx, _ []byte, p *vn.Progress) (known bool, err error) {
	at, ok := c.signed(ctx)
	if !ok {
		return false, vn.ErrForbidden
	}
	o, err := jsonform.Parse(ctx.PostBody(), "call_sid", "parent_call_sid", "direction", "call_status", "sip_status",
		"duration", "dial_call_status", "dial_sip_status")
	if err != nil {
		return false, err
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
	told := vn.Progress{OrderID: order, At: at}
	if order != nil || o.Optional("dial_call_status") != "" {
		known, err = dialled(o, &told)
	} else {
		known, err = changed(o, &told)
	}
	if err == nil && known && told.Status == vn.LegCompleted {
		told.Duration, err = duration(o)
	}
	if err != nil || !known {
		return false, err
	}
	*p = told
	return true, nil
}

// dialled reads an actionHook. Its dial_call_status is the last that was heard of the
// callee's leg before dialling ended, so a leg that never got beyond ringing says "ringing";
// it is missing when no call could be made at all. call_status is the caller's leg, and
// "no-answer" there means that the caller hung up.
func dialled(o *jsonform.Object, p *vn.Progress) (known bool, err error) {
	if p.CallID, err = callSID(o, "call_sid"); err != nil {
		return false, err
	}
	p.Leg = vn.CalleeLeg
	switch o.Optional("dial_call_status") {
	case "completed":
		p.Status = vn.LegCompleted
	case "busy":
		p.Status = vn.LegBusy
	case "failed", "":
		p.Status = vn.LegFailed
	case "no-answer", "trying", "ringing", "early-media", "in-progress":
		p.Status = vn.LegNoAnswer
		if o.Optional("call_status") == "no-answer" {
			p.Status = vn.LegCancelled
		}
	default:
		return false, nil
	}
	p.Cause = cause(o.Optional("dial_sip_status"))
	return true, nil
}

// changed reads a call_status_hook.
func changed(o *jsonform.Object, p *vn.Progress) (known bool, err error) {
	direction, err := o.String("direction")
	if err != nil {
		return false, err
	}
	id := "call_sid"
	switch direction {
	case "inbound":
	case "outbound":
		if o.Optional("parent_call_sid") == "" {
			return false, nil
		}
		p.Leg, id = vn.CalleeLeg, "parent_call_sid"
	default:
		return false, nil
	}
	if p.CallID, err = callSID(o, id); err != nil {
		return false, err
	}
	p.Cause = cause(o.Optional("sip_status"))
	p.Status, known = legStatus(o.Optional("call_status"), p.Leg, p.Cause)
	return known, nil
}

// legStatus translates a call_status. A leg that is "completed" with a SIP error was given
// up at the moment it was answered, or while a tone was played; a caller's leg with "no-answer" was
// given up by the caller.
func legStatus(word string, leg vn.Leg, sipError []byte) (status vn.LegStatus, known bool) {
	switch word {
	case "ringing", "early-media":
		return vn.LegRinging, true
	case "in-progress":
		return vn.LegAnswered, true
	case "completed":
		if sipError != nil {
			return vn.LegCancelled, true
		}
		return vn.LegCompleted, true
	case "busy":
		return vn.LegBusy, true
	case "no-answer":
		if leg == vn.CallerLeg {
			return vn.LegCancelled, true
		}
		return vn.LegNoAnswer, true
	case "failed":
		return vn.LegFailed, true
	}
	return 0, false
}

// cause returns a SIP status code that says why a leg ended (RFC 3261 section 21: 300 to
// 699), nil for any other text.
func cause(code string) []byte {
	if len(code) != 3 || code[0] < '3' || code[0] > '6' || code[1] < '0' || code[1] > '9' || code[2] < '0' || code[2] > '9' {
		return nil
	}
	return []byte(code)
}

// duration reads how long the ends could talk, in seconds. The actionHook has none when
// the callee hung up first; the call_status_hook of the leg then tells.
func duration(o *jsonform.Object) (time.Duration, error) {
	digits := o.Optional("duration")
	if digits == "" {
		return 0, nil
	}
	seconds, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, &vn.FieldError{Field: "duration", Problem: "is not a number of seconds"}
	}
	return time.Duration(seconds) * time.Second, nil
}
