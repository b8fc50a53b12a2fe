package telnyx

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// noon is the tests' time.
var noon = time.Unix(1_700_000_000, 0)

// privateKey returns one of the tests' keys.
func privateKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicKey(n byte) string {
	return base64.StdEncoding.EncodeToString(privateKey(n)[ed25519.SeedSize:])
}

func sign(key byte, timestamp, body string) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(privateKey(key), []byte(timestamp+"|"+body)))
}

// codec returns a codec with key 1 whose clock shows noon.
func codec(t testing.TB, cfg Config) *Codec {
	t.Helper()
	if cfg.PublicKeys == nil {
		cfg.PublicKeys = []string{publicKey(1)}
	}
	cfg.Now = func() time.Time { return noon }
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

// fields are those of a voice webhook.
func fields() url.Values {
	return url.Values{
		"AccountSid": {"f5586561-8ff0-4291-a51b-c7dfe4139ff9"}, "CallSid": {callID}, "CallSidLegacy": {callID}, "CallStatus": {"ringing"},
		"CallerId": {"Alice"}, "ConnectionId": {"1234567890"}, "From": {"+12025550100"}, "To": {"+12025550101"},
		"ShakenStirAttestation": {"A"}, "ShakenStirValidated": {"true"},
	}
}

const callID = "v3:9X2vxPDFY2RHSJ1EdMS0RHRksMTg7ldNxdjWbVr9zBjbGjGsSe-aiQ"

const (
	voicePath  = "/v1/carriers/telnyx/voice"
	statusPath = "/v1/carriers/telnyx/status"
	formType   = "application/x-www-form-urlencoded"
)

// post returns a form request signed by key 1 at noon.
func post(uri, body string) *fasthttp.RequestCtx {
	return postAt(noon, 1, uri, body)
}

func postAt(at time.Time, key byte, uri, body string) *fasthttp.RequestCtx {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetRequestURI(uri)
	ctx.Request.Header.SetContentType(formType)
	ctx.Request.Header.Set(timestampHeader, timestamp)
	ctx.Request.Header.Set(signatureHeader, sign(key, timestamp, body))
	ctx.Request.SetBodyString(body)
	return ctx
}

// decode tells what Decode says to a request.
func decode(c *Codec, ctx *fasthttp.RequestCtx) error {
	return c.Decode(ctx, nil, new(vn.Call))
}

func TestTheSignatureOfTelnyxsOwnLibraryIsAccepted(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/signatures.json")
	require.NoError(t, err)
	var file struct {
		Telnyx struct {
			Key       string `json:"public_key_b64"`
			Timestamp string `json:"timestamp"`
			Body      string `json:"body"`
			Signature string `json:"signature"`
		} `json:"telnyx"`
	}
	require.NoError(t, json.Unmarshal(data, &file))
	v := file.Telnyx
	keys, err := publicKeys([]string{publicKey(2), v.Key})
	require.NoError(t, err)
	c := &check{keys: keys, now: func() time.Time { return noon }}
	require.True(t, c.signed([]byte(v.Timestamp), []byte(v.Signature), []byte(v.Body)))
	require.False(t, c.signed([]byte(v.Timestamp), []byte(v.Signature), []byte(v.Body+" ")))
	c.keys = keys[:1]
	require.False(t, c.signed([]byte(v.Timestamp), []byte(v.Signature), []byte(v.Body)), "another key")
}

func TestBothKeysOfARotationAreAccepted(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{PublicKeys: []string{publicKey(1), publicKey(2)}})
	body := fields().Encode()
	require.NoError(t, decode(c, postAt(noon, 1, voicePath, body)))
	require.NoError(t, decode(c, postAt(noon, 2, voicePath, body)))
	require.ErrorIs(t, decode(c, postAt(noon, 3, voicePath, body)), vn.ErrForbidden)
}

func TestASignatureHoldsForFiveMinutes(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	body := fields().Encode()
	for age, want := range map[time.Duration]error{
		0: nil, Window: nil, -Window: nil,
		Window + time.Second: vn.ErrForbidden, -Window - time.Second: vn.ErrForbidden, 24 * time.Hour: vn.ErrForbidden,
	} {
		require.ErrorIs(t, decode(c, postAt(noon.Add(-age), 1, voicePath, body)), want, age)
	}
	for _, timestamp := range []string{
		"", "-1700000000", "+1700000000", "1700000000.0", " 1700000000", "1.7e9", "0x6553f100", "9999999999999", "1700000000|",
	} {
		ctx := post(voicePath, body)
		ctx.Request.Header.Set(timestampHeader, timestamp)
		ctx.Request.Header.Set(signatureHeader, sign(1, timestamp, body))
		require.ErrorIs(t, decode(c, ctx), vn.ErrForbidden, "%q, signed as it is", timestamp)
	}
}

