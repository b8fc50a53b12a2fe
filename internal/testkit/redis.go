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
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	s := &RedisServer{Dir: t.TempDir(), args: args}
	s.start(t)
	t.Cleanup(s.Kill)
	return s
}

// URL returns the server's address as a redis:// URL.
func (s *RedisServer) URL() string { return "redis://" + s.Addr }

// Client returns a client that is closed with the test.
func (s *RedisServer) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, ContextTimeoutEnabled: true, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
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
func (s *RedisServer) Pause(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *RedisServer) Resume(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *RedisServer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal redis-server: %v", err)
	}
}

// Restart starts a killed server again on the same port and files.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	s.run(t, s.Addr)
	s.await(t)
}

func (s *RedisServer) start(t testing.TB) {
	t.Helper()
	// A free port may be taken by somebody else before the server binds it.
	for range 5 {
		s.run(t, freeAddr(t))
		if s.await(t) {
			return
		}
	}
	t.Fatalf("redis-server did not start:\n%s", s.out.String())
}

func (s *RedisServer) run(t testing.TB, addr string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: run `make deps`")
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = addr
	s.out.Reset()
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "",
		"--appendonly", "yes", "--maxmemory-policy", "noeviction", "--hash-max-listpack-value", "128",
	}, s.args...)
	s.cmd = exec.Command(path, args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	done, cmd := make(chan struct{}), s.cmd
	s.done = done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

// await reports whether the server answers before it ends or the time is up.
func (s *RedisServer) await(t testing.TB) bool {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DisableIdentity: true})
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
func RedisCluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	const masters, slots = 3, 16384
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	addrs := make([]string, masters)
	nodes := make([]*redis.Client, masters)
	for i := range nodes {
		_, bus, err := net.SplitHostPort(freeAddr(t))
		if err != nil {
			t.Fatal(err)
		}
		s := Redis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "5000")
		addrs[i], nodes[i] = s.Addr, s.Client(t)
		if err := nodes[i].ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err(); err != nil {
			t.Fatalf("give node %d its slots: %v", i, err)
		}
		if i == 0 {
			continue
		}
		host, port, err := net.SplitHostPort(addrs[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := nodes[0].Do(ctx, "cluster", "meet", host, port, bus).Err(); err != nil {
			t.Fatalf("meet node %d: %v", i, err)
		}
	}
	for i, n := range nodes {
		if !until(nil, func(ctx context.Context) bool {
			info, err := n.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters))
		}) {
			t.Fatalf("node %d never saw the whole cluster", i)
		}
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// freeAddr returns a loopback address that nobody listened on a moment ago.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
