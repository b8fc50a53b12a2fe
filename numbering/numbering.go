package numbering

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nyaruka/phonenumbers"

	"github.com/callmask/callmask/vn"
)

// The errors of Parse. Their texts read on after the name of a field, and never
// repeat what was given.
var (
	// ErrCharacters: something other than ASCII digits and separators. Letters (vanity
	// numbers, extensions) and the digits of other scripts are such.
	ErrCharacters = errors.New("may hold only the digits 0-9, space - . ( ) and a leading +")
	// ErrNoRegion: a national number with nothing to tell its country by.
	ErrNoRegion = errors.New("must start with + and a country code")
	// ErrNotPossible: no numbering plan has numbers like this one.
	ErrNotPossible = errors.New("is not a telephone number")
)

// maxInput bounds what Parse looks at: 15 digits with a separator after each.
const maxInput = 32

// nonGeographic is what the library calls the region of numbers that belong to no
// country, such as +800 (UN M.49 code of the world).
const nonGeographic = "001"

// Parse reads a number written in E.164, or as people in region (ISO 3166, such as
// "ID"; "" for none) write their own. Accepted are ASCII digits, the separators
// space - . ( ) and one leading +. A number with + is read the same in every region.
//
// The number must have a length that its country's numbering plan allows
// (libphonenumber's IsPossibleNumber, more lenient than IsValidNumber: new ranges
// work before the library knows them) and 7 to 15 digits. A national prefix is
// removed, also after the country code, as in "+44 (0)20": the result is what a
// carrier sends for the same telephone. The error is ErrCharacters, ErrNoRegion or
// ErrNotPossible.
func Parse(s, region string) (vn.Number, error) {
	if err := checkCharacters(s); err != nil {
		return 0, err
	}
	switch {
	case s[0] == '+':
		// With a region the library would read +00… by that region's dialling prefix.
		region = ""
	case CheckRegion(region) != nil:
		return 0, ErrNoRegion
	}
	n, ok := canonical(s, region)
	if !ok {
		return 0, ErrNotPossible
	}
	// A number from which one more reading would remove one more prefix ("+4400…") is
	// nobody's: a party must not be known under two numbers.
	if again, ok := canonical(n.E164(), ""); !ok || again != n {
		return 0, ErrNotPossible
	}
	return n, nil
}

// canonical reads s by the library and returns its E.164 form.
func canonical(s, region string) (vn.Number, bool) {
	p, err := phonenumbers.Parse(s, region)
	if err != nil || p.GetExtension() != "" || !phonenumbers.IsPossibleNumber(p) {
		return 0, false
	}
	return vn.ParseE164(phonenumbers.Format(p, phonenumbers.E164))
}

func checkCharacters(s string) error {
	if s == "" {
		return ErrNotPossible
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && !strings.ContainsRune(" -.()", rune(c)) && (c != '+' || i > 0) {
			return ErrCharacters
		}
	}
	if len(s) > maxInput {
		return ErrNotPossible
	}
	return nil
}

// Region returns the ISO 3166 region that a number belongs to, such as "ID". For a
// number in a range that the library does not know it is the main region of the
// country code; "" when there is none, also for numbers of no country (+800).
func Region(n vn.Number) string {
	if !n.Valid() {
		return ""
	}
	p, err := phonenumbers.Parse(n.E164(), "")
	if err != nil {
		return ""
	}
	region := phonenumbers.GetRegionCodeForNumber(p)
	if region == "" {
		region = phonenumbers.GetRegionCodeForCountryCode(int(p.GetCountryCode()))
	}
	if region == nonGeographic || region == phonenumbers.UNKNOWN_REGION {
		return ""
	}
	return region
}

// CheckRegion returns an error, to read on after the name of a setting, unless region
// is a two-letter ISO 3166 code in capitals that has a numbering plan.
func CheckRegion(region string) error {
	if len(region) != 2 {
		return errors.New("must be a two-letter region such as ID")
	}
	if !phonenumbers.GetSupportedRegions()[region] {
		return fmt.Errorf("%q is no region with a numbering plan (two capital letters such as ID)", region)
	}
	return nil
}
