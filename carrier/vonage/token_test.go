package vonage

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// TestTheCarriersOwnSignatureIsAccepted holds the verifier against a token that the
// carrier's own package made and accepted.
func TestTheCarriersOwnSignatureIsAccepted(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/signatures.json")
	require.NoError(t, err)
	var file struct {
		Vonage struct{ Secret, Body, Authorization string }
	}
	require.NoError(t, json.Unmarshal(data, &file))
	vector, made := file.Vonage, time.Unix(1587494962, 0)
	cfg := Config{APIKey: apiKey, ApplicationID: application, Secrets: []string{vector.Secret}, Now: func() time.Time { return made }}
	c, err := New(cfg)
	require.NoError(t, err)
	var call vn.Call
	err = c.Decode(post(voice, vector.Body, vector.Authorization), nil, &call)
	require.NoError(t, err)
	require.Equal(t, vn.Call{ID: []byte("CON-u"), Calling: 447700900000, Called: 442079460000}, call)
	require.ErrorIs(t, c.Decode(post(voice, vector.Body+" ", vector.Authorization), nil, &call), vn.ErrForbidden)
}

func TestEitherSecretSignsDuringRotation(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{ApplicationID: application})
	for key, want := range map[string]error{secret: nil, next: nil, secret + "x": vn.ErrForbidden, "": vn.ErrForbidden} {
		err := c.Decode(post(voice, answer, "Bearer "+token(key, goodHeader, claims(answer))), nil, new(vn.Call))
		require.ErrorIs(t, err, want)
	}
}

func TestTheSchemesCaseDoesNotMatter(t *testing.T) {
	t.Parallel()
	good := token(secret, goodHeader, claims(answer))
	for authorization, ok := range map[string]bool{
		"Bearer " + good: true, "bearer " + good: true, "BEARER " + good: true,
		"": false, "Bearer": false, "Bearer ": false, good: false, "Bearer  " + good: false, "Basic " + good: false, "Bearer " + good + " ": false,
		"Bearer ." + good: false, "Bearer " + good + ".": false, "Bearer a.b": false, "Bearer ..": false, "Bearer .": false,
		"Bearer " + good + ", Bearer " + good: false, "Bearer " + good + "=": false,
	} {
		require.Equal(t, ok, codec(t, Config{}).verifier.verify([]byte(authorization), []byte(answer)), "%q", authorization)
	}
}

func TestATokenIsTakenForItsOwnAccountPayloadAndTimeAlone(t *testing.T) {
	t.Parallel()
	at := func(claim string, d time.Duration) string { return fmt.Sprintf(`"%s":%d`, claim, noon.Add(d).Unix()) }
	other := sha256.Sum256([]byte(answer + " "))
	own := sha256.Sum256([]byte(answer))
	for name, test := range map[string]struct {
		ok    bool
		edits []string
	}{
		"as it is":              {true, nil},
		"unknown claims":        {true, []string{`"sub":"x"`, `"list":[1,{"iss":"y"}]`}},
		"another issuer":        {false, []string{`"iss":"vonage"`}},
		"no issuer":             {false, []string{`"iss":`}},
		"another account":       {false, []string{`"api_key":"a1b2c3e"`}},
		"no account":            {false, []string{`"api_key":`}},
		"an empty account":      {false, []string{`"api_key":""`}},
		"another application":   {false, []string{`"application_id":"bbbbbbbb-bbbb-cccc-dddd-0123456789ab"`}},
		"no application":        {false, []string{`"application_id":`}},
		"another payload":       {false, []string{`"payload_hash":"` + hex.EncodeToString(other[:]) + `"`}},
		"no payload":            {false, []string{`"payload_hash":`}},
		"a null payload":        {false, []string{`"payload_hash":null`}},
		"half a payload":        {false, []string{`"payload_hash":"` + hex.EncodeToString(own[:16]) + `"`}},
		"no time":               {false, []string{`"iat":`}},
		"a null time":           {false, []string{`"iat":null`}},
		"a fraction":            {false, []string{`"iat":1893499200.5`}},
		"no number":             {false, []string{`"iat":"noon"`}},
		"a huge time":           {false, []string{`"iat":9223372036854775807`}},
		"a tiny time":           {false, []string{`"iat":-9223372036854775808`}},
		"too large a time":      {false, []string{`"iat":99999999999999999999`}},
		"old enough":            {true, []string{at("iat", -Window)}},
		"too old":               {false, []string{at("iat", -Window-time.Second)}},
		"young enough":          {true, []string{at("iat", Window)}},
		"from the future":       {false, []string{at("iat", Window+time.Second)}},
		"ends later":            {true, []string{at("exp", time.Second)}},
		"has ended":             {false, []string{at("exp", 0)}},
		"ends at no time":       {false, []string{`"exp":"never"`}},
		"has begun":             {true, []string{at("nbf", 0)}},
		"begins soon":           {true, []string{at("nbf", Window)}},
		"begins later":          {false, []string{at("nbf", Window+time.Second)}},
		"begins at no time":     {false, []string{`"nbf":"now"`}},
		"two issuers":           {false, []string{`"iss":"Vonage"`, `"iss":"Vonage"`}},
		"two accounts":          {false, []string{`"api_key":"` + apiKey + `"`, `"\u0061pi_key":"` + apiKey + `"`}},
		"two payloads":          {false, []string{`"payload_hash":"` + hex.EncodeToString(own[:]) + `"`, `"payload_hash":"x"`}},
		"two times":             {false, []string{at("iat", 0), at("iat", 0)}},
		"another case of claim": {false, []string{`"api_key":`, `"API_KEY":"` + apiKey + `"`}},
	} {
		c := codec(t, Config{ApplicationID: application})
		err := c.Decode(post(voice, answer, "Bearer "+token(secret, goodHeader, claims(answer, test.edits...))), nil, new(vn.Call))
		if test.ok {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, vn.ErrForbidden, name)
		}
	}
	anyApplication := codec(t, Config{})
	for _, edits := range [][]string{{`"application_id":"bbbbbbbb-bbbb-cccc-dddd-0123456789ab"`}, {`"application_id":`}} {
		require.NoError(t, anyApplication.Decode(post(voice, answer, "Bearer "+token(secret, goodHeader, claims(answer, edits...))), nil, new(vn.Call)))
	}
}

