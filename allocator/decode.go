package allocator

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// object is a JSON object whose fields are read one by one, so that an error can
// name the field. Names are compared exactly, a field given twice is an error, and
// null is the same as leaving the field out.
type object struct {
	path     string // what stands before a field's name in errors
	fields   map[string]json.RawMessage
	repeated map[string]bool
}

// decodeObject reads a whole document. The error names field and never repeats any
// of it.
func decodeObject(data []byte, field string) (object, error) {
	if !json.Valid(data) {
		return object{}, &vn.FieldError{Field: field, Problem: "is not valid JSON"}
	}
	o, ok := asObject(data, "")
	if !ok {
		return object{}, &vn.FieldError{Field: field, Problem: "is not a JSON object"}
	}
	return o, nil
}

func asObject(data json.RawMessage, path string) (object, bool) {
	o := object{path: path, fields: map[string]json.RawMessage{}, repeated: map[string]bool{}}
	d := json.NewDecoder(bytes.NewReader(data))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return o, false
	}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return o, false
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return o, false
		}
		if _, again := o.fields[name]; again {
			o.repeated[name] = true
		}
		o.fields[name] = value
	}
	return o, true
}

// field returns a field's value, absent when it is left out.
func (o object) field(name string) (json.RawMessage, error) {
	if o.repeated[name] {
		return nil, &vn.FieldError{Field: o.path + name, Problem: "is given twice"}
	}
	return o.fields[name], nil
}

// only refuses every field that is not named.
func (o object) only(names ...string) error {
	unknown := ""
	for name := range o.fields {
		if !slices.Contains(names, name) && (unknown == "" || name < unknown) {
			unknown = name
		}
	}
	if unknown == "" {
		return nil
	}
	// What a sender made up is not repeated: it may be a number.
	return &vn.FieldError{Field: o.path + plain(unknown), Problem: "is not a known field"}
}

// plain returns a field's name where it looks like one, else a placeholder.
func plain(name string) string {
	if len(name) > 32 {
		return "(another field)"
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' {
			return "(another field)"
		}
	}
	return name
}

// text reads a string, "" when it is left out.
func (o object) text(name string) (string, error) {
	raw, err := o.field(name)
	if err != nil || absent(raw) {
		return "", err
	}
	return asText(raw, o.path+name)
}

func asText(raw json.RawMessage, field string) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", &vn.FieldError{Field: field, Problem: "is not a string"}
	}
	return *s, nil
}

// list reads an array, nil when it is left out.
func (o object) list(name string) ([]json.RawMessage, error) {
	raw, err := o.field(name)
	if err != nil || absent(raw) {
		return nil, err
	}
	var l []json.RawMessage
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, &vn.FieldError{Field: o.path + name, Problem: "is not an array"}
	}
	return l, nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || bytes.Equal(raw, []byte("null")) }

// order reads the pool, ttl and parties of an order, from an event or a request.
// A strict one has no other fields. It returns vn.ErrPoolUnknown or *vn.FieldError.
func (a *Allocator) order(o object, id string, strict bool) (vn.Order, error) {
	if strict {
		if err := o.only("pool", "ttl", "parties"); err != nil {
			return vn.Order{}, err
		}
	}
	name, err := o.text("pool")
	if err != nil {
		return vn.Order{}, err
	}
	if name == "" {
		return vn.Order{}, &vn.FieldError{Field: "pool", Problem: "is missing"}
	}
	p, ok := a.pools[name]
	if !ok {
		return vn.Order{}, vn.ErrPoolUnknown
	}
	order := vn.Order{ID: id, Pool: name}
	text, err := o.text("ttl")
	if err != nil {
		return vn.Order{}, err
	}
	if text != "" {
		if order.TTL, err = parseTTL(text); err != nil {
			return vn.Order{}, err
		}
	}
	list, err := o.list("parties")
	if err != nil {
		return vn.Order{}, err
	}
	if len(list) < vn.MinParties || len(list) > vn.MaxParties {
		return vn.Order{}, &vn.FieldError{Field: "parties", Problem: "must be 2 to 8 parties"}
	}
	for i, raw := range list {
		party, err := p.party(raw, "parties["+strconv.Itoa(i)+"]", strict)
		if err != nil {
			return vn.Order{}, err
		}
		order.Parties = append(order.Parties, party)
	}
	return order, nil
}

func (p *pool) party(raw json.RawMessage, at string, strict bool) (vn.Party, error) {
	o, ok := asObject(raw, at+".")
	if !ok {
		return vn.Party{}, &vn.FieldError{Field: at, Problem: "is not a JSON object"}
	}
	if strict {
		if err := o.only("role", "number"); err != nil {
			return vn.Party{}, err
		}
	}
	role, err := o.text("role")
	if err != nil {
		return vn.Party{}, err
	}
	if err := vn.CheckRole(at+".role", role); err != nil {
		return vn.Party{}, err
	}
	text, err := o.text("number")
	if err != nil {
		return vn.Party{}, err
	}
	if text == "" {
		return vn.Party{}, &vn.FieldError{Field: at + ".number", Problem: "is missing"}
	}
	n, err := numbering.Parse(text, p.Region)
	if err != nil {
		return vn.Party{}, &vn.FieldError{Field: at + ".number", Problem: err.Error()}
	}
	return vn.Party{Role: role, Number: n}, nil
}

// parseTTL reads a positive duration; the pool's limit is checked later.
func parseTTL(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, &vn.FieldError{Field: "ttl", Problem: `is not a duration such as "90m"`}
	}
	if d < time.Millisecond {
		return 0, &vn.FieldError{Field: "ttl", Problem: "must be a positive duration"}
	}
	return d, nil
}
