package exotel_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/exotelsim"
	"github.com/callmask/callmask/vn"
)

const (
	flow  = "http://my.exotel.com/callmask1/exoml/start_voice/77001"
	first = vn.Number(918055550000) // what is offered first
)

// shop is a simulated Exotel that remembers the requests it gets, and a client of it.
type shop struct {
	*exotelsim.Server
	*exotel.Numbers

	url    string
	before atomic.Pointer[func(*http.Request)] // called with each request that arrives

	mu       sync.Mutex
	requests []string
}

func open(t *testing.T, selling exotelsim.Config, cfg exotel.NumbersConfig) *shop {
	t.Helper()
	selling.AccountSID, selling.APIKey, selling.APIToken = "callmask1", "key", "token"
	server, err := exotelsim.New(selling)
	require.NoError(t, err)
	s := &shop{Server: server}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.url = web.URL
	s.Numbers = client(t, s.url, cfg)
	return s
}

func client(t *testing.T, url string, cfg exotel.NumbersConfig) *exotel.Numbers {
	t.Helper()
	cfg.APIURL, cfg.AccountSID, cfg.AppID, cfg.APIKey = url, "callmask1", "77001", "key"
	if cfg.APIToken == "" {
		cfg.APIToken = "token"
	}
	if cfg.ReleasePoll == 0 {
		cfg.ReleasePoll = time.Millisecond
	}
	cfg.Limits = cfg.Limits.Or(carrier.Limits{PerSecond: 1000, Burst: 1000})
	n, err := exotel.NewNumbers(cfg)
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return n
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+strings.TrimPrefix(r.URL.RequestURI(), "/v2_beta/Accounts/callmask1"))
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

func (s *shop) buy(t *testing.T, n vn.Number) carrier.Bought {
	t.Helper()
	b, err := s.Buy(t.Context(), n, "callmask:intent")
	require.NoError(t, err)
	return b
}

func TestANumberIsFoundBoughtAttachedListedAndReleased(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{ReleaseAfter: 2}, exotel.NumbersConfig{Circle: "KA", Contains: "80"})
	offers, err := s.Search(t.Context(), "IN", 2)
	require.NoError(t, err)
	require.Equal(t, []carrier.Offer{
		{Number: first, Region: "IN", Price: "499.00", Currency: "INR"},
		{Number: first + 1, Region: "IN", Price: "499.00", Currency: "INR"},
	}, offers)
	require.Equal(t, []string{"GET /AvailablePhoneNumbers/IN/Landline?Contains=80&InRegion=KA"}, s.asked())
	require.Equal(t, flow, s.WebhookURL())
	bought := s.buy(t, first)
	require.Equal(t, carrier.Bought{
		Number: first, Ref: "00000000000000000000000000000001", Tag: "callmask:intent",
		WebhookURL: flow, CallsGoTo: flow, Price: "499.00", Currency: "INR",
	}, bought)
	require.Equal(t, flow, s.VoiceURL(first))
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []carrier.Bought{bought}, all)
	require.NoError(t, s.Configure(t.Context(), bought, flow))
	require.ErrorIs(t, s.Configure(t.Context(), bought, "https://calls.example.com"), carrier.ErrNotSent, "a number holds no address of ours")

	s.asked()
	require.NoError(t, s.Release(t.Context(), bought.Ref))
	require.Equal(t, []string{
		"DELETE /IncomingPhoneNumbers/" + bought.Ref, "GET /IncomingPhoneNumbers/" + bought.Ref,
		"GET /IncomingPhoneNumbers/" + bought.Ref, "GET /IncomingPhoneNumbers/" + bought.Ref,
	}, s.asked(), "it is looked at until it is gone")
	require.NoError(t, s.Release(t.Context(), bought.Ref), "it may be repeated")
	require.Zero(t, s.Owned())
	_, err = s.Buy(t.Context(), first, "callmask:intent-2")
	require.ErrorIs(t, err, carrier.ErrNotAvailable, "a released number rests")
	require.ErrorIs(t, s.Configure(t.Context(), bought, flow), carrier.ErrNotOwned)
}

func TestASearchIsForTheTypeAndNeverForMoreThanAsked(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{Stock: []sim.Stock{{Region: "MY", Prefixes: []string{"+60355501"}, Digits: 2}}}, exotel.NumbersConfig{})
	for kind, path := range map[exotel.NumberType]string{exotel.Landline: "Landline", exotel.Mobile: "Mobile", exotel.TollFree: "TollFree"} {
		n := client(t, s.url, exotel.NumbersConfig{Type: kind})
		s.asked()
		offers, err := n.Search(t.Context(), "MY", 3)
		require.NoError(t, err)
		require.Len(t, offers, map[exotel.NumberType]int{exotel.Landline: 3}[kind])
		require.Equal(t, []string{"GET /AvailablePhoneNumbers/MY/" + path + "?"}, s.asked())
	}
	offers, err := s.Search(t.Context(), "MY", 1)
	require.NoError(t, err)
	require.Empty(t, offers[0].Price, "an amount without a currency is no price")
	offers, err = client(t, s.url, exotel.NumbersConfig{Currency: "MYR"}).Search(t.Context(), "MY", 1)
	require.NoError(t, err)
	require.Equal(t, carrier.Offer{Number: 6035550100, Region: "MY", Price: "499.00", Currency: "MYR"}, offers[0])
	offers, err = s.Search(t.Context(), "MY", 0)
	require.NoError(t, err)
	require.Empty(t, offers)
	_, err = s.Search(t.Context(), "../..", 1)
	require.ErrorContains(t, err, "region")
}

