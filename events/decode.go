package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"

	"github.com/callmask/callmask/vn"
)

// Decode reads a message's JSON into a payload. What is wrong with it comes back as
// a *vn.FieldError that repeats nothing of the input, unlike encoding/json's errors:
// those quote numbers. Unknown fields are allowed, so that senders may add some.
func Decode(data []byte, into any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return &vn.FieldError{Field: "message", Problem: "is empty"}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return &vn.FieldError{Field: "message", Problem: "is not a JSON object"}
	case errors.As(err, &wrongType):
		return &vn.FieldError{Field: wrongType.Field, Problem: "is not of JSON type " + jsonType(wrongType.Type)}
	case err != nil:
		return &vn.FieldError{Field: "message", Problem: "is not valid JSON"}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &vn.FieldError{Field: "message", Problem: "goes on after its JSON object"}
	}
	return nil
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.String:
		return "string"
	default:
		return "number"
	}
}
