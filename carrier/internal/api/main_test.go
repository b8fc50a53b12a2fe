package api

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/carrier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is how long a test waits for anything.
const deadline = 10 * time.Second

// number stands for what must never get into an error.
const number = "+12025550142"

// carrierAPI is a server that counts its requests.
type carrierAPI struct {
	*httptest.Server
	hits atomic.Int32
}

// serve answers requests with handle, which gets the number of each, from 1.
func serve(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, hit int)) *carrierAPI {
	t.Helper()
	s := &carrierAPI{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(w, r, int(s.hits.Add(1)))
	}))
	t.Cleanup(s.Close)
	return s
}

func answer(status int, body string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func client(t *testing.T, base string, cfg Config) *Client {
	t.Helper()
	cfg.BaseURL = base
	cfg.Limits = cfg.Limits.Or(carrier.Limits{PerSecond: 1000, Burst: 1000})
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

var buy = Request{Method: http.MethodPost, Path: "/numbers?number=%2B12025550142", Type: "text/plain", Body: []byte(number)}
