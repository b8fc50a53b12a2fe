package telnyx

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const statusURL = "https://calls.example.com" + statusPath

// golden is what an answer must be, byte for byte.
func golden(t *testing.T, name string) string {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name + ".xml")
	require.NoError(t, err)
	return string(want)
}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var call vn.Call
	require.NoError(t, c.Decode(post(voicePath, fields().Encode()), nil, &call))
	require.Equal(t, vn.Call{ID: []byte(callID), Calling: 12025550100, Called: 12025550101}, call)
	for range 10 { // the id is escaped in the form, so it was decoded into working memory
		other := fields()
		other.Set("CallSid", strings.Repeat("z:", len(callID)/2))
		require.NoError(t, decode(c, post(voicePath, other.Encode())))
	}
	require.Equal(t, callID, string(call.ID), "it outlives the working memory")
}

func TestACallerWithoutANumberIsWithheld(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, from := range []string{
		"anonymous", "Anonymous", "RESTRICTED", "unknown", "unavailable", "private",
		"sip:alice@example.com", "sips:alice@example.com", "alice@sip.example.com",
	} {
		f := fields()
		f.Set("From", from)
		var call vn.Call
		require.NoError(t, c.Decode(post(voicePath, f.Encode()), nil, &call), from)
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
		tests[field+" of 100 kB"] = wrong{field, func(v url.Values) { v.Set(field, strings.Repeat("+12025550100", 8000)) }}
		tests[field+" with markup"] = wrong{field, func(v url.Values) { v.Set(field, "\"><Dial>\xff\x00") }}
	}
	for _, value := range []string{
		"+", "12025550101", " 12025550101", "+123456", "+1202555010112345", "+02025550101", "++12025550101", "+1202555010x",
		"sip", "@example.com",
		"+\u0661\u0662\u0660\u0662\u0665\u0665\u0665\u0660\u0661\u0660",
	} {
		tests["To "+value] = wrong{"To", func(v url.Values) { v.Set("To", value) }}
		tests["From "+value] = wrong{"From", func(v url.Values) { v.Set("From", value) }}
	}
	tests["To a SIP address"] = wrong{"To", func(v url.Values) { v.Set("To", "sip:alice@example.com") }}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fields()
			test.edit(f)
			var call vn.Call
			err := c.Decode(post(voicePath, f.Encode()), nil, &call)
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, test.field, field.Field)
			require.Equal(t, vn.Call{}, call, "nothing is read of a call that is refused")
			require.NotContains(t, err.Error(), "202555")
			require.ErrorIs(t, c.Decode(postAt(noon, 2, voicePath, f.Encode()), nil, &call), vn.ErrForbidden, "the signature comes first")
		})
	}
	var field *vn.FieldError
	require.ErrorAs(t, decode(c, post(voicePath, "From=%2B12025550100;To=x")), &field)
	require.Equal(t, "body", field.Field)
}

func TestHostileFieldsThatAreNotNeededDoNoHarm(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, hostile := range []string{"</Response>", "\x00\x1b", "\xff", strings.Repeat("x", 100_000), "+12025550199&To=+12025550199"} {
		f := fields()
		for _, key := range []string{"CallerId", "AccountSid", "ForwardedFrom", "ShakenStirAttestation", "Extra\x00<"} {
			f.Set(key, hostile)
		}
		var call vn.Call
		require.NoError(t, c.Decode(post(voicePath, f.Encode()), nil, &call))
		require.True(t, call.Calling == 12025550100 && call.Called == 12025550101)
	}
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
	d.RingTimeout, d.MaxDuration = time.Second, 24*time.Hour
	body, _, _ := codec(t, Config{}).AppendAnswer(nil, nil, &d)
	require.Contains(t, string(body), `timeout="5" timeLimit="14400"`, "what Telnyx takes")
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
}

