//go:build browser

package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/testkit"
)

const (
	apiToken  = "api-token-0123456789"
	readToken = "read-token-0123456789"
)

// system is a callmask with the demo settings, on a Redis and a NATS that a test can stop.
type system struct {
	redis *testkit.RedisServer
	nats  *testkit.NATSServer
	at    app.Endpoints
	stop  func()
}

func start(t *testing.T) *system {
	t.Helper()
	s := &system{redis: testkit.Redis(t), nats: testkit.NATS(t)}
	set, err := settings.Load(settings.Input{
		Demo: true, Env: func(string) (string, bool) { return "", false },
		Flags: map[string]string{
			"http-addr": "127.0.0.1:0", "admin-addr": "127.0.0.1:0", "data-dir": t.TempDir(), "redis-url": s.redis.URL(), "nats-url": s.nats.URL,
			"api-token": apiToken, "read-token": readToken,
		},
	})
	require.NoError(t, err)
	a, err := app.New(app.Config{Settings: set, Role: settings.All, Logger: zerolog.Nop()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ended := false
	s.stop = func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(s.stop)
	select {
	case <-a.Started():
	case err := <-done:
		done <- err
		require.NoError(t, err, "it ended instead of starting")
	case <-time.After(2 * patience):
		require.Fail(t, "it did not start in time")
	}
	s.at = a.Endpoints()
	return s
}

func (s *system) ask(t *testing.T, method, target string, body any) []byte {
	t.Helper()
	b, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(b))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+apiToken)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Less(t, res.StatusCode, 300, string(answer))
	return answer
}

// order gives an order of two parties its numbers, and returns that of the agent.
func (s *system) order(t *testing.T, id string) string {
	t.Helper()
	type party struct {
		Role   string `json:"role"`
		Number string `json:"number,omitempty"`
		VN     string `json:"vn,omitempty"`
	}
	var got struct {
		Parties []party `json:"parties"`
	}
	answer := s.ask(t, http.MethodPut, "http://"+s.at.Admin+"/v1/orders/"+id, map[string]any{
		"pool": "demo", "parties": []party{{Role: "customer", Number: "+12025550123"}, {Role: "agent", Number: "+12025550145"}},
	})
	require.NoError(t, json.Unmarshal(answer, &got))
	return got.Parties[1].VN
}

// call asks what is to be done with a call.
func (s *system) call(t *testing.T, called, calling, id string) {
	t.Helper()
	q := url.Values{"called": {called}, "calling": {calling}, "call_id": {id}}
	s.ask(t, http.MethodGet, "http://"+s.at.HTTP+"/v1/resolve?"+q.Encode(), nil)
}
