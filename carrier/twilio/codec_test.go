package twilio

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	account = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	token   = "12345"
	public  = "https://calls.example.com"
)

// sign is the textbook version of Twilio's signature.
func sign(token, called string, params url.Values) string {
	keys := make([]string, 0, len(params))
	for key := range params {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	text := called
	for _, key := range keys {
		values := slices.Clone(params[key])
		slices.Sort(values)
		for _, value := range slices.Compact(values) {
			text += key + value
		}
	}
	h := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(h, text)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// fields are those of a voice webhook.
func fields() url.Values {
	return url.Values{
		"AccountSid": {account}, "ApiVersion": {"2010-04-01"}, "CallSid": {"CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"},
		"CallStatus": {"ringing"}, "Called": {"+12025550101"}, "Caller": {"+12025550100"}, "Direction": {"inbound"},
		"From": {"+12025550100"}, "FromCity": {"NEW YORK"}, "To": {"+12025550101"},
	}
}

// post returns a signed form request.
func post(t *testing.T, uri string, form url.Values) *fasthttp.RequestCtx {
	t.Helper()
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetRequestURI(uri)
	ctx.Request.Header.SetContentType("application/x-www-form-urlencoded; charset=UTF-8")
	ctx.Request.SetBodyString(form.Encode())
	ctx.Request.Header.Set(signatureHeader, sign(token, public+uri, form))
	return ctx
}

// codec returns a codec; what cfg leaves out has the tests' values.
func codec(t *testing.T, cfg Config) *Codec {
	t.Helper()
	cfg.AccountSID, cfg.AuthTokens, cfg.PublicURL = account, []string{token}, public
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

func decoded(t *testing.T, c *Codec, ctx *fasthttp.RequestCtx) vn.Call {
	t.Helper()
	var call vn.Call
	require.NoError(t, c.Decode(ctx, nil, &call))
	return call
}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	want := vn.Call{ID: []byte("CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"), Calling: 12025550100, Called: 12025550101}
	require.Equal(t, want, decoded(t, c, post(t, "/v1/carriers/twilio/voice", fields())))
}

func TestAnEscapedCallSidOutlivesTheWorkingMemory(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	ctx := post(t, "/x", fields())
	ctx.Request.SetBodyString(strings.Replace(fields().Encode(), "CallSid=CA", "CallSid=%43%41", 1))
	call := decoded(t, c, ctx)
	for range 10 {
		other := fields()
		other.Set("CallSid", strings.Repeat("z", 34))
		decoded(t, c, post(t, "/x", other)) // no longer, so that it is decoded into the same memory
	}
	require.Equal(t, "CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", string(call.ID))
}

func TestACallerWithoutANumberIsWithheld(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, from := range []string{
		"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253",
		"anonymous", "Anonymous", "Restricted", "unknown", "unavailable",
		"client:alice", "Client:x", "sip:alice@example.com", "sips:alice@example.com",
	} {
		f := fields()
		f.Set("From", from)
		call := decoded(t, c, post(t, "/x", f))
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
	tests := map[string]wrong{}
	for _, field := range []string{"CallSid", "From", "To"} {
		tests[field+" missing"] = wrong{field, func(v url.Values) { v.Del(field) }}
		tests[field+" empty"] = wrong{field, func(v url.Values) { v.Set(field, "") }}
		tests[field+" repeated"] = wrong{field, func(v url.Values) { v.Add(field, "+12025550199") }}
		tests[field+" repeated alike"] = wrong{field, func(v url.Values) { v.Add(field, v.Get(field)) }}
	}
	for _, value := range []string{
		"+", "12025550101", "+1202555", "+123456", "+1202555010112345", "+02025550101", "+1 202 555 0101", " 12025550101",
		"+\u0661\u0662\u0660\u0662\u0665\u0665\u0665\u0660\u0661\u0660", "++12025550101", "+1202555010x", "sip", "clientx",
	} {
		if value != "+1202555" { // seven digits are a number, as far as E.164 goes
			tests["To "+value] = wrong{"To", func(v url.Values) { v.Set("To", value) }}
			tests["From "+value] = wrong{"From", func(v url.Values) { v.Set("From", value) }}
		}
	}
	for _, value := range []string{"anonymous", "client:alice", "sip:alice@example.com"} {
		tests["To "+value] = wrong{"To", func(v url.Values) { v.Set("To", value) }}
	}
	for _, value := range []string{"CA\n", strings.Repeat("x", 65), "CA\u00e9"} {
		tests["CallSid "+value] = wrong{"CallSid", func(v url.Values) { v.Set("CallSid", value) }}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fields()
			test.edit(f)
			call := vn.Call{}
			err := c.Decode(post(t, "/x", f), nil, &call)
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, test.field, field.Field)
			require.False(t, field.Forbidden)
			require.Equal(t, vn.Call{}, call, "nothing is read of a call that is refused")
			for _, value := range f[test.field] {
				if len(value) > 3 {
					require.NotContains(t, err.Error(), value)
				}
			}
			unsigned := post(t, "/x", f)
			unsigned.Request.Header.Set(signatureHeader, sign("wrong", public+"/x", f))
			require.ErrorIs(t, c.Decode(unsigned, nil, &call), vn.ErrForbidden, "the signature comes first")
		})
	}
}

