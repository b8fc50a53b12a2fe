package twiml

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

var reader = Reader{
	Caller: func(from []byte) (vn.Number, bool) { return vn.ParseE164(from) },
	MaxID:  64, Cause: "HangupCause",
}

// progress reads a callback of the given fields, each "key=value".
func progress(t *testing.T, uri string, fields ...string) (vn.Progress, bool, error) {
	t.Helper()
	var f form.Form
	require.True(t, f.Parse([]byte(strings.Join(fields, "&"))))
	var p vn.Progress
	known, err := reader.Progress(&f, requestURI(uri), &p)
	return p, known, err
}

func requestURI(uri string) []byte { return []byte("/v1/carriers/x/status" + uri) }

func TestEveryStatusIsReadForItsLeg(t *testing.T) {
	t.Parallel()
	words := map[string]vn.LegStatus{
		"ringing": vn.LegRinging, "in-progress": vn.LegAnswered, "answered": vn.LegAnswered, "completed": vn.LegCompleted,
		"busy": vn.LegBusy, "no-answer": vn.LegNoAnswer, "canceled": vn.LegCancelled, "failed": vn.LegFailed,
	}
	for _, word := range append(slices.Collect(maps.Keys(words)), "queued", "initiated", "Completed", "completed ", "x") {
		want, listed := words[word]
		escaped := url.QueryEscape(word)
		for fields, leg := range map[string]vn.Leg{
			"CallSid=CA1&CallStatus=" + escaped:                                                vn.CallerLeg,
			"CallSid=CA2&ParentCallSid=CA1&CallStatus=" + escaped:                              vn.CalleeLeg,
			"CallSid=CA1&DialCallSid=CA2&CallStatus=in-progress&DialCallStatus=" + escaped:     vn.CalleeLeg,
			"CallSid=CA2&ParentCallSid=CA1&DialCallStatus=in-progress&CallStatus=" + escaped:   vn.CalleeLeg,
			"CallSid=CA1&ParentCallSid=&DialCallStatus=&CallDuration=&CallStatus=" + escaped:   vn.CallerLeg,
			"CallSid=CA1&ParentCallSid=&CallStatus=x&HangupCause=&DialCallStatus=" + escaped:   vn.CalleeLeg,
			"CallSid=CA1&DialCallSid=CA2&CallStatus=completed&DialCallStatus=" + escaped + "&": vn.CalleeLeg,
		} {
			p, known, err := progress(t, "", fields)
			require.NoError(t, err, fields)
			require.Equal(t, listed, known, fields)
			if known {
				require.Equal(t, vn.Progress{CallID: []byte("CA1"), Leg: leg, Status: want}, p, fields)
			}
		}
	}
}

func TestACallbackWithoutAStatusIsPassedOver(t *testing.T) {
	t.Parallel()
	for _, fields := range [][]string{
		nil, {"CallSid=CA1"}, {"CallSid=CA1", "CallStatus="}, {"CallStatus=queued"}, {"RecordingSid=RE1", "DialCallStatus="},
	} {
		p, known, err := progress(t, "?order_id=a+b", fields...)
		require.NoError(t, err)
		require.False(t, known)
		require.Equal(t, vn.Progress{}, p)
	}
}

func TestDurationIsThatOfTheLegThatWasAnswered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fields string
		want   time.Duration
	}{
		{"CallStatus=completed&CallDuration=61", 61 * time.Second},
		{"CallStatus=completed&CallDuration=0", 0},
		{"CallStatus=completed&CallDuration=", 0},
		{"CallStatus=completed", 0},
		{"CallStatus=busy&CallDuration=9", 0},
		{"CallStatus=in-progress&CallDuration=9", 0},
		{"CallStatus=completed&CallDuration=99&DialCallStatus=completed&DialCallDuration=42", 42 * time.Second},
		{"CallStatus=completed&CallDuration=99&DialCallStatus=completed", 0},
		{"CallStatus=completed&CallDuration=99&DialCallStatus=no-answer&DialCallDuration=3", 0},
		{"CallStatus=completed&CallDuration=2147483647", 2147483647 * time.Second},
	} {
		p, known, err := progress(t, "", "CallSid=CA1", test.fields)
		require.NoError(t, err, test.fields)
		require.True(t, known)
		require.Equal(t, test.want, p.Duration, test.fields)
	}
}

func TestACauseNeverHoldsANumber(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"normal_clearing": "normal_clearing", "486": "486", "no answer": "no answer", "": "", "12025550100": "", "+1 202 555 01 00": "",
		"sip:+12025550100@host": "", "a\n": "", "é": "", "\xff": "", strings.Repeat("x", 65): "",
	} {
		p, known, err := progress(t, "", "CallSid=CA1", "CallStatus=failed", "HangupCause="+url.QueryEscape(value))
		require.NoError(t, err)
		require.True(t, known)
		require.Equal(t, want, string(p.Cause), "%q", value)
	}
	for _, fields := range []string{"CallStatus=ringing", "CallStatus=in-progress", "CallStatus=completed&DialCallStatus=busy"} {
		p, _, err := progress(t, "", "CallSid=CA1", "HangupCause=normal_clearing", fields)
		require.NoError(t, err)
		require.Empty(t, p.Cause, "%s: it is another leg's, or the leg has not ended", fields)
	}
}

