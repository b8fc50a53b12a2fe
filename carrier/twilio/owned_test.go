package twilio_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/vn"
)

func TestEveryPageOfTheListIsRead(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{PageSize: 3}, twilio.NumbersConfig{})
	var want []carrier.Bought
	for range 8 {
		all, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, all)
		want = append(want, s.buy(t, "intent"))
	}
}

func TestAListThatChangesWhileItIsReadMissesNoNumberThatStays(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{PageSize: 2}, twilio.NumbersConfig{})
	var bought []carrier.Bought
	for range 6 {
		bought = append(bought, s.buy(t, "intent"))
	}
	page := 0
	between := func(r *http.Request) {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/IncomingPhoneNumbers.json") {
			return
		}
		if page++; page == 2 { // released meanwhile: one of the page before, and the one that this page begins after
			s.Drop(bought[0].Number)
			s.Drop(bought[1].Number)
		}
	}
	s.before.Store(&between)
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, bought[2:], all, "the others are there, each once")
}

func TestAListThatCannotBeReadWholeIsAnError(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{PageSize: 2}, twilio.NumbersConfig{})
	for range 3 {
		s.buy(t, "intent")
	}
	page := 0
	second := func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/IncomingPhoneNumbers.json") {
			if page++; page == 2 {
				s.Inject(sim.Fault{Op: sim.OpList, Kind: sim.Fail, Status: 400})
			}
		}
	}
	s.before.Store(&second)
	all, err := s.List(t.Context())
	require.EqualError(t, err, "twilio: list numbers: carrier API: HTTP 400, code 20500")
	require.Empty(t, all)
}

// pages serves a list whose pages are given.
func pages(t *testing.T, bodies ...string) *twilio.Numbers {
	t.Helper()
	next := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(bodies[min(next, len(bodies)-1)]))
		next++
	}))
	t.Cleanup(server.Close)
	n, err := twilio.NewNumbers(twilio.NumbersConfig{APIURL: server.URL, AccountSID: accountSID, AuthToken: "token"})
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return n
}

func TestAStrangePageIsAnErrorNotAnEmptyAccount(t *testing.T) {
	t.Parallel()
	const list = "/2010-04-01/Accounts/" + accountSID + "/IncomingPhoneNumbers.json"
	after := func(uri string) string {
		b, err := json.Marshal(map[string]any{"incoming_phone_numbers": []any{}, "next_page_uri": uri})
		require.NoError(t, err)
		return string(b)
	}
	for name, test := range map[string]struct{ body, want string }{
		"no list":              {`{}`, "not the JSON that was expected"},
		"nothing":              {`null`, "not the JSON that was expected"},
		"an empty answer":      {``, "not the JSON that was expected"},
		"a list":               {`[]`, "not the JSON that was expected"},
		"a number that is one": {`{"incoming_phone_numbers":[{"sid":"PN1","phone_number":12025550142}]}`, "not the JSON that was expected"},
		"no number":            {`{"incoming_phone_numbers":[{"sid":"PN1"}]}`, "not the JSON that was expected"},
		"no id":                {`{"incoming_phone_numbers":[{"phone_number":"+12025550142"}]}`, "not the JSON that was expected"},
		"an id that leads on":  {`{"incoming_phone_numbers":[{"sid":"PN1/../..","phone_number":"+12025550142"}]}`, "not the JSON that was expected"},
		"another host":         {after("https://thief.example.com" + list + "?Page=1&PageToken=PA1"), "another address"},
		"another host's name":  {after("//thief.example.com" + list + "?Page=1&PageToken=PA1"), "another address"},
		"another account":      {after("/2010-04-01/Accounts/AC99/IncomingPhoneNumbers.json?Page=1&PageToken=PA1"), "another address"},
		"no address":           {after("\x7f"), "another address"},
		"nothing to go on by":  {after(list + "?PageSize=50"), "does not tell what follows"},
		"itself":               {after(list + "?Page=1&PageToken=PA1"), "followed by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pages(t, test.body).List(t.Context())
			require.ErrorContains(t, err, "twilio: list numbers: ")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "2025550142")
		})
	}
}

func TestANumberThatIsNotE164IsLeftOut(t *testing.T) {
	t.Parallel()
	all, err := pages(t, `{"incoming_phone_numbers":[{"sid":"PN1","phone_number":"55501"},{"sid":"PN2","phone_number":"+12025550143"}]}`).List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []carrier.Bought{{Number: 12025550143, Ref: "PN2"}}, all)
	_, err = pages(t, `{"sid":"PN1","phone_number":"12025550142"}`).Buy(t.Context(), vn.Number(12025550142), "intent")
	require.ErrorIs(t, err, carrier.ErrUnknownOutcome)
}

func TestANumberThatIsOnTwoPagesIsThereOnce(t *testing.T) {
	t.Parallel()
	const (
		one = `{"sid":"PN1","phone_number":"+12025550142"}`
		two = `{"sid":"PN2","phone_number":"+12025550143"}`
	)
	first := `{"incoming_phone_numbers":[` + one + `],"next_page_uri":"/2010-04-01/Accounts/` + accountSID + `/IncomingPhoneNumbers.json?Page=1"}`
	second := `{"incoming_phone_numbers":[` + one + `,` + two + `],"next_page_uri":null}`
	all, err := pages(t, first, second, first, second).List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []carrier.Bought{{Number: 12025550142, Ref: "PN1"}, {Number: 12025550143, Ref: "PN2"}}, all)
}

