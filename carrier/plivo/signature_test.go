package plivo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

type vector struct {
	Name      string         `json:"name"`
	Method    string         `json:"method"`
	URL       string         `json:"url"`
	Nonce     string         `json:"nonce"`
	AuthToken string         `json:"auth_token"`
	Params    map[string]any `json:"params"`
	Signature string         `json:"signature"`
}

// values returns the fields of the vector's body.
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

// request returns the vector as a request, and the base of its URL.
func (v *vector) request(t *testing.T) (*fasthttp.Request, string) {
	t.Helper()
	u, err := url.Parse(v.URL)
	require.NoError(t, err)
	ctx := request(v.Method, strings.TrimPrefix(v.URL, u.Scheme+"://"+u.Host), v.values().Encode())
	ctx.Request.Header.Set(nonceHeader, v.Nonce)
	ctx.Request.Header.Set(signatureHeader, v.Signature)
	return &ctx.Request, u.Scheme + "://" + u.Host
}

func vectors(t *testing.T) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/signatures.json")
	require.NoError(t, err)
	var file struct {
		Vectors []vector `json:"plivo_v3"`
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Vectors, 12)
	return file.Vectors
}

// signedBy tells whether the request is accepted with these settings.
func signedBy(t *testing.T, req *fasthttp.Request, public string, tokens ...string) bool {
	t.Helper()
	base, err := address("public_url", public)
	require.NoError(t, err)
	return newVerifier(tokens, base).get().verify(req)
}

func TestSignaturesOfPlivosOwnLibraryAreAccepted(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			req, base := v.request(t)
			require.True(t, signedBy(t, req, base, v.AuthToken))
			require.True(t, signedBy(t, req, base+"/", v.AuthToken), "a slash at the end of public_url")
			require.True(t, signedBy(t, req, base, "old", v.AuthToken), "second token of a rotation")
			require.True(t, signedBy(t, req, base, v.AuthToken, "next"), "first token of a rotation")
			require.False(t, signedBy(t, req, base, v.AuthToken+"6"), "another token")
			require.False(t, signedBy(t, req, "https://elsewhere.example", v.AuthToken), "another host")
			other := strings.Replace(base, "https:", "ftp:", 1)
			require.False(t, newVerifier([]string{v.AuthToken}, strings.Replace(other, "http:", "https:", 1)).get().verify(req), "another scheme")
			req.Header.SetHost("attacker.example")
			require.True(t, signedBy(t, req, base, v.AuthToken), "the Host header plays no part")
			for _, wrong := range []string{"", "1.2", "6 7", "\u00e9", strings.Repeat("1", 65), v.Nonce + "1"} {
				req.Header.Set(nonceHeader, wrong)
				require.False(t, signedBy(t, req, base, v.AuthToken), "nonce %q", wrong)
			}
			req.Header.Del(nonceHeader)
			require.False(t, signedBy(t, req, base, v.AuthToken), "no nonce")
			req.Header.Set(nonceHeader, v.Nonce)
			require.True(t, signedBy(t, req, base, v.AuthToken))
			req.Header.Del(signatureHeader)
			require.False(t, signedBy(t, req, base, v.AuthToken), "no signature")
		})
	}
}

func TestAnySignatureOfAnyListMayMatch(t *testing.T) {
	t.Parallel()
	good := sign(token, "POST", public+voiceURI, nonce, fields())
	bad := sign("other", "POST", public+voiceURI, nonce, fields())
	for _, c := range []struct {
		own, main string
		want      bool
	}{
		{good, "", true},
		{"", good, true},
		{bad, good, true},
		{bad + "," + good, "", true},
		{good + "," + bad, bad, true},
		{bad + ", " + good, "", true},
		{"," + good + ",", "", true},
		{bad, bad + "," + good, true},
		{bad, bad, false},
		{bad + "," + bad, "", false},
		{"", "", false},
		{",", ",", false},
		{good[:43], "", false},
		{good + good, "", false},
		{good + ";" + good, "", false},
	} {
		ctx := request("POST", voiceURI, fields().Encode())
		ctx.Request.Header.Set(signatureHeader, c.own)
		ctx.Request.Header.Set(mainSignatureHeader, c.main)
		require.Equal(t, c.want, signedBy(t, &ctx.Request, public, token), "%q, %q", c.own, c.main)
	}
}

