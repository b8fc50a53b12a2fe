package plivo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	account   = "MAXXXXXXXXXXXXXXXXXX"
	token     = "tok"
	nonce     = "05429567804466091622"
	public    = "https://calls.example.com"
	voiceURI  = "/v1/carriers/plivo/voice"
	smsURI    = "/v1/carriers/plivo/sms"
	statusURI = "/v1/carriers/plivo/status"
	statusURL = public + statusURI
	formType  = "application/x-www-form-urlencoded"
)

type requestCtx = fasthttp.RequestCtx

// sign is the textbook version of Plivo's signature.
func sign(token, method, called, nonce string, params url.Values) string {
	u, err := url.Parse(called)
	if err != nil {
		panic(err)
	}
	signed, _, _ := strings.Cut(called, "?")
	query := sorted(u.Query(), "=", "&")
	if len(query)+len(params) > 0 {
		signed += "?" + query
	}
	if method == "POST" && query != "" && len(params) > 0 {
		signed += "."
	}
	return mac(token, signed+sorted(params, "", "")+"."+nonce)
}

func mac(token, signed string) string {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte(signed))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func sorted(params url.Values, assign, between string) string {
	keys := make([]string, 0, len(params))
	for key := range params {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var pairs []string
	for _, key := range keys {
		for _, value := range slices.Sorted(slices.Values(params[key])) {
			pairs = append(pairs, key+assign+value)
		}
	}
	return strings.Join(pairs, between)
}

// fields are those of a voice webhook.
func fields() url.Values {
	return url.Values{
		"BillRate": {"0.005"}, "CallStatus": {"ringing"}, "CallUUID": {"38cb006a-e25d-4455-9862-27550dbea7e9"}, "CallerName": {"+12025550100"},
		"CountryCode": {"US"}, "Direction": {"inbound"}, "Event": {"StartApp"}, "From": {"12025550100"}, "ParentAuthID": {account},
		"RouteType": {""}, "STIRVerification": {"Not Applicable"}, "SessionStart": {"2026-11-25 14:13:37.779297"}, "To": {"12025550101"},
	}
}

// request returns a request without a signature.
func request(method, uri, body string) *requestCtx {
	ctx := new(requestCtx)
	ctx.Request.Header.SetMethod(method)
	ctx.Request.Header.SetRequestURI(uri)
	if method == "POST" {
		ctx.Request.Header.SetContentType(formType)
		ctx.Request.SetBodyString(body)
	}
	ctx.Request.Header.Set(nonceHeader, nonce)
	return ctx
}

// post returns a signed form request.
func post(uri string, form url.Values) *requestCtx {
	ctx := request("POST", uri, form.Encode())
	ctx.Request.Header.Set(signatureHeader, sign(token, "POST", public+uri, nonce, form))
	return ctx
}

// get returns a signed request that has its fields in the query.
func get(uri string, form url.Values) *requestCtx {
	uri += "?" + form.Encode()
	ctx := request("GET", uri, "")
	ctx.Request.Header.Set(signatureHeader, sign(token, "GET", public+uri, nonce, nil))
	return ctx
}

// codec returns a codec; what cfg leaves out has the tests' values.
func codec(t *testing.T, cfg Config) *Codec {
	t.Helper()
	if cfg.AuthID == "" {
		cfg.AuthID = account
	}
	if cfg.AuthTokens == nil {
		cfg.AuthTokens = []string{token}
	}
	cfg.PublicURL = public
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

func decoded(t *testing.T, c *Codec, ctx *requestCtx) vn.Call {
	t.Helper()
	var call vn.Call
	require.NoError(t, c.Decode(ctx, nil, &call))
	return call
}

// with returns form with one field set.
func with(form url.Values, field, value string) url.Values {
	form.Set(field, value)
	return form
}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	want := vn.Call{ID: []byte("38cb006a-e25d-4455-9862-27550dbea7e9"), Calling: 12025550100, Called: 12025550101}
	plus := with(with(fields(), "From", "+12025550100"), "To", "+12025550101")
	for name, ctx := range map[string]*requestCtx{
		"POST": post(voiceURI, fields()), "GET": get(voiceURI, fields()),
		"POST, plus signs": post(voiceURI, plus), "GET, plus signs": get(voiceURI, plus),
		"POST with a query": post(voiceURI+"?tenant=a%2Bb", fields()),
	} {
		require.Equal(t, want, decoded(t, c, ctx), name)
	}
}

func TestAnEscapedIDOutlivesTheWorkingMemory(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	ctx := post(voiceURI, fields())
	ctx.Request.SetBodyString(strings.Replace(fields().Encode(), "CallUUID=38", "CallUUID=%33%38", 1))
	call := decoded(t, c, ctx)
	for range 10 {
		decoded(t, c, post(voiceURI, with(fields(), "CallUUID", strings.Repeat("z", 36)))) // no longer, so that it is decoded into the same memory
	}
	require.Equal(t, "38cb006a-e25d-4455-9862-27550dbea7e9", string(call.ID))
}

func TestACallerWithoutANumberIsWithheld(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, from := range []string{
		"anonymous", "Anonymous", "Restricted", "unknown", "unavailable", "private", "sip:alice@phone.plivo.com", "SIPS:alice@example.com",
	} {
		call := decoded(t, c, post(voiceURI, with(fields(), "From", from)))
		require.Zero(t, call.Calling, from)
		require.True(t, call.Called == 12025550101)
	}
}

func TestAWrongFieldIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	type wrong struct {
		field string
		edit  func(url.Values)
	}
	tests := map[string]wrong{
		"the end of a call": {"Event", func(v url.Values) { v.Set("Event", "Hangup") }},
		"two events":        {"Event", func(v url.Values) { v.Add("Event", "StartApp") }},
	}
	for _, field := range []string{"CallUUID", "From", "To"} {
		tests[field+" missing"] = wrong{field, func(v url.Values) { v.Del(field) }}
		tests[field+" empty"] = wrong{field, func(v url.Values) { v.Set(field, "") }}
		tests[field+" repeated"] = wrong{field, func(v url.Values) { v.Add(field, "12025550199") }}
		tests[field+" repeated alike"] = wrong{field, func(v url.Values) { v.Add(field, v.Get(field)) }}
	}
	for _, value := range []string{
		"+", "120255", "1202555010112345", "02025550101", "1 202 555 0101", " 12025550101", "12025550101 ",
		"\u0661\u0662\u0660\u0662\u0665\u0665\u0665\u0660\u0661\u0660", "++12025550101", "+ 12025550101", "1202555010x", "sip",
	} {
		tests["To "+value] = wrong{"To", func(v url.Values) { v.Set("To", value) }}
		tests["From "+value] = wrong{"From", func(v url.Values) { v.Set("From", value) }}
	}
	for _, value := range []string{"anonymous", "sip:alice@example.com"} {
		tests["To "+value] = wrong{"To", func(v url.Values) { v.Set("To", value) }}
	}
	for _, value := range []string{"u\n", strings.Repeat("x", 65), "u\u00e9"} {
		tests["CallUUID "+value] = wrong{"CallUUID", func(v url.Values) { v.Set("CallUUID", value) }}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fields()
			test.edit(f)
			for _, ctx := range []*requestCtx{post(voiceURI, f), get(voiceURI, f)} {
				call := vn.Call{}
				err := c.Decode(ctx, nil, &call)
				var field *vn.FieldError
				require.ErrorAs(t, err, &field)
				require.Equal(t, test.field, field.Field)
				require.False(t, field.Forbidden)
				require.Equal(t, vn.Call{}, call, "nothing is read of a call that is refused")
				for _, value := range f[test.field] {
					if len(value) > 3 && value != "Hangup" {
						require.NotContains(t, err.Error(), value)
					}
				}
				ctx.Request.Header.Set(signatureHeader, sign("wrong", "POST", public+voiceURI, nonce, f))
				require.ErrorIs(t, c.Decode(ctx, nil, &call), vn.ErrForbidden, "the signature comes first")
			}
		})
	}
}

