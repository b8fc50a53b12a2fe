package twilio_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/vn"
)

const (
	accountSID = "AC0123456789abcdef0123456789abcdef"
	webhook    = "https://calls.example.com/v1/carriers/twilio/voice#ct=500&rt=2000&rc=1&rp=ct,rt,5xx"
	patience   = 10 * time.Second
)

// shop is a simulated Twilio that counts the requests it gets, and a client of it.
type shop struct {
	*twiliosim.Server
	*twilio.Numbers

	url    string
	before atomic.Pointer[func(*http.Request)] // called with each request that arrives

	mu       sync.Mutex
	requests []string
}

func open(t *testing.T, selling twiliosim.Config, cfg twilio.NumbersConfig) *shop {
	t.Helper()
	selling.AccountSID, selling.AuthToken = accountSID, "token"
	server, err := twiliosim.New(selling)
	require.NoError(t, err)
	s := &shop{Server: server}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.url = web.URL
	s.Numbers = s.client(t, cfg)
	return s
}

func (s *shop) client(t *testing.T, cfg twilio.NumbersConfig) *twilio.Numbers {
	t.Helper()
	cfg.APIURL, cfg.AccountSID = s.url, accountSID
	if cfg.AuthToken == "" && cfg.APIKey == "" {
		cfg.AuthToken = "token"
	}
	cfg.Limits = cfg.Limits.Or(carrier.Limits{PerSecond: 1000, Burst: 1000, Concurrent: 100})
	n, err := twilio.NewNumbers(cfg)
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return n
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/2010-04-01/Accounts/"+accountSID))
	s.mu.Unlock()
	if before := s.before.Load(); before != nil {
		(*before)(r)
	}
	s.Server.ServeHTTP(w, r)
}

// asked returns the requests since it was called last.
func (s *shop) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.requests
	s.requests = nil
	return asked
}

func (s *shop) buy(t *testing.T, ref string) carrier.Bought {
	t.Helper()
	offers, err := s.Search(t.Context(), "US", 1)
	require.NoError(t, err)
	require.Len(t, offers, 1)
	b, err := s.Buy(t.Context(), offers[0].Number, ref)
	require.NoError(t, err)
	return b
}

func TestANumberIsFoundBoughtConfiguredListedAndReleased(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{
		MonthlyPrice: "1.15 USD", WebhookURL: webhook, FallbackURL: "https://b.example.com/voice", StatusURL: "https://calls.example.com/status",
	})
	offers, err := s.Search(t.Context(), "US", 2)
	require.NoError(t, err)
	require.Equal(t, []carrier.Offer{
		{Number: 12015550100, Region: "US", Price: "1.15", Currency: "USD"},
		{Number: 12015550101, Region: "US", Price: "1.15", Currency: "USD"},
	}, offers)
	bought, err := s.Buy(t.Context(), offers[1].Number, "callmask:intent-1")
	require.NoError(t, err)
	require.Equal(t, carrier.Bought{
		Number: offers[1].Number, Ref: "PN00000000000000000000000000000001", Tag: "callmask:intent-1", WebhookURL: webhook, CallsGoTo: webhook,
	}, bought)
	for field, want := range map[string]string{
		"friendly_name": "callmask:intent-1", "voice_url": webhook, "voice_method": "POST",
		"voice_fallback_url": "https://b.example.com/voice", "voice_fallback_method": "POST",
		"status_callback": "https://calls.example.com/status", "status_callback_method": "POST", "sms_url": "",
	} {
		require.Equal(t, want, s.Field(bought.Number, field), field)
	}
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []carrier.Bought{bought}, all)

	s.asked()
	require.NoError(t, s.Configure(t.Context(), bought, webhook))
	require.Equal(t, []string{"GET /IncomingPhoneNumbers/" + bought.Ref + ".json"}, s.asked(), "nothing differs, nothing is written")
	require.NoError(t, s.Release(t.Context(), bought.Ref))
	require.NoError(t, s.Release(t.Context(), bought.Ref), "it may be repeated")
	require.Zero(t, s.Owned())
	_, err = s.Buy(t.Context(), bought.Number, "callmask:intent-2")
	require.ErrorIs(t, err, carrier.ErrNotAvailable, "a released number rests")
	require.ErrorIs(t, s.Configure(t.Context(), bought, webhook), carrier.ErrNotOwned)
}

