package jambonz

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	secret = "wh_one"
	next   = "wh_two"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// good announces a call, as jambonz-feature-server 0.9.8 does.
const good = `{"sip":{"headers":{"from":"<sip:+12025550100@10.0.0.1>;tag=a","p-asserted-identity":"<sip:+12025550100@10.0.0.1>"},` +
	`"method":"INVITE","body":"v=0\r\n","uri":"sip:+12025550101@10.0.0.2"},"call_sid":"7e070cc2-6e28-4a24-9364-0123456789ab",` +
	`"direction":"inbound","from":"+12025550100","to":"+12025550101","call_id":"1dfb7a86-2772-123d-37bf","sip_status":100,` +
	`"sip_reason":"Trying","call_status":"trying","account_sid":"a","application_sid":"b","originating_sip_trunk_name":"acme",` +
	`"defaults":{"synthesizer":{"vendor":"google"}}}`

// field returns good with one field's value, as JSON, replaced.
func field(t *testing.T, name, value string) string {
	t.Helper()
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(good), &fields))
	if value == "" {
		delete(fields, name)
	} else {
		fields[name] = json.RawMessage(value)
	}
	body, err := json.Marshal(fields)
	require.NoError(t, err)
	return string(body)
}

// header is the signature of a body, or of several secrets.
func header(at time.Time, body string, secrets ...string) string {
	t := strconv.FormatInt(at.Unix(), 10)
	h := "t=" + t
	for _, s := range secrets {
		sum := mac([]byte(s), []byte(t), []byte(body))
		h += ",v1=" + string(sum[:])
	}
	return h
}

// post returns a signed request.
func post(uri, body string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetRequestURI(uri)
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.SetBodyString(body)
	ctx.Request.Header.Set(signatureHeader, header(noon, body, secret))
	return ctx
}

// codec returns a codec; what cfg leaves out has the tests' values.
func codec(tb testing.TB, cfg Config) *Codec {
	tb.Helper()
	if cfg.Secrets == nil {
		cfg.Secrets = []string{secret}
	}
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return noon }
	}
	c, err := New(cfg)
	require.NoError(tb, err)
	return c
}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	want := vn.Call{ID: []byte("7e070cc2-6e28-4a24-9364-0123456789ab"), Calling: 12025550100, Called: 12025550101}
	for name, body := range map[string]string{
		"with plus signs": good,
		"digits":          strings.NewReplacer(`"from":"+12`, `"from":"12`, `"to":"+12`, `"to":"12`).Replace(good),
		"spaces":          strings.ReplaceAll(good, `":"`, "\" :\n \""),
		"escaped":         strings.Replace(good, `"+12025550101"`, `"\u002b12025550101"`, 1),
	} {
		var call vn.Call
		require.NoError(t, c.Decode(post("/v1/carriers/jambonz/voice", body), nil, &call), name)
		require.Equal(t, want, call, name)
	}
}

func TestACallerWithoutANumberIsWithheld(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, from := range []string{
		`"anonymous"`, `"Anonymous"`, `"restricted"`, `"unknown"`, `"unavailable"`, `"private"`, `"alice"`, `"sip:alice"`, `"-"`,
		`""`, "", "null", "{}", `["+12025550100"]`,
	} {
		call := vn.Call{}
		require.NoError(t, c.Decode(post("/x", field(t, "from", from)), nil, &call), from)
		require.Zero(t, call.Calling, from)
		require.True(t, call.Called == 12025550101)
	}
}

func TestAWrongFieldIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	tests := map[string]string{ // body → field
		"": "body", "null": "body", "[]": "body", "{": "body", good + "x": "body", good + good: "body", good[:len(good)-1]: "body",
		field(t, "call_sid", ""):                                        "call_sid",
		field(t, "call_sid", "1"):                                       "call_sid",
		field(t, "call_sid", `""`):                                      "call_sid",
		field(t, "call_sid", `"\n"`):                                    "call_sid",
		field(t, "call_sid", `"`+strings.Repeat("x", 65)+`"`):           "call_sid",
		field(t, "direction", ""):                                       "direction",
		field(t, "direction", `"outbound"`):                             "direction",
		field(t, "direction", `"INBOUND"`):                              "direction",
		field(t, "to", ""):                                              "to",
		field(t, "to", "null"):                                          "to",
		field(t, "to", "12025550101"):                                   "to",
		field(t, "to", `"anonymous"`):                                   "to",
		strings.Replace(good, `{`, `{"to":"+12025550199",`, 1):          "to",
		strings.Replace(good, `{`, `{"\u0066rom":"+12025550199",`, 1):   "from",
		strings.Replace(good, `{`, `{"call_sid":"another-call-id",`, 1): "call_sid",
	}
	for _, wrong := range []string{
		"+", "+1202", "+1202555010112345", "02025550101", "0012025550101", "+02025550101", "+1 2025550101", "+1-202-555-0101",
		"1001", "++12025550101", "+1202555010x", "12025550101;npdi", "+\u0661\u0662\u0660\u0662\u0665\u0665\u0665",
	} {
		tests[field(t, "to", strconv.Quote(wrong))] = "to"
		tests[field(t, "from", strconv.Quote(wrong))] = "from"
	}
	for body, want := range tests {
		var call vn.Call
		err := c.Decode(post("/x", body), nil, &call)
		var wrong *vn.FieldError
		require.ErrorAs(t, err, &wrong, body)
		require.Equal(t, want, wrong.Field, body)
		require.False(t, wrong.Forbidden)
		require.Equal(t, vn.Call{}, call, "nothing is read of a call that is refused")
		require.NotContains(t, err.Error(), "2025550")
		require.NotContains(t, err.Error(), "1001")
		unsigned := post("/x", body)
		unsigned.Request.Header.Set(signatureHeader, header(noon, body, "wrong"))
		require.ErrorIs(t, c.Decode(unsigned, nil, &call), vn.ErrForbidden, "the signature comes first")
	}
}

func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return string(b)
}

func TestConnectedCallsAreDialledWithTheVNAsCallerID(t *testing.T) {
	t.Parallel()
	d := vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
	for name, cfg := range map[string]Config{
		"dial.json": {},
		"dial-trunk-status.json": {
			Trunk: `carrier "1"`, StatusURL: "https://calls.example.com/v1/carriers/jambonz/status/s3cr3t",
		},
	} {
		body, mediaType, status := codec(t, cfg).AppendAnswer([]byte("before"), new(vn.Call), &d)
		require.Equal(t, "before"+golden(t, name), string(body))
		require.Equal(t, "application/json", mediaType)
		require.Equal(t, http.StatusOK, status)
	}
}

func TestRefusalsAreValidAnswersAndAllAlike(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"decline.json":      {Trunk: "carrier1", StatusURL: "https://calls.example.com/x"},
		"busy.json":         {Refusal: Busy},
		"say.json":          {Refusal: Say, StatusURL: "https://calls.example.com/x"},
		"say-language.json": {Refusal: Say, Text: "Nomor \"ini\" tidak tersedia.\n\\", Language: "id-ID"},
	} {
		c := codec(t, cfg)
		for reason := range vn.Reason(vn.Reasons) {
			if reason == vn.Connected || reason == vn.Unavailable {
				continue
			}
			d := vn.Decision{Reason: reason, OrderID: []byte("order-1"), Destination: 447700900123, CallerID: 12025550102}
			body, mediaType, status := c.AppendAnswer([]byte("before"), &vn.Call{Called: 12025550101}, &d)
			require.Equal(t, "before"+golden(t, name), string(body), reason)
			require.Equal(t, "application/json", mediaType)
			require.Equal(t, http.StatusOK, status)
		}
	}
	require.Equal(t, codec(t, Config{}).refusal, codec(t, Config{Refusal: Reject}).refusal)
}

