package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
)

// Not parallel: it counts the goroutines of the whole test process. The servers that
// the single roles need run in a child process, so that they have no part in that.
func TestEveryRoleStartsAndEndsCleanlyTwiceInARow(t *testing.T) {
	servers := startAll(t, publicConfig)
	servers.web.CloseIdleConnections()
	for _, role := range []settings.Role{settings.All, settings.Router, settings.Allocator, settings.Replenisher} {
		t.Run(string(role), func(t *testing.T) {
			flags := map[string]string{
				"config": filepath.Join(filepath.Dir(servers.Dir), "callmask.yaml"), "data-dir": t.TempDir(),
				"http-addr": "127.0.0.1:0", "admin-addr": "127.0.0.1:0",
				"embedded-redis-addr": "127.0.0.1:0", "embedded-nats-addr": "127.0.0.1:0",
			}
			if role != settings.All {
				flags["redis-url"], flags["nats-url"] = "redis://"+servers.Redis, "nats://"+servers.NATS
				flags["keyset"], flags["api-token"] = filepath.Join(servers.Dir, "keyset.json"), servers.Token
			}
			if role == settings.Replenisher { // nobody else knows where its router is
				config := strings.Replace(publicConfig, "kind: sim,", `kind: sim, public_url: "http://127.0.0.1:1",`, 1)
				flags["config"] = filepath.Join(t.TempDir(), "callmask.yaml")
				writeFile(t, flags["config"], config)
			}
			for range 2 {
				before := goleak.IgnoreCurrent()
				runOnce(t, role, flags)
				goleak.VerifyNone(t, before)
			}
		})
	}
}

// runOnce starts an App of the role, waits until it is ready and ends it.
func runOnce(t *testing.T, role settings.Role, flags map[string]string) {
	t.Helper()
	s, err := settings.Load(settings.Input{Flags: flags, Env: func(string) (string, bool) { return "", false }})
	require.NoError(t, err)
	log := &lockedBuilder{}
	a, err := app.New(app.Config{Settings: s, Role: role, Logger: zerolog.New(log)})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-a.Started():
	case err := <-ended:
		t.Fatalf("%s ended at its start: %v\n%s", role, err, log)
	case <-time.After(startLimit):
		t.Fatalf("%s has not started:\n%s", role, log)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	await(t, startLimit, string(role)+" is ready", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Endpoints().Admin+"/readyz", nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close() // the status is all there is to know
		return resp.StatusCode == http.StatusOK
	})
	stop()
	select {
	case err := <-ended:
		require.NoError(t, err, log)
	case <-time.After(stopLimit):
		t.Fatalf("%s does not end:\n%s", role, log)
	}
}

// lockedBuilder is a log that several goroutines write.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return tail(l.b.String())
}

// Redis is held still, so that calls are certainly in flight when SIGTERM comes.
func TestSIGTERMUnderLoadAnswersWhatIsInFlightAndEndsWithCodeZero(t *testing.T) {
	t.Parallel()
	p := startAll(t, stormConfig, "--resolve-timeout", "10s")
	s := newStorm(t, p, random(t))
	await(t, startLimit, "there is load", func() bool { return s.stored.Load() > 100 && s.connected.Load() > 100 })
	o := s.pin(t)
	p.requireConnected(t, o.vns["agent"], o.numbers["customer"], o.numbers["agent"], o.vns["customer"])

	server := p.redisServer(t)
	require.NoError(t, syscall.Kill(server, syscall.SIGSTOP))
	const calls = 20
	var right, answered atomic.Int64
	var callers sync.WaitGroup
	for range calls {
		callers.Go(func() {
			got, err := p.tryResolve(t, p.Token, o.vns["agent"], o.numbers["customer"])
			answered.Add(1)
			if err == nil && got.status == http.StatusOK && strings.Contains(got.body, `"action":"connect"`) {
				right.Add(1)
			} else {
				t.Errorf("a call in flight got status %d, error %v", got.status, err)
			}
		})
	}
	await(t, startLimit, "the calls and those of the storm are in flight", func() bool {
		return p.metric(t, "callmask_router_in_flight") >= calls+stormCallers
	})
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	await(t, startLimit, "callmask takes no more calls", func() bool {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", p.HTTP)
		if err == nil {
			_ = conn.Close() // nothing was sent
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	require.Zero(t, answered.Load(), "no call in flight was cut")
	require.NoError(t, syscall.Kill(server, syscall.SIGCONT))
	require.Zero(t, p.awaitExit(t))
	callers.Wait()
	require.Equal(t, int64(calls), right.Load())
	require.Empty(t, p.redisServers(t), "redis-server has ended with its parent")
	require.NotContains(t, p.log(t), "still busy")
	s.end()

	p.restart(t)
	s.requireKept(t)
	s.requireHealed(t, redelivery)
}

// metric reads a metric without labels.
func (p *process) metric(t *testing.T, name string) float64 {
	t.Helper()
	got := p.api(t, http.MethodGet, "/metrics", "")
	for line := range strings.Lines(got.body) {
		var v float64
		if n, err := fmt.Sscanf(line, name+" %g", &v); n == 1 && err == nil {
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
