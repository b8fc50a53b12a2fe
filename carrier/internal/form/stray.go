package form

import (
	"bytes"
	"slices"

	"github.com/callmask/callmask/vn"
)

// Stray tells whether name, with a telephone number right behind it, stands in signed
// anywhere else than as one of the pairs whose key is among holders and ends in name.
//
// It is for signatures over keys and values that are joined without a mark between
// them. Of a signed "ForwardedFrom" + "+1…" + "From" + "+2…", or "From" + "+2…" + "Text" +
// "xFrom+1…", somebody who got hold of the signature could send on another division of
// the same text, in which From is +1…. Where nothing is stray, each such place is a pair
// of its own, in whatever division is accepted. An equals sign between name and number
// is passed over, for texts that are joined so.
func Stray(signed []byte, name string, holders []string, pairs ...[]Param) bool {
	held := 0
	for _, list := range pairs {
		for i := range list {
			if p := &list[i]; slices.Contains(holders, string(p.Key)) && beginsNumber(p.Value) {
				held++
			}
		}
	}
	for {
		at := bytes.Index(signed, []byte(name))
		if at < 0 {
			return held != 0
		}
		signed = signed[at+len(name):]
		if beginsNumber(bytes.TrimPrefix(signed, []byte{'='})) {
			held--
		}
	}
}

// beginsNumber tells whether s begins with what could be read as a number, with or
// without a plus sign.
func beginsNumber(s []byte) bool {
	s = bytes.TrimPrefix(s, []byte{'+'})
	if len(s) < vn.MinDigits {
		return false
	}
	for _, b := range s[:vn.MinDigits] {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}
