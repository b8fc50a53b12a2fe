package twiml

import (
	"bytes"
	"strconv"
	"time"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// Progress reads a callback about a call; uri is the request's path and query. known is
// false when it tells nothing that a vn.Progress can hold. There are three of them:
//
//   - the progress of a leg that <Dial> made: ParentCallSid is the caller's leg
//   - the result of <Dial>, asked for by action: CallSid is the caller's leg, and the
//     fields DialCall… are about the callee's. It has no word for why the leg ended
//   - the progress of the caller's leg, set for the number or the application
//
// https://www.twilio.com/docs/voice/twiml/dial https://www.twilio.com/docs/voice/api/call-resource
// https://developers.telnyx.com/api-reference/callbacks/texml-call-completed
func (r *Reader) Progress(f *form.Form, uri []byte, p *vn.Progress) (known bool, err error) {
	parent, err := f.Text("ParentCallSid")
	if err != nil {
		return false, err
	}
	dialled, err := f.Text("DialCallStatus")
	if err != nil {
		return false, err
	}
	got, prefix, id := vn.Progress{}, "", "CallSid"
	switch {
	case len(parent.Value) > 0:
		got.Leg, id = vn.CalleeLeg, "ParentCallSid"
	case len(dialled.Value) > 0:
		got.Leg, prefix = vn.CalleeLeg, "Dial"
	}
	word, err := f.Text(prefix + "CallStatus")
	if err != nil {
		return false, err
	}
	if got.Status, known = status(word.Value); !known {
		return false, nil
	}
	if got.CallID, err = r.id(f, id); err != nil {
		return false, err
	}
	if got.OrderID, err = orderID(uri); err != nil {
		return false, err
	}
	if got.Status == vn.LegCompleted {
		if got.Duration, err = seconds(f, prefix+"CallDuration"); err != nil {
			return false, err
		}
	}
	if got.Status.Final() && prefix == "" {
		if got.Cause, err = cause(f, r.Cause); err != nil {
			return false, err
		}
	}
	if got.At, err = timestamp(f); err != nil {
		return false, err
	}
	*p = got
	return true, nil
}

// status reads the word for a leg's status. queued and initiated tell nothing yet.
// https://www.twilio.com/docs/voice/api/call-resource https://www.twilio.com/docs/voice/twiml/dial
func status(word []byte) (s vn.LegStatus, known bool) {
	switch string(word) {
	case "ringing":
		return vn.LegRinging, true
	case "in-progress", "answered":
		return vn.LegAnswered, true
	case "completed":
		return vn.LegCompleted, true
	case "busy":
		return vn.LegBusy, true
	case "no-answer":
		return vn.LegNoAnswer, true
	case "canceled":
		return vn.LegCancelled, true
	case "failed":
		return vn.LegFailed, true
	}
	return 0, false
}

// orderID reads the order's id back from the query that our answer asked for.
func orderID(uri []byte) ([]byte, error) {
	_, query, _ := bytes.Cut(uri, []byte{'?'})
	var f form.Form
	if !f.Parse(query) {
		return nil, &vn.FieldError{Field: "query", Problem: "is not well formed"}
	}
	return callback.Order(&f)
}

// seconds reads whole seconds; a field that is missing or empty is 0.
func seconds(f *form.Form, field string) (time.Duration, error) {
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

// cause reads why a leg ended.
func cause(f *form.Form, field string) ([]byte, error) {
	p, err := f.Text(field)
	if err != nil {
		return nil, err
	}
	return text.Cause(p.Value), nil
}

// timestamp reads when it happened: RFC 2822 from Twilio, RFC 3339 from Telnyx. A time
// that is written otherwise is not worth losing the event for.
func timestamp(f *form.Form) (time.Time, error) {
	p, err := f.Text("Timestamp")
	if err != nil {
		return time.Time{}, err
	}
	for _, layout := range []string{time.RFC1123Z, time.RFC3339} {
		if at, err := time.Parse(layout, string(p.Value)); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, nil
}
