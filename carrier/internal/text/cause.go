package text

import "github.com/callmask/callmask/vn"

// maxCause bounds a cause, such as NORMAL_CLEARING.
const maxCause = 64

// Cause returns a carrier's word for why a call ended as vn.Progress.Cause holds it,
// nil for what is no such word: longer than 64 printable ASCII characters, or with so
// many digits that they could be a telephone number.
func Cause[T ~string | ~[]byte](s T) []byte {
	if !Printable(s, maxCause) {
		return nil
	}
	digits := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			digits++
		}
	}
	if digits >= vn.MinDigits {
		return nil
	}
	return []byte(s)
}
