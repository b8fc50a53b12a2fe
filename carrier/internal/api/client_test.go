package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/vn"
)

func TestARequestIsSentAsItIsAndItsAnswerRead(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request, hit int) {
		user, secret, basic := r.BasicAuth()
		require.True(t, basic)
		require.Equal(t, "user secret", user+" "+secret)
		require.Equal(t, "callmask", r.UserAgent())
		require.NoError(t, r.ParseForm())
		switch hit {
		case 1:
			require.Equal(t, "GET /v1/a%2Fb?x=1", r.Method+" "+r.URL.RequestURI())
			_, _ = w.Write([]byte(`{"n":7}`))
		case 2:
			require.Equal(t, "PUT /v1/numbers", r.Method+" "+r.URL.RequestURI())
			require.Equal(t, url.Values{"PhoneNumber": {number}}, r.PostForm)
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"n":8}`))
		default:
			require.Equal(t, http.MethodDelete, r.Method)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	c := client(t, s.URL+"/v1/", Config{User: "user", Secret: "secret"})
	var got struct{ N int }
	require.NoError(t, c.Do(t.Context(), Get("/a%2Fb?x=1"), http.StatusOK, &got))
	require.Equal(t, 7, got.N)
	require.NoError(t, c.Do(t.Context(), Form(http.MethodPut, "/numbers", url.Values{"PhoneNumber": {number}}), http.StatusCreated, &got))
	require.Equal(t, 8, got.N)
	require.NoError(t, c.Do(t.Context(), Delete("/numbers/1"), http.StatusNoContent, nil))

	bearer := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusCreated)
	})
	r, err := JSON(http.MethodPost, "/", map[string]string{"a": "b"})
	require.NoError(t, err)
	require.NoError(t, client(t, bearer.URL, Config{Secret: "secret"}).Do(t.Context(), r, http.StatusCreated, nil))
	_, err = JSON(http.MethodPost, "/", func() {})
	require.ErrorIs(t, err, carrier.ErrNotSent)
}

func TestWhatIsNotTheExpectedJSONIsAnErrorAndNeverShown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"HTML":                 {200, "<html>" + number + "</html>", "not JSON"},
		"garbage":              {200, number + number, "not JSON"},
		"half of it":           {201, `{"phone_number":"` + number + `"`, "not JSON"},
		"JSON of another kind": {200, `[` + number[1:] + `]`, "not the JSON that was expected"},
		"a number for a text":  {200, `{"phone_number":` + number[1:] + `}`, "not the JSON that was expected"},
		"nothing":              {200, "", "not the JSON that was expected"},
		"another success":      {202, `{"phone_number":"` + number + `"}`, "HTTP 202 where 200 was expected"},
		"a redirect":           {302, number, "HTTP 302"},
		"too long":             {200, `"` + strings.Repeat("x", maxAnswer) + `"`, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(test.status, test.body))
			var got struct {
				Number string `json:"phone_number"`
			}
			err := client(t, s.URL, Config{}).Do(t.Context(), buy, http.StatusOK, &got)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "2025550142")
			require.ErrorIs(t, Purchase(err), carrier.ErrUnknownOutcome, "nothing says that it was not bought")
			require.EqualValues(t, 1, s.hits.Load(), "a purchase is sent once")
		})
	}
}

func TestARefusalIsTypedAndHoldsNoWordOfTheCarriers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status       int
		code         string
		after, clock string
		want         carrier.APIError
		is           error
		unknown      bool
	}{
		"bad request":      {400, "21422", "", "", carrier.APIError{Status: 400, Code: "21422"}, nil, false},
		"a word":           {429, "RATE_LIMIT_EXCEEDED", "30", "", carrier.APIError{Status: 429, Code: "RATE_LIMIT_EXCEEDED", RetryAfter: 30 * time.Second}, nil, false},
		"a number":         {400, number[1:], "", "", carrier.APIError{Status: 400}, nil, true},
		"a sentence":       {400, "is not available", "", "", carrier.APIError{Status: 400}, nil, true},
		"a long code":      {400, strings.Repeat("x", 65), "", "", carrier.APIError{Status: 400}, nil, true},
		"credentials":      {401, "20003", "", "", carrier.APIError{Status: 401, Code: "20003"}, carrier.ErrCredentials, false},
		"forbidden":        {403, "", "", "", carrier.APIError{Status: 403}, carrier.ErrCredentials, true},
		"no money":         {402, "", "", "", carrier.APIError{Status: 402}, carrier.ErrBalance, true},
		"its failure":      {500, "20500", "", "", carrier.APIError{Status: 500, Code: "20500"}, nil, true},
		"its time-out":     {408, "", "", "", carrier.APIError{Status: 408}, nil, true},
		"a date":           {503, "", "Wed, 25 Nov 2026 10:00:20 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", carrier.APIError{Status: 503, RetryAfter: 20 * time.Second}, nil, true},
		"a date gone by":   {429, "", "Wed, 25 Nov 2026 10:00:00 GMT", "Wed, 25 Nov 2026 10:00:20 GMT", carrier.APIError{Status: 429}, nil, true},
		"an age":           {429, "", "2000000000", "", carrier.APIError{Status: 429, RetryAfter: time.Hour}, nil, true},
		"before the start": {429, "", "-5", "", carrier.APIError{Status: 429}, nil, true},
		"no time":          {429, "", "soon", "", carrier.APIError{Status: 429}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Retry-After", test.after)
				if test.clock != "" {
					w.Header().Set("Date", test.clock)
				}
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(number + " is not available"))
			})
			c := client(t, s.URL, Config{Code: func([]byte) string { return test.code }})
			_, err := c.Send(t.Context(), buy)
			var refusal *carrier.APIError
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, test.want, *refusal)
			require.NotContains(t, err.Error(), "2025550142")
			require.NotContains(t, err.Error(), "available")
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			err = Purchase(err)
			require.Equal(t, !test.unknown, carrier.NothingBought(err))
			if test.unknown {
				require.ErrorIs(t, err, carrier.ErrUnknownOutcome)
			}
			require.EqualValues(t, 1, s.hits.Load(), "a purchase is sent once")
		})
	}
}

func TestWhatNeverReachedTheCarrierIsNoPurchase(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s := serve(t, answer(200, "{}"))
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent to a server that nobody vouches for") }))
	t.Cleanup(secure.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	bad := buy
	bad.Method = "b y"
	for name, test := range map[string]struct {
		ctx  context.Context
		base string
		r    Request
	}{
		"the caller has gone":                   {ended, s.URL, buy},
		"nobody listens":                        {t.Context(), gone.URL, buy},
		"a certificate that nobody vouches for": {t.Context(), secure.URL, buy},
		"no HTTP":                               {t.Context(), s.URL, bad},
	} {
		_, err := client(t, test.base, Config{}).Send(test.ctx, test.r)
		require.ErrorIs(t, err, carrier.ErrNotSent, name)
		require.True(t, carrier.NothingBought(Purchase(err)), name)
		require.NotContains(t, err.Error(), "2025550142", name)
	}
	require.Zero(t, s.hits.Load())
}

func TestACurrencyHasThreeCapitals(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"USD": true, "IDR": true, "usd": false, "US": false, "U$D": false, "USDT": false, "": false} {
		require.Equal(t, want, IsCurrency(s), s)
	}
}

func TestALostAnswerLeavesAPurchaseOpen(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, handle := range map[string]func(http.ResponseWriter, *http.Request, int){
		"hung up": func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) },
		"half an answer": func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		},
		"silence": func(_ http.ResponseWriter, r *http.Request, _ int) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client has gone
			select {
			case <-r.Context().Done():
			case <-release:
			}
		},
	} {
		s := serve(t, handle)
		c := client(t, s.URL, Config{Limits: carrier.Limits{Timeout: 200 * time.Millisecond}})
		_, err := c.Send(t.Context(), buy)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, carrier.ErrNotSent, name)
		require.NotContains(t, err.Error(), "2025550142", name)
		require.ErrorIs(t, Purchase(err), carrier.ErrUnknownOutcome, name)
		require.EqualValues(t, 1, s.hits.Load(), name)
		if name == "silence" {
			require.ErrorIs(t, err, context.DeadlineExceeded, "each request has a deadline of its own")
		}
	}
	require.NoError(t, Purchase(nil))
}

func TestOnlyReadsAreRepeatedAndOnlyWhenThatMayHelp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method string
		status int
		after  string
		good   int // the hit from which on it succeeds
		hits   int
	}{
		"a read, well the second time":      {http.MethodGet, 503, "", 2, 2},
		"a read, well the third time":       {http.MethodGet, 500, "", 3, 3},
		"a read that keeps failing":         {http.MethodGet, 502, "", 9, 3},
		"a throttled read":                  {http.MethodGet, 429, "1", 2, 2},
		"a read that is throttled for long": {http.MethodGet, 429, "6", 9, 1},
		"a refused read":                    {http.MethodGet, 404, "", 9, 1},
		"a read without the right":          {http.MethodGet, 401, "", 9, 1},
		"a purchase":                        {http.MethodPost, 503, "", 9, 1},
		"a throttled purchase":              {http.MethodPost, 429, "1", 9, 1},
		"a change":                          {http.MethodPut, 503, "", 9, 1},
		"a release":                         {http.MethodDelete, 503, "", 9, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, hit int) {
				if hit < test.good {
					w.Header().Set("Retry-After", test.after)
					w.WriteHeader(test.status)
				}
			})
			began := time.Now()
			_, err := client(t, s.URL, Config{}).Send(t.Context(), Request{Method: test.method, Path: "/"})
			require.Equal(t, test.good <= test.hits, err == nil, err)
			require.EqualValues(t, test.hits, s.hits.Load())
			if test.after == "1" && test.hits == 2 {
				require.GreaterOrEqual(t, time.Since(began), time.Second, "Retry-After is kept to")
			}
		})
	}
}

func TestAReadIsNotRepeatedPastItsDeadline(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(503, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := client(t, s.URL, Config{}).Send(ctx, Get("/"))
	var refusal *carrier.APIError
	require.ErrorAs(t, err, &refusal, "the carrier's answer is told, not that there was no time to wait")
	require.EqualValues(t, 1, s.hits.Load())
	require.NoError(t, ctx.Err())
}

func TestAFailingCarrierIsLeftAlone(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		if !well.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	c := client(t, s.URL, Config{Limits: carrier.Limits{Failures: 3, Rest: 300 * time.Millisecond}})
	for range 3 {
		_, err := c.Send(t.Context(), buy)
		require.NotErrorIs(t, err, carrier.ErrCircuitOpen)
	}
	_, err := c.Send(t.Context(), buy)
	require.ErrorIs(t, err, carrier.ErrCircuitOpen)
	require.ErrorIs(t, err, carrier.ErrNotSent)
	require.True(t, carrier.NothingBought(Purchase(err)))
	require.EqualValues(t, 3, s.hits.Load(), "nothing was sent")
	well.Store(true)
	require.Eventually(t, func() bool { _, err := c.Send(t.Context(), buy); return err == nil }, deadline, 20*time.Millisecond)
	require.EqualValues(t, 4, s.hits.Load(), "one request tried it")
}

func TestARefusalOrAnImpatientCallerIsNoFailureOfTheCarriers(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusTooManyRequests, ""))
	c := client(t, s.URL, Config{Limits: carrier.Limits{Failures: 2}})
	for range 5 {
		_, err := c.Send(t.Context(), buy)
		require.NotErrorIs(t, err, carrier.ErrCircuitOpen)
	}
	arrived, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request, _ int) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client has gone
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	c = client(t, slow.URL, Config{Limits: carrier.Limits{Failures: 2, Timeout: deadline}})
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		_, err := c.Send(ctx, buy)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, Purchase(err), carrier.ErrUnknownOutcome, "it had been sent")
	}
}

func TestTheAccountsLimitsHold(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, "{}"))
	c := client(t, s.URL, Config{Limits: carrier.Limits{PerSecond: 0.01, Burst: 2}})
	for range 2 {
		_, err := c.Send(t.Context(), buy)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	_, err := c.Send(ctx, buy)
	require.ErrorIs(t, err, carrier.ErrNotSent)
	require.ErrorContains(t, err, "own limit", "it is told at once that there will be no turn in time")
	require.EqualValues(t, 2, s.hits.Load())
	require.NoError(t, ctx.Err())

	var now, most atomic.Int32
	busy := serve(t, func(http.ResponseWriter, *http.Request, int) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		timer := time.NewTimer(20 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
	})
	c = client(t, busy.URL, Config{Limits: carrier.Limits{Concurrent: 2}})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := c.Send(t.Context(), buy)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 8, busy.hits.Load())
	require.LessOrEqual(t, most.Load(), int32(2))
}

func TestNothingIsSentInClearOrThroughAProxy(t *testing.T) {
	t.Parallel()
	for base, problem := range map[string]string{
		"":                                "is missing",
		"api.example.com":                 "must be an address",
		"ftp://api.example.com":           "must be an address",
		"http://api.example.com":          "must be https",
		"http://192.0.2.1":                "must be https",
		"https://user:pw@api.example.com": "must not hold",
		"https://api.example.com/?a=b":    "must not hold",
		"https://api.example.com/#a":      "must not hold",
	} {
		_, err := New(Config{BaseURL: base})
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, base)
		require.Equal(t, "api_url", field.Field)
		require.Contains(t, field.Problem, problem)
	}
	_, err := New(Config{BaseURL: "https://api.example.com", Limits: carrier.Limits{Burst: -1}})
	require.EqualError(t, err, "limits must not be negative")
	for _, cfg := range []Config{
		{BaseURL: "https://api.example.com"}, {BaseURL: "http://localhost:1"}, {BaseURL: "http://[::1]:1"}, {BaseURL: "http://sim:1", Plain: true},
	} {
		c, err := New(cfg)
		require.NoError(t, err)
		transport, ok := c.http.Transport.(*http.Transport)
		require.True(t, ok)
		require.Nil(t, transport.Proxy, "HTTPS_PROXY does not count")
		require.Nil(t, transport.TLSClientConfig, "certificates are checked")
	}
}
