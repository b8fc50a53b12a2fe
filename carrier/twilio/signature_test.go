package twilio

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

type vector struct {
	Name      string         `json:"name"`
	AuthToken string         `json:"auth_token"`
	URL       string         `json:"url"`
	Params    map[string]any `json:"params"`
	Body      *string        `json:"body"`
	Signature string         `json:"signature"`
}

// values returns the vector's parameters, none where the URL alone is signed.
func (v *vector) values() url.Values {
	values := url.Values{}
	for key, value := range v.Params {
		switch value := value.(type) {
		case string:
			values.Add(key, value)
		case []any:
			for _, one := range value {
				values.Add(key, fmt.Sprint(one))
			}
		}
	}
	return values
}

// bare tells whether the URL alone is signed: a GET, or a POST of JSON.
func (v *vector) bare() bool { return v.Body != nil || len(v.Params) == 0 }

// request returns the vector as a form, and the base of its URL.
func (v *vector) request(t *testing.T) (*fasthttp.Request, string) {
	t.Helper()
	u, err := url.Parse(v.URL)
	require.NoError(t, err)
	req := new(fasthttp.Request)
	req.Header.SetMethod("POST")
	req.Header.SetRequestURI(u.RequestURI())
	req.Header.Set(signatureHeader, v.Signature)
	req.Header.SetContentType("application/x-www-form-urlencoded; charset=UTF-8")
	req.SetBodyString(v.values().Encode())
	return req, u.Scheme + "://" + u.Host
}

func vectors(t *testing.T) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/signatures.json")
	require.NoError(t, err)
	var file struct{ Twilio []vector }
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Twilio, 7)
	return file.Twilio
}

// signedBy tells whether the request is accepted with these settings.
func signedBy(t *testing.T, req *fasthttp.Request, public string, tokens ...string) bool {
	t.Helper()
	bases, err := publicBases(public)
	require.NoError(t, err)
	v := newVerifier(tokens, bases)
	return v.get().verify(req)
}

func TestSignaturesOfTwiliosOwnLibraryAreAccepted(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if v.bare() {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			req, base := v.request(t)
			require.True(t, signedBy(t, req, base, v.AuthToken))
			require.True(t, signedBy(t, req, base+"/", v.AuthToken), "a slash at the end of public_url")
			require.True(t, signedBy(t, req, base, "old", v.AuthToken), "second token of a rotation")
			require.True(t, signedBy(t, req, base, v.AuthToken, "next"), "first token of a rotation")
			require.False(t, signedBy(t, req, base, v.AuthToken+"6"), "another token")
			require.False(t, signedBy(t, req, "https://elsewhere.example", v.AuthToken), "another host")
			require.False(t, signedBy(t, req, strings.Replace(base, "https", "http", 1), v.AuthToken), "another scheme")
			req.Header.SetHost("attacker.example")
			require.True(t, signedBy(t, req, base, v.AuthToken), "the Host header plays no part")
			req.Header.Del(signatureHeader)
			require.False(t, signedBy(t, req, base, v.AuthToken), "no signature")
		})
	}
}

// TestTheHMACOfABareURLIsTwilios holds the two vectors that verify does not take: requests
// without a form.
func TestTheHMACOfABareURLIsTwilios(t *testing.T) {
	t.Parallel()
	held := 0
	for _, v := range vectors(t) {
		if !v.bare() {
			continue
		}
		held++
		c := newVerifier([]string{v.AuthToken}, nil).get()
		c.url = []byte(v.URL)
		require.True(t, c.matches(c.macs[0], []byte(v.Signature)), v.Name)
		c.url = append(c.url, '&')
		require.False(t, c.matches(c.macs[0], []byte(v.Signature)), v.Name)
	}
	require.Equal(t, 2, held)
}

func TestThePortMayBeWrittenOrLeftOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		signed, public string
		want           bool
	}{
		{"https://h.example/x", "https://h.example", true},
		{"https://h.example:443/x", "https://h.example", true},
		{"https://h.example/x", "https://h.example:443", true},
		{"http://h.example:80/x", "http://h.example", true},
		{"https://h.example/x", "https://h.example:8443", true},
		{"https://h.example:8443/x", "https://h.example:8443", true},
		{"https://h.example:8443/x", "https://h.example", false},
		{"https://h.example:80/x", "https://h.example", false},
		{"https://h.example/base/x", "https://h.example/base/", true},
		{"https://[2001:db8::1]:443/x", "https://[2001:db8::1]", true},
	} {
		ctx := post(t, "/x", fields())
		ctx.Request.Header.Set(signatureHeader, sign("12345", c.signed, fields()))
		require.Equal(t, c.want, signedBy(t, &ctx.Request, c.public, "12345"), "%s by %s", c.signed, c.public)
	}
}

func TestTheQueryIsTakenExactlyAsReceived(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"/x?b=2&a=1", "/x?a=%2b&c", "/x?", "/a/../x?", "//x", "/x?a=b?c", "/%7Ex?a=+"} {
		req := post(t, uri, fields())
		require.True(t, signedBy(t, &req.Request, public, token), uri)
		req.Request.Header.SetRequestURI(uri + "&")
		require.False(t, signedBy(t, &req.Request, public, token), uri)
	}
	absolute := post(t, "https://calls.example.com/x", fields())
	require.False(t, signedBy(t, &absolute.Request, public, token), "an absolute request target")
}