func TestANonceIsNeeded(t *testing.T) {
	t.Parallel()
	ctx := request("POST", voiceURI, fields().Encode())
	ctx.Request.Header.Del(nonceHeader)
	ctx.Request.Header.Set(signatureHeader, sign(token, "POST", public+voiceURI, "", fields()))
	require.False(t, signedBy(t, &ctx.Request, public, token))
}

func TestThePortIsPartOfTheAddressAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		signed, public string
		want           bool
	}{
		{"https://h.example/x", "https://h.example", true},
		{"https://h.example:443/x", "https://h.example:443", true},
		{"https://h.example:443/x", "https://h.example", false},
		{"https://h.example/x", "https://h.example:443", false},
		{"http://h.example:8080/x", "http://h.example:8080", true},
		{"https://h.example/base/x", "https://h.example/base/", true},
		{"https://h.example/x", "https://h.example/base", false},
	} {
		ctx := request("GET", "/x", "")
		ctx.Request.Header.Set(signatureHeader, sign(token, "GET", c.signed, nonce, nil))
		require.Equal(t, c.want, signedBy(t, &ctx.Request, c.public, token), "%s by %s", c.signed, c.public)
	}
}

func TestThePathIsTakenExactlyAsReceived(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"/x?b=2&a=1", "/x?a=%2b", "/x?", "/a/../x?", "//x", "/x?a=b?c", "/%7Ex?a=+"} {
		ctx := post(uri, fields())
		require.True(t, signedBy(t, &ctx.Request, public, token), uri)
		ctx.Request.Header.SetRequestURI("/y" + uri)
		require.False(t, signedBy(t, &ctx.Request, public, token), uri)
	}
	absolute := request("GET", "https://calls.example.com/x", "")
	absolute.Request.Header.Set(signatureHeader, sign(token, "GET", public+"https://calls.example.com/x", nonce, nil))
	require.False(t, signedBy(t, &absolute.Request, public, token), "an absolute request target")
}

func TestBytesThatAreNotSignedMakeARequestForbidden(t *testing.T) {
	t.Parallel()
	ctx := get(voiceURI, fields())
	require.True(t, signedBy(t, &ctx.Request, public, token))
	ctx.Request.SetBodyString("To=12025550199")
	require.False(t, signedBy(t, &ctx.Request, public, token), "a body on a GET")
	turned := post(voiceURI+"?From=12025550199", url.Values{"To": {"12025550101"}})
	require.True(t, signedBy(t, &turned.Request, public, token))
	turned.Request.Header.SetMethod("GET")
	require.False(t, signedBy(t, &turned.Request, public, token), "a POST sent on as a GET, which has its fields in the query")

	for _, contentType := range []string{"text/plain", "multipart/form-data; boundary=x", "", "application/json"} {
		ctx := post(voiceURI, fields())
		ctx.Request.Header.SetContentType(contentType)
		ctx.Request.Header.SetNoDefaultContentType(true)
		require.False(t, signedBy(t, &ctx.Request, public, token), "content type %q", contentType)
	}
	upper := post(voiceURI, fields())
	upper.Request.Header.SetContentType("Application/X-WWW-Form-Urlencoded ; charset=UTF-8")
	require.True(t, signedBy(t, &upper.Request, public, token))
	put := post(voiceURI, fields())
	put.Request.Header.SetMethod("PUT")
	require.False(t, signedBy(t, &put.Request, public, token), "another method")
	for _, body := range []string{"a=%zz", "a;b=c", "a=%2"} {
		ctx := request("POST", voiceURI, body)
		ctx.Request.Header.Set(signatureHeader, mac(token, public+voiceURI+"?"+body+"."+nonce))
		require.False(t, signedBy(t, &ctx.Request, public, token), "what cannot be read: %s", body)
	}
}