func TestOurOwnFailureSendsTelnyxToItsFailover(t *testing.T) {
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

func TestDecodeProgressTellsTheCalleesLeg(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{StatusURL: statusURL})
	at := time.Date(2026, 11, 25, 13, 21, 12, 0, time.UTC)
	dialled, child, parent := fields(), fields(), fields()
	dialled.Set("DialCallStatus", "completed")
	dialled.Set("DialCallDuration", "42")
	dialled.Set("DialCallSid", "v3:child")
	child.Set("CallSid", "v3:child")
	child.Set("ParentCallSid", callID)
	child.Set("CallStatus", "no-answer")
	child.Set("HangupCause", "timeout")
	child.Set("HangupSource", "unknown")
	child.Set("Timestamp", "2026-11-25T13:21:12Z")
	parent.Set("CallStatus", "completed")
	parent.Set("CallDuration", "45")
	parent.Set("HangupCause", "normal_clearing")
	for name, test := range map[string]struct {
		form url.Values
		want vn.Progress
	}{
		"dialled": {dialled, vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCompleted, Duration: 42 * time.Second}},
		"child":   {child, vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegNoAnswer, Cause: []byte("timeout"), At: at}},
		"parent":  {parent, vn.Progress{Leg: vn.CallerLeg, Status: vn.LegCompleted, Cause: []byte("normal_clearing"), Duration: 45 * time.Second}},
	} {
		for uri, order := range map[string]string{statusPath + "?order_id=order:1.2_3-x": "order:1.2_3-x", statusPath: ""} {
			p := vn.Progress{Cause: []byte("of before")}
			known, err := c.DecodeProgress(post(uri, test.form.Encode()), nil, &p)
			require.NoError(t, err, name)
			require.True(t, known, name)
			want := test.want
			want.CallID = []byte(callID)
			if order != "" {
				want.OrderID = []byte(order)
			}
			require.Equal(t, want, p, name)
		}
	}
	body, mediaType := c.AppendProgressAnswer([]byte("before"))
	require.Equal(t, "before"+golden(t, "progress"), string(body))
	require.Equal(t, "text/xml", mediaType)

	known, err := c.DecodeProgress(post(statusPath, "CallSid=v3:x&CallStatus=initiated"), nil, new(vn.Progress))
	require.NoError(t, err)
	require.False(t, known)
	_, err = c.DecodeProgress(postAt(noon, 2, statusPath, dialled.Encode()), nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden)
	_, err = c.DecodeProgress(postAt(noon.Add(-Window-time.Second), 1, statusPath, dialled.Encode()), nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden, "too old")
}

// TestAForgedOrderIsOnlyAHint shows what the unsigned query can do, and what it cannot.
func TestAForgedOrderIsOnlyAHint(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const body = "CallSid=v3:x&DialCallStatus=busy"
	var p vn.Progress
	known, err := c.DecodeProgress(post(statusPath+"?order_id=another&CallSid=v3:y&DialCallStatus=completed", body), nil, &p)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, vn.Progress{CallID: []byte("v3:x"), OrderID: []byte("another"), Leg: vn.CalleeLeg, Status: vn.LegBusy}, p)
	for _, order := range []string{"a%20b", "%00", "a/b", "..", "%2B12025550100", strings.Repeat("x", 65), "a&order_id=b"} {
		_, err := c.DecodeProgress(post(statusPath+"?order_id="+order, body), nil, &p)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, order)
		require.Equal(t, "order_id", field.Field)
	}
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		field string
		cfg   Config
	}{
		"no key":          {"public_keys", Config{}},
		"three keys":      {"public_keys", Config{PublicKeys: []string{publicKey(1), publicKey(2), publicKey(3)}}},
		"empty key":       {"public_keys", Config{PublicKeys: []string{publicKey(1), ""}}},
		"short key":       {"public_keys", Config{PublicKeys: []string{"c2hvcnQ="}}},
		"no base64":       {"public_keys", Config{PublicKeys: []string{strings.Repeat("!", 44)}}},
		"a space":         {"public_keys", Config{PublicKeys: []string{" " + publicKey(1)}}},
		"PEM":             {"public_keys", Config{PublicKeys: []string{"-----BEGIN PUBLIC KEY-----"}}},
		"unknown refusal": {"refusal", Config{PublicKeys: []string{publicKey(1)}, Refusal: "shout"}},
		"nothing to say":  {"text", Config{PublicKeys: []string{publicKey(1)}, Refusal: Say, Text: "\t"}},
		"status address":  {"public_url", Config{PublicKeys: []string{publicKey(1)}, StatusURL: "calls.example.com"}},
	} {
		_, err := New(test.cfg)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, test.field, field.Field, name)
	}
	c, err := New(Config{PublicKeys: []string{publicKey(1)}})
	require.NoError(t, err)
	require.NoError(t, decode(c, postAt(time.Now(), 1, voicePath, fields().Encode())), "without a clock it is the machine's")
}