func TestARepeatedFieldIsSignedByItsDistinctValuesInOrder(t *testing.T) {
	t.Parallel()
	body := "B=x&A=b&A=a&A=b"
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetContentType("application/x-www-form-urlencoded")
	ctx.Request.Header.SetRequestURI("/x")
	ctx.Request.SetBodyString(body)
	ctx.Request.Header.Set(signatureHeader, sign(token, public+"/x", url.Values{"A": {"b", "a", "b"}, "B": {"x"}}))
	require.True(t, signedBy(t, &ctx.Request, public, token))
}

func TestBytesThatAreNotSignedMakeARequestForbidden(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"text/plain", "multipart/form-data; boundary=x", "", "application/json"} {
		req := post(t, "/x", fields())
		req.Request.Header.SetContentType(contentType)
		req.Request.Header.SetNoDefaultContentType(true)
		require.False(t, signedBy(t, &req.Request, public, token), "content type %q", contentType)
	}
}

// unsigned returns a request of the method without a body.
func unsigned(method, uri string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod(method)
	ctx.Request.Header.SetRequestURI(uri)
	return ctx
}

// refused requires that nothing is read from the request.
func refused(t *testing.T, c *Codec, ctx *fasthttp.RequestCtx, why string) {
	t.Helper()
	require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, why)
	require.ErrorIs(t, c.DecodeMessage(ctx, nil, new(vn.Message)), vn.ErrForbidden, why)
	known, err := c.DecodeProgress(ctx, nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden, why)
	require.False(t, known, why)
}

func TestEveryMethodButPOSTIsForbidden(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	uri := "/x?" + fields().Encode()
	for _, method := range []string{"GET", "HEAD", "PUT", "POST"} {
		ctx := unsigned(method, uri)
		ctx.Request.Header.Set(signatureHeader, sign(token, public+uri, nil))
		refused(t, c, ctx, method+" with the fields in the query")
	}
	for _, method := range []string{"GET", "PUT", "PATCH", "DELETE"} {
		ctx := post(t, "/x", fields())
		ctx.Request.Header.SetMethod(method)
		refused(t, c, ctx, method+" of a form")
	}
}

func TestAJSONBodyIsForbidden(t *testing.T) {
	t.Parallel()
	body := []byte(`{}`)
	uri := fmt.Sprintf("/x?%s&bodySHA256=%x", fields().Encode(), sha256.Sum256(body))
	ctx := unsigned("POST", uri)
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.SetBody(body)
	ctx.Request.Header.Set(signatureHeader, sign(token, public+uri, nil))
	refused(t, codec(t, Config{}), ctx, "Twilio sends calls and messages as forms")
}

// TestTheEndOfTheURLCannotBeMoved sends really signed requests on with another end of the
// URL: the signed text is the same.
func TestTheEndOfTheURLCannotBeMoved(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const uri = statusPath + "?order_id="
	for name, test := range map[string]struct {
		signed, sent string // the order
		edit         func(url.Values)
	}{
		"digits go to the first key": {"order-12", "order-1", func(f url.Values) { f.Del("AccountSid"); f.Set("2AccountSid", account) }},
		"a letter becomes a field":   {"order-A", "order-", func(f url.Values) { f.Set("A", "") }},
		"a word becomes a field":     {"order.AB7", "order.", func(f url.Values) { f.Set("AB", "7") }},
		"the account goes along":     {"o", "oAccountSid" + account, func(f url.Values) { f.Del("AccountSid") }},
	} {
		edited := dialled()
		test.edit(edited)
		signature := sign(token, public+uri+test.signed, dialled())
		require.Equal(t, signature, sign(token, public+uri+test.sent, edited), "%s: the attack is one", name)
		ctx := post(t, uri+test.signed, dialled())
		var p vn.Progress
		known, err := c.DecodeProgress(ctx, nil, &p)
		require.NoError(t, err, name)
		require.True(t, known, name)
		require.Equal(t, test.signed, string(p.OrderID), name)
		refused(t, c, post(t, uri+test.sent, edited), name)
	}
}

func TestTheAccountMustBeNamedOnce(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for name, edit := range map[string]func(url.Values){
		"missing":         func(f url.Values) { f.Del("AccountSid") },
		"empty":           func(f url.Values) { f.Set("AccountSid", "") },
		"another":         func(f url.Values) { f.Set("AccountSid", "AC00000000000000000000000000000000") },
		"longer":          func(f url.Values) { f.Set("AccountSid", account+"0") },
		"another as well": func(f url.Values) { f.Add("AccountSid", "ACz") },
		"in lower case":   func(f url.Values) { f.Del("AccountSid"); f.Set("accountSid", account) },
		"not the first":   func(f url.Values) { f.Set("1", "x") },
	} {
		f := fields()
		edit(f)
		refused(t, c, post(t, "/x", f), name)
	}
	empty := post(t, "/x", url.Values{})
	require.True(t, signedBy(t, &empty.Request, public, token))
	refused(t, c, empty, "no field at all")
}