// TestWhatIsNotSignedIsNotBelieved takes a request apart: what the signature does not
// cover must not be able to name a caller or a VN.
func TestWhatIsNotSignedIsNotBelieved(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	query := voicePath + "?" + fields().Encode()
	forms := map[string]*fasthttp.RequestCtx{}

	get := post(query, "")
	get.Request.Header.SetMethod("GET")
	forms["a GET, its empty body signed"] = get
	forms["a POST with an empty body"] = post(query, "")
	put := post(voicePath, fields().Encode())
	put.Request.Header.SetMethod("PUT")
	forms["another method"] = put
	for _, contentType := range []string{"", "application/json", "text/plain", "multipart/form-data; boundary=x"} {
		ctx := post(voicePath, fields().Encode())
		ctx.Request.Header.SetContentType(contentType)
		ctx.Request.Header.SetNoDefaultContentType(true)
		forms["content type "+contentType] = ctx
	}
	forms["JSON that reads as a form"] = post(voicePath, `{"text":"&`+fields().Encode()+`&"}`)
	for name, ctx := range forms {
		require.ErrorIs(t, decode(c, ctx), vn.ErrForbidden, name)
		known, err := c.DecodeProgress(ctx, nil, new(vn.Progress))
		require.ErrorIs(t, err, vn.ErrForbidden, name)
		require.False(t, known, name)
	}

	var call vn.Call
	other := fields()
	other.Set("To", "+12025550199")
	other.Set("From", "+12025550198")
	require.NoError(t, c.Decode(post(voicePath+"?"+other.Encode(), fields().Encode()), nil, &call))
	require.True(t, call.Called == 12025550101 && call.Calling == 12025550100, "the query of a POST is not read")
	f := fields()
	f.Del("To")
	require.Error(t, decode(c, post(voicePath+"?To=%2B12025550101", f.Encode())), "nor does it fill in what the body lacks")
}

// change calls f with every text that differs from the original by one byte replaced,
// inserted or left out.
func change(original string, f func(changed, how string)) {
	for i := range len(original) {
		for _, b := range []byte{original[i] + 1, original[i] ^ 1, original[i] ^ 0x20, '&', '=', '%', '+', ';', '0', 'A', 0} {
			if b != original[i] {
				f(original[:i]+string(rune(b))+original[i+1:], "replaced")
			}
		}
		for _, b := range []byte{'&', '=', '+', '0', 'A', '%'} {
			f(original[:i]+string(rune(b))+original[i:], "inserted")
		}
		f(original[:i]+original[i+1:], "left out")
	}
}

func TestEverySingleByteChangeOfASignedRequestIsRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	body, timestamp := "CallSid=v3:x&From=%2B12025550100&To=%2B12025550101", strconv.FormatInt(noon.Unix(), 10)
	signature := sign(1, timestamp, body)
	signed := post(voicePath, body)
	require.NoError(t, decode(c, signed))
	change(body, func(changed, how string) {
		ctx := new(fasthttp.RequestCtx)
		signed.Request.CopyTo(&ctx.Request)
		ctx.Request.SetBodyString(changed)
		require.ErrorIs(t, decode(c, ctx), vn.ErrForbidden, "body %s: %q", how, changed)
	})
	for header, value := range map[string]string{signatureHeader: signature, timestampHeader: timestamp} {
		change(value, func(changed, how string) {
			ctx := new(fasthttp.RequestCtx)
			signed.Request.CopyTo(&ctx.Request)
			ctx.Request.Header.Set(header, changed)
			if string(ctx.Request.Header.Peek(header)) == value {
				return // what cannot stand in a header is dropped before it gets here
			}
			require.ErrorIs(t, decode(c, ctx), vn.ErrForbidden, "%s %s: %q", header, how, changed)
		})
		ctx := post(voicePath, body)
		ctx.Request.Header.Del(header)
		require.ErrorIs(t, decode(c, ctx), vn.ErrForbidden, header)
	}
	for _, spelling := range []string{strings.TrimRight(signature, "="), signature + "=", signature + "\t", " " + signature} {
		ctx := post(voicePath, body)
		ctx.Request.Header.Set(signatureHeader, spelling)
		if string(ctx.Request.Header.Peek(signatureHeader)) != signature {
			require.ErrorIs(t, decode(c, ctx), vn.ErrForbidden, "another spelling")
		}
	}
}

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
		f.Set("CallSid", "v3:"+strings.Repeat(string(rune('a'+i)), 40))
		good, bad := post(voicePath, f.Encode()), post(voicePath, f.Encode())
		bad.Request.Header.Set(signatureHeader, sign(2, "1700000000", f.Encode()))
		all.Go(func() {
			for range 20 {
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
