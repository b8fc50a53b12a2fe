package exotel

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// told is a callback of the Passthru applet about a call that was put through.
func told() url.Values {
	q := query()
	q.Set("CallType", "completed")
	q.Set("DialCallStatus", "completed")
	q.Set("DialCallDuration", "13")
	q.Set("Legs[0][OnCallDuration]", "11")
	q.Set("Legs[0][CauseCode]", "NORMAL_CLEARING")
	q.Set("Legs[0][Number]", "05555510001")
	q.Set("DialWhomNumber", "05555510001")
	q.Set("order_id", "order-1")
	return q
}

// posted returns a StatusCallback, whose order comes in the query.
func posted(contentType, body string) *fasthttp.RequestCtx {
	ctx := get("order_id=order-1")
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetContentType(contentType)
	ctx.Request.SetBodyString(body)
	return ctx
}

func progress(t *testing.T, ctx *fasthttp.RequestCtx) (vn.Progress, bool) {
	t.Helper()
	var p vn.Progress
	known, err := codec(t, Config{}).DecodeProgress(ctx, []byte(secret), &p)
	require.NoError(t, err)
	if !known {
		require.Equal(t, vn.Progress{}, p, "nothing is told of what is not known")
	}
	return p, known
}

// at is CurrentTime of query: half past five hours before it in UTC.
var at = time.Date(2024, 9, 3, 6, 14, 59, 0, time.UTC)

func TestThePassthruAppletTellsHowDiallingEnded(t *testing.T) {
	t.Parallel()
	for word, status := range map[string]vn.LegStatus{
		"completed": vn.LegCompleted, "busy": vn.LegBusy, "no-answer": vn.LegNoAnswer, "canceled": vn.LegCancelled, "failed": vn.LegFailed,
	} {
		q := told()
		q.Set("DialCallStatus", word)
		want := vn.Progress{
			CallID: []byte(callSid), OrderID: []byte("order-1"), Leg: vn.CalleeLeg, Status: status, Cause: []byte("NORMAL_CLEARING"), At: at,
		}
		if status == vn.LegCompleted {
			want.Duration = 11 * time.Second
		}
		got, known := progress(t, get(q.Encode()))
		require.True(t, known)
		require.Equal(t, want, got)
	}
	for _, word := range []string{"in-progress", "free", "Completed", "\x00"} {
		q := told()
		q.Set("DialCallStatus", word)
		_, known := progress(t, get(q.Encode()))
		require.False(t, known, word)
	}
}

func TestRingingIsNoConversation(t *testing.T) {
	t.Parallel()
	q := told()
	q.Set("DialCallStatus", "no-answer")
	got, _ := progress(t, get(q.Encode()))
	require.Zero(t, got.Duration)
	q = told()
	q.Del("Legs[0][OnCallDuration]")
	got, _ = progress(t, get(q.Encode()))
	require.Equal(t, 13*time.Second, got.Duration, "the only figure there is")
}

func TestTheConnectAppletTellsTheSteps(t *testing.T) {
	t.Parallel()
	for event, status := range map[string]vn.LegStatus{"Ringing": vn.LegRinging, "ringing": vn.LegRinging, "Answered": vn.LegAnswered} {
		q := told()
		q.Del("DialCallStatus")
		q.Set("Direction", "outbound-dial")
		q.Set("EventType", event)
		q.Set("Status", "busy")
		got, known := progress(t, get(q.Encode()))
		require.True(t, known)
		require.Equal(t, vn.CalleeLeg, got.Leg)
		require.Equal(t, status, got.Status)
		require.Zero(t, got.Duration)
	}
	for event, status := range map[string]string{"Dial": "busy", "Terminal": "free", "": "busy"} {
		q := told()
		q.Del("DialCallStatus")
		q.Set("EventType", event)
		q.Set("Status", status)
		_, known := progress(t, get(q.Encode()))
		require.False(t, known, "%s: busy with this call is not a busy line", event)
	}
}

