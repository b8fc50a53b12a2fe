package softswitch

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const token = "s3cret-token"

func codec(tb testing.TB, tokens ...string) *Codec {
	tb.Helper()
	c, err := New(Config{Tokens: append([]string{token}, tokens...)})
	require.NoError(tb, err)
	return c
}

func request(query, authorization string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("GET")
	ctx.Request.Header.SetRequestURI("/v1/resolve?" + query)
	if authorization != "" {
		ctx.Request.Header.Set("Authorization", authorization)
	}
	return ctx
}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t)
	for query, want := range map[string]vn.Call{
		"called=%2B12025550101&calling=%2b12025550100&call_id=a%40b":          {ID: []byte("a@b"), Called: 12025550101, Calling: 12025550100},
		"calling=%2B447700900123&called=%2B12025550101&call_id=1":             {ID: []byte("1"), Called: 12025550101, Calling: 447700900123},
		"called=%2B12025550101&calling=Anonymous&call_id=x+y":                 {ID: []byte("x y"), Called: 12025550101},
		"called=%2B12025550101&calling=%2B12025550100&call_id=1&src=10.0.0.1": {ID: []byte("1"), Called: 12025550101, Calling: 12025550100},
	} {
		var call vn.Call
		require.NoError(t, c.Decode(request(query, "Bearer "+token), nil, &call))
		require.Equal(t, want, call)
	}
	for _, word := range []string{"anonymous", "restricted", "unknown", "withheld", "unavailable", "private", "PRIVATE"} {
		call := vn.Call{Calling: 12025550100}
		require.NoError(t, c.Decode(request("called=%2B12025550101&call_id=1&calling="+word, "Bearer "+token), nil, &call))
		require.Zero(t, call.Calling, word)
	}
}

func TestWithoutAValidTokenNothingElseIsTold(t *testing.T) {
	t.Parallel()
	c := codec(t, "the-next-token")
	good := "called=%2B12025550101&calling=%2B12025550100&call_id=1"
	for _, header := range []string{
		"", "Bearer", "Bearer ", "Bearer  " + token, token, "Basic " + token, "Bearer " + token + "x", "Bearer " + token[1:],
		"Bearer " + strings.ToUpper(token), "Bearer " + token + ",the-next-token", "Bearerx" + token,
	} {
		require.ErrorIs(t, c.Decode(request(good, header), nil, new(vn.Call)), vn.ErrForbidden, "%q", header)
		require.ErrorIs(t, c.Decode(request("nonsense", header), nil, new(vn.Call)), vn.ErrForbidden, "%q", header)
	}
	for _, header := range []string{"Bearer " + token, "bearer " + token, "BEARER the-next-token"} {
		require.NoError(t, c.Decode(request(good, header), nil, new(vn.Call)), header)
	}
}

func TestAWrongParameterIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t)
	const called, calling = "called=%2B12025550101", "calling=%2B12025550100"
	tests := map[string]string{ // query → field
		"": "called", calling: "called", called: "calling",
		"called=&" + calling: "called", called + "&calling=": "calling", called + "&" + calling: "call_id", called + "&" + calling + "&call_id=": "call_id",
		called + "&" + called + "&" + calling:                           "called",
		called + "&" + calling + "&" + calling:                          "calling",
		called + "&" + calling + "&calling=anonymous":                   "calling",
		called + "&" + calling + "&call_id=a&call_id=a":                 "call_id",
		called + "&" + calling + "&call_id=%00":                         "call_id",
		called + "&" + calling + "&call_id=%C3%A9":                      "call_id",
		called + "&" + calling + "&call_id=" + strings.Repeat("x", 129): "call_id",
		called + "&" + calling + ";x":                                   "query",
		called + "%&" + calling:                                         "query",
		"Called=%2B12025550101&" + calling:                              "called",
		"called=anonymous&" + calling:                                   "called",
	}
	for _, wrong := range []string{
		"+", "12025550101", "+12025", "+1202555010112345", "+02025550101", "+1 2025550101", "++12025550101", "+1202555010x",
		"+\u0661\u0662\u0660\u0662\u0665\u0665\u0665\u0660\u0661\u0660", "client:x", "sip:a@b", " 12025550101", " ", "anonymous ",
	} {
		tests["called="+url.QueryEscape(wrong)+"&"+calling] = "called"
		tests[called+"&calling="+url.QueryEscape(wrong)] = "calling"
	}
	for query, want := range tests {
		var call vn.Call
		err := c.Decode(request(query, "Bearer "+token), nil, &call)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, query)
		require.Equal(t, want, field.Field, query)
		require.Equal(t, vn.Call{}, call, query)
		require.NotContains(t, err.Error(), "202555")
	}
}

