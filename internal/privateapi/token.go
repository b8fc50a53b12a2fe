package privateapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// Challenge is the WWW-Authenticate header of a request that Accepts refused.
const Challenge = `Bearer realm="callmask"`

// Token is the API token. The zero Token, like that of an empty string, lets nobody in.
type Token struct {
	sum   [sha256.Size]byte // so that comparing takes the same time for every length
	given bool
}

// NewToken returns the Token of a secret. It keeps only its hash.
func NewToken(secret string) Token {
	return Token{sum: sha256.Sum256([]byte(secret)), given: secret != ""}
}

// Accepts tells whether the request bears the token (RFC 6750): in exactly one
// Authorization header, whose scheme may be written in any case. How long that takes
// says nothing about the token.
func (t Token) Accepts(r *http.Request) bool {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return false
	}
	scheme, secret, _ := strings.Cut(headers[0], " ")
	sum := sha256.Sum256([]byte(secret))
	same := subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
	return same && t.given && strings.EqualFold(scheme, "Bearer")
}