func TestASearchAsksForNumbersThatCanBeBought(t *testing.T) {
	t.Parallel()
	var query atomic.Value
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{AreaCode: "415", Contains: "555****", Addresses: map[string]string{"GB": "AD01"}})
	seen := func(r *http.Request) { query.Store(r.URL.RawQuery) }
	s.before.Store(&seen)
	offers, err := s.Search(t.Context(), "US", 30)
	require.NoError(t, err)
	require.Empty(t, offers, "the first ones are of another area")
	require.Equal(t, "AreaCode=415&Contains=555%2A%2A%2A%2A&ExcludeAllAddressRequired=true&PageSize=30&VoiceEnabled=true", query.Load())
	offers, err = s.Search(t.Context(), "GB", 5000)
	require.NoError(t, err)
	require.Len(t, offers, 1000)
	require.Empty(t, offers[0].Price, "nobody told one")
	require.Equal(t, "Contains=555%2A%2A%2A%2A&ExcludeAllAddressRequired=false&PageSize=1000&VoiceEnabled=true", query.Load())

	for kind, path := range map[twilio.NumberType]string{twilio.Local: "Local", twilio.Mobile: "Mobile", twilio.TollFree: "TollFree"} {
		n := s.client(t, twilio.NumbersConfig{Type: kind})
		s.asked()
		offers, err := n.Search(t.Context(), "ID", 3)
		require.NoError(t, err)
		require.Len(t, offers, map[twilio.NumberType]int{twilio.Local: 3}[kind])
		require.Equal(t, []string{"GET /AvailablePhoneNumbers/ID/" + path + ".json"}, s.asked())
	}
	offers, err = s.Search(t.Context(), "US", 0)
	require.NoError(t, err)
	require.Empty(t, offers)
	s.asked()
	_, err = s.Search(t.Context(), "../..", 1)
	require.ErrorContains(t, err, "region")
	require.Empty(t, s.asked())
}

// unknown begins what the operator reads about a purchase whose outcome is open.
const unknown = "twilio: buy a number: unknown_outcome: the carrier did not say what became of it; list the numbers before buying again"

func TestAPurchaseThatGoesWrongSaysWhetherItMayHaveHappened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  sim.Fault
		want   string // what the operator reads
		bought int
	}{
		"sold to somebody else": {
			sim.Fault{Kind: sim.Snatch},
			"twilio: buy a number: number_not_available: the carrier does not sell this number (carrier API: HTTP 400, code 21422)", 0,
		},
		"throttled": {
			sim.Fault{Kind: sim.Throttle, RetryAfter: 30 * time.Second},
			"twilio: buy a number: carrier API: HTTP 429, code 20429, retry after 30s", 0,
		},
		"HTTP 500":             {sim.Fault{Kind: sim.Fail}, unknown + " (carrier API: HTTP 500, code 20500)", 0},
		"HTTP 503":             {sim.Fault{Kind: sim.Fail, Status: 503}, unknown + " (carrier API: HTTP 503, code 20500)", 0},
		"a proxy's page":       {sim.Fault{Kind: sim.Garble, Status: 502}, unknown + " (carrier API: HTTP 502)", 1},
		"HTML instead of JSON": {sim.Fault{Kind: sim.Garble}, unknown + " (the carrier's answer is not JSON; is api_url the right address, or is a proxy in between?)", 1},
		"half a purchase":      {sim.Fault{Kind: sim.Partial}, unknown + ": the answer names no number or another one", 1},
		"hung up":              {sim.Fault{Kind: sim.HangUp}, unknown + " (the carrier did not answer: EOF)", 1},
		"done after our time-out": {
			sim.Fault{Kind: sim.Hang}, unknown + " (the carrier did not answer: context deadline exceeded)", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := twilio.NumbersConfig{WebhookURL: webhook}
			if test.fault.Kind == sim.Hang {
				cfg.Limits.Timeout = 300 * time.Millisecond
			}
			s := open(t, twiliosim.Config{}, cfg)
			offers, err := s.Search(t.Context(), "US", 1)
			require.NoError(t, err)
			s.asked()
			test.fault.Op = sim.OpBuy
			s.Inject(test.fault)
			_, err = s.Buy(t.Context(), offers[0].Number, "callmask:intent")
			require.EqualError(t, err, test.want)
			require.Equal(t, []string{"POST /IncomingPhoneNumbers.json"}, s.asked(), "a purchase is sent once")
			require.Equal(t, strings.HasPrefix(test.want, unknown), errors.Is(err, carrier.ErrUnknownOutcome))
			require.NotEqual(t, errors.Is(err, carrier.ErrUnknownOutcome), carrier.NothingBought(err))
			require.Len(t, s.Purchases(), test.bought)

			all, err := s.List(t.Context())
			require.NoError(t, err)
			require.Len(t, all, test.bought, "the list tells what became of it")
			for _, b := range all {
				require.Equal(t, offers[0].Number, b.Number)
				if test.fault.Kind == sim.Partial {
					require.Empty(t, b.Tag, "Twilio's own name for it is no reference")
					require.Empty(t, b.WebhookURL)
					require.NoError(t, s.Configure(t.Context(), b, webhook))
					require.Equal(t, webhook, s.Field(b.Number, "voice_url"))
				} else {
					require.Equal(t, "callmask:intent", b.Tag)
					require.Equal(t, webhook, b.WebhookURL)
				}
			}
		})
	}
}

