package sim

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/vn"
)

// decide is a router's decision by the VN dialled.
func decide(call *vn.Call) vn.Decision {
	if call.Calling == 0 {
		return vn.Decision{Reason: vn.CallerWithheld}
	}
	switch call.Called {
	case 12025550101:
		return vn.Decision{Destination: 447700900123, CallerID: 12025550102, RingTimeout: 30 * time.Second, MaxDuration: time.Hour}
	case 12025550103:
		return vn.Decision{Reason: vn.OrderEnded}
	case 12025550104:
		return vn.Decision{Reason: vn.Unavailable}
	case 12025550105:
		return vn.Decision{Reason: vn.CallerNotAllowed}
	}
	return vn.Decision{Reason: vn.NumberNotAssigned}
}

func TestThePhoneObeysTheRouter(t *testing.T) {
	t.Parallel()
	c, err := NewCodec(Config{Secrets: []string{"secret"}})
	require.NoError(t, err)
	to := serve(t, c, decide)
	phone, err := NewPhone(PhoneConfig{URL: to, Secret: "secret", Timeout: deadline})
	require.NoError(t, err)
	t.Cleanup(phone.Close)
	ids := map[string]bool{}
	for _, test := range []struct {
		from, to string
		want     Result
	}{
		{"+12025550100", "+12025550101", Result{Heard: Ringing, Rang: 447700900123, Shown: 12025550102, RingTimeout: 30 * time.Second, MaxDuration: time.Hour, Status: 200}},
		{"+12025550100", "+12025550103", Result{Heard: Refused, Cause: Ended, Status: 200}},
		{"+12025550100", "+12025550104", Result{Heard: Failed, Status: 503}},
		{"+12025550100", "+12025550105", Result{Heard: Refused, Cause: NotInService, Status: 200}},
		{"+12025550100", "+12025550199", Result{Heard: Refused, Cause: NotInService, Status: 200}},
		{"anonymous", "+12025550101", Result{Heard: Refused, Cause: Withheld, Status: 200}},
		{"+", "+12025550101", Result{Heard: Failed, Status: 400}},
	} {
		got, err := phone.Call(t.Context(), test.from, test.to)
		require.NoError(t, err)
		require.Positive(t, got.Latency)
		require.NotEmpty(t, got.CallID)
		require.False(t, ids[got.CallID], "every call has an id of its own")
		ids[got.CallID] = true
		got.Latency, got.CallID = 0, ""
		require.Equal(t, test.want, got)
	}
	forger, err := NewPhone(PhoneConfig{URL: to, Secret: "guess"})
	require.NoError(t, err)
	t.Cleanup(forger.Close)
	got, err := forger.Call(t.Context(), "+12025550100", "+12025550101")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, got.Status)
	require.Equal(t, Failed, got.Heard)
}

func TestTheTwilioPhoneAndTheTwilioCodecUnderstandEachOther(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refusal twilio.Refusal
		heard   string
	}{
		"reject": {twilio.Reject, "rejected"}, "busy": {twilio.Busy, "busy"}, "say": {twilio.Say, "Not <here> & now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := twilio.New(twilio.Config{
				AccountSID: "AC0", AuthTokens: []string{"next", "token"}, PublicURL: "https://calls.example.com/base",
				Refusal: test.refusal, Text: "Not <here> & now",
			})
			require.NoError(t, err)
			cfg := TwilioPhoneConfig{URL: serve(t, c, decide), PublicURL: "https://calls.example.com/base", AccountSID: "AC0", AuthToken: "token"}
			phone, err := NewTwilioPhone(cfg)
			require.NoError(t, err)
			t.Cleanup(phone.Close)
			for _, call := range []struct {
				from, to string
				want     Result
			}{
				{"+12025550100", "+12025550101", Result{Heard: Ringing, Rang: 447700900123, Shown: 12025550102, RingTimeout: 30 * time.Second, MaxDuration: time.Hour, Status: 200}},
				{"+12025550100", "+12025550103", Result{Heard: Refused, Cause: test.heard, Status: 200}},
				{"+12025550100", "+12025550104", Result{Heard: Failed, Status: 503}},
				{"client:alice", "+12025550101", Result{Heard: Refused, Cause: test.heard, Status: 200}},
				{"+12025550100", "sip:x", Result{Heard: Failed, Status: 400}},
			} {
				got, err := phone.Call(t.Context(), call.from, call.to)
				require.NoError(t, err)
				got.Latency, got.CallID = 0, ""
				require.Equal(t, call.want, got)
			}
			cfg.AuthToken = "guess"
			forger, err := NewTwilioPhone(cfg)
			require.NoError(t, err)
			t.Cleanup(forger.Close)
			got, err := forger.Call(t.Context(), "+12025550100", "+12025550101")
			require.NoError(t, err)
			require.Equal(t, http.StatusForbidden, got.Status)
		})
	}
}

