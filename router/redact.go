package router

import (
	"unicode"
	"unicode/utf8"
)

const (
	// redactFrom is how many digits make what could be a telephone number: fewer are
	// a house, a time or a code.
	redactFrom = 7
	// gapMost is how many separators between two digits can belong to one number;
	// spaces and what is not seen do not count.
	gapMost  = 3
	redacted = "***"
)

// appendRedacted appends text to dst with everything in it that could be a telephone
// number replaced by ***: at least seven digits of any script with anything but letters
// between them. Dates and prices of so many digits go too; digits written as words stay.
func appendRedacted(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		end, digits := numberAt(text[i:])
		switch {
		case digits >= redactFrom:
			dst = append(dst, redacted...)
		case end > 0:
			dst = append(dst, text[i:i+end]...)
		default:
			_, end = utf8.DecodeRune(text[i:])
			dst = append(dst, text[i:i+end]...)
		}
		i += end
	}
	return dst
}

// numberAt measures the run of digits that text begins with, a plus sign before it and
// separators inside included; 0 where text begins with something else.
func numberAt(text []byte) (end, digits int) {
	gap := 0
	for i := 0; i < len(text) && gap <= gapMost; {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case unicode.IsNumber(r):
			digits++
			gap, end = 0, i+size
		case digits == 0 && (i > 0 || r != '+' && r != '('):
			return 0, 0
		case unicode.IsLetter(r) || r == utf8.RuneError:
			return end, digits
		case !unseen(r):
			gap++
		}
		i += size
	}
	return end, digits
}

// unseen tells whether r takes no place, or is a space: the marks of a keycap digit, a
// zero-width joiner.
func unseen(r rune) bool {
	return unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Mn, unicode.Me, unicode.Zs)
}
