package form

import (
	"bytes"

	"github.com/callmask/callmask/carrier/internal/text"
)

// MediaType tells whether a Content-Type names want (in lower case), whatever its
// parameters.
func MediaType(contentType []byte, want string) bool {
	value, _, _ := bytes.Cut(contentType, []byte{';'})
	return text.EqualFold(bytes.TrimSpace(value), want)
}
