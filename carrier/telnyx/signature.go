package telnyx

import (
	"crypto/ed25519"
	"encoding/base64"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/vn"
)

// The headers that carry the signature and the time that is signed with the body.
// https://developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks
const (
	signatureHeader = "telnyx-signature-ed25519"
	timestampHeader = "telnyx-timestamp"
)

// Window is how far the time of a signature may lie from the receiver's clock. It is
// what Telnyx's own libraries allow.
const Window = 5 * time.Minute

// publicKeys reads the keys of the settings.
func publicKeys(encoded []string) ([]ed25519.PublicKey, error) {
	const field = "public_keys"
	if len(encoded) == 0 || len(encoded) > 2 {
		return nil, &vn.FieldError{Field: field, Problem: "must hold one key, or two while it is replaced"}
	}
	keys := make([]ed25519.PublicKey, 0, len(encoded))
	for _, s := range encoded {
		key, err := strict.DecodeString(s)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, &vn.FieldError{Field: field, Problem: "holds what is not 32 bytes in base64: copy the key from Telnyx's portal"}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// strict takes one spelling of each signature: in the lax one several would be taken.
var strict = base64.StdEncoding.Strict()

// check is the working memory of one signature check.
type check struct {
	keys    []ed25519.PublicKey
	now     func() time.Time
	form    form.Form // the fields of the body
	message []byte
}

// read leaves the fields of a request in c.form. The error is vn.ErrForbidden unless
// Telnyx signed it.
func (c *check) read(req *fasthttp.Request) error {
	if !c.verify(req) {
		return vn.ErrForbidden
	}
	if !c.form.Parse(req.Body()) {
		return &vn.FieldError{Field: "body", Problem: "is not a well-formed form"}
	}
	return nil
}

// verify tells whether Telnyx signed the request as what it is taken for. As only time
// and body are signed, the rest has to be certain in another way:
//   - a GET's fields would be in the query, which anybody can write
//   - a signed body that is empty vouches for no field at all
//   - the same key signs the JSON of Telnyx's other products, in which a stranger may
//     have put a text that reads as a form
func (c *check) verify(req *fasthttp.Request) bool {
	body := req.Body()
	return req.Header.IsPost() && len(body) > 0 && body[0] != '{' &&
		form.MediaType(req.Header.ContentType(), "application/x-www-form-urlencoded") &&
		c.signed(req.Header.Peek(timestampHeader), req.Header.Peek(signatureHeader), body)
}

// signed tells whether the signature is Telnyx's of that time and body, and the time
// lies within the window.
func (c *check) signed(timestamp, signature, body []byte) bool {
	if !c.timely(timestamp) {
		return false
	}
	var raw [ed25519.SignatureSize + 2]byte // Decode wants room for what the padding stands for
	if strict.DecodedLen(len(signature)) != len(raw) {
		return false
	}
	if n, err := strict.Decode(raw[:], signature); err != nil || n != ed25519.SignatureSize {
		return false
	}
	c.message = append(append(append(c.message[:0], timestamp...), '|'), body...)
	for _, key := range c.keys {
		if ed25519.Verify(key, c.message, raw[:ed25519.SignatureSize]) {
			return true
		}
	}
	return false
}

// timely tells whether a time in whole seconds lies within the window.
func (c *check) timely(timestamp []byte) bool {
	if len(timestamp) == 0 || len(timestamp) > 12 {
		return false
	}
	var at int64
	for _, d := range timestamp {
		if d < '0' || d > '9' {
			return false
		}
		at = at*10 + int64(d-'0')
	}
	age := c.now().Sub(time.Unix(at, 0))
	return age <= Window && age >= -Window
}
