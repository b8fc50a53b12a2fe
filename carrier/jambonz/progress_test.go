package jambonz

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	parent = "7e070cc2-6e28-4a24-9364-0123456789ab"
	child  = "65697994-594b-44c7-af2f-0123456789ab"
	action = "/v1/carriers/jambonz/status?order_id=order-1"
)

// dialOver is the body of an actionHook: the caller's leg, and what became of the callee's.
func dialOver(status string, sip int, callStatus string, sipStatus int) string {
	return fmt.Sprintf(`{"call_sid":%q,"direction":"inbound","from":"+12025550100","to":"+12025550101","call_status":%q,"sip_status":%d,`+
		`"dial_call_status":%q,"dial_sip_status":%d,"dial_call_sid":%q}`, parent, callStatus, sipStatus, status, sip, child)
}

// calleeLeg and callerLeg are bodies of a call_status_hook.
func calleeLeg(status string, sip int, more string) string {
	return fmt.Sprintf(`{"call_sid":%q,"parent_call_sid":%q,"direction":"outbound","from":"+12025550102","to":"+447700900123",`+
		`"call_status":%q,"sip_status":%d%s}`, child, parent, status, sip, more)
}

func callerLeg(status string, sip int, more string) string {
	return fmt.Sprintf(`{"call_sid":%q,"direction":"inbound","from":"+12025550100","to":"+12025550101","call_status":%q,"sip_status":%d%s}`,
		parent, status, sip, more)
}

func TestDecodeProgressReadsWhatBecameOfACall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const status = "/v1/carriers/jambonz/status"
	order := func(p vn.Progress) vn.Progress { p.OrderID = []byte("order-1"); return p }
	for _, test := range []struct {
		uri, body string
		want      vn.Progress
	}{
		{action, dialOver("completed", 200, "in-progress", 200), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCompleted})},
		{
			action, strings.Replace(dialOver("completed", 200, "completed", 200), `{`, `{"duration":42,`, 1),
			order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCompleted, Duration: 42 * time.Second}),
		},
		{action, dialOver("busy", 486, "early-media", 183), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegBusy, Cause: []byte("486")})},
		{action, dialOver("no-answer", 480, "trying", 100), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegNoAnswer, Cause: []byte("480")})},
		{action, dialOver("failed", 404, "trying", 100), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegFailed, Cause: []byte("404")})},
		{action, dialOver("ringing", 180, "ringing", 180), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegNoAnswer})},
		{action, dialOver("early-media", 183, "no-answer", 487), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCancelled})},
		{action, dialOver("no-answer", 487, "no-answer", 487), order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCancelled, Cause: []byte("487")})},
		{
			action, fmt.Sprintf(`{"call_sid":%q,"direction":"inbound","call_status":"trying"}`, parent),
			order(vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegFailed}),
		},
		{status, dialOver("busy", 600, "trying", 100), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegBusy, Cause: []byte("600")}},

		{status, calleeLeg("ringing", 180, ""), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegRinging}},
		{status, calleeLeg("early-media", 183, ""), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegRinging}},
		{status, calleeLeg("in-progress", 200, ""), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegAnswered}},
		{status, calleeLeg("completed", 200, `,"duration":7`), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCompleted, Duration: 7 * time.Second}},
		{status, calleeLeg("completed", 487, `,"duration":0`), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCancelled, Cause: []byte("487")}},
		{status, calleeLeg("busy", 486, ""), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegBusy, Cause: []byte("486")}},
		{status, calleeLeg("no-answer", 487, ""), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegNoAnswer, Cause: []byte("487")}},
		{status, calleeLeg("failed", 503, ""), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegFailed, Cause: []byte("503")}},
		{status, callerLeg("early-media", 183, ""), vn.Progress{Status: vn.LegRinging}},
		{status, callerLeg("in-progress", 200, ""), vn.Progress{Status: vn.LegAnswered}},
		{status, callerLeg("completed", 200, `,"duration":9`), vn.Progress{Status: vn.LegCompleted, Duration: 9 * time.Second}},
		{status, callerLeg("no-answer", 487, ""), vn.Progress{Status: vn.LegCancelled, Cause: []byte("487")}},
		{status, callerLeg("failed", 603, ""), vn.Progress{Status: vn.LegFailed, Cause: []byte("603")}},
	} {
		want := test.want
		want.CallID, want.At = []byte(parent), time.Unix(noon.Unix(), 0)
		var p vn.Progress
		known, err := c.DecodeProgress(post(test.uri, test.body), nil, &p)
		require.NoError(t, err, test.body)
		require.True(t, known, test.body)
		require.Equal(t, want, p, test.body)
	}
}

func TestTheLegsJoinWithTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var call vn.Call
	require.NoError(t, c.Decode(post("/x", good), nil, &call))
	for uri, body := range map[string]string{action: dialOver("busy", 486, "trying", 100), "/x": calleeLeg("ringing", 180, ""), "/y": callerLeg("failed", 603, "")} {
		var p vn.Progress
		known, err := c.DecodeProgress(post(uri, body), nil, &p)
		require.NoError(t, err)
		require.True(t, known)
		require.Equal(t, call.ID, p.CallID)
	}
}