// unknown begins what the operator reads about a purchase whose outcome is open.
const unknown = "exotel: buy a number: unknown_outcome: the carrier did not say what became of it; list the numbers before buying again"

func TestAPurchaseThatGoesWrongSaysWhetherItMayHaveHappened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  sim.Fault
		want   string // what the operator reads
		bought int
	}{
		"sold to somebody else": {
			sim.Fault{Kind: sim.Snatch},
			"exotel: buy a number: number_not_available: the carrier does not sell this number (carrier API: HTTP 409, code 409)", 0,
		},
		"throttled": {
			sim.Fault{Kind: sim.Throttle, RetryAfter: 30 * time.Second},
			"exotel: buy a number: carrier API: HTTP 429, code RATE_LIMIT_EXCEEDED, retry after 30s", 0,
		},
		"no money": {
			sim.Fault{Kind: sim.Fail, Status: 402},
			"exotel: buy a number: balance: the account's balance or plan at the carrier does not allow it (carrier API: HTTP 402, code 402)", 0,
		},
		"suspended": {
			sim.Fault{Kind: sim.Fail, Status: 403},
			"exotel: buy a number: credentials: the carrier refuses the account's id or key, or they may not do this; " +
				"check them in the settings and in the carrier's console (carrier API: HTTP 403, code 403)", 0,
		},
		"bad request":          {sim.Fault{Kind: sim.Fail, Status: 400}, "exotel: buy a number: carrier API: HTTP 400, code 400", 0},
		"HTTP 500":             {sim.Fault{Kind: sim.Fail}, unknown + " (carrier API: HTTP 500, code 500)", 0},
		"HTML instead of JSON": {sim.Fault{Kind: sim.Garble}, unknown + " (the carrier's answer is not JSON; is api_url the right address, or is a proxy in between?)", 1},
		"a page not found":     {sim.Fault{Kind: sim.Garble, Status: 404}, unknown + " (carrier API: HTTP 404)", 1},
		"half a purchase":      {sim.Fault{Kind: sim.Partial}, unknown + ": the answer names no number or another one", 1},
		"hung up":              {sim.Fault{Kind: sim.HangUp}, unknown + " (the carrier did not answer: EOF)", 1},
		"done after our time-out": {
			sim.Fault{Kind: sim.Hang}, unknown + " (the carrier did not answer: context deadline exceeded)", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg exotel.NumbersConfig
			if test.fault.Kind == sim.Hang {
				cfg.Limits.Timeout = 300 * time.Millisecond
			}
			s := open(t, exotelsim.Config{}, cfg)
			test.fault.Op = sim.OpBuy
			s.Inject(test.fault)
			_, err := s.Buy(t.Context(), first, "callmask:intent")
			require.EqualError(t, err, test.want)
			require.Equal(t, []string{"POST /IncomingPhoneNumbers"}, s.asked(), "a purchase is sent once")
			require.Equal(t, strings.HasPrefix(test.want, unknown), errors.Is(err, carrier.ErrUnknownOutcome))
			require.NotEqual(t, errors.Is(err, carrier.ErrUnknownOutcome), carrier.NothingBought(err))
			require.Len(t, s.Purchases(), test.bought)

			all, err := s.List(t.Context())
			require.NoError(t, err)
			require.Len(t, all, test.bought, "the list tells what became of it")
			for _, b := range all {
				require.Equal(t, first, b.Number)
				if test.fault.Kind == sim.Partial {
					require.Empty(t, b.Tag, "Exotel's own name for it is no reference")
					require.Empty(t, b.WebhookURL)
					require.NoError(t, s.Configure(t.Context(), b, flow))
				} else {
					require.Equal(t, "callmask:intent", b.Tag)
				}
				require.Equal(t, flow, s.VoiceURL(b.Number))
			}
		})
	}
}

// calls makes each request once, and returns what came of it by what it is called in
// its errors.
func calls(t *testing.T, n *exotel.Numbers, b carrier.Bought) map[string]error {
	t.Helper()
	results := map[string]error{}
	_, results["search numbers"] = n.Search(t.Context(), "IN", 1)
	_, results["buy a number"] = n.Buy(t.Context(), first+7, "callmask:intent")
	_, results["list numbers"] = n.List(t.Context())
	results["attach a number"] = n.Configure(t.Context(), b, flow)
	results["release a number"] = n.Release(t.Context(), b.Ref)
	return results
}