// change calls f with every request that differs from a signed one by one byte
// replaced, inserted or left out.
func change(original []byte, f func(changed []byte, how string)) {
	for i := range original {
		for _, b := range []byte{original[i] ^ 1, original[i] ^ 0x20, '&', '=', '%', '+', ';', '?', '.', ',', '0', 0} {
			if b != original[i] {
				f(append(append(bytes.Clone(original[:i]), b), original[i+1:]...), "replaced")
			}
		}
		for _, b := range []byte{'&', '=', '+', '0', '%', '?', '.', ','} {
			f(append(append(bytes.Clone(original[:i]), b), original[i:]...), "inserted")
		}
		f(append(bytes.Clone(original[:i]), original[i+1:]...), "left out")
	}
}

func TestEverySingleByteChangeOfASignedRequestIsRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const uri = voiceURI + "?a=1&b=%2B"
	want := decoded(t, c, post(uri, fields()))
	original, signature := fields().Encode(), sign(token, "POST", public+uri, nonce, fields())
	signed := func(uri, body string) *requestCtx {
		ctx := request("POST", uri, body)
		ctx.Request.Header.Set(signatureHeader, signature)
		return ctx
	}

	for _, header := range []string{signatureHeader, nonceHeader} {
		text := bytes.Clone(signed(uri, original).Request.Header.Peek(header))
		change(text, func(changed []byte, how string) {
			ctx := signed(uri, original)
			ctx.Request.Header.SetBytesV(header, changed)
			kept := ctx.Request.Header.Peek(header)
			if bytes.Equal(kept, text) || header == signatureHeader && bytes.Contains(kept, []byte{','}) && bytes.Contains(kept, text) {
				return // what cannot stand in a header is dropped before it gets here; the list may hold more
			}
			require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "%s %s: %q", header, how, changed)
		})
	}
	change([]byte(uri), func(changed []byte, how string) {
		ctx := signed(string(changed), original)
		kept := string(ctx.Request.Header.RequestURI())
		path, query, _ := strings.Cut(kept, "?")
		same, err := url.ParseQuery(query)
		if path == voiceURI && err == nil && same.Encode() == "a=1&b=%2B" && !strings.Contains(query, "?") {
			return // the same address written in another way
		}
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "URI %s: %q", how, changed)
	})
	change([]byte(original), func(changed []byte, how string) {
		ctx := signed(uri, string(changed))
		err := c.Decode(ctx, nil, new(vn.Call))
		if same, parseErr := url.ParseQuery(string(changed)); parseErr == nil && same.Encode() == original && !bare(string(changed)) {
			require.NoError(t, err, "%s: the same fields written in another way", how)
			require.Equal(t, want, decoded(t, c, ctx))
			return
		}
		require.ErrorIs(t, err, vn.ErrForbidden, "body %s: %q", how, changed)
	})
}

// bare tells whether a pair of the form has no equals sign.
func bare(form string) bool {
	return slices.ContainsFunc(strings.Split(form, "&"), func(pair string) bool { return pair != "" && !strings.Contains(pair, "=") })
}

// TestOneCodecServesManyRequestsAtOnce fails under the race detector, or by a wrong
// call, when two requests share working memory.
func TestOneCodecServesManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var all sync.WaitGroup
	for i := range 8 {
		number := vn.Number(12025550100 + i)
		f := with(with(fields(), "From", number.Digits()), "CallUUID", strings.Repeat(string(rune('a'+i)), 36))
		good, bad := post(voiceURI, f), get(voiceURI, f)
		bad.Request.Header.Set(signatureHeader, strings.Repeat("A", signatureLen))
		all.Go(func() {
			for range 200 {
				var call vn.Call
				if err := c.Decode(good, nil, &call); err != nil || call.Calling != number || string(call.ID) != f.Get("CallUUID") {
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
