package jsonform

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/callmask/callmask/vn"
)

// Object holds fields of one JSON object.
type Object struct {
	names  []string
	values []string
	state  []byte
}

// The states of a field.
const (
	missing byte = iota
	text
	number
	other // null, a boolean, an array or an object
)

// Parse reads the fields with the given names from the top level of body, which must
// be exactly one JSON object (RFC 8259). A field of these that is given more than once
// is an error: two readers could disagree about it. Errors are *vn.FieldError and
// repeat nothing of the body.
func Parse(body []byte, names ...string) (*Object, error) {
	o := &Object{names: names, values: make([]string, len(names)), state: make([]byte, len(names))}
	broken := &vn.FieldError{Field: "body", Problem: "is not a JSON object"}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, broken
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, broken
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, broken
		}
		for i, name := range names {
			if key != name {
				continue
			}
			if o.state[i] != missing {
				return nil, &vn.FieldError{Field: name, Problem: "is given more than once"}
			}
			o.values[i], o.state[i] = scalar(raw)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, broken
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, broken
	}
	return o, nil
}

func scalar(raw json.RawMessage) (value string, kind byte) {
	if raw[0] == '"' {
		if json.Unmarshal(raw, &value) != nil {
			return "", other
		}
		return value, text
	}
	if raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' {
		return string(raw), number
	}
	return "", other
}

func (o *Object) find(name string) (value string, state byte) {
	for i := range o.names {
		if o.names[i] == name {
			return o.values[i], o.state[i]
		}
	}
	return "", missing
}

// String returns a field that must be a string and not empty.
func (o *Object) String(name string) (string, error) {
	value, state := o.find(name)
	switch {
	case state == missing:
		return "", &vn.FieldError{Field: name, Problem: "is missing"}
	case state != text:
		return "", &vn.FieldError{Field: name, Problem: "must be a string"}
	case value == "":
		return "", &vn.FieldError{Field: name, Problem: "is empty"}
	}
	return value, nil
}

// Optional returns the text of a string or of a number, empty when the field is
// missing or something else.
func (o *Object) Optional(name string) string {
	value, _ := o.find(name)
	return value
}