func TestABadDayOfExotelsIsToldByEveryRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault sim.Fault
		want  string
	}{
		"throttled for long": {sim.Fault{Kind: sim.Throttle, RetryAfter: time.Minute}, "HTTP 429, code RATE_LIMIT_EXCEEDED, retry after 1m0s"},
		"HTTP 503":           {sim.Fault{Kind: sim.Fail, Status: 503}, "HTTP 503, code 503"},
		"refused":            {sim.Fault{Kind: sim.Fail, Status: 409}, "HTTP 409, code 409"},
		"a proxy's page":     {sim.Fault{Kind: sim.Garble, Status: 502}, "HTTP 502"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, exotelsim.Config{}, exotel.NumbersConfig{Limits: carrier.Limits{Failures: 1000}})
			bought := s.buy(t, first)
			test.fault.Times = 1000
			s.Inject(test.fault)
			for what, err := range calls(t, s.Numbers, bought) {
				require.ErrorContains(t, err, "exotel: "+what+": ", what)
				require.ErrorContains(t, err, test.want, what)
				require.NotContains(t, err.Error(), "5555", what)
			}
		})
	}
}

func TestWrongCredentialsAreNamedByEveryRequest(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{}, exotel.NumbersConfig{})
	bought := s.buy(t, first)
	s.asked()
	for what, err := range calls(t, client(t, s.url, exotel.NumbersConfig{APIToken: "of last year"}), bought) {
		require.ErrorIs(t, err, carrier.ErrCredentials, what)
		require.ErrorContains(t, err, "HTTP 401, code 1010")
	}
	require.Len(t, s.asked(), 5, "nothing is gained by asking again")
	require.Equal(t, 1, s.Owned())
}

func TestAReleaseThatTakesLongIsPending(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{ReleaseAfter: 1_000_000}, exotel.NumbersConfig{ReleaseWait: 50 * time.Millisecond})
	bought := s.buy(t, first)
	for range 2 {
		err := s.Release(t.Context(), bought.Ref)
		require.ErrorIs(t, err, carrier.ErrPending)
		require.EqualError(t, err, "exotel: release a number: pending: asked for, not done yet; ask again later")
	}
	patient := client(t, s.url, exotel.NumbersConfig{ReleaseWait: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, patient.Release(ctx, bought.Ref), carrier.ErrPending, "the caller waits no longer")
	s.Drop(first)
	require.NoError(t, s.Release(t.Context(), bought.Ref))

	refused := s.buy(t, first+1)
	s.Inject(sim.Fault{Op: sim.OpRelease, Kind: sim.Fail, Status: 409})
	require.EqualError(t, s.Release(t.Context(), refused.Ref), "exotel: release a number: carrier API: HTTP 409, code 409")
	s.Inject(sim.Fault{Op: sim.OpRelease, Kind: sim.Garble, Status: 404}) // from a proxy, say
	require.EqualError(t, s.Release(t.Context(), refused.Ref), "exotel: release a number: carrier API: HTTP 404", "not Exotel's word for gone")
}

func TestEveryPageOfTheListIsReadTwice(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{PageSize: 3}, exotel.NumbersConfig{})
	want := []carrier.Bought(nil)
	for i := range 8 {
		all, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, all)
		want = append(want, s.buy(t, first+vn.Number(i)))
	}
	s.asked()
	_, err := s.List(t.Context())
	require.NoError(t, err)
	list := make([]string, 0, 6)
	for i := range 6 {
		list = append(list, "GET /IncomingPhoneNumbers?Page="+strconv.Itoa(i%3)+"&PageSize=50")
	}
	require.Equal(t, list, s.asked())
}

func TestAListThatChangesWhileItIsReadMissesNoNumberThatStays(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{PageSize: 2}, exotel.NumbersConfig{})
	var bought []carrier.Bought
	for i := range 6 {
		bought = append(bought, s.buy(t, first+vn.Number(i)))
	}
	page := 0
	once := func(_ *http.Request) {
		if page++; page == 2 { // one of the page before: the third number moves onto that page
			s.Drop(bought[0].Number)
		}
	}
	s.before.Store(&once)
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, bought[1:], all)

	dropped := 1
	always := func(r *http.Request) {
		if r.URL.Query().Get("Page") == "1" {
			s.Drop(bought[dropped].Number)
			dropped++
		}
	}
	for i := range 6 {
		s.buy(t, first+vn.Number(10+i))
	}
	s.before.Store(&always)
	_, err = s.List(t.Context())
	require.EqualError(t, err, "exotel: list numbers: the list changes while it is read; ask again later")
}
