package exotel_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/carrier/sim/exotelsim"
	"github.com/callmask/callmask/vn"
)

// answers serves these bodies in turn, the last one from then on.
func answers(t *testing.T, bodies ...string) *exotel.Numbers {
	t.Helper()
	next := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(bodies[min(next, len(bodies)-1)]))
		next++
	}))
	t.Cleanup(server.Close)
	return client(t, server.URL, exotel.NumbersConfig{})
}

func TestAStrangePageIsAnErrorNotAnEmptyAccount(t *testing.T) {
	t.Parallel()
	const one = `{"sid":"a1","phone_number":"+918055550142"}`
	for name, test := range map[string]struct{ body, want string }{
		"no list":              {`{}`, "not the JSON that was expected"},
		"nothing":              {`null`, "not the JSON that was expected"},
		"an empty answer":      {``, "not the JSON that was expected"},
		"a list":               {`[]`, "not the JSON that was expected"},
		"HTML":                 {`<html>+918055550142</html>`, "not JSON"},
		"a number that is one": {`{"incoming_phone_numbers":[{"sid":"a1","phone_number":918055550142}]}`, "not the JSON that was expected"},
		"no number":            {`{"incoming_phone_numbers":[{"sid":"a1"}]}`, "not the JSON that was expected"},
		"no id":                {`{"incoming_phone_numbers":[{"phone_number":"+918055550142"}]}`, "not the JSON that was expected"},
		"an id that leads on":  {`{"incoming_phone_numbers":[{"sid":"a1/../..","phone_number":"+918055550142"}]}`, "not the JSON that was expected"},
		"always the same page": {`{"page":0,"page_size":1,"incoming_phone_numbers":[` + one + `]}`, "brings nothing new"},
		"a page that promises": {`{"page":0,"page_size":50,"next_page_uri":"/x","incoming_phone_numbers":[]}`, "brings nothing new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := answers(t, test.body).List(t.Context())
			require.ErrorContains(t, err, "exotel: list numbers: ")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "5555")
		})
	}
}

func TestTheEndOfAListIsSeenHoweverItIsTold(t *testing.T) {
	t.Parallel()
	const (
		two   = `"incoming_phone_numbers":[{"sid":"a1","phone_number":"+918055550142"},{"sid":"a2","phone_number":"+918055550143"}]`
		third = `"incoming_phone_numbers":[{"sid":"a3","phone_number":"+918055550144"}]`
		none  = `"incoming_phone_numbers":[]`
	)
	for name, test := range map[string]struct {
		pages []string
		want  int
	}{
		"no further address":            {[]string{`{"page_size":2,"next_page_uri":null,` + two + `}`}, 2},
		"an empty address":              {[]string{`{"page_size":2,"next_page_uri":"",` + two + `}`}, 2},
		"a page that is not full":       {[]string{`{"page_size":3,` + two + `}`}, 2},
		"an empty page behind a full":   {[]string{`{"page_size":2,` + two + `}`, `{"page_size":2,` + none + `}`}, 2},
		"a short page behind a full":    {[]string{`{"page_size":2,` + two + `}`, `{"page_size":2,` + third + `}`}, 3},
		"an address behind a short one": {[]string{`{"page_size":9,"next_page_uri":"http://x/?Page=1",` + two + `}`, `{"page_size":9,"next_page_uri":null,` + third + `}`}, 3},
		"an account without numbers":    {[]string{`{"page_size":50,` + none + `}`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := answers(t, append(test.pages, test.pages...)...).List(t.Context())
			require.NoError(t, err)
			require.Len(t, all, test.want)
		})
	}
}

func TestANumberThatIsNotE164IsLeftOut(t *testing.T) {
	t.Parallel()
	const (
		strange = `{"page_size":1,"next_page_uri":"/x","incoming_phone_numbers":[{"sid":"a1","phone_number":"08055550142"}]}`
		ours    = `{"page_size":1,"next_page_uri":null,"incoming_phone_numbers":[{"sid":"a2","phone_number":"+918055550143"}]}`
	)
	all, err := answers(t, strange, ours, strange, ours).List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []carrier.Bought{{Number: 918055550143, Ref: "a2"}}, all)
	_, err = answers(t, `{"sid":"a1","phone_number":"08055550142"}`).Buy(t.Context(), vn.Number(918055550142), "callmask:intent")
	require.ErrorIs(t, err, carrier.ErrUnknownOutcome)
}

