package vonage

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/callmask/callmask/carrier/internal/jsonform"
	"github.com/callmask/callmask/carrier/internal/text"
)

// Window is how far the time of a signature may lie from our clock.
const Window = 5 * time.Minute

// verifier checks the tokens of one account. Only one algorithm is ever computed, so
// there is nothing for a token's header to choose; what a JWT library brings beyond that
// (keys of many kinds, times checked in one direction, repeated claims taken as they come)
// would have to be switched off or done again here.
type verifier struct {
	secrets     [][]byte
	apiKey      string
	application string
	now         func() time.Time
}

func newVerifier(cfg Config) *verifier {
	v := &verifier{apiKey: cfg.APIKey, application: cfg.ApplicationID, now: cfg.Now}
	if v.now == nil {
		v.now = time.Now
	}
	for _, secret := range cfg.Secrets {
		v.secrets = append(v.secrets, []byte(secret))
	}
	return v
}

// verify tells whether the Authorization header is "Bearer" (RFC 6750) and a token of
// Vonage's for this account, made now and for this payload.
// https://developer.vonage.com/en/getting-started/concepts/webhooks#decoding-signed-webhooks
func (v *verifier) verify(authorization, payload []byte) bool {
	const scheme = "bearer "
	if !text.HasPrefixFold(authorization, scheme) {
		return false
	}
	token := authorization[len(scheme):]
	end := bytes.LastIndexByte(token, '.')
	if end < 0 {
		return false
	}
	header, claims, ok := bytes.Cut(token[:end], []byte{'.'})
	return ok && v.signed(token[:end], token[end+1:]) && algorithm(header) && v.vouches(claims, payload)
}

// signed tells whether signature is the HMAC-SHA256 (RFC 7518 section 3.2) of signingInput
// by one of the secrets. Every secret is compared. The encoded signatures are compared,
// so that there is one way only to write a valid one.
func (v *verifier) signed(signingInput, signature []byte) bool {
	found := 0
	for _, secret := range v.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write(signingInput)
		var sum [sha256.Size]byte
		var want [43]byte // 32 bytes in base64 without padding
		base64.RawURLEncoding.Encode(want[:], mac.Sum(sum[:0]))
		found |= subtle.ConstantTimeCompare(want[:], signature)
	}
	return found == 1
}

// algorithm tells whether the token's header names the algorithm that was computed, and
// speaks of no extension that would have to be understood (RFC 7515 section 4.1.11).
func algorithm(header []byte) bool {
	fields := jsonOf(header)
	o, err := jsonform.Parse(fields, "alg")
	return err == nil && o.Optional("alg") == "HS256" && !bytes.Contains(fields, []byte("crit"))
}

// vouches tells whether the claims (RFC 7519 section 4) are about this account and
// payload, now.
func (v *verifier) vouches(claims, payload []byte) bool {
	o, err := jsonform.Parse(jsonOf(claims), "iss", "api_key", "application_id", "iat", "exp", "nbf", "payload_hash")
	if err != nil || o.Optional("iss") != "Vonage" || o.Optional("api_key") != v.apiKey {
		return false
	}
	if v.application != "" && o.Optional("application_id") != v.application {
		return false
	}
	sum := sha256.Sum256(payload)
	var want [2 * sha256.Size]byte
	hex.Encode(want[:], sum[:])
	return v.timely(o) && subtle.ConstantTimeCompare(want[:], []byte(o.Optional("payload_hash"))) == 1
}

// timely tells whether the token was made within the window, and is valid now if it says
// more about that.
func (v *verifier) timely(o *jsonform.Object) bool {
	now := v.now()
	made, given, ok := seconds(o, "iat")
	if !given || !ok || now.Sub(made) > Window || made.Sub(now) > Window {
		return false
	}
	if end, given, ok := seconds(o, "exp"); given && (!ok || !now.Before(end)) {
		return false
	}
	begin, given, ok := seconds(o, "nbf")
	return !given || ok && begin.Sub(now) <= Window
}

// seconds reads a time of a token, in whole seconds since 1970.
func seconds(o *jsonform.Object, claim string) (t time.Time, given, ok bool) {
	value := o.Optional(claim)
	if value == "" {
		return time.Time{}, false, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return time.Unix(n, 0), true, err == nil
}

// jsonOf returns the JSON that a part of a token holds, nil when it is not base64 (RFC 7515 section 2).
func jsonOf(part []byte) []byte {
	b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, part)
	if err != nil {
		return nil
	}
	return b
}
