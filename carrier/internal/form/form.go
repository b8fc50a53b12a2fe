package form

import (
	"bytes"

	"github.com/callmask/callmask/vn"
)

// MaxParams bounds the pairs of one text. Carriers send about 40.
const MaxParams = 256

// Param is one key=value pair, decoded. Both parts point into the parsed text, or
// into the Form's own memory where decoding changed them.
type Param struct {
	Key, Value []byte
	Bare       bool // the pair had no equals sign
	owned      bool // Value lies in the Form's memory
}

// Form holds the pairs of one text. The zero Form is ready; a used one is reused by
// Parse, which makes every Param of before invalid.
type Form struct {
	Params []Param
	buf    []byte
}

// Parse reads the pairs of text in their order. It accepts and decodes exactly what
// net/url.ParseQuery does (WHATWG URL, section 5.1, but refusing a semicolon and a
// broken percent sign) and reports false where that gives an error, or when there
// are more than MaxParams pairs. It does not change text.
func (f *Form) Parse(text []byte) bool {
	f.Params = f.Params[:0]
	if cap(f.buf) < len(text) {
		f.buf = make([]byte, 0, len(text))
	}
	f.buf = f.buf[:0]
	for len(text) > 0 {
		pair := text
		if i := bytes.IndexByte(text, '&'); i >= 0 {
			pair, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if len(pair) == 0 {
			continue
		}
		if len(f.Params) == MaxParams || bytes.IndexByte(pair, ';') >= 0 {
			return false
		}
		key, value, assigned := bytes.Cut(pair, []byte{'='})
		k, _, ok := f.decode(key)
		if !ok {
			return false
		}
		v, owned, ok := f.decode(value)
		if !ok {
			return false
		}
		f.Params = append(f.Params, Param{Key: k, Value: v, Bare: !assigned, owned: owned})
	}
	return true
}

// decode undoes the percent encoding of s; a plus sign is a space. What needs no
// decoding is returned as it is.
func (f *Form) decode(s []byte) (decoded []byte, owned, ok bool) {
	if bytes.IndexByte(s, '%') < 0 && bytes.IndexByte(s, '+') < 0 {
		return s, false, true
	}
	start := len(f.buf)
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			f.buf = append(f.buf, ' ')
		case '%':
			if i+2 >= len(s) {
				return nil, false, false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi > 15 || lo > 15 {
				return nil, false, false
			}
			f.buf = append(f.buf, hi<<4|lo)
			i += 2
		default:
			f.buf = append(f.buf, s[i])
		}
	}
	return f.buf[start:len(f.buf):len(f.buf)], true, true
}

// unhex returns the value of one hexadecimal digit, 255 for any other byte.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// Get returns the one value of key, or a *vn.FieldError that names the key when it
// is missing, empty or repeated.
func (f *Form) Get(key string) (Param, error) {
	p, found, err := f.Optional(key)
	if err == nil && !found {
		return Param{}, &vn.FieldError{Field: key, Problem: "is missing"}
	}
	return p, err
}

// Optional is Get for a key that may be missing; found tells whether it is there.
func (f *Form) Optional(key string) (p Param, found bool, err error) {
	for i := range f.Params {
		if string(f.Params[i].Key) != key {
			continue
		}
		if found {
			return Param{}, true, &vn.FieldError{Field: key, Problem: "is given more than once"}
		}
		p, found = f.Params[i], true
	}
	if found && len(p.Value) == 0 {
		return Param{}, true, &vn.FieldError{Field: key, Problem: "is empty"}
	}
	return p, found, nil
}

// Keep returns the value in memory that lives as long as the parsed text: the text
// itself, or a copy when decoding changed it.
func (p Param) Keep() []byte {
	if p.owned {
		return bytes.Clone(p.Value)
	}
	return p.Value
}