func TestAnAnswerIsReadWithTheFieldsThatItHas(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]carrier.Bought{
		`"friendly_name":"08055550142"`:                          {},
		`"friendly_name":"callmask:1:a"`:                         {Tag: "callmask:1:a"},
		`"voice_url":"` + flow + `"`:                             {WebhookURL: flow, CallsGoTo: flow},
		`"voice_url":"https://my.exotel.com/exoml/start/77001"`:  {WebhookURL: flow, CallsGoTo: flow},
		`"voice_url":"https://my.exotel.com/exoml/start/770011"`: {CallsGoTo: "https://my.exotel.com/exoml/start/770011"},
		`"voice_url":null`:                                       {},
		`"rental_price":"499.000000","currency":"INR"`:           {Price: "499.00", Currency: "INR"},
		`"rental_price":"0.125000","currency":"USD"`:             {Price: "0.125000", Currency: "USD"},
		`"rental_price":"500","currency":"INR"`:                  {Price: "500", Currency: "INR"},
		`"rental_price":"free","currency":"INR"`:                 {},
		`"rental_price":"499.000000"`:                            {},
	} {
		want.Number, want.Ref = 918055550142, "a1"
		all, err := answers(t, `{"page_size":50,"incoming_phone_numbers":[{"sid":"a1","phone_number":"+918055550142",`+body+`}]}`).List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []carrier.Bought{want}, all, body)
	}
}

func TestAnAnswerThatNamesAnotherNumberLeavesThePurchaseOpen(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"sid":"a1","phone_number":"+918055550143"}`, `{"phone_number":"+918055550142"}`, `{}`, `[]`, `{"phone_number":918055550142}`,
	} {
		_, err := answers(t, body).Buy(t.Context(), vn.Number(918055550142), "callmask:intent")
		require.ErrorIs(t, err, carrier.ErrUnknownOutcome, body)
		require.NotContains(t, err.Error(), "5555")
	}
	for _, body := range []string{`{}`, `[{"phone_number":"08055550142"}]`, `null`, `[{"phone_number":918055550142}]`} {
		_, err := answers(t, body).Search(t.Context(), "IN", 1)
		require.ErrorContains(t, err, "not the JSON that was expected", body)
	}
	err := answers(t, `{"sid":"a1","phone_number":"+918055550142"}`).Configure(t.Context(), carrier.Bought{Ref: "a1"}, flow)
	require.EqualError(t, err, "exotel: attach a number: the answer does not show the flow")
}

func TestAnIdThatIsNoneIsNotSent(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{}, exotel.NumbersConfig{})
	for _, ref := range []string{"", "a/../b", "a?b=c", "a b", strings.Repeat("a", 65)} {
		require.ErrorIs(t, s.Release(t.Context(), ref), carrier.ErrNotSent)
		require.ErrorIs(t, s.Configure(t.Context(), carrier.Bought{Ref: ref}, flow), carrier.ErrNotSent)
	}
	require.Empty(t, s.asked())
}

func TestSettingsOfNumbersAreCheckedAndNamed(t *testing.T) {
	t.Parallel()
	good := exotel.NumbersConfig{AccountSID: "callmask1", APIKey: "key", APIToken: "token", AppID: "77001"}
	for field, edit := range map[string]func(*exotel.NumbersConfig){
		"account_sid":    func(c *exotel.NumbersConfig) { c.AccountSID = "a/b" },
		"app_id":         func(c *exotel.NumbersConfig) { c.AppID = "" },
		"message_app_id": func(c *exotel.NumbersConfig) { c.MessageAppID = "a/b" },
		"api_key":        func(c *exotel.NumbersConfig) { c.APIKey = "" },
		"api_token":      func(c *exotel.NumbersConfig) { c.APIToken = "" },
		"number_type":    func(c *exotel.NumbersConfig) { c.Type = "local" },
		"currency":       func(c *exotel.NumbersConfig) { c.Currency = "rupees" },
		"api_url":        func(c *exotel.NumbersConfig) { c.APIURL = "http://api.exotel.com" },
		"limits":         func(c *exotel.NumbersConfig) { c.Limits.Failures = -1 },
	} {
		cfg := good
		edit(&cfg)
		_, err := exotel.NewNumbers(cfg)
		var problem *vn.FieldError
		require.ErrorAs(t, err, &problem, field)
		require.Equal(t, field, problem.Field)
	}
	n, err := exotel.NewNumbers(good)
	require.NoError(t, err)
	n.Close()
}
