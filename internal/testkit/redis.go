package testkit

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startTimeout bounds how long a server may take to answer on a loaded machine.
const startTimeout = 20 * time.Second

// RedisServer is a redis-server process of a test.
type RedisServer struct {
	Addr string // host:port
	Dir  string // where its files are

	args []string
	cmd  *exec.Cmd
	done chan struct{}
	out  bytes.Buffer
}

// Redis starts a redis-server with an AOF, `noeviction` and the given further
// arguments (as on its command line, "--name", "value"), and ends it with the test.
func Redis(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	s := &RedisServer{Dir: tb.TempDir(), args: args}
	s.start(tb)
	tb.Cleanup(s.Kill)
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
func (s *RedisServer) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server with SIGKILL and waits for it. A second call does nothing.
func (s *RedisServer) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Pause freezes the server, so that it takes requests and answers none, until Resume.
func (s *RedisServer) Pause(tb testing.TB) { tb.Helper(); s.signal(tb, syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *RedisServer) Resume(tb testing.TB) { tb.Helper(); s.signal(tb, syscall.SIGCONT) }

func (s *RedisServer) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("signal redis-server: %v", err)
	}
}

// Restart starts a killed server again on the same port and files.
func (s *RedisServer) Restart(tb testing.TB) {
	tb.Helper()
	s.run(tb, s.Addr)
	s.await(tb)
}

func (s *RedisServer) start(tb testing.TB) {
	tb.Helper()
	// A free port may be taken by somebody else before the server binds it.
	for range 5 {
		s.run(tb, freeAddr(tb))
		if s.await(tb) {
			return
		}
	}
	tb.Fatalf("redis-server did not start:\n%s", s.out.String())
}

func (s *RedisServer) run(tb testing.TB, addr string) {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Fatal("redis-server is not installed: run `make deps`")
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	s.Addr = addr
	s.out.Reset()
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "",
		"--appendonly", "yes", "--maxmemory-policy", "noeviction", "--hash-max-listpack-value", "128",
	}, s.args...)
	s.cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), path, args...) // it outlives the cleanups that use it
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		tb.Fatalf("start redis-server: %v", err)
	}
	done, cmd := make(chan struct{}), s.cmd
	s.done = done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

// quiet switches off go-redis's maintenance notifications: they are a hosted Redis's,
// and leave goroutines behind.
func quiet() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// await reports whether the server answers before it ends or the time is up.
func (s *RedisServer) await(tb testing.TB) bool {
	tb.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, MaxRetries: -1, DisableIdentity: true, MaintNotificationsConfig: quiet(),
	})
	defer func() { _ = c.Close() }()
	return until(s.done, func(ctx context.Context) bool {
		info, err := c.Info(ctx, "server").Result()
		return err == nil && strings.Contains(info, "process_id:"+strconv.Itoa(s.Pid())+"\r")
	})
}

// until calls ok every few milliseconds until it is true, ended is closed or
// startTimeout has passed.
func until(ended <-chan struct{}, ok func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok(ctx) {
			return true
		}
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// RedisCluster starts three masters that share the slots and returns a client,
// closed with the test.
func RedisCluster(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	const masters, slots = 3, 16384
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	addrs := make([]string, masters)
	nodes := make([]*redis.Client, masters)
	for i := range nodes {
		_, bus, err := net.SplitHostPort(freeAddr(tb))
		if err != nil {
			tb.Fatal(err)
		}
		s := Redis(tb, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "5000")
		addrs[i], nodes[i] = s.Addr, s.Client(tb)
		if err := nodes[i].ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err(); err != nil {
			tb.Fatalf("give node %d its slots: %v", i, err)
		}
		if i == 0 {
			continue
		}
		host, port, err := net.SplitHostPort(addrs[i])
		if err != nil {
			tb.Fatal(err)
		}
		if err := nodes[0].Do(ctx, "cluster", "meet", host, port, bus).Err(); err != nil {
			tb.Fatalf("meet node %d: %v", i, err)
		}
	}
	for i, n := range nodes {
		if !until(nil, func(ctx context.Context) bool {
			info, err := n.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters))
		}) {
			tb.Fatalf("node %d never saw the whole cluster", i)
		}
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: quiet(),
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// freeAddr returns a loopback address that nobody listened on a moment ago.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
