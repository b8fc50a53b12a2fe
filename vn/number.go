package vn

import (
	"fmt"
	"strconv"
)

// Number is an E.164 telephone number without its plus sign (ITU-T E.164: at
// most 15 digits, the first one not 0). The zero Number means "no number".
//
// A Number does not print itself in clear: fmt's verbs, String and MarshalText give
// the masked form, so that a real number cannot slip into a log, an error or an
// event. fmt asks a type's methods nothing in three cases, which nobody may write:
// %p, %w (go vet refuses both) and a Number in an unexported field of a struct that
// is printed as a whole. Where the digits are really meant (an answer to a carrier, a
// VN in an event) the caller says so with E164, AppendE164 or AppendDigits.
type Number uint64

// MinDigits and MaxDigits bound the length of a number, country code included.
const (
	MinDigits = 7
	MaxDigits = 15
)

// ParseE164 reads exactly "+" and 7 to 15 ASCII digits of which the first is not
// 0. It does not allocate and accepts nothing else: no spaces, no other digits.
func ParseE164[T ~string | ~[]byte](s T) (Number, bool) {
	if len(s) == 0 || s[0] != '+' {
		return 0, false
	}
	return ParseDigits(s[1:])
}

// ParseDigits reads 7 to 15 ASCII digits of which the first is not 0: a number
// as Redis keys hold it and as some carriers send it. It does not allocate.
func ParseDigits[T ~string | ~[]byte](s T) (Number, bool) {
	if len(s) < MinDigits || len(s) > MaxDigits || s[0] == '0' {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + uint64(d)
	}
	return Number(n), true
}

// Valid tells whether n has between MinDigits and MaxDigits digits.
func (n Number) Valid() bool { return n >= 1_000_000 && n <= 999_999_999_999_999 }

// E164 returns the number in clear, with its plus sign.
func (n Number) E164() string { return string(n.AppendE164(make([]byte, 0, MaxDigits+1))) }

// Digits returns the number in clear, without a plus sign.
func (n Number) Digits() string { return strconv.FormatUint(uint64(n), 10) }

// AppendE164 appends the number in clear, with its plus sign, to dst.
func (n Number) AppendE164(dst []byte) []byte {
	return strconv.AppendUint(append(dst, '+'), uint64(n), 10)
}

// AppendDigits appends the number in clear, without a plus sign, to dst.
func (n Number) AppendDigits(dst []byte) []byte { return strconv.AppendUint(dst, uint64(n), 10) }

// String returns the masked form, such as "+62811•••21": enough to recognise a
// country and operator, too little to call. The zero Number gives "none".
func (n Number) String() string {
	if n == 0 {
		return "none"
	}
	d := n.Digits()
	if len(d) < MinDigits {
		return "+•••"
	}
	keep := min(5, len(d)-5)
	return "+" + d[:keep] + "•••" + d[len(d)-2:]
}

// Format implements fmt.Formatter so that %d, %x and all others fmt asks it about
// print the masked form.
func (n Number) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(n.String())) }

// MarshalText gives the masked form: encoding/json and loggers go through it.
// Payloads that carry a number in clear hold it as a string made by E164.
func (n Number) MarshalText() ([]byte, error) { return []byte(n.String()), nil }
