package numbering_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// seeds are what the fuzzers start from; they run in every test run.
var seeds = []string{
	"", "+", "++", "+1", "+0", "0", "12025550123", "+12025550123", "+1 (202) 555-0123", "(202) 555-0123",
	"+447700900123", "+44 (0)7700 900123", "07700 900123", "00447700900123", "+4407700900123", "+4400123456789",
	"+61491570006", "0491 570 006", "+39060000000", "+8001234567", "+80012345678", "+883510000000000",
	"+6281100000000", "081100000000", "+5491100000000", "+5215500000000", "+525500000000", "+55110000000",
	"+70000000000", "+78000000000", "+999999999999999", "+1234567890123456", "+1000000", "+9991234567",
	"+1202555012３", "１２０２５５５０１２３", "+١٢٠٢٥٥٥٠١٢٣", "＋12025550123", "1-800-FLOWERS", "+12025550123x7",
	"+12025550123;ext=7", "+12025550123,7", "tel:+12025550123", "+12025550123;phone-context=+44",
	"anonymous", "client:x", " +12025550123", "+1\u00a02025550123", "+1202555012\xff", "+12025550123\x00",
}

// FuzzHotPathReadsWhatTheLibraryReads holds vn.ParseE164, the hot path's reader,
// against the library: both see the same digits and country, and where the library
// takes the number for a whole one it is the same number.
func FuzzHotPathReadsWhatTheLibraryReads(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := vn.ParseE164(s)
		if !ok {
			return
		}
		p, err := phonenumbers.Parse(s, "")
		if err != nil {
			return
		}
		require.True(t, phonenumbers.NormalizeDigitsOnly(s) == n.Digits(), "the same digits")
		require.True(t, strings.HasPrefix(n.Digits(), strconv.Itoa(int(p.GetCountryCode()))), "the same country")
		if !phonenumbers.IsPossibleNumber(p) {
			return
		}
		if read := phonenumbers.Format(p, phonenumbers.E164); read != s {
			// Only a national prefix behind the country code ("+44 0…"), which no carrier
			// sends, may make a difference; it is never part of a valid number.
			require.False(t, phonenumbers.IsValidNumber(whole(t, p.GetCountryCode(), n)),
				"the library reads another number than a valid one")
		}
	})
}

// whole returns n as the library holds it, with all digits after the country code.
func whole(t *testing.T, country int32, n vn.Number) *phonenumbers.PhoneNumber {
	t.Helper()
	national := strings.TrimPrefix(n.Digits(), strconv.Itoa(int(country)))
	digits, err := strconv.ParseUint(national, 10, 64)
	require.NoError(t, err)
	zeros := int32(len(national) - len(strings.TrimLeft(national, "0")))
	leading := zeros > 0
	return &phonenumbers.PhoneNumber{
		CountryCode: &country, NationalNumber: &digits, ItalianLeadingZero: &leading, NumberOfLeadingZeros: &zeros,
	}
}

// FuzzWhatParseReadsTheHotPathReads: a party's number, however it came, is the one
// that the hot path makes of its E.164 form, and is read only one way.
func FuzzWhatParseReadsTheHotPathReads(f *testing.F) {
	for _, s := range seeds {
		for _, region := range []string{"", "US", "GB", "ID", "IT"} {
			f.Add(s, region)
		}
	}
	f.Fuzz(func(t *testing.T, s, region string) {
		n, err := numbering.Parse(s, region)
		if err != nil {
			require.True(t, n == 0)
			known := errors.Is(err, numbering.ErrCharacters) || errors.Is(err, numbering.ErrNoRegion) ||
				errors.Is(err, numbering.ErrNotPossible)
			require.True(t, known, "an error of ours, which repeats nothing")
			return
		}
		hot, ok := vn.ParseE164(n.E164())
		require.True(t, ok && hot == n)
		again, err := numbering.Parse(n.E164(), region)
		require.NoError(t, err)
		require.True(t, again == n, "reading it again changes nothing")
		for i := range len(s) {
			require.Less(t, s[i], byte(0x80), "only ASCII")
			require.False(t, s[i] >= 'A' && s[i] <= 'Z' || s[i] >= 'a' && s[i] <= 'z', "no letters")
		}
		if got := numbering.Region(n); got != "" {
			require.NoError(t, numbering.CheckRegion(got))
		}
	})
}
