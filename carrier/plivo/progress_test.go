package plivo

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// calleeFields is what all callbacks about the callee's leg hold: numbers among them.
func calleeFields(more url.Values) url.Values {
	f := url.Values{
		"CallUUID": {"u-1"}, "DialALegUUID": {"u-1"}, "DialBLegUUID": {"u-2"}, "From": {"12025550100"}, "To": {"12025550101"},
		"DialBLegFrom": {"12025550102"}, "DialBLegTo": {"447700900123"}, "CallStatus": {"in-progress"}, "Direction": {"inbound"},
		"ParentAuthID": {account},
	}
	for key, values := range more {
		f[key] = values
	}
	return f
}

// hangupFields is what the application's hangup URL gets.
func hangupFields(more url.Values) url.Values {
	f := url.Values{
		"CallUUID": {"u-1"}, "From": {"12025550100"}, "To": {"12025550101"}, "CallStatus": {"completed"}, "Direction": {"inbound"},
		"Event": {"Hangup"}, "HangupCause": {"NORMAL_CLEARING"}, "HangupCauseCode": {"4000"}, "Duration": {"26"}, "BillDuration": {"60"},
		"StartTime": {"2026-11-25 14:13:37"}, "EndTime": {"2026-11-25 14:14:03"}, "ParentAuthID": {account},
	}
	for key, values := range more {
		f[key] = values
	}
	return f
}

func TestDecodeProgressReadsEveryCallback(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{StatusURL: statusURL})
	callee := func(status vn.LegStatus, cause string, seconds int) *vn.Progress {
		p := &vn.Progress{
			CallID: []byte("u-1"), OrderID: []byte("order-1"), Leg: vn.CalleeLeg, Status: status, Duration: time.Duration(seconds) * time.Second,
		}
		if cause != "" {
			p.Cause = []byte(cause)
		}
		return p
	}
	caller := func(status vn.LegStatus, cause string, seconds int) *vn.Progress {
		p := callee(status, cause, seconds)
		p.Leg, p.OrderID = vn.CallerLeg, nil
		return p
	}
	event := func(action, cause, seconds string) url.Values {
		return calleeFields(url.Values{
			"DialAction": {action}, "DialBLegStatus": {action}, "DialBLegHangupCause": {cause}, "DialBLegDuration": {seconds},
		})
	}
	result := func(status, cause string) url.Values {
		return calleeFields(url.Values{"DialStatus": {status}, "DialHangupCause": {cause}, "DialRingStatus": {"true"}, "Event": {"Redirect"}})
	}
	for name, test := range map[string]struct {
		form url.Values
		want *vn.Progress // nil: nothing that a Progress can hold
	}{
		"answered":                    {event("answer", "", ""), callee(vn.LegAnswered, "", 0)},
		"connected":                   {event("connected", "", ""), callee(vn.LegAnswered, "", 0)},
		"talked and gone":             {event("hangup", "NORMAL_CLEARING", "11"), callee(vn.LegCompleted, "NORMAL_CLEARING", 11)},
		"gone, busy":                  {event("hangup", "USER_BUSY", "3"), callee(vn.LegBusy, "USER_BUSY", 0)},
		"gone, caller gave up":        {event("hangup", "ORIGINATOR_CANCEL", "0"), callee(vn.LegCancelled, "ORIGINATOR_CANCEL", 0)},
		"gone, nobody knows why":      {event("hangup", "NORMAL_CLEARING", "0"), nil},
		"a key is pressed":            {event("digits", "", ""), nil},
		"result completed":            {result("completed", "NORMAL_CLEARING"), callee(vn.LegCompleted, "NORMAL_CLEARING", 0)},
		"result busy":                 {result("busy", "USER_BUSY"), callee(vn.LegBusy, "USER_BUSY", 0)},
		"result declined":             {result("failed", "CALL_REJECTED"), callee(vn.LegBusy, "CALL_REJECTED", 0)},
		"result no answer":            {result("no-answer", "NO_ANSWER"), callee(vn.LegNoAnswer, "NO_ANSWER", 0)},
		"result no answer, no cause":  {result("no-answer", ""), callee(vn.LegNoAnswer, "", 0)},
		"result caller gave up":       {result("no-answer", "ORIGINATOR_CANCEL"), callee(vn.LegCancelled, "ORIGINATOR_CANCEL", 0)},
		"result cancel":               {result("cancel", ""), callee(vn.LegCancelled, "", 0)},
		"result failed":               {result("failed", "UNALLOCATED_NUMBER"), callee(vn.LegFailed, "UNALLOCATED_NUMBER", 0)},
		"result timeout":              {result("timeout", ""), callee(vn.LegFailed, "", 0)},
		"result unheard of":           {result("transferred", ""), nil},
		"a cause with a number in it": {result("failed", "to 12025550100"), callee(vn.LegFailed, "", 0)},
		"a cause of control bytes":    {result("failed", "A\r\nB"), callee(vn.LegFailed, "", 0)},
		"an endless cause":            {result("failed", strings.Repeat("A", 65)), callee(vn.LegFailed, "", 0)},
		"caller gone":                 {hangupFields(nil), caller(vn.LegCompleted, "NORMAL_CLEARING", 26)},
		"caller gave up":              {hangupFields(url.Values{"HangupCause": {"ORIGINATOR_CANCEL"}, "Duration": {"0"}}), caller(vn.LegCancelled, "ORIGINATOR_CANCEL", 0)},
		"caller refused":              {hangupFields(url.Values{"HangupCause": {"CALL_REJECTED"}, "Duration": {"0"}}), caller(vn.LegBusy, "CALL_REJECTED", 0)},
		"caller gone, no duration":    {hangupFields(url.Values{"Duration": {""}}), caller(vn.LegCompleted, "NORMAL_CLEARING", 0)},
		"an outbound leg":             {hangupFields(url.Values{"Direction": {"outbound"}}), nil},
		"another event":               {calleeFields(url.Values{"Event": {"RecordStop"}}), nil},
		"the result without its name": {calleeFields(url.Values{"DialStatus": {""}}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			uri := statusURI
			if test.want == nil || len(test.want.OrderID) > 0 {
				uri += "?order_id=order-1&stop=1"
			}
			var p vn.Progress
			known, err := c.DecodeProgress(post(uri, test.form), nil, &p)
			require.NoError(t, err)
			require.Equal(t, test.want != nil, known)
			if test.want == nil {
				test.want = new(vn.Progress)
			}
			require.Equal(t, *test.want, p)
		})
	}
	var p vn.Progress
	f := calleeFields(url.Values{"DialStatus": {"busy"}, "order_id": {"a.b:c-d_1"}, "stop": {"1"}})
	f.Del("DialALegUUID")
	known, err := c.DecodeProgress(get(statusURI, f), nil, &p)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, vn.Progress{CallID: []byte("u-1"), OrderID: []byte("a.b:c-d_1"), Leg: vn.CalleeLeg, Status: vn.LegBusy}, p, "by GET")
}