// TestNobodyElsesCallerCanBeReadFromASignedRequest divides signed fields anew: the
// signed form is the same.
func TestNobodyElsesCallerCanBeReadFromASignedRequest(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for name, test := range map[string]struct{ signed, sent url.Values }{
		"a call that was forwarded": {
			url.Values{"AccountSid": {account}, "CallSid": {"CA0"}, "ForwardedFrom": {"+12025550199"}, "From": {"+12025550100"}, "To": {"+12025550101"}},
			url.Values{"AccountSid": {account}, "CallSid": {"CA0"}, "Forwarded": {""}, "From": {"+12025550199"}, "From+1": {"2025550100"}, "To": {"+12025550101"}},
		},
		"a name that the caller chose": {
			url.Values{"AccountSid": {account}, "CallSid": {"CA0"}, "CallerName": {"xFrom+12025550199G"}, "From": {"+12025550100"}, "To": {"+12025550101"}},
			url.Values{"AccountSid": {account}, "CallSid": {"CA0"}, "CallerName": {"x"}, "From": {"+12025550199"}, "GFrom": {"+12025550100"}, "To": {"+12025550101"}},
		},
	} {
		signature := sign(token, public+"/x", test.signed)
		require.Equal(t, signature, sign(token, public+"/x", test.sent), "%s: the attack is one", name)
		ctx := post(t, "/x", test.sent)
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, name)
	}
	forwarded := fields()
	forwarded.Set("ForwardedFrom", "+12025550199")
	require.True(t, decoded(t, c, post(t, "/x", forwarded)).Calling == 12025550100)
}

// change calls f with every request that differs from a signed one by one byte
// replaced, inserted or left out.
func change(original []byte, f func(changed []byte, how string)) {
	for i := range original {
		for _, b := range []byte{original[i] ^ 1, original[i] ^ 0x20, '&', '=', '%', '+', ';', '0', 0} {
			if b != original[i] {
				f(append(append(bytes.Clone(original[:i]), b), original[i+1:]...), "replaced")
			}
		}
		for _, b := range []byte{'&', '=', '+', '0', '%'} {
			f(append(append(bytes.Clone(original[:i]), b), original[i:]...), "inserted")
		}
		f(append(bytes.Clone(original[:i]), original[i+1:]...), "left out")
	}
}

func TestEverySingleByteChangeOfASignedRequestIsRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const uri = "/v1/carriers/twilio/voice?a=1&b=%2B"
	signed := post(t, uri, fields())
	want := decoded(t, c, signed)

	header := bytes.Clone(signed.Request.Header.Peek(signatureHeader))
	change(header, func(changed []byte, how string) {
		ctx := post(t, uri, fields())
		ctx.Request.Header.SetBytesV(signatureHeader, changed)
		if bytes.Equal(ctx.Request.Header.Peek(signatureHeader), header) {
			return // what cannot stand in a header is dropped before it gets here
		}
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "signature %s", how)
	})
	change([]byte(uri), func(changed []byte, how string) {
		ctx := post(t, uri, fields())
		ctx.Request.Header.SetRequestURIBytes(changed)
		if string(ctx.Request.Header.RequestURI()) == uri {
			return
		}
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "URI %s: %q", how, changed)
	})
	body := bytes.Clone(signed.Request.Body())
	original, err := url.ParseQuery(string(body))
	require.NoError(t, err)
	change(body, func(changed []byte, how string) {
		ctx := post(t, uri, fields())
		ctx.Request.SetBody(changed)
		err := c.Decode(ctx, nil, new(vn.Call))
		same, parseErr := url.ParseQuery(string(changed))
		if parseErr == nil && equal(same, original) {
			require.NoError(t, err, "%s: the same fields written in another way", how)
			require.Equal(t, want, decoded(t, c, ctx))
			return
		}
		require.ErrorIs(t, err, vn.ErrForbidden, "body %s: %q", how, changed)
	})
}

func equal(a, b url.Values) bool { return a.Encode() == b.Encode() }

// TestOneCodecServesManyRequestsAtOnce fails under the race detector, or by a wrong
// call, when two requests share working memory.
func TestOneCodecServesManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var all sync.WaitGroup
	for i := range 8 {
		f := fields()
		number := vn.Number(12025550100 + i)
		f.Set("From", number.E164())
		f.Set("CallSid", strings.Repeat(string(rune('a'+i)), 34))
		good, bad := post(t, "/x", f), post(t, "/x", f)
		bad.Request.Header.Set(signatureHeader, strings.Repeat("A", signatureLen))
		all.Go(func() {
			for range 200 {
				var call vn.Call
				if err := c.Decode(good, nil, &call); err != nil || call.Calling != number || string(call.ID) != f.Get("CallSid") {
					t.Errorf("request %d was read as another's (%v)", i, err)
					return
				}
				if c.Decode(bad, nil, &call) == nil {
					t.Errorf("request %d was accepted without a signature", i)
					return
				}
			}
		})
	}
	all.Wait()
}
