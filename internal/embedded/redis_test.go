package embedded_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/embedded"
	"github.com/callmask/callmask/internal/testkit"
)

const (
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)

func startRedis(t *testing.T, cfg embedded.RedisConfig) *embedded.Redis {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	r, err := embedded.StartRedis(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stopRedis(t, r) })
	return r
}

func stopRedis(t *testing.T, r *embedded.Redis) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	require.NoError(t, r.Stop(ctx))
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	o.MaxRetries, o.ContextTimeoutEnabled, o.DisableIdentity = -1, true, true
	o.DialerRetries, o.PoolSize = 1, 1000 // after PoolSize failures it would dial on in the background
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// alive tells whether the process does anything still: a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestRedisHasTheSettingsThatPromisesRestOn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), `a "strange" \ dir`)
	r := startRedis(t, embedded.RedisConfig{Dir: dir})
	c := redisClient(t, r.URL())
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "slowlog-log-slower-than": "-1", "latency-tracking": "no",
		"hash-max-listpack-value": "128", "protected-mode": "yes", "save": "", "bind": "127.0.0.1", "dir": filepath.Join(dir, "redis"),
	} {
		got, err := c.ConfigGet(t.Context(), name).Result()
		require.NoError(t, err)
		require.Equal(t, want, got[name], name)
	}
	pgid, err := syscall.Getpgid(r.Pid())
	require.NoError(t, err)
	require.Equal(t, r.Pid(), pgid, "a process group of its own")
	info, err := os.Stat(filepath.Join(dir, "redis"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestAStoppedRedisIsGoneAndKeptItsData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := startRedis(t, embedded.RedisConfig{Dir: dir})
	require.NoError(t, redisClient(t, r.URL()).Set(t.Context(), "kept", "yes", 0).Err())
	pid := r.Pid()
	stopRedis(t, r)
	stopRedis(t, r) // a second call changes nothing
	require.False(t, alive(pid))
	<-r.Done()

	r = startRedis(t, embedded.RedisConfig{Dir: dir})
	require.Equal(t, "yes", redisClient(t, r.URL()).Get(t.Context(), "kept").Val())
	require.Zero(t, r.Restarts())
}

func TestAKilledRedisComesBackWithItsData(t *testing.T) {
	t.Parallel()
	r := startRedis(t, embedded.RedisConfig{})
	c := redisClient(t, r.URL())
	for n := 1; n <= 2; n++ {
		require.NoError(t, c.Set(t.Context(), "kept", n, 0).Err())
		pid := r.Pid()
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		require.Eventually(t, func() bool { return r.Pid() != pid && c.Ping(t.Context()).Err() == nil }, patience, tick)
		require.Equal(t, strconv.Itoa(n), c.Get(t.Context(), "kept").Val(), "the AOF is read at the restart, on the same port")
		require.Equal(t, n, r.Restarts())
	}
}

func TestStopWhileADeadRedisWaitsForItsRestart(t *testing.T) {
	t.Parallel()
	r := startRedis(t, embedded.RedisConfig{})
	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGKILL))
	stopRedis(t, r)
	require.False(t, alive(r.Pid()))
}

func TestAFrozenRedisIsKilledWhenPatienceEnds(t *testing.T) {
	t.Parallel()
	r := startRedis(t, embedded.RedisConfig{})
	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, r.Stop(ctx), "was killed")
	require.False(t, alive(r.Pid()))
}

func TestTwoStartsOnOneDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := startRedis(t, embedded.RedisConfig{Dir: dir})
	_, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: dir})
	require.ErrorIs(t, err, embedded.ErrLocked)
	require.ErrorContains(t, err, "(process "+strconv.Itoa(os.Getpid())+")")
	require.NoError(t, redisClient(t, r.URL()).Ping(t.Context()).Err(), "the first is left alone")
}

// TestHelperProcess is no test: it is the callmask that the orphan tests kill.
func TestHelperProcess(t *testing.T) {
	dir := os.Getenv("CALLMASK_TEST_ORPHAN_DIR")
	if dir == "" {
		return
	}
	r, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: dir})
	require.NoError(t, err)
	require.NoError(t, json.NewEncoder(os.Stdout).Encode(map[string]string{"url": r.URL(), "pid": strconv.Itoa(r.Pid())}))
	<-r.Done() // until it is killed
}

// orphan leaves a redis-server behind on dir as a killed callmask does.
func orphan(t *testing.T, dir string) (url string, pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), "CALLMASK_TEST_ORPHAN_DIR="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var said map[string]string
	require.NoError(t, json.NewDecoder(out).Decode(&said))
	pid, err = strconv.Atoi(said["pid"])
	require.NoError(t, err)
	t.Cleanup(func() {
		if alive(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	require.NoError(t, redisClient(t, said["url"]).Set(t.Context(), "kept", "by the orphan", 0).Err())
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	require.True(t, alive(pid), "the server outlives the killed callmask")
	return said["url"], pid
}

func TestTheNextStartEndsTheOrphanOfAKilledCallmask(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(dir string) error{
		"with its pid file":  func(string) error { return nil },
		"without a pid file": func(dir string) error { return os.Remove(filepath.Join(dir, "redis", "redis.pid")) },
		"with a wrong address": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "redis", "redis.conf"), []byte("port 1\n"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			url, pid := orphan(t, dir)
			require.NoError(t, prepare(dir))
			o, err := redis.ParseURL(url)
			require.NoError(t, err)
			r := startRedis(t, embedded.RedisConfig{Dir: dir, Addr: o.Addr})
			require.False(t, alive(pid), "never two servers on one AOF")
			require.Equal(t, "by the orphan", redisClient(t, r.URL()).Get(t.Context(), "kept").Val())
		})
	}
}

