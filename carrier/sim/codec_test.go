package sim

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func codec(t *testing.T, secrets ...string) *Codec {
	t.Helper()
	c, err := NewCodec(Config{Secrets: secrets, Now: func() time.Time { return noon }})
	require.NoError(t, err)
	return c
}

func post(body, signature string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetRequestURI("/v1/carriers/sim/voice")
	ctx.Request.Header.Set(SignatureHeader, signature)
	ctx.Request.SetBodyString(body)
	return ctx
}

const good = `{"call_id":"SIM-1","from":"+12025550100","to":"+12025550101"}`

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, "one", "two")
	for _, secret := range []string{"one", "two"} {
		var call vn.Call
		require.NoError(t, c.Decode(post(good, Sign(secret, noon, []byte(good))), nil, &call))
		require.Equal(t, vn.Call{ID: []byte("SIM-1"), Called: 12025550101, Calling: 12025550100}, call)
	}
	withheld := strings.Replace(good, "+12025550100", "anonymous", 1)
	call := vn.Call{Calling: 12025550100}
	require.NoError(t, c.Decode(post(withheld, Sign("one", noon, []byte(withheld))), nil, &call))
	require.Zero(t, call.Calling)
}

func TestWithoutAFreshSignatureNothingElseIsTold(t *testing.T) {
	t.Parallel()
	c := codec(t, "one")
	signed := Sign("one", noon, []byte(good))
	for name, signature := range map[string]string{
		"none": "", "another secret": Sign("two", noon, []byte(good)), "another body": Sign("one", noon, []byte(good+" ")),
		"too old": Sign("one", noon.Add(-Window-time.Second), []byte(good)), "from the future": Sign("one", noon.Add(Window+time.Second), []byte(good)),
		"another time": strings.Replace(signed, "t=1", "t=2", 1), "no time": signed[strings.Index(signed, "v1="):],
		"time alone": signed[:strings.Index(signed, ",")], "negative time": strings.Replace(signed, "t=", "t=-", 1),
		"upper case": strings.ToUpper(signed), "cut": signed[:len(signed)-1], "huge time": "t=" + strings.Repeat("9", 30) + signed[strings.Index(signed, ","):],
		"empty time": "t=" + signed[strings.Index(signed, ","):],
	} {
		require.ErrorIs(t, c.Decode(post(good, signature), nil, new(vn.Call)), vn.ErrForbidden, name)
		require.ErrorIs(t, c.Decode(post("nonsense", signature), nil, new(vn.Call)), vn.ErrForbidden, name)
	}
	for _, at := range []time.Time{noon.Add(-Window), noon.Add(Window)} {
		require.NoError(t, c.Decode(post(good, Sign("one", at, []byte(good))), nil, new(vn.Call)))
	}
	get := post(good, signed)
	get.Request.Header.SetMethod("GET")
	require.ErrorIs(t, c.Decode(get, nil, new(vn.Call)), vn.ErrForbidden)
	for i := range len(good) {
		changed := good[:i] + string(good[i]^1) + good[i+1:]
		require.ErrorIs(t, c.Decode(post(changed, signed), nil, new(vn.Call)), vn.ErrForbidden)
	}
}

func TestAWrongFieldIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, "one")
	tests := map[string]string{ // body → field
		"": "body", "null": "body", "[]": "body", "{": "body", `"x"`: "body", good + "x": "body", good + good: "body", good[:len(good)-1]: "body",
		`{"call_id"}`: "body", `{"call_id":}`: "body", `{"from":"a",}`: "body", "{}": "call_id",
		strings.Replace(good, `"to"`, `"too"`, 1):                             "body",
		strings.Replace(good, `"to"`, `"To"`, 1):                              "body",
		`{"from":"+12025550100","to":"+12025550101"}`:                         "call_id",
		`{"call_id":"x","to":"+12025550101"}`:                                 "from",
		`{"call_id":"x","from":"+12025550100"}`:                               "to",
		strings.Replace(good, `{`, `{"to":"+12025550199",`, 1):                "to",
		strings.Replace(good, `{`, `{"\u0066rom":"+12025550199",`, 1):         "from",
		strings.Replace(good, `"SIM-1"`, `1`, 1):                              "call_id",
		strings.Replace(good, `"SIM-1"`, `null`, 1):                           "call_id",
		strings.Replace(good, `"SIM-1"`, `{}`, 1):                             "call_id",
		strings.Replace(good, `"SIM-1"`, `""`, 1):                             "call_id",
		strings.Replace(good, `"SIM-1"`, `"\n"`, 1):                           "call_id",
		strings.Replace(good, `"SIM-1"`, `"`+strings.Repeat("x", 129)+`"`, 1): "call_id",
	}
	for _, wrong := range []string{"", "+", "12025550101", "+12025", "+1202555010112345", "\u0661\u0662", "client:x", "+1 2025550101"} {
		tests[strings.Replace(good, "+12025550101", wrong, 1)] = "to"
		tests[strings.Replace(good, "+12025550100", wrong, 1)] = "from"
	}
	tests[strings.Replace(good, "+12025550101", "anonymous", 1)] = "to"
	for body, want := range tests {
		var call vn.Call
		err := c.Decode(post(body, Sign("one", noon, []byte(body))), nil, &call)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, body)
		require.Equal(t, want, field.Field, body)
		require.Equal(t, vn.Call{}, call)
		require.NotContains(t, err.Error(), "202555")
	}
}

