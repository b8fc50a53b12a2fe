package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/embedded"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
)

func TestMain(m *testing.M) {
	// fasthttp keeps the time of its Date header in a goroutine of the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

const (
	patience = 30 * time.Second
	tick     = 20 * time.Millisecond
	token    = "test-api-token-0123456789"
)

// load reads settings for a process on free ports.
func load(t *testing.T, flags map[string]string) *settings.Settings {
	t.Helper()
	all := map[string]string{
		"http-addr": "127.0.0.1:0", "admin-addr": "127.0.0.1:0", "data-dir": t.TempDir(),
		"embedded-redis-addr": "127.0.0.1:0", "embedded-nats-addr": "127.0.0.1:0",
	}
	for k, v := range flags {
		all[k] = v
	}
	s, err := settings.Load(settings.Input{Flags: all, Env: func(string) (string, bool) { return "", false }, Demo: true})
	require.NoError(t, err)
	return s
}

// running is an App under test.
type running struct {
	*app.App

	at   app.Endpoints
	stop func() error // ends it and returns what Run returned
}

func start(t *testing.T, cfg app.Config) *running {
	t.Helper()
	a, err := app.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	var result error
	stop := func() error {
		once.Do(func() {
			cancel()
			result = <-done
		})
		return result
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case <-a.Started():
	case err := <-done:
		done <- err
		require.NoError(t, err, "it ended instead of starting")
	case <-time.After(patience):
		require.Fail(t, "it did not start in time")
	}
	return &running{App: a, at: a.Endpoints(), stop: stop}
}

// runError runs an App that must not start.
func runError(t *testing.T, cfg app.Config) error {
	t.Helper()
	a, err := app.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return a.Run(ctx)
}

func get(t *testing.T, url, bearer string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	c := &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

func ready(t *testing.T, r *running) (int, app.Ready) {
	t.Helper()
	status, body := get(t, "http://"+r.at.Admin+"/readyz", "")
	var out app.Ready
	require.NoError(t, json.Unmarshal([]byte(body), &out), body)
	return status, out
}

func names(r app.Ready) []string {
	var list []string
	for _, c := range r.Components {
		list = append(list, c.Name)
	}
	return list
}

func TestAllStartsFillsItsPoolAndEndsCleanly(t *testing.T) {
	var log, banner testkit.Buffer
	set := load(t, nil)
	r := start(t, app.Config{Settings: set, Role: settings.All, Logger: zerolog.New(&log), Banner: &banner})

	var body app.Ready
	require.Eventually(t, func() bool {
		var status int
		status, body = ready(t, r)
		return status == http.StatusOK
	}, patience, tick, "the consumers come up a moment after the start")
	require.ElementsMatch(t, []string{"redis", "nats", "allocator", "router", "repair", "carriers that sell", "redis for calls"}, names(body))
	require.Equal(t, filepath.Join(set.DataDir, app.TokenFile), r.at.TokenFile)
	for _, path := range []string{r.at.TokenFile, r.at.KeysetFile} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
		require.Contains(t, banner.String(), path, "people are told where it is")
	}
	require.NotContains(t, banner.String()+log.String(), r.at.APIToken, "the token itself is shown nowhere")
	require.Eventually(t, func() bool {
		_, pools := get(t, "http://"+r.at.Admin+"/v1/pools", r.at.APIToken)
		return strings.Contains(pools, `"free":20`)
	}, patience, tick)

	for path, open := range map[string]bool{
		"/livez": true, "/readyz": true, "/metrics": false, "/openapi.json": false, "/v1/pools": false, "/debug/pprof/": false, "/nowhere": false,
		// A redirect would repeat what stands in the path to somebody without a token.
		"/v1/orders/..": false, "/v1/orders/../12025550123": false, "//v1/pools": false, "/v1//12025550123": false,
	} {
		status, _ := get(t, "http://"+r.at.Admin+path, "")
		require.Equal(t, map[bool]int{true: 200, false: 401}[open], status, path)
		status, _ = get(t, "http://"+r.at.Admin+path, "wrong-token")
		require.Equal(t, map[bool]int{true: 200, false: 401}[open], status, path)
	}
	_, metrics := get(t, "http://"+r.at.Admin+"/metrics", r.at.APIToken)
	for _, want := range []string{"callmask_router_", "callmask_allocator_", "callmask_embedded_redis_restarts_total 0", "go_goroutines"} {
		require.Contains(t, metrics, want)
	}
	require.NoError(t, r.stop())
	status, _ := get(t, "http://"+r.at.Admin+"/livez", "")
	require.Zero(t, status, "nothing listens any more")
}

func TestASecondStartFindsTheDataOfTheFirst(t *testing.T) {
	set := load(t, nil)
	first := start(t, app.Config{Settings: set, Role: settings.All, Logger: zerolog.Nop()})
	require.Eventually(t, func() bool {
		_, pools := get(t, "http://"+first.at.Admin+"/v1/pools", first.at.APIToken)
		return strings.Contains(pools, `"free":20`)
	}, patience, tick)

	err := runError(t, app.Config{Settings: set, Role: settings.All, Logger: zerolog.Nop()})
	require.ErrorIs(t, err, embedded.ErrLocked)
	require.ErrorContains(t, err, "CALLMASK_DATA_DIR: ")
	require.NoError(t, first.stop())

	second := start(t, app.Config{Settings: set, Role: settings.All, Logger: zerolog.Nop()})
	require.Equal(t, first.at.APIToken, second.at.APIToken)
	_, pools := get(t, "http://"+second.at.Admin+"/v1/pools", second.at.APIToken)
	require.Contains(t, pools, `"total":20`)
	require.NoError(t, second.stop())

	require.NoError(t, os.Remove(second.at.KeysetFile))
	err = runError(t, app.Config{Settings: set, Role: settings.All, Logger: zerolog.Nop()})
	require.ErrorContains(t, err, "CALLMASK_KEYSET: ")
	require.ErrorContains(t, err, "restore it from a backup", "a new keyset would lose every order")
}

// laidOut starts a Redis that another role has written its layout to: a router alone
// waits for that.
func laidOut(t *testing.T) *testkit.RedisServer {
	t.Helper()
	server := testkit.Redis(t)
	store, err := scripts.New(scripts.Config{}, server.Client(t), nil)
	require.NoError(t, err)
	require.NoError(t, store.Start(t.Context()))
	return server
}

// external returns the flags of a process whose servers are elsewhere.
func external(t *testing.T) map[string]string {
	t.Helper()
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	_, err := seal.Create(keyset)
	require.NoError(t, err)
	return map[string]string{
		"redis-url": laidOut(t).URL(), "nats-url": testkit.NATS(t).URL, "keyset": keyset, "api-token": token,
	}
}

// simElsewhere is a settings file whose simulated carrier is not started here.
const simElsewhere = `pools: [{name: demo, region: US, carriers: [sim], low_water: 1, target: 2, max: 2}]
carriers:
- {name: sim, kind: sim, api_url: "http://127.0.0.1:1", public_url: "http://127.0.0.1:2", secrets: [test-sim-secret]}
- {name: pbx, kind: softswitch, tokens: [test-pbx-token]}
`

func TestEachRoleStartsAloneAndEndsCleanly(t *testing.T) {
	flags := external(t)
	flags["config"] = filepath.Join(t.TempDir(), "callmask.yaml")
	require.NoError(t, os.WriteFile(flags["config"], []byte(simElsewhere), 0o600))
	for _, c := range []struct {
		role  settings.Role
		parts []string
		api   int // status of /v1/pools
	}{
		{settings.Allocator, []string{"redis", "nats", "allocator", "repair"}, http.StatusOK},
		{settings.Replenisher, []string{"redis", "nats", "repair", "carriers that sell"}, http.StatusNotFound},
		{settings.Router, []string{"redis", "nats", "router", "redis for calls"}, http.StatusNotFound},
	} {
		t.Run(string(c.role), func(t *testing.T) {
			r := start(t, app.Config{Settings: load(t, flags), Role: c.role, Logger: zerolog.Nop()})
			var body app.Ready
			require.Eventually(t, func() bool {
				var status int
				status, body = ready(t, r)
				return status == http.StatusOK
			}, patience, tick)
			require.ElementsMatch(t, c.parts, names(body))
			require.Equal(t, string(c.role), body.Role)
			status, _ := get(t, "http://"+r.at.Admin+"/v1/pools", token)
			require.Equal(t, c.api, status)
			if c.role == settings.Router {
				status, answer := get(t, "http://"+r.at.HTTP+"/v1/resolve?called=%2B12025550101&calling=%2B12025550123&call_id=1", "test-pbx-token")
				require.Equal(t, http.StatusOK, status)
				require.Contains(t, answer, "number_not_assigned")
			} else {
				require.Empty(t, r.at.HTTP, "only the router listens for carriers")
			}
			require.NoError(t, r.stop())
			entries, err := os.ReadDir(load(t, flags).DataDir)
			require.NoError(t, err)
			require.Empty(t, entries, "a single role keeps no data")
		})
	}
}

func TestARouterAnswersWhileNATSIsAway(t *testing.T) {
	flags := external(t)
	flags["nats-url"] = "nats://127.0.0.1:1"
	r := start(t, app.Config{Settings: load(t, flags), Role: settings.Router, Logger: zerolog.Nop()})
	status, body := ready(t, r)
	require.Equal(t, http.StatusOK, status, "a router without NATS must not leave the load balancer")
	for _, c := range body.Components {
		require.Equal(t, c.Name != "nats", c.OK, c.Name)
	}
	status, answer := get(t, "http://"+r.at.HTTP+"/v1/resolve?called=%2B12025550101&calling=%2B12025550123&call_id=1", token)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, "number_not_assigned")
	require.NoError(t, r.stop())
}

