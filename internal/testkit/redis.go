package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/callmask/callmask/internal/cluster"
)

// startTimeout bounds how long a server may take to answer on a loaded machine.
const startTimeout = 20 * time.Second

// RedisServer is a redis-server process of a test.
type RedisServer struct {
	Addr string // host:port
	Dir  string // where its files are

	node *cluster.RedisNode
}

// Redis starts a redis-server with an AOF, `noeviction` and the given further
// arguments (as on its command line, "--name", "value"), and ends it with the test.
func Redis(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	dir := tb.TempDir()
	node, err := cluster.StartRedisNode(ctx, dir, args...)
	if err != nil {
		tb.Fatal(err)
	}
	s := &RedisServer{Addr: node.Addr, Dir: dir, node: node}
	tb.Cleanup(func() {
		s.Kill()
		_ = node.Client().Close() // nothing waits for it
	})
	return s
}

// URL returns the server's address as a redis:// URL.
func (s *RedisServer) URL() string { return "redis://" + s.Addr }

// Client returns a client that is closed with the test.
func (s *RedisServer) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: quiet(),
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Pid returns the process id of the running server.
func (s *RedisServer) Pid() int { return s.node.Pid() }

// Kill ends the server with SIGKILL and waits for it. A second call does nothing.
func (s *RedisServer) Kill() { s.node.Kill() }

// Pause freezes the server, so that it takes requests and answers none, until Resume.
func (s *RedisServer) Pause(tb testing.TB) {
	tb.Helper()
	if err := s.node.Freeze(); err != nil {
		tb.Fatal(err)
	}
}

// Resume ends a Pause.
func (s *RedisServer) Resume(tb testing.TB) {
	tb.Helper()
	if err := s.node.Thaw(); err != nil {
		tb.Fatal(err)
	}
}

// Restart starts a killed server again on the same port and files.
func (s *RedisServer) Restart(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	if err := s.node.Restart(ctx); err != nil {
		tb.Fatal(err)
	}
}

// quiet switches off go-redis's maintenance notifications: they are a hosted Redis's,
// and leave goroutines behind.
func quiet() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
