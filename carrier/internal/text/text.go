package text

import (
	"strconv"
	"time"
	"unicode/utf8"
)

const hex = "0123456789abcdef"

// AppendJSON appends s as a JSON string with its quotes (RFC 8259 section 7). Bytes
// that are no UTF-8 become U+FFFD, as encoding/json writes them.
func AppendJSON[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < 0x20 || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				dst = append(dst, c)
			}
			continue
		}
		r, size := decodeRune(s, i)
		dst = utf8.AppendRune(dst, r)
		i += size
	}
	return append(dst, '"')
}

// AppendXML appends s as XML character data that is also safe between double quotes
// (XML 1.0 sections 2.2 and 2.4). What XML cannot hold becomes U+FFFD.
func AppendXML[T ~string | ~[]byte](dst []byte, s T) []byte {
	for i := 0; i < len(s); {
		r, size := decodeRune(s, i)
		i += size
		switch {
		case r == '&':
			dst = append(dst, "&amp;"...)
		case r == '<':
			dst = append(dst, "&lt;"...)
		case r == '>':
			dst = append(dst, "&gt;"...)
		case r == '"':
			dst = append(dst, "&#34;"...)
		case r == '\'':
			dst = append(dst, "&#39;"...)
		case r == '\t':
			dst = append(dst, "&#x9;"...)
		case r == '\n':
			dst = append(dst, "&#xA;"...)
		case r == '\r':
			dst = append(dst, "&#xD;"...)
		case r < 0x20 || r == 0xfffe || r == 0xffff:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// decodeRune reads the rune at s[i:] of a string or bytes without converting all of it.
func decodeRune[T ~string | ~[]byte](s T, i int) (rune, int) {
	if s[i] < utf8.RuneSelf {
		return rune(s[i]), 1
	}
	var b [utf8.UTFMax]byte
	n := copy(b[:], s[i:min(i+utf8.UTFMax, len(s))])
	return utf8.DecodeRune(b[:n])
}

// AppendSeconds appends d in whole seconds, rounded up, at least 1: a carrier takes
// a zero for an error or for no limit at all.
func AppendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// Printable tells whether s is 1 to most printable ASCII characters.
func Printable[T ~string | ~[]byte](s T, most int) bool {
	if len(s) == 0 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// withheld are the words that stand for a caller's number that is not shown: RFC
// 3323 and RFC 3325 ("anonymous", "restricted") and what switches write for it.
var withheld = [...]string{"anonymous", "restricted", "unknown", "withheld", "unavailable", "private", "blocked"}

// Withheld tells whether s is one of the words for a number that is not shown, in
// any case of letters.
func Withheld[T ~string | ~[]byte](s T) bool {
	for _, w := range withheld {
		if EqualFold(s, w) {
			return true
		}
	}
	return false
}

// EqualFold compares s with lower (lower-case ASCII) regardless of the case of ASCII letters.
func EqualFold[T ~string | ~[]byte](s T, lower string) bool {
	return len(s) == len(lower) && HasPrefixFold(s, lower)
}

// HasPrefixFold tells whether s begins with lower (lower-case ASCII), regardless of
// the case of ASCII letters.
func HasPrefixFold[T ~string | ~[]byte](s T, lower string) bool {
	if len(s) < len(lower) {
		return false
	}
	for i := range len(lower) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
