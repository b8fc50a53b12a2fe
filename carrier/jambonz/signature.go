package jambonz

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"github.com/valyala/fasthttp"
)

// signatureHeader carries "t=<unix seconds>,v1=<hex HMAC-SHA256 of t.body>", with
// several v1 where several secrets are in use. The parts may stand in any order.
// The tests hold a signature of npm @jambonz/sdk 0.10.1.
// https://docs.jambonz.org/guides/features/securing-http-endpoints
const signatureHeader = "Jambonz-Signature"

// window is how far the time of a signature may lie from our clock.
const window = 5 * time.Minute

// maxHeader bounds the header: room for seven signatures, of which jambonz sends one.
const maxHeader = 512

// signed tells whether jambonz signed the request's body by one of the secrets, within
// the window, and when. A GET carries no body, so nothing that is signed.
func (c *Codec) signed(ctx *fasthttp.RequestCtx) (at time.Time, ok bool) {
	if !ctx.IsPost() {
		return time.Time{}, false
	}
	timestamp, signatures, ok := splitSignature(ctx.Request.Header.Peek(signatureHeader))
	if !ok {
		return time.Time{}, false
	}
	at, ok = unixTime(timestamp)
	if age := c.now().Sub(at); !ok || age > window || age < -window {
		return time.Time{}, false
	}
	found := 0
	for _, secret := range c.secrets { // every one is compared, and with each signature
		want := mac(secret, timestamp, ctx.PostBody())
		for _, signature := range signatures {
			found |= subtle.ConstantTimeCompare(want[:], signature)
		}
	}
	return at, found == 1
}

// splitSignature reads the header: one time, and signatures of version 1. Other
// versions are passed over.
func splitSignature(header []byte) (timestamp []byte, signatures [][]byte, ok bool) {
	if len(header) > maxHeader {
		return nil, nil, false
	}
	for part := range bytes.SplitSeq(header, []byte{','}) {
		key, value, assigned := bytes.Cut(part, []byte{'='})
		switch {
		case !assigned:
			return nil, nil, false
		case string(key) == "t":
			if timestamp != nil {
				return nil, nil, false
			}
			timestamp = value
		case string(key) == "v1" && len(value) == hex.EncodedLen(sha256.Size):
			signatures = append(signatures, value)
		}
	}
	return timestamp, signatures, len(signatures) > 0
}

// unixTime reads 1 to 12 digits as seconds since 1970.
func unixTime(digits []byte) (time.Time, bool) {
	if len(digits) == 0 || len(digits) > 12 {
		return time.Time{}, false
	}
	var seconds int64
	for _, d := range digits {
		if d < '0' || d > '9' {
			return time.Time{}, false
		}
		seconds = seconds*10 + int64(d-'0')
	}
	return time.Unix(seconds, 0), true
}

func mac(secret, timestamp, body []byte) (written [2 * sha256.Size]byte) {
	h := hmac.New(sha256.New, secret)
	h.Write(timestamp)
	h.Write([]byte{'.'})
	h.Write(body)
	hex.Encode(written[:], h.Sum(nil))
	return written
}