func TestAnotherAccountsRequestIsForbidden(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	f := fields()
	f.Set("AccountSid", "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	require.ErrorIs(t, c.Decode(post(t, "/x", f), nil, new(vn.Call)), vn.ErrForbidden)
	f.Add("AccountSid", account)
	require.ErrorIs(t, c.Decode(post(t, "/x", f), nil, new(vn.Call)), vn.ErrForbidden)
}

const statusURL = public + "/v1/carriers/twilio/status"

// golden is what an answer must be, byte for byte. The npm package twilio 6.2.0 builds the
// same documents: equal in their canonical form (XML C14N).
func golden(t *testing.T, name string) string {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name + ".xml")
	require.NoError(t, err)
	return string(want)
}

func TestConnectedCallsAreDialledWithTheVNAsCallerID(t *testing.T) {
	t.Parallel()
	d := vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order:1.2_3-x"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
	for name, cfg := range map[string]Config{"connect": {}, "connect_status": {StatusURL: statusURL}} {
		body, mediaType, status := codec(t, cfg).AppendAnswer([]byte("before"), new(vn.Call), &d)
		require.Equal(t, "before"+golden(t, name), string(body))
		require.Equal(t, "text/xml", mediaType)
		require.Equal(t, http.StatusOK, status)
	}
}

func TestRefusalsAreValidAnswersAndAllAlike(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"reject": {StatusURL: statusURL}, "busy": {Refusal: Busy}, "say": {Refusal: Say, Text: `A <b> & "c"`, Language: "id-ID"},
	} {
		c := codec(t, cfg)
		for reason := range vn.Reason(vn.Reasons) {
			if reason == vn.Connected || reason == vn.Unavailable {
				continue
			}
			d := vn.Decision{Reason: reason, OrderID: []byte("order-1")}
			body, mediaType, status := c.AppendAnswer(nil, &vn.Call{Called: 12025550101}, &d)
			require.Equal(t, golden(t, name), string(body), reason)
			require.Equal(t, "text/xml", mediaType)
			require.Equal(t, http.StatusOK, status)
		}
	}
	body, _, _ := codec(t, Config{Refusal: Say}).AppendAnswer(nil, nil, &vn.Decision{Reason: vn.OrderEnded})
	require.Contains(t, string(body), `<Say>The number you have dialled is not available.</Say><Hangup/>`)
}