func TestOneAlgorithmAloneIsTaken(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for header, ok := range map[string]bool{
		goodHeader: true, `{"alg":"HS256"}`: true, `{"typ":"JWT","alg":"HS256","kid":"x"}`: true,
		`{"alg":"none"}`: false, `{"alg":"None"}`: false, `{"alg":"hs256"}`: false, `{"alg":"HS512"}`: false, `{"alg":"RS256"}`: false, `{"alg":""}`: false,
		`{}`: false, `{"ALG":"HS256"}`: false, `{"alg":["HS256"]}`: false, `{"alg":null}`: false, `{"alg":"HS256","alg":"HS256"}`: false,
		`{"alg":"HS256","crit":["exp"]}`: false, `["HS256"]`: false, "": false, `{"alg":"HS256"`: false, `{"alg":"HS256"}{}`: false,
	} {
		require.Equal(t, ok, c.verifier.verify([]byte("Bearer "+token(secret, header, claims(answer))), []byte(answer)), header)
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims(answer))) + "."
	require.False(t, c.verifier.verify([]byte("Bearer "+unsigned), []byte(answer)))
}

func TestAPartThatIsNotBase64IsRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	v := c.verifier
	encode := base64.RawURLEncoding.EncodeToString
	for _, input := range []string{
		"!." + encode([]byte(claims(answer))), encode([]byte(goodHeader)) + ".!", encode([]byte(goodHeader)) + "=." + encode([]byte(claims(answer))),
		encode([]byte(goodHeader)) + "." + encode([]byte(claims(answer))) + ".", encode([]byte(goodHeader)) + "..",
		base64.StdEncoding.EncodeToString([]byte(`{"alg":"HS256","a":"???>>>"}`)) + "." + encode([]byte(claims(answer))),
	} {
		signature := strings.Split(sign(secret, input), ".")
		require.False(t, v.verify([]byte("Bearer "+input+"."+signature[len(signature)-1]), []byte(answer)), input)
	}
}

// change calls f with every text that differs from the original by one byte replaced,
// inserted or left out.
func change(original []byte, f func(changed []byte, how string)) {
	for i := range original {
		for _, b := range []byte{original[i] ^ 1, original[i] ^ 0x20, original[i] ^ 4, '.', '=', '-', '0', 'A', '"', ' '} {
			if b != original[i] {
				f(append(append(bytes.Clone(original[:i]), b), original[i+1:]...), "replaced")
			}
		}
		for _, b := range []byte{'.', '=', 'A', ' ', '0'} {
			f(append(append(bytes.Clone(original[:i]), b), original[i:]...), "inserted")
		}
		f(append(bytes.Clone(original[:i]), original[i+1:]...), "left out")
	}
}

func TestEverySingleByteChangeOfASignedRequestIsRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	good := token(secret, goodHeader, claims(answer))
	require.NoError(t, c.Decode(post(voice, answer, "Bearer "+good), nil, new(vn.Call)))
	change([]byte(good), func(changed []byte, how string) {
		require.False(t, c.verifier.verify(append([]byte("Bearer "), changed...), []byte(answer)), "token %s", how)
	})
	change([]byte(answer), func(changed []byte, how string) {
		ctx := post(voice, string(changed), "Bearer "+good)
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "body %s", how)
		if how == "left out" { // both check in the same way
			_, err := c.DecodeProgress(ctx, nil, new(vn.Progress))
			require.ErrorIs(t, err, vn.ErrForbidden, "event")
		}
	})
	for i := range len(good) { // every bit of the token
		for bit := range 8 {
			changed := []byte("Bearer " + good)
			changed[len("Bearer ")+i] ^= 1 << bit
			require.False(t, c.verifier.verify(changed, []byte(answer)))
		}
	}
}

func FuzzVerifyNeverPanics(f *testing.F) {
	f.Add("Bearer "+token(secret, goodHeader, claims(answer)), answer)
	f.Add("Bearer ..", "")
	f.Add("Bearer a.b.c", "{}")
	c := codec(f, Config{})
	f.Fuzz(func(t *testing.T, authorization, payload string) {
		if c.verifier.verify([]byte(authorization), []byte(payload)) {
			require.True(t, strings.HasSuffix(authorization, token(secret, goodHeader, claims(answer))) && payload == answer,
				"accepted what was not signed")
		}
	})
}