func TestAnIdThatIsNoneIsNotSent(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{})
	for _, ref := range []string{"", "PN", "AC01", "PN1/../PN2", "PN1?a=b", "PN" + strings.Repeat("1", 63)} {
		require.ErrorIs(t, s.Release(t.Context(), ref), carrier.ErrNotSent)
		require.ErrorIs(t, s.Configure(t.Context(), carrier.Bought{Ref: ref}, webhook), carrier.ErrNotSent)
	}
	_, err := s.Buy(t.Context(), 12015550100, strings.Repeat("x", 65))
	require.ErrorIs(t, err, carrier.ErrNotSent)
	require.Empty(t, s.asked())
}

func TestConfigureWritesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{
		WebhookURL: webhook, FallbackURL: "https://b.example.com/voice", MessageURL: "https://calls.example.com/sms",
	})
	bought := s.buy(t, "intent")
	var form []string
	seen := func(r *http.Request) {
		if r.Method == http.MethodPost && r.ParseForm() == nil {
			form = append(form, r.PostForm.Encode())
		}
	}
	s.before.Store(&seen)
	listed := func() carrier.Bought {
		all, err := s.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	for _, change := range []struct{ field, value, want string }{
		{"voice_url", "https://elsewhere.example.com", "VoiceUrl=https%3A%2F%2Fcalls.example.com%2Fv1%2Fcarriers%2Ftwilio%2Fvoice%23ct%3D500%26rt%3D2000%26rc%3D1%26rp%3Dct%2Crt%2C5xx"},
		{"voice_method", "GET", "VoiceMethod=POST"},
		{"voice_application_sid", "AP01", "VoiceApplicationSid="},
		{"trunk_sid", "TK01", "TrunkSid="},
		{"voice_fallback_url", "", "VoiceFallbackUrl=https%3A%2F%2Fb.example.com%2Fvoice"},
		{"sms_url", "", "SmsUrl=https%3A%2F%2Fcalls.example.com%2Fsms"},
		{"sms_application_sid", "AP01", "SmsApplicationSid="},
	} {
		require.Equal(t, bought, listed())
		s.SetField(bought.Number, change.field, change.value)
		require.NotEqual(t, webhook, listed().WebhookURL, "%s: the list shows that it is not as it should be", change.field)
		form = nil
		require.NoError(t, s.Configure(t.Context(), bought, webhook))
		require.Equal(t, []string{change.want}, form)
	}
	s.SetField(bought.Number, "status_callback", "https://mine.example.com")
	require.Equal(t, bought, listed(), "what we are not told is left as it is")
}

func TestTheListTellsWhatGetsTheCalls(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{WebhookURL: webhook, MessageURL: "https://calls.example.com/sms"})
	bought := s.buy(t, "intent")
	for _, change := range []struct{ field, value, want string }{
		{"sms_url", "https://elsewhere.example.com", webhook},
		{"voice_method", "GET", webhook},
		{"voice_url", "https://calls.example.com/v1/carriers/twilio/voice#ct=1", "https://calls.example.com/v1/carriers/twilio/voice#ct=1"},
		{"voice_url", "https://elsewhere.example.com", "https://elsewhere.example.com"},
		{"voice_application_sid", "AP01", "AP01"},
		{"trunk_sid", "TK01", "TK01"},
		{"trunk_sid", "", "AP01"},
		{"voice_application_sid", "", "https://elsewhere.example.com"},
		{"voice_url", "", ""},
	} {
		s.SetField(bought.Number, change.field, change.value)
		all, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []carrier.Bought{{Number: bought.Number, Ref: bought.Ref, Tag: "intent", CallsGoTo: change.want}}, all, change.field)
	}
}

func TestANumberThatKeepsItsSettingsIsAnError(t *testing.T) {
	t.Parallel()
	n := pages(t, `{"sid":"PN1","phone_number":"+12025550142","trunk_sid":"TK01"}`)
	err := n.Configure(t.Context(), carrier.Bought{Ref: "PN1"}, webhook)
	require.EqualError(t, err, "twilio: configure a number: the answer does not show the new settings")
}

func TestANameThatIsTheNumberIsNoReference(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"(202) 555-0142": "", "+12025550142": "", "020 7946 0999": "", "": "",
		"callmask:12025550142:abc": "callmask:12025550142:abc", "Sales": "Sales", "7": "7",
	} {
		body, err := json.Marshal(map[string]any{"incoming_phone_numbers": []any{
			map[string]string{"sid": "PN1", "phone_number": "+12025550142", "friendly_name": name},
		}})
		require.NoError(t, err)
		all, err := pages(t, string(body)).List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []carrier.Bought{{Number: 12025550142, Ref: "PN1", Tag: want}}, all)
	}
}

func TestAnAnswerThatNamesAnotherNumberLeavesThePurchaseOpen(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"sid":"PN1","phone_number":"+12025550143"}`, `{"phone_number":"+12025550142"}`, `{}`, `[]`, `{"phone_number":12025550142}`,
	} {
		_, err := pages(t, body).Buy(t.Context(), vn.Number(12025550142), "intent")
		require.ErrorIs(t, err, carrier.ErrUnknownOutcome, body)
		require.NotContains(t, err.Error(), "2025550142")
	}
}
