package jsonform

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/callmask/callmask/vn"
)

// Object holds fields of one JSON object.
type Object struct{ fields []field }

type field struct {
	name, value string
	state       byte
}

// The states of a field.
const (
	missing byte = iota
	text
	number
	other // null, a boolean, an array or an object
)

var errBroken = &vn.FieldError{Field: "body", Problem: "is not a JSON object"}

// space are the characters that may stand between tokens (RFC 8259 section 2).
const space = " \t\r\n"

// Parse reads the fields with the given names from the top level of body, which must
// be exactly one JSON object (RFC 8259). A field of these that is given more than once
// is an error: two readers could disagree about it. Errors are *vn.FieldError and
// repeat nothing of the body.
//
// encoding/json judges the body first, so that what walks through it afterwards, which
// takes no memory for what is not asked for, meets nothing but valid JSON.
func Parse(body []byte, names ...string) (*Object, error) {
	rest, opened := bytes.CutPrefix(bytes.TrimLeft(body, space), []byte{'{'})
	if !opened || !json.Valid(body) {
		return nil, errBroken
	}
	o := &Object{fields: make([]field, len(names))}
	for i, name := range names {
		o.fields[i].name = name
	}
	for {
		rest = bytes.TrimLeft(rest, space+",")
		if rest[0] == '}' {
			return o, nil
		}
		var key, value []byte
		key, rest = cut(rest)
		value, rest = cut(bytes.TrimLeft(rest, space+":"))
		if err := o.set(key, value); err != nil {
			return nil, err
		}
	}
}

// set keeps the value if its key is asked for.
func (o *Object) set(key, value []byte) error {
	name := key[1 : len(key)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(unquote(key))
	}
	for i := range o.fields {
		f := &o.fields[i]
		if f.name != string(name) {
			continue
		}
		if f.state != missing {
			return &vn.FieldError{Field: f.name, Problem: "is given more than once"}
		}
		f.value, f.state = scalar(value)
	}
	return nil
}

// cut cuts off the value that valid JSON begins with.
func cut(s []byte) (value, rest []byte) {
	end := 0
	switch s[0] {
	case '"':
		end = stringLen(s)
	case '{', '[':
		end = nestedLen(s)
	default:
		end = bytes.IndexAny(s, space+",}")
	}
	return s[:end], s[end:]
}

// stringLen returns the length of the string that s begins with, with its quotes.
func stringLen(s []byte) int {
	i := 1
	for s[i] != '"' {
		if s[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

// nestedLen returns the length of the array or object that s begins with.
func nestedLen(s []byte) int {
	for i, depth := 0, 0; ; i++ {
		switch s[i] {
		case '"':
			i += stringLen(s[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// unquote returns what a JSON string says. Bytes that are no UTF-8, and halves of a
// surrogate pair, become U+FFFD.
func unquote(quoted []byte) string {
	plain := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain)
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // a valid string cannot fail
	return s
}

func scalar(raw []byte) (value string, kind byte) {
	if raw[0] == '"' {
		return unquote(raw), text
	}
	if raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' {
		return string(raw), number
	}
	return "", other
}

func (o *Object) find(name string) (value string, state byte) {
	for i := range o.fields {
		if f := &o.fields[i]; f.name == name {
			return f.value, f.state
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