func TestDecodeProgressChecksTheSignatureFirst(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	uri := statusURI + "?order_id=order-1&stop=1"
	f := calleeFields(url.Values{"DialStatus": {"busy"}})
	moved := post(uri, f)
	moved.Request.Header.SetRequestURI(statusURI + "?order_id=order-2&stop=1")
	_, err := c.DecodeProgress(moved, nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden, "the order's id is signed too")
	changed := request("POST", uri, with(clone(f), "DialStatus", "completed").Encode())
	changed.Request.Header.Set(signatureHeader, sign(token, "POST", public+uri, nonce, f))
	_, err = c.DecodeProgress(changed, nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden)
}

// TestTheEndOfTheOrderCannotBeMoved sends really signed callbacks on with another end of the
// query: the signed text is the same.
func TestTheEndOfTheOrderCannotBeMoved(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	f := calleeFields(url.Values{"DialStatus": {"busy"}})
	for order, sent := range map[string]string{"order.A7": "order", "order-1.A": "order-1"} {
		key := strings.TrimPrefix(order, sent+".") + "&stop"
		edited := with(clone(f), key, "=1.")
		uri := statusURI + "?order_id=" + sent
		signature := sign(token, "POST", public+statusURI+"?order_id="+order+"&stop=1", nonce, f)
		require.Equal(t, signature, sign(token, "POST", public+uri, nonce, edited), "the attack is one")
		for _, query := range []string{uri, uri + "&stop=1"} {
			ctx := request("POST", query, edited.Encode())
			ctx.Request.Header.Set(signatureHeader, signature)
			known, err := c.DecodeProgress(ctx, nil, new(vn.Progress))
			require.Error(t, err)
			require.False(t, known)
		}
	}
}

func TestAWrongFieldOfACallbackIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for name, test := range map[string]struct {
		field, query string
		form         url.Values
	}{
		"no id":            {"CallUUID", "", hangupFields(url.Values{"CallUUID": {""}})},
		"an odd id":        {"DialALegUUID", "", calleeFields(url.Values{"DialStatus": {"busy"}, "DialALegUUID": {"u\n"}})},
		"two results":      {"DialStatus", "", calleeFields(url.Values{"DialStatus": {"busy", "completed"}})},
		"two events":       {"Event", "", hangupFields(url.Values{"Event": {"Hangup", "Hangup"}})},
		"two directions":   {"Direction", "", hangupFields(url.Values{"Direction": {"inbound", "outbound"}})},
		"two causes":       {"HangupCause", "", hangupFields(url.Values{"HangupCause": {"A", "B"}})},
		"a long time":      {"Duration", "", hangupFields(url.Values{"Duration": {"4294967296"}})},
		"a negative time":  {"Duration", "", hangupFields(url.Values{"Duration": {"-1"}})},
		"a time in words":  {"Duration", "", hangupFields(url.Values{"Duration": {"12025550100x"}})},
		"an odd order":     {"order_id", "?order_id=a%2Fb&stop=1", hangupFields(nil)},
		"an endless order": {"order_id", "?order_id=" + strings.Repeat("x", 65) + "&stop=1", hangupFields(nil)},
		"two orders":       {"order_id", "?order_id=a&order_id=b&stop=1", hangupFields(nil)},
		"no end":           {"order_id", "?order_id=a", hangupFields(nil)},
		"another end":      {"order_id", "?order_id=a&stop=11", hangupFields(nil)},
		"two ends":         {"stop", "?order_id=a&stop=1&stop=1", hangupFields(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p vn.Progress
			known, err := c.DecodeProgress(post(statusURI+test.query, test.form), nil, &p)
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, test.field, field.Field)
			require.False(t, known)
			require.Equal(t, vn.Progress{}, p)
			require.NotContains(t, err.Error(), "12025550")
		})
	}
}

func TestTheAnswerToACallbackAsksForNothing(t *testing.T) {
	t.Parallel()
	body, mediaType := codec(t, Config{}).AppendProgressAnswer([]byte("before"))
	require.Equal(t, "application/xml", mediaType)
	golden(t, "nothing", body[6:])
}