func TestARawPlusSignIsExplained(t *testing.T) {
	t.Parallel()
	c := codec(t)
	for field, query := range map[string]string{
		"called":  "called=+12025550101&calling=%2B12025550100",
		"calling": "called=%2B12025550101&calling=+12025550100",
	} {
		err := c.Decode(request(query, "Bearer "+token), nil, new(vn.Call))
		require.EqualError(t, err, field+" begins with a space: write its plus sign as %2B")
	}
}

func TestAnswersHaveExactlyTheContractsShape(t *testing.T) {
	t.Parallel()
	c := codec(t)
	for _, test := range []struct {
		d      vn.Decision
		status int
		want   string
	}{
		{
			vn.Decision{Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour},
			200,
			`{"action":"connect","destination":"+447700900123","caller_id":"+12025550102","order_id":"order-1","ring_timeout_s":30,"max_duration_s":3600}`,
		},
		{vn.Decision{Reason: vn.NumberNotAssigned}, 200, `{"action":"reject","reason":"number_not_assigned","sip_code":404,"sip_reason":"Not Found"}`},
		{vn.Decision{Reason: vn.CallerNotAllowed}, 200, `{"action":"reject","reason":"caller_not_allowed","sip_code":404,"sip_reason":"Not Found"}`},
		{vn.Decision{Reason: vn.OrderEnded, OrderID: []byte("order-1")}, 200, `{"action":"reject","reason":"order_ended","sip_code":410,"sip_reason":"Gone"}`},
		{vn.Decision{Reason: vn.CallerWithheld}, 200, `{"action":"reject","reason":"caller_withheld","sip_code":433,"sip_reason":"Anonymity Disallowed"}`},
		{vn.Decision{Reason: vn.RateLimited}, 200, `{"action":"reject","reason":"rate_limited","sip_code":603,"sip_reason":"Decline"}`},
		{vn.Decision{Reason: vn.Unavailable}, 503, `{"action":"reject","reason":"unavailable","sip_code":503,"sip_reason":"Service Unavailable"}`},
		{vn.Decision{Destination: 447700900123}, 503, `{"action":"reject","reason":"unavailable","sip_code":503,"sip_reason":"Service Unavailable"}`},
		{vn.Decision{CallerID: 12025550102}, 503, `{"action":"reject","reason":"unavailable","sip_code":503,"sip_reason":"Service Unavailable"}`},
	} {
		body, mediaType, status := c.AppendAnswer([]byte("before"), new(vn.Call), &test.d)
		require.Equal(t, "before"+test.want, string(body))
		require.Equal(t, test.status, status)
		require.Equal(t, "application/json", mediaType)
	}
}

// FuzzAnswerIsJSON: whatever the order id holds, the answer is JSON with that id.
func FuzzAnswerIsJSON(f *testing.F) {
	f.Add("order-1", uint64(447700900123), uint64(12025550102))
	f.Add(`","destination":"+12025550199`, uint64(447700900123), uint64(12025550102))
	f.Add("\x00\xff{}", uint64(0), uint64(1))
	c := codec(f)
	f.Fuzz(func(t *testing.T, order string, destination, callerID uint64) {
		d := vn.Decision{Destination: vn.Number(destination), CallerID: vn.Number(callerID), OrderID: []byte(order)}
		body, _, status := c.AppendAnswer(nil, nil, &d)
		var got map[string]any
		require.NoError(t, json.Unmarshal(body, &got))
		if status != http.StatusOK {
			require.Equal(t, "unavailable", got["reason"])
			return
		}
		require.Equal(t, string([]rune(order)), got["order_id"], "bytes that are no UTF-8 become U+FFFD")
		require.Equal(t, d.Destination.E164(), got["destination"])
	})
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	for _, tokens := range [][]string{nil, {}, {""}, {"a", ""}, {"a b"}, {"a\n"}, {"\u00e9"}} {
		_, err := New(Config{Tokens: tokens})
		var field *vn.FieldError
		require.ErrorAs(t, err, &field)
		require.Equal(t, "tokens", field.Field)
	}
}

// TestOneCodecServesManyRequestsAtOnce fails under the race detector, or by a wrong
// call, when two requests share working memory.
func TestOneCodecServesManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	c := codec(t)
	var all sync.WaitGroup
	for i := range 8 {
		number := vn.Number(12025550100 + i)
		ctx := request("called=%2B12025550199&calling="+url.QueryEscape(number.E164())+"&call_id=%41"+number.Digits(), "Bearer "+token)
		all.Go(func() {
			for range 500 {
				var call vn.Call
				if err := c.Decode(ctx, nil, &call); err != nil || call.Calling != number || string(call.ID) != "A"+number.Digits() {
					t.Errorf("request %d was read as another's (%v)", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}