func TestWhatSaysNothingOfAMaskedCallIsNotKnown(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, body := range []string{
		calleeLeg("trying", 100, ""), callerLeg("trying", 100, ""), calleeLeg("queued", 100, ""), calleeLeg("paused", 0, ""), calleeLeg("", 0, ""),
		strings.Replace(calleeLeg("ringing", 180, ""), "parent_call_sid", "grandparent_call_sid", 1),
		strings.Replace(calleeLeg("ringing", 180, ""), `"outbound"`, `"none"`, 1),
		dialOver("abducted", 200, "trying", 100),
	} {
		var p vn.Progress
		known, err := c.DecodeProgress(post("/x", body), nil, &p)
		require.NoError(t, err, body)
		require.False(t, known, body)
		require.Equal(t, vn.Progress{}, p)
	}
}

func TestAWrongFieldOfACallbackIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	good := dialOver("busy", 486, "trying", 100)
	type request struct{ uri, body string }
	for test, want := range map[request]string{
		{action, ""}:                                                        "body",
		{action, "[]"}:                                                      "body",
		{action, good + good}:                                               "body",
		{"/x?order_id=", good}:                                              "order_id",
		{"/x?order_id=a&order_id=a", good}:                                  "order_id",
		{"/x?order_id=..", good}:                                            "order_id",
		{"/x?order_id=a%20b", good}:                                         "order_id",
		{"/x?order_id=" + strings.Repeat("a", 65), good}:                    "order_id",
		{"/x?order_id=%", good}:                                             "query",
		{action, strings.Replace(good, "call_sid", "sid", 1)}:               "call_sid",
		{action, strings.Replace(good, parent, "", 1)}:                      "call_sid",
		{action, strings.Replace(good, parent, `\n`, 1)}:                    "call_sid",
		{action, strings.Replace(good, `{`, `{"call_sid":"x",`, 1)}:         "call_sid",
		{action, strings.Replace(good, `{`, `{"dial_call_status":"x",`, 1)}: "dial_call_status",
		{"/x", `{"call_sid":"x","call_status":"ringing"}`}:                  "direction",
		{"/x", calleeLeg("completed", 200, `,"duration":"+12025550100"`)}:   "duration",
		{"/x", calleeLeg("completed", 200, `,"duration":-1`)}:               "duration",
		{"/x", calleeLeg("completed", 200, `,"duration":1.5`)}:              "duration",
		{"/x", calleeLeg("completed", 200, `,"duration":99999999999`)}:      "duration",
	} {
		var p vn.Progress
		_, err := c.DecodeProgress(post(test.uri, test.body), nil, &p)
		var wrong *vn.FieldError
		require.ErrorAs(t, err, &wrong, test)
		require.Equal(t, want, wrong.Field, test)
		require.Equal(t, vn.Progress{}, p)
		require.NotContains(t, err.Error(), "2025550")
	}
}

// TestACauseIsNeverMoreThanASIPCode holds that nothing but three digits gets into an event.
func TestACauseIsNeverMoreThanASIPCode(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, cause := range []any{"+12025550100", "4 8", "486 Busy Here", 200, 180, 99, 700, 4860, -86, true, nil, "486\n", []int{486}, "\u0664\u0668\u0666"} {
		value, err := json.Marshal(cause)
		require.NoError(t, err)
		body := strings.Replace(dialOver("busy", 486, "trying", 100), `"dial_sip_status":486`, `"dial_sip_status":`+string(value), 1)
		var p vn.Progress
		known, err := c.DecodeProgress(post(action, body), nil, &p)
		require.NoError(t, err)
		require.True(t, known)
		require.Nil(t, p.Cause, cause)
	}
}

func TestACallbackIsAnsweredWithNoFurtherVerbs(t *testing.T) {
	t.Parallel()
	body, mediaType := codec(t, Config{}).AppendProgressAnswer([]byte("before"))
	require.Equal(t, "before[]", string(body))
	require.Equal(t, "application/json", mediaType)
}

// FuzzProgress feeds signed bodies and queries: whatever they are, an error is a
// *vn.FieldError, and what is known holds only what Progress may hold.
func FuzzProgress(f *testing.F) {
	f.Add("order_id=order-1", dialOver("completed", 200, "in-progress", 200))
	f.Add("", calleeLeg("completed", 200, `,"duration":7`))
	f.Add("order_id=%41&order_id", `{"call_sid":1}`)
	c := codec(f, Config{})
	f.Fuzz(func(t *testing.T, query, body string) {
		ctx := new(fasthttp.RequestCtx)
		post("/x", body).Request.CopyTo(&ctx.Request)
		ctx.Request.Header.SetRequestURI("/x?" + query)
		var p vn.Progress
		known, err := c.DecodeProgress(ctx, nil, &p)
		if err != nil {
			var wrong *vn.FieldError
			require.ErrorAs(t, err, &wrong)
		}
		if err != nil || !known {
			require.Equal(t, vn.Progress{}, p)
			return
		}
		require.NotEmpty(t, p.CallID)
		require.True(t, len(p.OrderID) == 0 || vn.CheckOrderID(string(p.OrderID)) == nil)
		require.True(t, len(p.Cause) == 0 || len(p.Cause) == 3)
		require.GreaterOrEqual(t, p.Duration, time.Duration(0))
	})
}