func TestAnOrphanThatDoesNotAnswerIsKnownAllTheSame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, pid := orphan(t, dir)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := embedded.StartRedis(ctx, embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: dir})
	require.ErrorContains(t, err, "orphaned process "+strconv.Itoa(pid)+" is still ending")
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	require.Eventually(t, func() bool { return !alive(pid) }, patience, tick, "it was asked properly, not killed")
}

func TestAnOldPidFileHarmsNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	require.NoError(t, stranger.Start())
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "redis"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "redis", "redis.pid"), []byte(strconv.Itoa(stranger.Process.Pid)), 0o600))
	startRedis(t, embedded.RedisConfig{Dir: dir})
	require.True(t, alive(stranger.Process.Pid))
}

func TestAForeignRedisOnTheDirectoryIsLeftAloneAndRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := filepath.Join(dir, "redis")
	require.NoError(t, os.MkdirAll(own, 0o700))
	foreign := exec.CommandContext(t.Context(), "redis-server", "--port", "0", "--unixsocket", "s", "--dir", own, "--save", "")
	foreign.Dir = own
	require.NoError(t, foreign.Start())
	t.Cleanup(func() { _ = foreign.Process.Kill(); _ = foreign.Wait() })
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(own, "s")); return err == nil }, patience, tick)
	_, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: dir})
	require.ErrorContains(t, err, "process "+strconv.Itoa(foreign.Process.Pid)+" is a Redis on")
	require.True(t, alive(foreign.Process.Pid))
}

func TestRedisWithoutAProgramOrTooOldIsOneClearLine(t *testing.T) {
	t.Parallel()
	_, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: t.TempDir(), Binary: "no-such-redis-server"})
	require.ErrorContains(t, err, "redis-server is not installed: apt-get install redis-server")
	old := filepath.Join(t.TempDir(), "redis-server")
	require.NoError(t, os.WriteFile(old, []byte("#!/bin/sh\necho Redis server v=6.2.7 sha=0\n"), 0o700))
	_, err = embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: t.TempDir(), Binary: old})
	require.ErrorContains(t, err, "redis-server 6.2.7 is too old: version 7.0 or newer is needed")
}

func TestRedisAddresses(t *testing.T) {
	t.Parallel()
	start := func(addr, password string) error {
		_, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: addr, Password: password, Dir: t.TempDir()})
		return err
	}
	for _, open := range []string{":0", "0.0.0.0:0", "192.0.2.1:6390", "redis.example:6390"} {
		require.ErrorContains(t, start(open, ""), "needs a password", open)
	}
	require.ErrorContains(t, start("127.0.0.1", ""), "missing port")
	require.ErrorContains(t, start("127.0.0.1:70000", ""), "not 0 to 65535")
	require.ErrorContains(t, start("127.0.0.1:0", "a b"), "no spaces")
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	require.ErrorContains(t, start(taken.Addr().String(), ""), "is in use by another program")

	r := startRedis(t, embedded.RedisConfig{Addr: ":0", Password: `pass"word\1`})
	require.NoError(t, redisClient(t, r.URL()).Ping(t.Context()).Err())
	require.ErrorContains(t, redisClient(t, "redis://"+r.Addr()).Ping(t.Context()).Err(), "NOAUTH")
}

func TestAnAOFThatCannotBeReadIsExplained(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	aof := filepath.Join(dir, "redis", "appendonlydir")
	require.NoError(t, os.MkdirAll(aof, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(aof, "appendonly.aof.manifest"), []byte("nonsense\n"), 0o600))
	_, err := embedded.StartRedis(t.Context(), embedded.RedisConfig{Addr: "127.0.0.1:0", Dir: dir})
	require.ErrorContains(t, err, "redis-server ended at its start")
	require.ErrorContains(t, err, "AOF")
	require.NotContains(t, err.Error(), "\n")
}

func TestTheChildsLogIsOurs(t *testing.T) {
	t.Parallel()
	var log testkit.Buffer
	r := startRedis(t, embedded.RedisConfig{Logger: zerolog.New(&log)})
	c := redisClient(t, r.URL())
	// SYNC with a replica that never was leaves a line; DEBUG LOG is refused by default.
	require.NoError(t, c.ConfigSet(t.Context(), "loglevel", "debug").Err())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), `"level":"trace"`) }, patience, tick)
	stopRedis(t, r)
	require.Contains(t, log.String(), `"level":"debug"`)
	require.Contains(t, log.String(), "Ready to accept connections")
	for line := range strings.Lines(log.String()) {
		require.True(t, json.Valid([]byte(line)), line)
		require.NotRegexp(t, `\d{7,}`, line)
	}
}