func TestAStatusCallbackTellsOfTheWholeCall(t *testing.T) {
	t.Parallel()
	fields := map[string]string{
		"CallSid": callSid, "EventType": "terminal", "Status": "completed", "ConversationDuration": "42", "DateUpdated": "2024-09-03 11:44:59",
		"From": "05555510000", "To": "05555510001",
	}
	want := vn.Progress{
		CallID: []byte(callSid), OrderID: []byte("order-1"), Leg: vn.CallerLeg, Status: vn.LegCompleted, Duration: 42 * time.Second, At: at,
	}
	check := func() {
		form := url.Values{}
		for key, value := range fields {
			form.Set(key, value)
		}
		asJSON, err := json.Marshal(fields)
		require.NoError(t, err)
		for _, ctx := range []*fasthttp.RequestCtx{
			posted("application/x-www-form-urlencoded", form.Encode()), posted("application/json; charset=utf-8", string(asJSON)),
		} {
			got, known := progress(t, ctx)
			require.True(t, known)
			require.Equal(t, want, got)
		}
	}
	check()
	fields["Status"], want.Status, want.Duration = "no-answer", vn.LegNoAnswer, 0
	check()
	fields["EventType"], fields["Status"], want.Status = "answered", "in-progress", vn.LegAnswered
	check()

	for body, mediaType := range map[string]string{
		"CallSid=" + callSid + "&Status=in-progress": "application/x-www-form-urlencoded", `{"CallSid":"` + callSid + `"}`: "application/json",
		`{"CallSid":"` + callSid + `","Status":"queued","Legs":[{"OnCallDuration":3}]}`: "application/json",
	} {
		_, known := progress(t, posted(mediaType, body))
		require.False(t, known)
	}
}

func TestDurationAndTimeAreWholeNumbersOrNothing(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"-1", "1.5", "1e3", " 1", "+1", "99999999999", "x"} {
		q := told()
		q.Set("Legs[0][OnCallDuration]", wrong)
		q.Set("CurrentTime", wrong)
		got, _ := progress(t, get(q.Encode()))
		require.Zero(t, got.Duration, wrong)
		require.True(t, got.At.IsZero(), wrong)
	}
}

func TestNoNumberGetsIntoACause(t *testing.T) {
	t.Parallel()
	q := told()
	q.Set("Legs[0][CauseCode]", "no route to 05555510001")
	got, known := progress(t, get(q.Encode()))
	require.True(t, known)
	require.Empty(t, got.Cause)
}

func TestAWrongFieldOfACallbackIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	edit := func(f func(url.Values)) *fasthttp.RequestCtx {
		q := told()
		f(q)
		return get(q.Encode())
	}
	put := get(told().Encode())
	put.Request.Header.SetMethod("PUT")
	for name, test := range map[string]struct {
		field string
		ctx   *fasthttp.RequestCtx
	}{
		"query":           {"query", get("%")},
		"method":          {"method", put},
		"no id":           {"CallSid", edit(func(q url.Values) { q.Del("CallSid") })},
		"odd id":          {"CallSid", edit(func(q url.Values) { q.Set("CallSid", "a\n05555510000") })},
		"long id":         {"CallSid", edit(func(q url.Values) { q.Set("CallSid", strings.Repeat("5", 65)) })},
		"two ids":         {"CallSid", edit(func(q url.Values) { q.Add("CallSid", callSid) })},
		"two statuses":    {"DialCallStatus", edit(func(q url.Values) { q.Add("DialCallStatus", "busy") })},
		"odd order":       {"order_id", edit(func(q url.Values) { q.Set("order_id", "05555510000 ") })},
		"two orders":      {"order_id", edit(func(q url.Values) { q.Add("order_id", "order-1") })},
		"broken form":     {"body", posted("application/x-www-form-urlencoded", "CallSid=%")},
		"broken JSON":     {"body", posted("application/json", `{"CallSid":`)},
		"two ids in JSON": {"CallSid", posted("application/json", `{"CallSid":"a","CallSid":"b"}`)},
		"no id in JSON":   {"CallSid", posted("application/json", `{"CallSid":null,"Status":"completed"}`)},
	} {
		var p vn.Progress
		known, err := c.DecodeProgress(test.ctx, []byte(secret), &p)
		require.False(t, known, name)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, test.field, field.Field, name)
		require.Equal(t, vn.Progress{}, p, name)
		require.NotContains(t, err.Error(), "555", name)
	}
	known, err := c.DecodeProgress(edit(func(q url.Values) { q.Set("AccountSid", "example2") }), []byte(secret), new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden)
	require.False(t, known)
}

func TestACallbackIsAnsweredWithNothing(t *testing.T) {
	t.Parallel()
	body, mediaType := codec(t, Config{}).AppendProgressAnswer([]byte("before"))
	require.Equal(t, "before", string(body))
	require.Equal(t, "text/plain", mediaType)
}

// TestWhatWasReadOutlivesTheRequest: what a Progress holds is its own.
func TestWhatWasReadOutlivesTheRequest(t *testing.T) {
	t.Parallel()
	ctx := get(told().Encode())
	got, _ := progress(t, ctx)
	ctx.Request.Header.SetRequestURI(strings.Repeat("z", 2000))
	require.Equal(t, callSid, string(got.CallID))
	require.Equal(t, "order-1", string(got.OrderID))
	require.Equal(t, "NORMAL_CLEARING", string(got.Cause))
}