func TestOurOwnFailureIsNoAnswerAtAll(t *testing.T) {
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
	for name, c := range map[string]struct {
		field string
		edit  func(*Config)
	}{
		"no secret":       {"secrets", func(c *Config) { c.Secrets = nil }},
		"empty secret":    {"secrets", func(c *Config) { c.Secrets = []string{secret, ""} }},
		"spaces":          {"secrets", func(c *Config) { c.Secrets = []string{secret + "\n"} }},
		"three secrets":   {"secrets", func(c *Config) { c.Secrets = []string{"a", "b", "c"} }},
		"odd trunk":       {"trunk", func(c *Config) { c.Trunk = "a\nb" }},
		"long trunk":      {"trunk", func(c *Config) { c.Trunk = strings.Repeat("x", maxTrunk+1) }},
		"unknown refusal": {"refusal", func(c *Config) { c.Refusal = "shout" }},
		"nothing to say":  {"text", func(c *Config) { c.Refusal, c.Text = Say, " \n" }},
		"much to say":     {"text", func(c *Config) { c.Refusal, c.Text = Say, strings.Repeat("é", maxText+1) }},
		"no scheme":       {"public_url", func(c *Config) { c.StatusURL = "calls.example.com/status" }},
		"another scheme":  {"public_url", func(c *Config) { c.StatusURL = "ftp://calls.example.com/status" }},
		"no host":         {"public_url", func(c *Config) { c.StatusURL = "https:///status" }},
		"a query":         {"public_url", func(c *Config) { c.StatusURL = "https://calls.example.com/status?a=b" }},
		"an empty one":    {"public_url", func(c *Config) { c.StatusURL = "https://calls.example.com/status?" }},
		"a fragment":      {"public_url", func(c *Config) { c.StatusURL = "https://calls.example.com/status#rc=1" }},
		"no URL":          {"public_url", func(c *Config) { c.StatusURL = "https://a b/" }},
		"a broken escape": {"public_url", func(c *Config) { c.StatusURL = "https://calls.example.com/%zz" }},
	} {
		cfg := Config{Secrets: []string{secret}}
		c.edit(&cfg)
		_, err := New(cfg)
		var wrong *vn.FieldError
		require.ErrorAs(t, err, &wrong, name)
		require.Equal(t, c.field, wrong.Field, name)
	}
	c, err := New(Config{Secrets: []string{secret}})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), c.now(), time.Minute)
}

// FuzzVerbs reads answers with encoding/json: whatever is decided, they hold exactly the
// verb expected, the two numbers and the texts that were set.
func FuzzVerbs(f *testing.F) {
	f.Add(uint64(447700900123), uint64(12025550102), int64(30), int64(3600), "carrier1", uint8(0))
	f.Add(uint64(0), uint64(12025550102), int64(0), int64(-1), `","number":"+12025550199`, uint8(0))
	f.Add(uint64(1234567), uint64(999999999999999), int64(1), int64(1), `\`, uint8(3))
	f.Fuzz(func(t *testing.T, destination, callerID uint64, ring, most int64, trunk string, reason uint8) {
		const status = "https://calls.example.com/v1/carriers/jambonz/status"
		c, err := New(Config{Secrets: []string{secret}, Trunk: trunk, StatusURL: status})
		if err != nil {
			return // not a name that a trunk can have
		}
		d := vn.Decision{
			Reason: vn.Reason(reason % vn.Reasons), Destination: vn.Number(destination), CallerID: vn.Number(callerID), OrderID: []byte("o-1"),
			RingTimeout: time.Duration(ring), MaxDuration: time.Duration(most),
		}
		body, _, code := c.AppendAnswer(nil, new(vn.Call), &d)
		if code == http.StatusServiceUnavailable {
			require.Empty(t, body)
			require.True(t, d.Reason == vn.Unavailable || !d.Destination.Valid() || !d.CallerID.Valid())
			return
		}
		if d.Reason != vn.Connected {
			require.Equal(t, c.refusal, body)
			return
		}
		var verbs []map[string]any
		require.NoError(t, json.Unmarshal(body, &verbs), "%q", body)
		require.Len(t, verbs, 1)
		target := map[string]any{"type": "phone", "number": d.Destination.E164()}
		if trunk != "" {
			target["trunk"] = trunk
		}
		for _, key := range []string{"timeout", "timeLimit"} {
			require.GreaterOrEqual(t, verbs[0][key], float64(1))
			delete(verbs[0], key)
		}
		require.Equal(t, map[string]any{
			"verb": "dial", "callerId": d.CallerID.E164(), "answerOnBridge": true, "actionHook": status + "?order_id=o-1",
			"headers": map[string]any{"P-Asserted-Identity": "<sip:" + d.CallerID.E164() + "@localhost>", "Privacy": "none"},
			"target":  []any{target},
		}, verbs[0])
	})
}
