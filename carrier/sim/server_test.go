package sim

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

const webhookURL = "https://calls.example.com/v1/carriers/sim/voice"

func TestANumberIsFoundBoughtConfiguredListedAndReleased(t *testing.T) {
	t.Parallel()
	s, n := start(t, ServerConfig{Price: "2.50", Currency: "IDR"}, deadline)
	offers, err := n.Search(t.Context(), "ID", 3)
	require.NoError(t, err)
	require.Equal(t, []carrier.Offer{
		{Number: 6215555010000, Region: "ID", Price: "2.50", Currency: "IDR"},
		{Number: 6215555010001, Region: "ID", Price: "2.50", Currency: "IDR"},
		{Number: 6215555010002, Region: "ID", Price: "2.50", Currency: "IDR"},
	}, offers)
	bought, err := n.Buy(t.Context(), offers[1].Number, "intent-1")
	require.NoError(t, err)
	require.Equal(t, carrier.Bought{Number: offers[1].Number, Ref: "SN0000000001", Tag: "intent-1"}, bought)
	require.NoError(t, n.Configure(t.Context(), bought, webhookURL))
	require.NoError(t, n.Configure(t.Context(), bought, webhookURL), "it may be repeated")
	require.Equal(t, webhookURL, s.WebhookURL(bought.Number))
	bought.WebhookURL, bought.CallsGoTo = webhookURL, webhookURL
	all, err := n.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []carrier.Bought{bought}, all)

	_, err = n.Buy(t.Context(), bought.Number, "intent-2")
	require.ErrorIs(t, err, carrier.ErrNotAvailable, "nobody can buy it again")
	require.NoError(t, n.Release(t.Context(), bought.Ref))
	require.NoError(t, n.Release(t.Context(), bought.Ref), "it may be repeated")
	_, err = n.Buy(t.Context(), bought.Number, "intent-3")
	require.ErrorIs(t, err, carrier.ErrNotAvailable, "a released number rests")
	require.Zero(t, s.Owned())
	require.Empty(t, s.WebhookURL(bought.Number))

	var api *carrier.APIError
	require.ErrorAs(t, n.Configure(t.Context(), bought, webhookURL), &api)
	require.Equal(t, http.StatusNotFound, api.Status)
	purchases := s.Purchases()
	require.Len(t, purchases, 1, "what was bought is remembered")
	require.Equal(t, "intent-1", purchases[0].Ref)
}

func TestEveryPageOfTheListIsRead(t *testing.T) {
	t.Parallel()
	_, n := start(t, ServerConfig{PageSize: 3}, deadline)
	all, err := n.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	offers, err := n.Search(t.Context(), "US", 9)
	require.NoError(t, err)
	want := make([]carrier.Bought, 0, len(offers))
	for i, o := range offers {
		bought, err := n.Buy(t.Context(), o.Number, "intent-"+string(rune('a'+i)))
		require.NoError(t, err)
		want = append(want, bought)
		all, err := n.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, all)
	}
}

func TestTheStockIsFictionalAndOfItsRegion(t *testing.T) {
	t.Parallel()
	s, err := NewServer(ServerConfig{Tokens: []string{"t"}})
	require.NoError(t, err)
	require.Equal(t, 31_900, s.Available("US"))
	require.Equal(t, 1_000, s.Available("GB"))
	require.Equal(t, 10_000, s.Available("ID"))
	for _, stock := range DefaultStock() {
		numbers, err := stock.numbers()
		require.NoError(t, err)
		seen := map[vn.Number]bool{}
		for i, n := range numbers {
			require.False(t, seen[n])
			seen[n] = true
			if i%97 == 0 {
				require.Equal(t, stock.Region, numbering.Region(n), "number %d", i)
			}
			if stock.Region == "US" {
				require.Equal(t, "55501", n.Digits()[4:9])
			}
		}
	}
}

