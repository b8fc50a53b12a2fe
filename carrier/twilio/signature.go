package twilio

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the algorithm is Twilio's choice; HMAC-SHA1 is not broken
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"slices"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
)

// signatureHeader carries the signature.
// https://www.twilio.com/docs/usage/security
const signatureHeader = "X-Twilio-Signature"

// signatureLen is the length of 20 bytes in base64.
const signatureLen = 28

// verifier checks signatures for one account with pooled working memory.
type verifier struct {
	bases []string // scheme, host and path prefix of the URLs that Twilio may have signed
	pool  sync.Pool
}

// check is the working memory of one signature check.
type check struct {
	bases  []string
	macs   []hash.Hash  // HMAC-SHA1, one per auth token
	form   form.Form    // the fields
	order  []form.Param // form's pairs as they are signed
	url    []byte
	params []byte
	sum    [sha1.Size]byte
	signed [signatureLen]byte
}

func newVerifier(tokens, bases []string) *verifier {
	v := &verifier{bases: bases}
	v.pool.New = func() any {
		c := &check{bases: bases}
		for _, token := range tokens {
			c.macs = append(c.macs, hmac.New(sha1.New, []byte(token)))
		}
		return c
	}
	return v
}

func (v *verifier) get() *check { return v.pool.Get().(*check) } //nolint:errcheck // the pool makes nothing else

func (v *verifier) put(c *check) { v.pool.Put(c) }

// verify tells whether Twilio signed the request, and leaves its fields in c.form and, in
// their signed order, in c.order. The rules, by https://www.twilio.com/docs/usage/security
// and the npm package twilio 6.2.0, whose signatures the tests hold:
//   - the URL is what Twilio called: the public base, path and raw query, no fragment
//   - the form's decoded pairs follow, sorted by key, key and value joined
//
// Every byte that is not signed by them (a body of another type) makes the request
// forbidden. So does every method but POST, although Twilio signs a GET as well: of a GET
// the URL alone is signed, with the fields in its query. What a stranger wrote, such as
// "xAccountSid…From…" in a message, then stands at the end of the signed text, of which
// whoever got hold of the request could cut off any part and send it as a form. A URL
// whose query carries the fields of a JSON body is refused for the same reason.
func (c *check) verify(req *fasthttp.Request) bool {
	signature := req.Header.Peek(signatureHeader)
	uri := req.Header.RequestURI()
	if !req.Header.IsPost() || len(signature) != signatureLen || len(uri) == 0 || uri[0] != '/' {
		return false
	}
	body := req.Body()
	if len(body) > 0 && !form.MediaType(req.Header.ContentType(), "application/x-www-form-urlencoded") {
		return false
	}
	if !c.form.Parse(body) || !c.joinParams() {
		return false
	}
	// The time taken tells which token and spelling signed it, but only to who signed:
	// a wrong signature is compared with all of them.
	for _, base := range c.bases {
		c.url = append(append(c.url[:0], base...), uri...)
		for _, mac := range c.macs {
			if c.matches(mac, signature) {
				return true
			}
		}
	}
	return false
}

// matches tells whether signature is mac's of the URL and the parameters.
func (c *check) matches(mac hash.Hash, signature []byte) bool {
	mac.Reset()
	mac.Write(c.url)
	mac.Write(c.params)
	base64.StdEncoding.Encode(c.signed[:], mac.Sum(c.sum[:0]))
	return subtle.ConstantTimeCompare(c.signed[:], signature) == 1
}

// callers are Twilio's fields that end in "From" and hold a number: who calls, and who
// forwarded the call to us. A new one must be added here.
var callers = []string{"From", "ForwardedFrom"}

// joinParams fills params with the signed form of the pairs: sorted by key, the
// distinct values of a repeated key sorted too. It reports false for what could be sent
// on as another request, because the signed form does not show where a key ends: a
// pair without an equals sign, of which Twilio sends none (a signed "To=x" as a lone key
// "Tox"), and a caller's number where it is not expected (see form.Stray).
func (c *check) joinParams() bool {
	c.params = c.params[:0]
	for i := range c.form.Params {
		if c.form.Params[i].Bare {
			return false
		}
	}
	c.order = append(c.order[:0], c.form.Params...)
	slices.SortFunc(c.order, func(a, b form.Param) int {
		if order := bytes.Compare(a.Key, b.Key); order != 0 {
			return order
		}
		return bytes.Compare(a.Value, b.Value)
	})
	c.order = slices.CompactFunc(c.order, func(a, b form.Param) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
	})
	for _, p := range c.order {
		c.params = append(append(c.params, p.Key...), p.Value...)
	}
	return !form.Stray(c.params, "From", callers, c.order)
}