func TestAnswersTellTheCallerNoMoreThanTheyMust(t *testing.T) {
	t.Parallel()
	c := codec(t, "one")
	connect := vn.Decision{Destination: 447700900123, CallerID: 12025550102, RingTimeout: 30 * time.Second, MaxDuration: time.Hour}
	body, mediaType, status := c.AppendAnswer(nil, nil, &connect)
	require.JSONEq(t, `{"action":"dial","number":"+447700900123","caller_id":"+12025550102","ring_timeout_s":30,"max_duration_s":3600}`, string(body))
	require.Equal(t, "application/json", mediaType)
	require.Equal(t, http.StatusOK, status)
	for reason, cause := range map[vn.Reason]string{
		vn.NumberNotAssigned: NotInService, vn.CallerNotAllowed: NotInService, vn.OrderEnded: Ended, vn.CallerWithheld: Withheld, vn.RateLimited: Declined,
	} {
		body, _, status := c.AppendAnswer(nil, nil, &vn.Decision{Reason: reason})
		require.Equal(t, `{"action":"refuse","cause":"`+cause+`"}`, string(body))
		require.True(t, json.Valid(body))
		require.Equal(t, http.StatusOK, status)
	}
	for _, d := range []vn.Decision{{Reason: vn.Unavailable}, {Destination: 447700900123}, {CallerID: 12025550102}} {
		body, _, status := c.AppendAnswer(nil, nil, &d)
		require.Empty(t, body)
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	field := func(err error) string {
		var f *vn.FieldError
		require.ErrorAs(t, err, &f)
		return f.Field
	}
	for _, secrets := range [][]string{nil, {""}, {"a", ""}, {"a", "b", "c"}} {
		_, err := NewCodec(Config{Secrets: secrets})
		require.Equal(t, "secrets", field(err))
	}
	for _, tokens := range [][]string{nil, {""}} {
		_, err := NewServer(ServerConfig{Tokens: tokens})
		require.Equal(t, "tokens", field(err))
	}
	for want, stock := range map[string]Stock{
		"stock.region": {Prefixes: []string{"+1"}, Digits: 3}, "stock.digits": {Region: "US", Prefixes: []string{"+1"}, Digits: 7},
		"stock.prefixes": {Region: "US", Prefixes: []string{"1202555"}, Digits: 4},
	} {
		_, err := NewServer(ServerConfig{Tokens: []string{"t"}, Stock: []Stock{stock}})
		require.Equal(t, want, field(err))
	}
	_, err := NewServer(ServerConfig{Tokens: []string{"t"}, PageSize: -1})
	require.Equal(t, "page_size", field(err))
	_, err = NewNumbers(NumbersConfig{APIURL: "127.0.0.1", Token: "t"})
	require.Equal(t, "api_url", field(err))
	_, err = NewNumbers(NumbersConfig{APIURL: "http://127.0.0.1"})
	require.Equal(t, "token", field(err))
	_, err = NewPhone(PhoneConfig{URL: "http://", Secret: "s"})
	require.Equal(t, "url", field(err))
	_, err = NewPhone(PhoneConfig{URL: "http://127.0.0.1"})
	require.Equal(t, "secret", field(err))
	_, err = NewTwilioPhone(TwilioPhoneConfig{URL: "http://127.0.0.1", PublicURL: "x", AccountSID: "AC0", AuthToken: "t"})
	require.Equal(t, "public_url", field(err))
	_, err = NewTwilioPhone(TwilioPhoneConfig{URL: "http://127.0.0.1", PublicURL: "https://x", AccountSID: "AC0"})
	require.Equal(t, "account_sid and auth_token", field(err))
}
