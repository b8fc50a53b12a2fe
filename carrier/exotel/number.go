package exotel

import (
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// number reads a number as Exotel writes it: 0XXXXXXXXXX, as people in the region dial
// it, or E.164, whose plus sign arrives as a space because Exotel does not escape it in
// the query. Both stand in its documentation; digits with the country code are read too.
// https://support.exotel.com/support/solutions/articles/3000096873 .../48283
//
// Only what none of the quick forms fits is left to package numbering, which allocates.
func (c *Codec) number(s []byte) (vn.Number, error) {
	if len(s) > 0 && (s[0] == '+' || s[0] == ' ') {
		if n, ok := vn.ParseDigits(s[1:]); ok {
			return n, nil
		}
		return 0, numbering.ErrNotPossible
	}
	if c.region == DefaultRegion {
		if n, ok := indian(s); ok {
			return n, nil
		}
	}
	return numbering.Parse(string(s), c.region)
}

// indian reads an Indian number: ten digits, of which the first is not 0, after a 0 (the
// national prefix) or a 91 (the country code). Longer ones, as some that begin with 1800,
// are left to package numbering: National Numbering Plan of India (2003).
func indian(s []byte) (vn.Number, bool) {
	const country vn.Number = 91_00000_00000
	switch {
	case len(s) == 11 && s[0] == '0':
		s = s[1:]
	case len(s) == 12 && s[0] == '9' && s[1] == '1':
		s = s[2:]
	default:
		return 0, false
	}
	n, ok := vn.ParseDigits(s)
	return country + n, ok
}
