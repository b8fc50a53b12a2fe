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