func TestStockCanBeAddedAndSoldOut(t *testing.T) {
	t.Parallel()
	s, n := start(t, ServerConfig{Stock: []Stock{{Region: "IN", Prefixes: []string{"+9180555010"}, Digits: 1}}}, deadline)
	require.NoError(t, s.AddStock(Stock{Region: "IN", Prefixes: []string{"+9180555010", "+9180555011"}, Digits: 1}))
	require.Equal(t, 20, s.Available("IN"))
	s.SellOut("IN", 2)
	s.SellOut("XX", 0)
	require.Equal(t, 2, s.Available("IN"))
	offers, err := n.Search(t.Context(), "IN", 10)
	require.NoError(t, err)
	require.Len(t, offers, 2)
	require.True(t, s.Sell(offers[0].Number))
	require.False(t, s.Sell(offers[0].Number))
	_, err = n.Buy(t.Context(), offers[0].Number, "intent")
	require.ErrorIs(t, err, carrier.ErrNotAvailable)
	offers, err = n.Search(t.Context(), "IN", 5000)
	require.NoError(t, err)
	require.Len(t, offers, 1)
	none, err := n.Search(t.Context(), "XX", 5)
	require.NoError(t, err)
	require.Empty(t, none)
	none, err = n.Search(t.Context(), "IN", 0)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestManyBuyersNeverGetTheSameNumber(t *testing.T) {
	t.Parallel()
	s, n := start(t, ServerConfig{}, deadline)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				offers, err := n.Search(t.Context(), "GB", 2)
				if err != nil {
					t.Error(err)
					return
				}
				for _, o := range offers {
					if _, err := n.Buy(t.Context(), o.Number, "intent"); err != nil && !errors.Is(err, carrier.ErrNotAvailable) {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	seen := map[vn.Number]bool{}
	for _, p := range s.Purchases() {
		require.False(t, seen[p.Number], "sold twice")
		seen[p.Number] = true
	}
	require.NotEmpty(t, seen)
	require.Equal(t, 1000-len(seen), s.Available("GB"))
	list, err := n.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, len(seen))
}

func TestAPurchaseTellsWhetherItMayHaveHappened(t *testing.T) {
	t.Parallel()
	const unknown, gone, other = "unknown", "gone", "other"
	for name, test := range map[string]struct {
		fault  Fault
		want   string
		status int
		bought int
	}{
		"hung up after the sale":     {Fault{Kind: HangUp}, unknown, 0, 1},
		"silent after the sale":      {Fault{Op: OpBuy, Kind: Hang}, unknown, 0, 1},
		"HTML after the sale":        {Fault{Kind: Garble}, unknown, 0, 1},
		"half an answer":             {Fault{Kind: Partial}, unknown, 0, 1},
		"HTML from a proxy":          {Fault{Kind: Garble, Status: 502}, unknown, 502, 1},
		"HTTP 500":                   {Fault{Kind: Fail}, unknown, 500, 0},
		"HTTP 503":                   {Fault{Kind: Fail, Status: 503}, unknown, 503, 0},
		"a success of another kind":  {Fault{Kind: Fail, Status: 202}, unknown, 0, 0},
		"a redirect":                 {Fault{Kind: Fail, Status: 302}, unknown, 0, 0},
		"HTTP 408":                   {Fault{Kind: Fail, Status: 408}, unknown, 408, 0},
		"HTTP 400":                   {Fault{Kind: Fail, Status: 400}, other, 400, 0},
		"throttled":                  {Fault{Kind: Throttle, RetryAfter: 2500 * time.Millisecond}, other, 429, 0},
		"throttled without a time":   {Fault{Kind: Throttle}, other, 429, 0},
		"sold to somebody else":      {Fault{Kind: Snatch}, gone, 409, 0},
		"a conflict of another kind": {Fault{Kind: Fail, Status: 409}, other, 409, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := deadline
			if test.fault.Kind == Hang {
				timeout = 100 * time.Millisecond
			}
			s, n := start(t, ServerConfig{}, timeout)
			s.Inject(Fault{Op: OpRelease, Kind: Fail, Status: 418}) // another request's fault waits for it
			offers, err := n.Search(t.Context(), "US", 1)
			require.NoError(t, err)
			s.Inject(test.fault)
			_, err = n.Buy(t.Context(), offers[0].Number, "intent-1")
			require.Error(t, err)
			require.Equal(t, test.want == unknown, errors.Is(err, carrier.ErrUnknownOutcome), err)
			require.Equal(t, test.want == gone, errors.Is(err, carrier.ErrNotAvailable), err)
			require.Equal(t, test.want != unknown, carrier.NothingBought(err), err)
			require.NotContains(t, err.Error(), offers[0].Number.Digits())
			var api *carrier.APIError
			require.Equal(t, test.status != 0, errors.As(err, &api))
			if api != nil {
				require.Equal(t, test.status, api.Status)
			}
			if test.fault.RetryAfter > 0 {
				require.Equal(t, 3*time.Second, api.RetryAfter)
			}
			require.Len(t, s.Purchases(), test.bought)
			list, err := n.List(t.Context())
			require.NoError(t, err)
			require.Len(t, list, test.bought, "the list tells what happened")
			for _, b := range list {
				require.Equal(t, test.fault.Kind != Partial, b.Tag == "intent-1")
			}
		})
	}
}

func TestARequestThatCannotBeSentIsNoPurchase(t *testing.T) {
	t.Parallel()
	_, n := start(t, ServerConfig{}, deadline)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Buy(ended, 12015550100, "intent")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, carrier.ErrNotSent)

	closed, err := NewServer(ServerConfig{Tokens: []string{"t"}})
	require.NoError(t, err)
	require.NoError(t, closed.Listen(t.Context(), "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, closed.Run(ctx))
	nobody, err := NewNumbers(NumbersConfig{APIURL: closed.URL(), Token: "t"})
	require.NoError(t, err)
	t.Cleanup(nobody.Close)
	_, err = nobody.Buy(t.Context(), 12015550100, "intent")
	require.ErrorIs(t, err, carrier.ErrNotSent)
}

func TestEveryRequestReportsItsFaults(t *testing.T) {
	t.Parallel()
	s, n := start(t, ServerConfig{PageSize: 1}, deadline)
	for range 2 {
		offers, err := n.Search(t.Context(), "US", 1)
		require.NoError(t, err)
		_, err = n.Buy(t.Context(), offers[0].Number, "intent")
		require.NoError(t, err)
	}
	list, err := n.List(t.Context())
	require.NoError(t, err)
	bought := list[0]
	calls := map[Op]func() error{
		OpSearch:    func() error { _, err := n.Search(t.Context(), "US", 1); return err },
		OpList:      func() error { _, err := n.List(t.Context()); return err },
		OpConfigure: func() error { return n.Configure(t.Context(), bought, webhookURL) },
		OpRelease:   func() error { return n.Release(t.Context(), bought.Ref) },
	}
	for _, op := range []Op{OpSearch, OpList, OpConfigure, OpRelease} {
		call := calls[op]
		s.Inject(Fault{Op: op, Kind: Throttle, RetryAfter: time.Minute}) // too long for a read to wait
		var api *carrier.APIError
		require.ErrorAs(t, call(), &api, op)
		require.Equal(t, carrier.APIError{Status: 429, Code: "throttled", RetryAfter: time.Minute}, *api)
		for _, kind := range []FaultKind{HangUp, Garble, Fail} {
			s.Inject(Fault{Op: op, Kind: kind, Times: 99}) // a read is repeated
			require.Error(t, call(), op)
			s.ClearFaults()
		}
		require.Eventually(t, func() bool { return call() == nil }, deadline, 20*time.Millisecond, "it was left alone after so many failures")
	}
}

func TestLatencyIsSettableAndEndsWithTheClient(t *testing.T) {
	t.Parallel()
	s, n := start(t, ServerConfig{Latency: 30 * time.Millisecond}, 5*time.Second)
	began := time.Now()
	_, err := n.Search(t.Context(), "US", 1)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
	s.SetLatency(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = n.Search(ctx, "US", 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, s.Owned())
}

func TestOnlyTheRightTokenIsServed(t *testing.T) {
	t.Parallel()
	s, _ := start(t, ServerConfig{}, deadline)
	ask := func(edit func(*http.Request)) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/v1/numbers", nil)
		require.NoError(t, err)
		edit(req)
		client := newClient()
		defer client.CloseIdleConnections()
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 200, ask(func(r *http.Request) { r.Header.Set("Authorization", "Bearer token") }))
	require.Equal(t, 200, ask(func(r *http.Request) { r.SetBasicAuth("account", "token") }))
	require.Equal(t, 401, ask(func(r *http.Request) { r.SetBasicAuth("token", "guess") }))
	require.Equal(t, 401, ask(func(r *http.Request) { r.Header.Set("Authorization", "Bearer guess") }))
	require.Equal(t, 401, ask(func(*http.Request) {}))
}

func TestBadRequestsChangeNothing(t *testing.T) {
	t.Parallel()
	s, n := start(t, ServerConfig{}, deadline)
	bought, err := n.Buy(t.Context(), 12015550100, "intent")
	require.NoError(t, err)
	client := newClient()
	defer client.CloseIdleConnections()
	for _, r := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/v1/available?region=US&limit=x", "", 400},
		{"GET", "/v1/available?region=US&limit=0", "", 400},
		{"GET", "/v1/available?region=US&limit=1001", "", 400},
		{"POST", "/v1/numbers", "", 400},
		{"POST", "/v1/numbers", `{"number":"12015550101"}`, 400},
		{"POST", "/v1/numbers", `{"number":"+12015550101"}{}`, 400},
		{"POST", "/v1/numbers", `{"number":"+12015550101","more":1}`, 400},
		{"POST", "/v1/numbers", `{"number":"+12015550101","ref":"` + strings.Repeat("x", 65) + `"}`, 400},
		{"POST", "/v1/numbers", `{"number":"+12015550101","ref":"` + strings.Repeat("x", maxRequest) + `"}`, 400},
		{"PATCH", "/v1/numbers/" + bought.Ref, `{"webhook_url":"calls.example.com"}`, 400},
		{"PATCH", "/v1/numbers/SN0", `{"webhook_url":"https://calls.example.com"}`, 404},
		{"DELETE", "/v1/numbers/SN0", "", 404},
		{"PUT", "/v1/numbers", "", 405},
		{"GET", "/v2", "", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, s.URL()+r.path, strings.NewReader(r.body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer token")
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, r.want, resp.StatusCode, "%s %s", r.method, r.path)
	}
	require.Len(t, s.Purchases(), 1)
	require.Empty(t, s.WebhookURL(bought.Number))
}

func TestTheServerListensOnLoopbackOnlyAndOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	s, err := NewServer(ServerConfig{Tokens: []string{"t"}})
	require.NoError(t, err)
	require.Empty(t, s.URL())
	require.ErrorContains(t, s.Run(t.Context()), "Listen")
	require.ErrorContains(t, s.Listen(t.Context(), "0.0.0.0:0"), "loopback")
	require.ErrorContains(t, s.Listen(t.Context(), ":0"), "loopback")
	require.Error(t, s.Listen(t.Context(), "nonsense"))
	require.Empty(t, s.URL())
}

func TestStoppingDoesNotWaitForASilentRequest(t *testing.T) {
	t.Parallel()
	s, err := NewServer(ServerConfig{Tokens: []string{"t"}})
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context(), "127.0.0.1:0"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	n, err := NewNumbers(NumbersConfig{APIURL: s.URL(), Token: "t", Timeout: time.Minute})
	require.NoError(t, err)
	t.Cleanup(n.Close)
	s.Inject(Fault{Kind: Hang})
	bought := make(chan error, 1)
	go func() {
		_, err := n.Buy(context.WithoutCancel(ctx), 12015550100, "intent")
		bought <- err
	}()
	require.Eventually(t, func() bool { return s.Owned() == 1 }, deadline, 5*time.Millisecond)
	stop()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(deadline):
		t.Fatal("the server does not stop")
	}
	require.ErrorIs(t, <-bought, carrier.ErrUnknownOutcome)
}