func TestTheTimeIsReadInBothCarriersForms(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 11, 25, 13, 21, 12, 0, time.UTC)
	for value, want := range map[string]time.Time{
		"Wed, 25 Nov 2026 13:21:12 +0000": want, "Wed, 25 Nov 2026 18:51:12 +0530": want, "2026-11-25T13:21:12Z": want,
		"2026-11-25T13:21:12.5Z": want.Add(time.Second / 2), "2026-11-25T14:21:12+01:00": want,
		"": {}, "yesterday": {}, "1764076872": {}, "2026-11-25T25:21:12Z": {},
	} {
		p, known, err := progress(t, "", "CallSid=CA1", "CallStatus=busy", "Timestamp="+url.QueryEscape(value))
		require.NoError(t, err)
		require.True(t, known)
		require.Equal(t, want, p.At, value)
	}
}

func TestAWrongFieldOfACallbackIsNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ field, uri, form string }{
		{"CallSid", "", "CallStatus=busy"},
		{"CallSid", "", "CallStatus=busy&CallSid="},
		{"CallSid", "", "CallStatus=busy&CallSid=CA%00"},
		{"CallSid", "", "CallStatus=busy&CallSid=" + strings.Repeat("x", 65)},
		{"CallSid", "", "CallStatus=busy&CallSid=CA1&CallSid=CA2"},
		{"CallSid", "", "DialCallStatus=busy&ParentCallSid="},
		{"ParentCallSid", "", "CallStatus=busy&CallSid=CA1&ParentCallSid=CA%0a"},
		{"ParentCallSid", "", "CallStatus=busy&CallSid=CA1&ParentCallSid=CA2&ParentCallSid=CA3"},
		{"CallStatus", "", "CallSid=CA1&CallStatus=busy&CallStatus=completed"},
		{"DialCallStatus", "", "CallSid=CA1&DialCallStatus=busy&DialCallStatus=completed"},
		{"CallDuration", "", "CallSid=CA1&CallStatus=completed&CallDuration=-1"},
		{"CallDuration", "", "CallSid=CA1&CallStatus=completed&CallDuration=1.5"},
		{"CallDuration", "", "CallSid=CA1&CallStatus=completed&CallDuration=99999999999999999999"},
		{"CallDuration", "", "CallSid=CA1&CallStatus=completed&CallDuration=1&CallDuration=2"},
		{"DialCallDuration", "", "CallSid=CA1&DialCallStatus=completed&DialCallDuration=long"},
		{"HangupCause", "", "CallSid=CA1&CallStatus=busy&HangupCause=a&HangupCause=b"},
		{"Timestamp", "", "CallSid=CA1&CallStatus=busy&Timestamp=a&Timestamp=b"},
		{"order_id", "?order_id=a%20b", "CallSid=CA1&CallStatus=busy"},
		{"order_id", "?order_id=a&order_id=a", "CallSid=CA1&CallStatus=busy"},
		{"order_id", "?order_id=..", "CallSid=CA1&CallStatus=busy"},
		{"order_id", "?order_id=" + strings.Repeat("x", 65), "CallSid=CA1&CallStatus=busy"},
		{"order_id", "?order_id=%2B12025550100", "CallSid=CA1&CallStatus=busy"},
		{"query", "?order_id=%", "CallSid=CA1&CallStatus=busy"},
		{"query", "?a;b", "CallSid=CA1&CallStatus=busy"},
	} {
		p, known, err := progress(t, test.uri, test.form)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, test.form+test.uri)
		require.Equal(t, test.field, field.Field, test.form+test.uri)
		require.False(t, known)
		require.Equal(t, vn.Progress{}, p)
		require.NotContains(t, err.Error(), "202555")
	}
}

func FuzzProgress(f *testing.F) {
	f.Add("?order_id=order-1", "CallSid=CA1&CallStatus=completed&CallDuration=3&DialCallStatus=completed&DialCallDuration=2&Timestamp=x")
	f.Add("?order_id=%00", "CallSid=%ff&ParentCallSid=CA1&CallStatus=busy&HangupCause=%2B12025550100")
	f.Fuzz(func(t *testing.T, uri, body string) {
		var parsed form.Form
		if !parsed.Parse([]byte(body)) {
			return
		}
		var p vn.Progress
		known, err := reader.Progress(&parsed, requestURI(uri), &p)
		if err != nil || !known {
			require.False(t, known)
			require.Equal(t, vn.Progress{}, p)
			return
		}
		require.True(t, text.Printable(p.CallID, reader.MaxID))
		require.True(t, len(p.OrderID) == 0 || vn.CheckOrderID(string(p.OrderID)) == nil)
		require.True(t, len(p.Cause) == 0 || text.Printable(p.Cause, 64))
		require.True(t, p.Duration == 0 || p.Status == vn.LegCompleted)
		require.NotEmpty(t, p.Leg.String()+p.Status.String())
	})
}