func TestAnotherAccountsRequestIsForbidden(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	other := with(fields(), "ParentAuthID", "MAYYYYYYYYYYYYYYYYYY")
	require.ErrorIs(t, c.Decode(post(voiceURI, other), nil, new(vn.Call)), vn.ErrForbidden)
	require.ErrorIs(t, c.DecodeMessage(post(voiceURI, other), nil, new(vn.Message)), vn.ErrForbidden)
	_, err := c.DecodeProgress(post(voiceURI, other), nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden)
	other.Add("ParentAuthID", account)
	require.ErrorIs(t, c.Decode(post(voiceURI, other), nil, new(vn.Call)), vn.ErrForbidden)

	without := fields()
	without.Del("ParentAuthID")
	decoded(t, c, post(voiceURI, without))
	decoded(t, codec(t, Config{AuthID: "SAXXXXXXXXXXXXXXXXXX"}), post(voiceURI, fields()))
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	good := Config{AuthID: account, AuthTokens: []string{token}, PublicURL: public, StatusURL: statusURL}
	for name, c := range map[string]struct {
		field string
		edit  func(*Config)
	}{
		"no account":         {"auth_id", func(c *Config) { c.AuthID = "" }},
		"another kind of id": {"auth_id", func(c *Config) { c.AuthID = "AC0" }},
		"odd account":        {"auth_id", func(c *Config) { c.AuthID = "MA 0" }},
		"no token":           {"auth_tokens", func(c *Config) { c.AuthTokens = nil }},
		"empty token":        {"auth_tokens", func(c *Config) { c.AuthTokens = []string{token, ""} }},
		"spaces":             {"auth_tokens", func(c *Config) { c.AuthTokens = []string{token + "\n"} }},
		"three tokens":       {"auth_tokens", func(c *Config) { c.AuthTokens = []string{"a", "b", "c"} }},
		"no URL":             {"public_url", func(c *Config) { c.PublicURL = "" }},
		"no scheme":          {"public_url", func(c *Config) { c.PublicURL = "calls.example.com" }},
		"another scheme":     {"public_url", func(c *Config) { c.PublicURL = "ftp://calls.example.com" }},
		"no host":            {"public_url", func(c *Config) { c.PublicURL = "https://" }},
		"empty port":         {"public_url", func(c *Config) { c.PublicURL = "https://h:" }},
		"a query":            {"public_url", func(c *Config) { c.PublicURL = public + "?a=b" }},
		"an empty query":     {"public_url", func(c *Config) { c.PublicURL = public + "?" }},
		"a fragment":         {"public_url", func(c *Config) { c.PublicURL = public + "#rc=1" }},
		"an empty one":       {"public_url", func(c *Config) { c.PublicURL = public + "#" }},
		"a password":         {"public_url", func(c *Config) { c.PublicURL = "https://u:p@calls.example.com" }},
		"no UTF-8":           {"public_url", func(c *Config) { c.PublicURL = public + "/\xff" }},
		"status of another":  {"public_url", func(c *Config) { c.StatusURL = "https://calls.example.com.attacker.example/x" }},
		"a status query":     {"public_url", func(c *Config) { c.StatusURL = statusURL + "?a=b" }},
		"unknown refusal":    {"refusal", func(c *Config) { c.Refusal = "shout" }},
		"endless speaking":   {"text", func(c *Config) { c.Refusal, c.Text = Say, strings.Repeat("x", 3001) }},
		"nothing to say":     {"text", func(c *Config) { c.Refusal, c.Text = Say, " \n" }},
		"nothing to write":   {"media_text", func(c *Config) { c.MediaText = " " }},
		"too much to write":  {"media_text", func(c *Config) { c.MediaText = strings.Repeat("\u00e9", 738) }},
	} {
		cfg := good
		c.edit(&cfg)
		made, err := New(cfg)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, c.field, field.Field, name)
		require.Nil(t, made, name)
	}
	_, err := New(good)
	require.NoError(t, err)
}