func TestReadyzNamesWhatIsMissingAndSaysDrainingFirst(t *testing.T) {
	redisServer := laidOut(t)
	flags := external(t)
	flags["redis-url"], flags["drain-delay"] = redisServer.URL(), "2s"
	r := start(t, app.Config{Settings: load(t, flags), Role: settings.Router, Logger: zerolog.Nop()})
	redisServer.Pause(t)
	status, body := ready(t, r)
	redisServer.Resume(t)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "not_ready", body.Status)
	for _, c := range body.Components {
		if c.Name == "redis" {
			require.False(t, c.OK)
			require.NotEmpty(t, c.Error)
		}
	}
	require.Eventually(t, func() bool { status, _ := ready(t, r); return status == http.StatusOK }, patience, tick)

	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	require.Eventually(t, func() bool {
		status, body := get(t, "http://"+r.at.Admin+"/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(body, `"status":"draining"`)
	}, patience, tick)
	status, _ = get(t, "http://"+r.at.HTTP+"/v1/resolve?called=%2B12025550101&calling=%2B12025550123&call_id=1", token)
	require.Equal(t, http.StatusOK, status, "calls are answered until the load balancer has looked")
	require.NoError(t, <-ended)
}

func TestAStartThatFailsNamesTheSettingAndLeavesNothingBehind(t *testing.T) {
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	addr := taken.Addr().String()
	dir := t.TempDir()
	readable := filepath.Join(dir, "keyset.json")
	_, err = seal.Create(readable)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(readable, 0o644))
	open := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(open, app.TokenFile), []byte("0123456789abcdef0123456789\n"), 0o644))
	for name, c := range map[string]struct {
		role  settings.Role
		flags map[string]string
		want  string
	}{
		"private listener taken":      {settings.All, map[string]string{"admin-addr": addr}, "CALLMASK_ADMIN_ADDR: "},
		"listener for carriers taken": {settings.All, map[string]string{"http-addr": addr}, "CALLMASK_HTTP_ADDR: "},
		"redis address taken":         {settings.All, map[string]string{"embedded-redis-addr": addr}, "CALLMASK_EMBEDDED_REDIS_ADDR: "},
		"nats address taken":          {settings.All, map[string]string{"embedded-nats-addr": addr}, "CALLMASK_EMBEDDED_NATS_ADDR: "},
		"keyset that others may read": {settings.All, map[string]string{"keyset": readable}, "CALLMASK_KEYSET: "},
		"token that others may read":  {settings.All, map[string]string{"data-dir": open}, "CALLMASK_API_TOKEN: "},
		"router without a keyset":     {settings.Router, map[string]string{"redis-url": "redis://x", "nats-url": "nats://x"}, "CALLMASK_KEYSET: is not set"},
		"missing keyset file": {
			settings.Router,
			map[string]string{"redis-url": "redis://x", "nats-url": "nats://x", "keyset": dir + "/none", "api-token": token},
			"CALLMASK_KEYSET: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := runError(t, app.Config{Settings: load(t, c.flags), Role: c.role, Logger: zerolog.Nop()})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestAStopDuringTheStartEndsCleanly(t *testing.T) {
	flags := external(t)
	flags["redis-url"] = "redis://127.0.0.1:1" // nobody is there: the start waits
	a, err := app.New(app.Config{Settings: load(t, flags), Role: settings.Allocator, Logger: zerolog.Nop()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	select {
	case <-a.Started():
		require.Fail(t, "it started without Redis")
	case err := <-done:
		require.Fail(t, "it ended by itself", err)
	case <-time.After(300 * time.Millisecond):
	}
	cancel()
	require.NoError(t, <-done, "to be stopped is no failure")
}

func TestAMaskedLogHidesNumbers(t *testing.T) {
	t.Parallel()
	var out testkit.Buffer
	m := &app.MaskedLog{Logger: zerolog.New(&out)}
	m.Printf(t.Context(), "bad request from %s: +1 (202) 555-0123 and %s", "127.0.0.1:4711", "447700900123")
	require.NotRegexp(t, `555|447700|0123`, out.String())
	require.Contains(t, out.String(), "bad request")
}
