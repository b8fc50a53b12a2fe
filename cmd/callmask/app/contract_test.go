package app_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/internal/testkit/contract"
)

// The operations that every process has, and a switch's question, asked of a running
// system; the orders', pools' and stock-keeper's are held to the document where they are
// tested.
func TestARunningSystemAnswersAsTheOpenAPIDocumentSays(t *testing.T) {
	redisServer := testkit.Redis(t)
	flags := external(t)
	flags["redis-url"], flags["resolve-timeout"] = redisServer.URL(), "1s"
	r := start(t, app.Config{Settings: load(t, flags), Role: settings.All, Logger: zerolog.Nop()})
	require.Eventually(t, func() bool { status, _ := ready(t, r); return status == http.StatusOK }, patience, tick)
	api := contract.OpenAPI(t)
	seen := map[string][]int{}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	send := func(method, base, path, query, bearer, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+base+path+query, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+bearer)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := client.Do(req)
		require.NoError(t, err)
		defer func() { require.NoError(t, res.Body.Close()) }()
		answered, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		api.Check(t, req, body, res, answered)
		route := map[bool]string{true: "POST ", false: "GET "}[path == explain.Path] + path // a 405 is the path's, whatever the method
		seen[route] = append(seen[route], res.StatusCode)
		return string(answered)
	}
	public, private := r.at.HTTP, r.at.Admin
	const resolve, nobody = "/v1/resolve", "?called=%2B12025550101&calling=%2B12025550123&call_id=1"

	send("GET", private, "/livez", "", "", "")
	send("GET", private, "/readyz", "", "", "")
	send("GET", private, "/metrics", "", token, "")
	send("GET", private, "/metrics", "", "wrong", "")
	send("GET", private, "/openapi.json", "", token, "")

	require.Contains(t, send("GET", public, resolve, nobody, token, ""), "number_not_assigned")
	require.Contains(t, send("GET", public, resolve, "?called=%2B12025550101&calling=anonymous&call_id=1", token, ""), "caller_withheld")
	send("GET", public, resolve, nobody, "wrong", "")
	send("GET", public, resolve, "?called=%2B12025550101", token, "")
	send("POST", public, resolve, nobody, token, "")
	require.Eventually(t, func() bool {
		_, pools := get(t, "http://"+private+"/v1/pools", token)
		return strings.Contains(pools, `"free":20`)
	}, patience, tick, "the pool is being filled")
	placed := send("PUT", private, "/v1/orders/o-1", "", token,
		`{"pool":"demo","parties":[{"role":"customer","number":"+12025550123"},{"role":"agent","number":"+12025550145"}]}`)
	agent := regexp.MustCompile(`"agent","vn":"\+(\d+)"`).FindStringSubmatch(placed)
	require.NotNil(t, agent, placed)
	require.Contains(t, send("GET", public, resolve, "?called=%2B"+agent[1]+"&calling=%2B12025550123&call_id=1", token, ""), `"connect"`)

	ask := func(calling, more string) string {
		return send("POST", private, explain.Path, "", token, `{"called":"+`+agent[1]+`","calling":"`+calling+`"`+more+`}`)
	}
	require.Contains(t, ask("+12025550123", ""), `"action":"connect"`)
	require.Contains(t, ask("(202) 555-0123", `,"carrier":"sim","reveal":true`), `"destination":"+12025550145"`)
	require.Contains(t, ask("+12025550199", ""), `"caller_not_allowed"`)
	require.Contains(t, ask("+12025550145", ""), `"advice"`)
	require.Contains(t, send("POST", private, explain.Path, "", token, `{"called":"+12025550101"}`), `"caller_withheld"`)
	require.Contains(t, ask("banana", ""), `"field":"calling"`)
	send("POST", private, explain.Path, "", "wrong", `{"called":"+12025550101"}`)
	send("GET", private, explain.Path, "", token, "")
	bindings := redisServer.Client(t)
	routes, err := bindings.Keys(t.Context(), "cm1:*:vn:"+agent[1]).Result()
	require.NoError(t, err)
	require.NoError(t, bindings.Del(t.Context(), routes[0]).Err())
	require.NoError(t, bindings.HSet(t.Context(), routes[0], "0123456789abcdef", "damaged").Err())
	require.Contains(t, ask("+12025550199", ""), `"internal"`)

	redisServer.Pause(t)
	send("GET", public, resolve, nobody, token, "")
	require.Contains(t, ask("+12025550123", ""), `"unavailable"`)
	send("GET", private, "/readyz", "", "", "")
	redisServer.Resume(t)

	for route, statuses := range seen {
		slices.Sort(statuses)
		seen[route] = slices.Compact(statuses)
	}
	for _, tag := range []string{"router", "process", "explain"} {
		for route, statuses := range testkit.Operations(t, privateapi.OpenAPI, tag) {
			require.Equal(t, statuses, seen[route], route)
		}
	}
	require.NoError(t, r.stop())
}

// The examples of incoming messages do what the document says, and everything that the
// system published meanwhile is as described.
func TestARunningSystemSpeaksAsTheAsyncAPIDocumentSays(t *testing.T) {
	r := start(t, app.Config{Settings: load(t, nil), Role: settings.All, Logger: zerolog.Nop()})
	require.Eventually(t, func() bool { status, _ := ready(t, r); return status == http.StatusOK }, patience, tick)
	nc, err := nats.Connect(r.at.NATSURL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	last := func(subject string) string {
		s, err := js.Stream(t.Context(), "VN")
		require.NoError(t, err)
		msg, err := s.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			return ""
		}
		return string(msg.Data)
	}
	document := contract.AsyncAPI(t)
	examples := map[string][]json.RawMessage{}
	for _, c := range document.Channels() {
		examples[c.Address] = c.Examples
	}
	for _, step := range []struct{ subject, answer string }{
		{"orders.placed", ""},
		{"orders.assigned", "vn.assigned"},
		{"orders.completed", "vn.released"},
		{"orders.cancelled", ""}, // of an order that nobody knows: remembered, not announced
	} {
		require.NotEmpty(t, examples[step.subject])
		for _, example := range examples[step.subject] {
			_, err := js.Publish(t.Context(), step.subject, example)
			require.NoError(t, err)
			if step.answer != "" {
				require.Eventually(t, func() bool { return strings.Contains(last(step.answer), `"order-1"`) }, patience, tick, step.subject)
			}
		}
	}
	_, err = js.Publish(t.Context(), "orders.assigned", []byte(`{"order_id":"order-3","pool":"demo","parties":[]}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(last("vn.failed"), `"invalid"`) }, patience, tick)
	seen := map[string]bool{}
	for _, stream := range []string{"VN", "POOLS", "LEDGER"} {
		s, err := js.Stream(t.Context(), stream)
		require.NoError(t, err)
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			msg, err := s.GetMsg(t.Context(), seq)
			if err != nil {
				require.ErrorIs(t, err, jetstream.ErrMsgNotFound)
				continue
			}
			document.Check(t, msg.Subject, msg.Data)
			document.CheckHeaders(t, msg.Subject, msg.Header)
			seen[document.On(t, msg.Subject).Address] = true
		}
	}
	for _, subject := range []string{"vn.assigned", "vn.released", "vn.failed", "pools.bought", "ledger.vn.{vn}", "ledger.intent.{pool}.{vn}"} {
		require.True(t, seen[subject], subject)
	}
	requireMetricsPage(t, r.Registry())
	requireFewSeries(t, r.Registry())
	require.NoError(t, r.stop())
}