func TestTheMagicNumbersMeanWhatTheyDoAtTwilio(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{})
	_, err := s.Buy(t.Context(), twiliosim.Unavailable, "intent")
	require.ErrorIs(t, err, carrier.ErrNotAvailable)
	_, err = s.Buy(t.Context(), twiliosim.Invalid, "intent")
	require.ErrorIs(t, err, carrier.ErrNotAvailable)
	require.ErrorContains(t, err, "21421")
	_, err = s.Buy(t.Context(), twiliosim.AlwaysSold, "intent")
	require.NoError(t, err)
}

func TestMissingPapersNameTheSettingTheyGoInto(t *testing.T) {
	t.Parallel()
	law := twiliosim.Config{Bundles: map[string]string{"GB": "BU01"}, Addresses: map[string]string{"ID": "AD01"}}
	s := open(t, law, twilio.NumbersConfig{})
	const gb, id = vn.Number(447700900100), vn.Number(6215555010000)
	for number, want := range map[vn.Number]string{
		gb: "twilio: buy a number: requirement_missing: the carrier may not sell this number without papers: " +
			"set bundles.GB to the id (BU…) of an approved regulatory bundle for local numbers (carrier API: HTTP 400, code 21649)",
		id: "twilio: buy a number: requirement_missing: the carrier may not sell this number without papers: " +
			"set addresses.ID to the id (AD…) of an address that fits local numbers (carrier API: HTTP 400, code 21631)",
	} {
		_, err := s.Buy(t.Context(), number, "intent")
		require.EqualError(t, err, want)
		require.ErrorIs(t, err, carrier.ErrRequirementMissing)
		require.True(t, carrier.NothingBought(err))
	}
	n := s.client(t, twilio.NumbersConfig{Bundles: law.Bundles, Addresses: law.Addresses})
	for _, number := range []vn.Number{gb, id} {
		_, err := n.Buy(t.Context(), number, "intent")
		require.NoError(t, err)
	}
}

func TestWrongCredentialsAreNamedByEveryRequest(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{Keys: map[string]string{"SK01": "secret"}}, twilio.NumbersConfig{APIKey: "SK01", APISecret: "secret"})
	bought := s.buy(t, "intent")
	wrong := s.client(t, twilio.NumbersConfig{AuthToken: "of last year"})
	s.asked()
	for what, err := range calls(t, wrong, bought) {
		require.ErrorIs(t, err, carrier.ErrCredentials, what)
		require.EqualError(t, err, "twilio: "+what+": credentials: the carrier refuses the account's id or key, or they may not do this; "+
			"check them in the settings and in the carrier's console (carrier API: HTTP 401, code 20003)")
		require.True(t, carrier.NothingBought(err))
	}
	require.Len(t, s.asked(), 5, "nothing is gained by asking again")
	require.Equal(t, 1, s.Owned())
}

// calls makes each request once, and returns what came of it by what it is called in
// its errors.
func calls(t *testing.T, n *twilio.Numbers, b carrier.Bought) map[string]error {
	t.Helper()
	results := map[string]error{}
	_, results["search numbers"] = n.Search(t.Context(), "US", 1)
	_, results["buy a number"] = n.Buy(t.Context(), 12025550100, "intent")
	_, results["list numbers"] = n.List(t.Context())
	results["read a number's settings"] = n.Configure(t.Context(), b, webhook)
	results["release a number"] = n.Release(t.Context(), b.Ref)
	return results
}

