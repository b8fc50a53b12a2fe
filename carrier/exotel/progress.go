package exotel

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

// DecodeProgress reads one of the three ways in which Exotel tells of a call:
//
//   - the Passthru applet behind the Connect applet: a GET whose DialCallStatus says how
//     dialling ended. https://support.exotel.com/support/solutions/articles/48283
//   - the Connect applet itself, while it dials: a GET with EventType.
//     https://support.exotel.com/support/solutions/articles/3000106308
//   - a StatusCallback: a POST, a form or JSON, whose Status is that of the whole call.
//     https://developer.exotel.com/docs/voice-v1
//
// It checks the secret first: without a valid one nothing but vn.ErrForbidden is told.
// known is false for an event that says nothing a vn.Progress can hold, such as one that
// dialling has begun. A wrong field gives a *vn.FieldError. p has its own memory.
func (c *Codec) DecodeProgress(ctx *fasthttp.RequestCtx, secret []byte, p *vn.Progress) (known bool, err error) {
	if !c.authorised(secret) {
		return false, vn.ErrForbidden
	}
	var r report
	_, query, _ := bytes.Cut(ctx.RequestURI(), []byte{'?'})
	if !r.query.Parse(query) {
		return false, errQuery()
	}
	order, err := callback.Order(&r.query)
	if err != nil {
		return false, err
	}
	if err := r.read(ctx); err != nil {
		return false, err
	}
	if sid := r.get("AccountSid"); sid != "" && sid != string(c.account) {
		return false, vn.ErrForbidden
	}
	id := r.get("CallSid")
	if !text.Printable(id, maxCallSid) {
		return false, &vn.FieldError{Field: "CallSid", Problem: "is missing, or is not the id of a call"}
	}
	told, known := r.tell()
	if known {
		told.CallID, told.OrderID = []byte(id), order
		*p = told
	}
	return known, nil
}

// AppendProgressAnswer appends the answer to a callback: nothing. A Passthru applet that
// is not asynchronous takes the status 200 for its first way on.
func (c *Codec) AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return dst, "text/plain"
}

// fields are all that is read of a callback; none holds a number. Legs[0] is the leg
// to the party that was dialled.
var fields = [...]string{
	"AccountSid", "CallSid", "DialCallStatus", "DialCallDuration", "EventType", "Status", "ConversationDuration",
	"CurrentTime", "DateUpdated", "Legs[0][OnCallDuration]", "Legs[0][CauseCode]",
}

// report is one callback.
type report struct {
	query  form.Form
	posted bool
	values [len(fields)]string
}

// read fills in the fields from the query of a GET or the body of a POST.
func (r *report) read(ctx *fasthttp.RequestCtx) error {
	f := &r.query
	switch {
	case ctx.IsGet():
	case !ctx.IsPost():
		return &vn.FieldError{Field: "method", Problem: "must be GET or POST"}
	case jsonBody(ctx):
		r.posted = true
		o, err := jsonform.Parse(ctx.PostBody(), fields[:]...)
		if err != nil {
			return err
		}
		for i, name := range fields {
			r.values[i] = o.Optional(name)
		}
		return nil
	default:
		r.posted = true
		f = new(form.Form)
		if !f.Parse(ctx.PostBody()) {
			return &vn.FieldError{Field: "body", Problem: "is not a well formed form"}
		}
	}
	for i, name := range fields {
		value, err := one(f, name)
		if err != nil {
			return err
		}
		r.values[i] = value
	}
	return nil
}

func jsonBody(ctx *fasthttp.RequestCtx) bool {
	mediaType, _, _ := bytes.Cut(ctx.Request.Header.ContentType(), []byte{';'})
	return text.EqualFold(bytes.TrimSpace(mediaType), "application/json")
}

// one returns the value of key, empty when it is missing: Exotel sends most parameters
// empty while they have no value.
func one(f *form.Form, key string) (value string, err error) {
	found := false
	for _, p := range f.Params {
		if string(p.Key) != key {
			continue
		}
		if found {
			return "", &vn.FieldError{Field: key, Problem: "is given more than once"}
		}
		found, value = true, string(p.Value)
	}
	return value, nil
}

func (r *report) get(name string) string {
	for i := range fields {
		if fields[i] == name {
			return r.values[i]
		}
	}
	return ""
}

// tell returns what happened, and whether a vn.Progress can hold it.
func (r *report) tell() (p vn.Progress, known bool) {
	switch {
	case r.get("DialCallStatus") != "":
		p.Leg = vn.CalleeLeg
		p.Status, known = ending(r.get("DialCallStatus"))
		p.Cause = text.Cause(r.get("Legs[0][CauseCode]"))
		p.Duration = r.talked("Legs[0][OnCallDuration]", "DialCallDuration", p.Status)
	case r.posted:
		p.Leg = vn.CallerLeg
		p.Status, known = ending(r.get("Status"))
		if text.EqualFold(r.get("EventType"), "answered") {
			p.Status, known = vn.LegAnswered, true
		}
		p.Duration = r.talked("ConversationDuration", "", p.Status)
	default:
		// Status is of no use here: it says that the one who is dialled is "busy" with this
		// call or "free" again, not that the line was busy.
		p.Leg = vn.CalleeLeg
		p.Status, known = step(r.get("EventType"))
	}
	p.At = r.at()
	return p, known
}

// step reads EventType of the Connect applet. "Dial" comes before anything has rung;
// "Terminal" does not say how the attempt ended, which DialCallStatus will.
func step(event string) (vn.LegStatus, bool) {
	switch {
	case text.EqualFold(event, "ringing"):
		return vn.LegRinging, true
	case text.EqualFold(event, "answered"):
		return vn.LegAnswered, true
	}
	return 0, false
}

// ending reads DialCallStatus and Status.
func ending(word string) (vn.LegStatus, bool) {
	switch word {
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

// talked returns the seconds in field, in older where that is missing, of a leg that was
// answered. DialCallDuration counts from the first ring, and so is not zero for a leg
// that nobody answered; Legs[0][OnCallDuration] is the conversation alone.
func (r *report) talked(field, older string, status vn.LegStatus) time.Duration {
	if status != vn.LegCompleted {
		return 0
	}
	value := r.get(field)
	if value == "" {
		value = r.get(older)
	}
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// at returns the time of the event. Exotel writes Indian time without saying so.
func (r *report) at() time.Time {
	value := r.get("CurrentTime")
	if value == "" {
		value = r.get("DateUpdated")
	}
	at, err := time.ParseInLocation(time.DateTime, value, time.FixedZone("IST", 5*3600+1800))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
