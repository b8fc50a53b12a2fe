package vonage

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	apiKey       = "a1b2c3d"
	application  = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
	secret       = "s3cr3t-s3cr3t-s3cr3t"
	next         = "the-next-signature-secret"
	conversation = "CON-aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
	voice        = "/v1/carriers/vonage/voice"
	answer       = `{"from":"447700900123","to":"442079460000","uuid":"aaaaaaaa-bbbb-cccc-dddd-0123456789ab","conversation_uuid":"` + conversation + `"}`
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// codec returns a codec; what cfg leaves out has the tests' values.
func codec(t testing.TB, cfg Config) *Codec {
	t.Helper()
	cfg.APIKey, cfg.Secrets = apiKey, []string{secret, next}
	cfg.Now = func() time.Time { return noon }
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

const goodHeader = `{"alg":"HS256","typ":"JWT"}`

// claims are those of a token made at noon for payload; edits are added or put in place.
func claims(payload string, edits ...string) string {
	sum := sha256.Sum256([]byte(payload))
	fields := []string{
		`"iss":"Vonage"`, `"api_key":"` + apiKey + `"`, `"application_id":"` + application + `"`, `"jti":"c5ba8f24"`,
		fmt.Sprintf(`"iat":%d`, noon.Unix()), `"payload_hash":"` + hex.EncodeToString(sum[:]) + `"`,
	}
	text := ""
	for _, field := range fields {
		for _, edit := range edits {
			if name, _, _ := bytes.Cut([]byte(edit), []byte{':'}); bytes.HasPrefix([]byte(field), append(name, ':')) {
				field = ""
			}
		}
		if field != "" {
			text += "," + field
		}
	}
	for _, edit := range edits {
		if edit[len(edit)-1] != ':' { // `"name":` alone takes the claim out
			text += "," + edit
		}
	}
	return "{" + text[1:] + "}"
}

// token signs header and claims, whatever they are.
func token(key, header, claims string) string {
	return sign(key, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+base64.RawURLEncoding.EncodeToString([]byte(claims)))
}

// sign appends the signature of input.
func sign(key, input string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func post(uri, body, authorization string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetRequestURI(uri)
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.Header.Set("Authorization", authorization)
	ctx.Request.SetBodyString(body)
	return ctx
}

// signed is a request signed at noon.
func signed(uri, body string) *fasthttp.RequestCtx {
	return post(uri, body, "Bearer "+token(secret, goodHeader, claims(body)))
}

func decoded(t *testing.T, c *Codec, ctx *fasthttp.RequestCtx) vn.Call {
	t.Helper()
	var call vn.Call
	require.NoError(t, c.Decode(ctx, nil, &call))
	return call
}

// golden returns an answer as it was pinned.
func golden(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.True(t, json.Valid(data))
	return string(bytes.TrimSuffix(data, []byte{'\n'}))
}