func TestABadDayOfTwiliosIsToldByEveryRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault sim.Fault
		want  string
	}{
		"throttled for long": {sim.Fault{Kind: sim.Throttle, RetryAfter: time.Minute}, "HTTP 429, code 20429, retry after 1m0s"},
		"HTTP 503":           {sim.Fault{Kind: sim.Fail, Status: 503}, "HTTP 503, code 20500"},
		"refused":            {sim.Fault{Kind: sim.Fail, Status: 400}, "HTTP 400, code 20500"},
		"HTML":               {sim.Fault{Kind: sim.Garble}, "is not JSON"},
		"a proxy's page":     {sim.Fault{Kind: sim.Garble, Status: 404}, "HTTP 404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, twiliosim.Config{}, twilio.NumbersConfig{Limits: carrier.Limits{Failures: 1000}})
			bought := s.buy(t, "intent")
			test.fault.Times = 1000
			s.Inject(test.fault)
			for what, err := range calls(t, s.Numbers, bought) {
				require.ErrorContains(t, err, "twilio: "+what+": ", what)
				require.ErrorContains(t, err, test.want, what)
				require.NotContains(t, err.Error(), "2025550100", what)
				require.NotContains(t, err.Error(), bought.Number.Digits(), what)
			}
		})
	}
}

func TestASlowTwilioIsWaitedForNoLongerThanTheCallerWants(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{})
	s.SetLatency(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.Search(ctx, "US", 1)
	require.ErrorIs(t, err, context.DeadlineExceeded, "though twilio-go takes no context")
	require.Less(t, time.Since(began), patience)
	_, err = s.Buy(ctx, 12015550100, "intent")
	require.ErrorIs(t, err, carrier.ErrNotSent, "the time was up before")
	require.Empty(t, s.Purchases())
}

func TestAFailingTwilioIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{}, twilio.NumbersConfig{Limits: carrier.Limits{Failures: 2, Rest: time.Hour}})
	s.Inject(sim.Fault{Kind: sim.Fail, Times: 2})
	for range 2 {
		_, err := s.Buy(t.Context(), 12015550100, "intent")
		require.ErrorIs(t, err, carrier.ErrUnknownOutcome)
	}
	s.asked()
	_, err := s.Buy(t.Context(), 12015550100, "intent")
	require.EqualError(t, err, "twilio: buy a number: not_sent: the request did not reach the carrier, nothing was changed: "+
		"circuit_open: the carrier failed several times in a row and is left alone for a while")
	require.True(t, carrier.NothingBought(err))
	require.Empty(t, s.asked())
}

func TestSettingsAreCheckedAndNamed(t *testing.T) {
	t.Parallel()
	good := twilio.NumbersConfig{AccountSID: accountSID, AuthToken: "token"}
	for field, edit := range map[string]func(*twilio.NumbersConfig){
		"account_sid":   func(c *twilio.NumbersConfig) { c.AccountSID = "SK01" },
		"auth_tokens":   func(c *twilio.NumbersConfig) { c.AuthToken = "" },
		"api_key":       func(c *twilio.NumbersConfig) { c.APIKey = "SK01" },
		"number_type":   func(c *twilio.NumbersConfig) { c.Type = "voip" },
		"area_code":     func(c *twilio.NumbersConfig) { c.AreaCode = "42" },
		"monthly_price": func(c *twilio.NumbersConfig) { c.MonthlyPrice = "$1.15" },
		"bundles":       func(c *twilio.NumbersConfig) { c.Bundles = map[string]string{"England": "BU01"} },
		"bundles.GB":    func(c *twilio.NumbersConfig) { c.Bundles = map[string]string{"GB": "AD01"} },
		"addresses.GB":  func(c *twilio.NumbersConfig) { c.Addresses = map[string]string{"GB": "AD/.."} },
		"api_url":       func(c *twilio.NumbersConfig) { c.APIURL = "http://api.example.com" },
		"pricing_url":   func(c *twilio.NumbersConfig) { c.PricingURL = "http://pricing.example.com" },
		"limits":        func(c *twilio.NumbersConfig) { c.Limits.Burst = -1 },
	} {
		cfg := good
		edit(&cfg)
		_, err := twilio.NewNumbers(cfg)
		var problem *vn.FieldError
		require.ErrorAs(t, err, &problem, field)
		require.Equal(t, field, problem.Field)
	}
	_, err := twilio.NewNumbers(twilio.NumbersConfig{AccountSID: accountSID, APIKey: "secret", APISecret: "s"})
	require.ErrorContains(t, err, "must begin with SK")
	n, err := twilio.NewNumbers(good)
	require.NoError(t, err)
	n.Close()
}
