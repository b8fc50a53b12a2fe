package form

import "github.com/callmask/callmask/vn"

// Text returns the value of a key that may be missing or empty, where Get and Optional
// take an empty value for an error. A repeated key is a *vn.FieldError here too.
func (f *Form) Text(key string) (p Param, err error) {
	found := false
	for i := range f.Params {
		if string(f.Params[i].Key) != key {
			continue
		}
		if found {
			return Param{}, &vn.FieldError{Field: key, Problem: "is given more than once"}
		}
		p, found = f.Params[i], true
	}
	return p, nil
}
