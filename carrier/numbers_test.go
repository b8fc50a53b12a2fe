package carrier_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
)

func TestAPIErrorSaysWhatTheCarrierSaid(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*carrier.APIError{
		"carrier API: HTTP 500":                             {Status: 500},
		"carrier API: HTTP 400, code 21421":                 {Status: 400, Code: "21421"},
		"carrier API: HTTP 429, code 20429, retry after 3s": {Status: 429, Code: "20429", RetryAfter: 3 * time.Second},
	} {
		require.Equal(t, want, e.Error())
	}
	var api *carrier.APIError
	require.True(t, errors.As(fmt.Errorf("buy: %w", &carrier.APIError{Status: 500}), &api))
}

func TestOnlyACertainNoMeansThatNothingWasBought(t *testing.T) {
	t.Parallel()
	refusal := func(status int) error { return &carrier.APIError{Status: status, Code: "20001"} }
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"not available":           {fmt.Errorf("buy: %w", carrier.ErrNotAvailable), true},
		"not sent":                {fmt.Errorf("buy: %w: %w", carrier.ErrNotSent, carrier.ErrCircuitOpen), true},
		"refused":                 {fmt.Errorf("buy: %w", refusal(400)), true},
		"throttled":               {refusal(429), true},
		"credentials":             {fmt.Errorf("%w (%w)", carrier.ErrCredentials, refusal(401)), true},
		"unknown":                 {carrier.ErrUnknownOutcome, false},
		"unknown, though refused": {fmt.Errorf("%w (%w)", carrier.ErrUnknownOutcome, refusal(400)), false},
		"refused by whom?":        {&carrier.APIError{Status: 404}, false},
		"the carrier's failure":   {refusal(502), false},
		"the carrier's time-out":  {refusal(408), false},
		"anything else":           {errors.New("broken pipe"), false},
		"no failure":              {nil, false},
	} {
		require.Equal(t, test.want, carrier.NothingBought(test.err), name)
	}
}

func TestWhatFollowsTheHashDoesNotCount(t *testing.T) {
	t.Parallel()
	const ours = "https://calls.example.com/voice#ct=500"
	for goes, want := range map[string][2]bool{ // reaches us, elsewhere
		"":                                      {false, false},
		ours:                                    {true, false},
		"https://calls.example.com/voice":       {true, false},
		"https://calls.example.com/voice#":      {true, false},
		"https://calls.example.com/voice/x":     {false, true},
		"https://calls.example.com":             {false, true},
		"https://other.example.com/voice#ct=50": {false, true},
		"AP01":                                  {false, true},
		"#":                                     {false, true},
	} {
		b := carrier.Bought{CallsGoTo: goes, WebhookURL: "is another question"}
		require.Equal(t, want, [2]bool{b.Reaches(ours), b.Elsewhere(ours)}, goes)
		require.Equal(t, [2]bool{false, goes != ""}, [2]bool{b.Reaches(""), b.Elsewhere("")}, goes)
	}
}