func TestSignTwilioMakesTheDocumentationsSignature(t *testing.T) {
	t.Parallel()
	require.Equal(t, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", SignTwilio("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", url.Values{
		"CallSid": {"CA1234567890ABCDE"}, "Caller": {"+14158675309"}, "Digits": {"1234"}, "From": {"+14158675309"}, "To": {"+18005551212"},
	}))
}

// respond serves one fixed answer.
func respond(t *testing.T, contentType, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1/carriers/x/voice"
}

func TestAnAnswerThatWouldLeakOrMakesNoSenseIsAnError(t *testing.T) {
	t.Parallel()
	const dial = `<Response><Dial callerId="+12025550102" answerOnBridge="true" timeout="30" timeLimit="60"><Number>+447700900123</Number></Dial></Response>`
	tests := []struct{ contentType, body string }{
		{"text/html", dial},
		{"text/xml", ""},
		{"text/xml", "<Response/>"},
		{"text/xml", "<Response><Play/></Response>"},
		{"text/xml", "<Other/>"},
		{"text/xml", "<Response>"},
		{"text/xml", `<Response><Dial answerOnBridge="true" timeout="30" timeLimit="60"><Number>+447700900123</Number></Dial></Response>`},
		{"text/xml", `<Response><Dial callerId="+12025550102" timeout="30" timeLimit="60"><Number>+447700900123</Number></Dial></Response>`},
		{"text/xml", `<Response><Dial callerId="+12025550102" answerOnBridge="true" timeLimit="60"><Number>+447700900123</Number></Dial></Response>`},
		{"text/xml", `<Response><Dial callerId="+12025550102" answerOnBridge="true" timeout="30" timeLimit="60"/></Response>`},
		{"text/xml", `<Response><Dial callerId="x" answerOnBridge="true" timeout="30" timeLimit="60"><Number>+447700900123</Number></Dial></Response>`},
		{"application/json", "nonsense"},
		{"application/json", "{}"},
		{"application/json", `{"action":"refuse"}`},
		{"application/json", `{"action":"dial","number":"+447700900123","ring_timeout_s":30,"max_duration_s":60}`},
		{"application/json", `{"action":"dial","number":"x","caller_id":"+12025550102","ring_timeout_s":30,"max_duration_s":60}`},
		{"application/json", `{"action":"dial","number":"+447700900123","caller_id":"+12025550102","ring_timeout_s":0,"max_duration_s":60}`},
	}
	for _, test := range tests {
		to := respond(t, test.contentType, test.body)
		var call func(context.Context, string, string) (Result, error)
		if test.contentType == "application/json" {
			phone, err := NewPhone(PhoneConfig{URL: to, Secret: "s"})
			require.NoError(t, err)
			t.Cleanup(phone.Close)
			call = phone.Call
		} else {
			phone, err := NewTwilioPhone(TwilioPhoneConfig{URL: to, PublicURL: to, AccountSID: "AC0", AuthToken: "t"})
			require.NoError(t, err)
			t.Cleanup(phone.Close)
			call = phone.Call
		}
		got, err := call(t.Context(), "+12025550100", "+12025550101")
		require.ErrorContains(t, err, "the router's answer", test.body)
		require.NotContains(t, err.Error(), "447700")
		require.Equal(t, Failed, got.Heard)
	}
}

func TestACallEndsAtItsDeadlineAndItsErrorHoldsNoNumber(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the caller is gone
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	phone, err := NewTwilioPhone(TwilioPhoneConfig{URL: s.URL, PublicURL: s.URL, AccountSID: "AC0", AuthToken: "t", Timeout: 20 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(phone.Close)
	got, err := phone.Call(t.Context(), "+12025550100", "+12025550101")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "202555")
	require.Equal(t, Failed, got.Heard)
}
