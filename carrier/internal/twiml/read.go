package twiml

import (
	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// Reader reads the fields of a carrier's requests. Errors are *vn.FieldError.
type Reader struct {
	// Caller reads From: 0 and true for a caller without a number, false for what is
	// neither that nor a number.
	Caller func(from []byte) (vn.Number, bool)
	// MaxID bounds the length of a call's id.
	MaxID int
	// Cause is the field that tells why a leg ended.
	Cause string
}

// Call reads the announcement of a call. call.ID lives as long as the parsed text;
// nothing is written to call when there is an error.
// https://www.twilio.com/docs/voice/twiml
// https://developers.telnyx.com/docs/voice/programmable-voice/texml-fundamentals
func (r *Reader) Call(f *form.Form, call *vn.Call) error {
	id, err := r.id(f, "CallSid")
	if err != nil {
		return err
	}
	from, err := f.Get("From")
	if err != nil {
		return err
	}
	calling, ok := r.Caller(from.Value)
	if !ok {
		return &vn.FieldError{Field: "From", Problem: "is neither a number with + and country code nor a known marker"}
	}
	to, err := f.Get("To")
	if err != nil {
		return err
	}
	called, ok := vn.ParseE164(to.Value)
	if !ok {
		return &vn.FieldError{Field: "To", Problem: "is not a number with + and country code"}
	}
	call.ID, call.Calling, call.Called = id, calling, called
	return nil
}

// id returns the id of a call, in memory that lives as long as the parsed text.
func (r *Reader) id(f *form.Form, field string) ([]byte, error) {
	p, err := f.Get(field)
	if err != nil {
		return nil, err
	}
	if !text.Printable(p.Value, r.MaxID) {
		return nil, &vn.FieldError{Field: field, Problem: "is not the id of a call"}
	}
	return p.Keep(), nil
}
