package router

import (
	"unicode"
	"unicode/utf8"
)

const (
	// redactFrom is how many digits make what could be a telephone number: fewer are
	// a price, a house, a time or a code.
	redactFrom = 7
	// gapMost is how many characters between two digits can belong to one number.
	gapMost  = 3
	redacted = "***"
)

// appendRedacted appends text to dst with everything in it that could be a telephone
// number replaced by ***: at least seven digits of any script, with a plus sign and
// separators. What it does not catch (digits written as words) a person can still read.
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
		case unicode.IsDigit(r):
			digits++
			gap, end = 0, i+size
		case digits == 0 && (i > 0 || r != '+' && r != '('):
			return 0, 0
		case !separates(r):
			return end, digits
		default:
			gap++
		}
		i += size
	}
	return end, digits
}

// separates tells whether people write r between the digits of a number.
func separates(r rune) bool {
	switch r {
	case ' ', '.', '-', '(', ')', '/', '_', ',', '+', '\u00a0', '\u2011', '\u2013':
		return true
	}
	return false
}