func TestOurOwnFailureSendsTwilioToItsFallback(t *testing.T) {
	t.Parallel()
	for _, d := range []vn.Decision{
		{Reason: vn.Unavailable},
		{Reason: vn.Connected, Destination: 447700900123},
		{Reason: vn.Connected, CallerID: 12025550102},
	} {
		body, _, status := codec(t, Config{Refusal: Say}).AppendAnswer([]byte("before"), new(vn.Call), &d)
		require.Equal(t, "before", string(body))
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	good := Config{AccountSID: account, AuthTokens: []string{token}, PublicURL: public}
	for name, c := range map[string]struct {
		field string
		edit  func(*Config)
	}{
		"no account":       {"account_sid", func(c *Config) { c.AccountSID = "" }},
		"an API key":       {"account_sid", func(c *Config) { c.AccountSID = "SK0" }},
		"odd account":      {"account_sid", func(c *Config) { c.AccountSID = "AC 0" }},
		"no token":         {"auth_tokens", func(c *Config) { c.AuthTokens = nil }},
		"empty token":      {"auth_tokens", func(c *Config) { c.AuthTokens = []string{token, ""} }},
		"spaces":           {"auth_tokens", func(c *Config) { c.AuthTokens = []string{token + "\n"} }},
		"three tokens":     {"auth_tokens", func(c *Config) { c.AuthTokens = []string{"a", "b", "c"} }},
		"no URL":           {"public_url", func(c *Config) { c.PublicURL = "" }},
		"no scheme":        {"public_url", func(c *Config) { c.PublicURL = "calls.example.com" }},
		"another scheme":   {"public_url", func(c *Config) { c.PublicURL = "ftp://calls.example.com" }},
		"no host":          {"public_url", func(c *Config) { c.PublicURL = "https://" }},
		"empty port":       {"public_url", func(c *Config) { c.PublicURL = "https://h:" }},
		"a query":          {"public_url", func(c *Config) { c.PublicURL = public + "?a=b" }},
		"an empty query":   {"public_url", func(c *Config) { c.PublicURL = public + "?" }},
		"a fragment":       {"public_url", func(c *Config) { c.PublicURL = public + "#rc=1" }},
		"an empty one":     {"public_url", func(c *Config) { c.PublicURL = public + "#" }},
		"a password":       {"public_url", func(c *Config) { c.PublicURL = "https://u:p@calls.example.com" }},
		"unknown refusal":  {"refusal", func(c *Config) { c.Refusal = "shout" }},
		"endless speaking": {"text", func(c *Config) { c.Refusal, c.Text = Say, strings.Repeat("x", 3001) }},
		"nothing to say":   {"text", func(c *Config) { c.Refusal, c.Text = Say, " \n" }},
		"nothing to send":  {"media_text", func(c *Config) { c.MediaText = "\n" }},
		"endless sending":  {"media_text", func(c *Config) { c.MediaText = strings.Repeat("é", 1601) }},
		"status elsewhere": {"public_url", func(c *Config) { c.StatusURL = "https://elsewhere.example/status" }},
		"status beside":    {"public_url", func(c *Config) { c.StatusURL = public + ".example/status" }},
		"status query":     {"public_url", func(c *Config) { c.StatusURL = statusURL + "?a=b" }},
		"status fragment":  {"public_url", func(c *Config) { c.StatusURL = statusURL + "#rc=1" }},
	} {
		cfg := good
		c.edit(&cfg)
		_, err := New(cfg)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, c.field, field.Field, name)
	}
	_, err := New(good)
	require.NoError(t, err)
}

// FuzzTwiML reads answers with encoding/xml: whatever is decided, they hold exactly
// the elements expected and the text that was set.
func FuzzTwiML(f *testing.F) {
	f.Add(uint64(447700900123), uint64(12025550102), int64(30), int64(3600), "The <number> & \"more\"", "en-GB", uint8(0))
	f.Add(uint64(0), uint64(12025550102), int64(0), int64(-1), "</Say><Dial>+12025550199</Dial><Say>", `"><Dial>`, uint8(1))
	f.Add(uint64(1234567), uint64(999999999999999), int64(1), int64(1), "\x00\xff]]>", "", uint8(3))
	f.Fuzz(func(t *testing.T, destination, callerID uint64, ring, most int64, words, language string, reason uint8) {
		cfg := Config{AccountSID: account, AuthTokens: []string{token}, PublicURL: public, Refusal: Say, Text: words, Language: language}
		c, err := New(cfg)
		if err != nil {
			require.True(t, len(words) > 3000 || strings.TrimSpace(words) == "")
			return
		}
		d := vn.Decision{
			Reason: vn.Reason(reason % vn.Reasons), Destination: vn.Number(destination), CallerID: vn.Number(callerID),
			RingTimeout: time.Duration(ring), MaxDuration: time.Duration(most),
		}
		body, _, status := c.AppendAnswer(nil, new(vn.Call), &d)
		if status == http.StatusServiceUnavailable {
			require.Empty(t, body)
			require.True(t, d.Reason == vn.Unavailable || !d.Destination.Valid() || !d.CallerID.Valid())
			return
		}
		want := []string{"<Response", "<Say", "Say>", "<Hangup", "Hangup>", "Response>"}
		if d.Reason == vn.Connected {
			want = []string{"<Response", "<Dial", "<Number", "Number>", "Dial>", "Response>"}
		}
		elements, attributes, text := read(t, body)
		require.Equal(t, want, elements)
		if d.Reason == vn.Connected {
			require.Equal(t, d.Destination.E164(), text)
			require.Equal(t, []string{"callerId", d.CallerID.E164(), "answerOnBridge", "true"}, attributes[:4])
		} else if words != "" && !strings.ContainsFunc(words, func(r rune) bool { return r < ' ' || r > '~' }) {
			require.Equal(t, words, text)
		}
	})
}

// read lists the elements as they open and close, their attributes, and the text.
func read(t *testing.T, body []byte) (elements, attributes []string, text string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(string(body)))
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return elements, attributes, text
		}
		require.NoError(t, err, "%q", body)
		switch tok := tok.(type) {
		case xml.StartElement:
			elements = append(elements, "<"+tok.Name.Local)
			for _, a := range tok.Attr {
				attributes = append(attributes, a.Name.Local, a.Value)
			}
		case xml.EndElement:
			elements = append(elements, tok.Name.Local+">")
		case xml.CharData:
			text += string(tok)
		}
	}
}
