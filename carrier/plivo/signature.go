package plivo

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"slices"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
)

// The headers of a signature: by the token of the account or subaccount that the
// request belongs to, by the main account's token (messages are signed by that), and the
// random text that both cover.
// https://docs.plivo.com/docs/voice/concepts/signature-validation
const (
	signatureHeader     = "X-Plivo-Signature-V3"
	mainSignatureHeader = "X-Plivo-Signature-Ma-V3"
	nonceHeader         = "X-Plivo-Signature-V3-Nonce"
)

// signatureLen is the length of 32 bytes in base64.
const signatureLen = 44

// maxNonce bounds the length of a nonce. Plivo sends 20 digits.
const maxNonce = 64

// verifier checks signatures for one account with pooled working memory.
type verifier struct{ pool sync.Pool }

// check is the working memory of one signature check.
type check struct {
	base   string      // scheme, host and path prefix of the URLs that Plivo calls
	macs   []hash.Hash // HMAC-SHA256, one per auth token
	query  form.Form
	body   form.Form
	fields *form.Form   // what Plivo tells: body of a POST, query of a GET
	order  []form.Param // pairs as they are signed
	text   []byte       // what is signed
	start  int          // where text goes on behind the URL
	sum    [sha256.Size]byte
	signed [signatureLen]byte
}

func newVerifier(tokens []string, base string) *verifier {
	v := new(verifier)
	v.pool.New = func() any {
		c := &check{base: base}
		for _, token := range tokens {
			c.macs = append(c.macs, hmac.New(sha256.New, []byte(token)))
		}
		return c
	}
	return v
}

func (v *verifier) get() *check { return v.pool.Get().(*check) } //nolint:errcheck // the pool makes nothing else

func (v *verifier) put(c *check) { v.pool.Put(c) }

// verify tells whether Plivo signed the request, and leaves its fields in c.fields. The
// signed text, by the npm package plivo 4.79.0, whose signatures the tests hold:
//
//	GET                 URL?k=v&k=v.nonce     the query, decoded, sorted by key and value
//	POST                URL?kvkv.nonce        the body's pairs, decoded and sorted
//	POST with a query   URL?k=v&k=v.kvkv.nonce
//	without any pair    URL.nonce
//
// The URL is the public base and the path. Every byte that is not signed (a body on a
// GET, a body of another type) makes the request forbidden, and so does what could be
// read in two ways.
func (c *check) verify(req *fasthttp.Request) bool {
	signatures, main := req.Header.Peek(signatureHeader), req.Header.Peek(mainSignatureHeader)
	nonce := req.Header.Peek(nonceHeader)
	if len(signatures)+len(main) == 0 || !validNonce(nonce) || !c.parse(req) || !c.unambiguous() {
		return false
	}
	c.text = append(append(c.text, '.'), nonce...)
	// The time taken tells which token signed it, but only to who signed: a wrong
	// signature is compared with all of them.
	for _, mac := range c.macs {
		mac.Reset()
		mac.Write(c.text)
		base64.StdEncoding.Encode(c.signed[:], mac.Sum(c.sum[:0]))
		if c.among(signatures) || c.among(main) {
			return true
		}
	}
	return false
}

// validNonce tells whether the nonce is there and holds only letters, digits, "-" and
// "_". It holds no dot, so it is what follows the last dot of the signed text: nobody can
// move the end of the fields into it.
func validNonce(nonce []byte) bool {
	for _, b := range nonce {
		if (b < '0' || b > '9') && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && b != '-' && b != '_' {
			return false
		}
	}
	return len(nonce) > 0 && len(nonce) <= maxNonce
}

// parse reads the request's pairs and fills text with what is signed, but the nonce.
func (c *check) parse(req *fasthttp.Request) bool {
	path, query, _ := bytes.Cut(req.Header.RequestURI(), []byte{'?'})
	body := req.Body()
	switch {
	case len(path) == 0 || path[0] != '/' || !c.query.Parse(query) || !c.body.Parse(body):
		return false
	case req.Header.IsGet() && len(body) == 0:
		c.fields = &c.query
	case req.Header.IsPost() && (len(body) == 0 || form.MediaType(req.Header.ContentType(), "application/x-www-form-urlencoded")):
		c.fields = &c.body
	default:
		return false
	}
	c.text = append(append(c.text[:0], c.base...), path...)
	c.start = len(c.text)
	if len(c.query.Params)+len(c.body.Params) > 0 {
		c.text = append(c.text, '?')
	}
	c.appendPairs(c.query.Params, "=", "&")
	if len(c.query.Params) > 0 && len(c.body.Params) > 0 {
		c.text = append(c.text, '.')
	}
	c.appendPairs(c.body.Params, "", "")
	return true
}

// appendPairs appends the pairs to text, sorted by key and value.
func (c *check) appendPairs(pairs []form.Param, assign, between string) {
	c.order = append(c.order[:0], pairs...)
	slices.SortFunc(c.order, func(a, b form.Param) int {
		if order := bytes.Compare(a.Key, b.Key); order != 0 {
			return order
		}
		return bytes.Compare(a.Value, b.Value)
	})
	for i, p := range c.order {
		if i > 0 {
			c.text = append(c.text, between...)
		}
		c.text = append(append(append(c.text, p.Key...), assign...), p.Value...)
	}
}

// among tells whether the comma-separated list holds the signature in signed. During a
// rotation Plivo signs with each active token.
func (c *check) among(list []byte) bool {
	for len(list) > 0 {
		var one []byte
		one, list, _ = bytes.Cut(list, []byte{','})
		if subtle.ConstantTimeCompare(c.signed[:], bytes.TrimSpace(one)) == 1 {
			return true
		}
	}
	return false
}

// fromField holds who calls or writes: all that a permission hangs on.
const fromField = "From"

// callers are Plivo's fields that end in "From" and hold a number: who calls, who
// forwarded the call to us, and the VN that was shown. A new one must be added here.
var callers = []string{fromField, "ForwardedFrom", "DialBLegFrom"}

// unambiguous tells whether no other request with another caller has the same signed
// text, which does not show where keys and values end: see form.Stray. A message whose
// text has "From" and a number right behind it is therefore refused, and so is a pair
// without an equals sign: Plivo sends none, and it moves a boundary too.
func (c *check) unambiguous() bool {
	for _, pairs := range [...][]form.Param{c.query.Params, c.body.Params} {
		if slices.ContainsFunc(pairs, func(p form.Param) bool { return p.Bare }) {
			return false
		}
	}
	return !form.Stray(c.text[c.start:], fromField, callers, c.query.Params, c.body.Params)
}
