package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience with a child process on a loaded machine.
const (
	startLimit = 90 * time.Second
	stopLimit  = 40 * time.Second
)

// process is a callmask binary running as a child, with its own data directory.
type process struct {
	Dir     string // data directory
	LogPath string // everything it printed, over all its starts; not in Dir
	Token   string // API token
	// Addresses, host:port, the same after a restart.
	HTTP, Admin, Redis, NATS string

	path   string   // of the binary
	args   []string // command first
	env    []string
	web    *http.Client
	cmd    *exec.Cmd
	exited chan struct{} // closed once the child is gone
}

// startAll starts `callmask all` with the given settings file and waits until it is
// ready. Further arguments are flags. It is ended with the test.
func startAll(t *testing.T, config string, flags ...string) *process {
	t.Helper()
	p := newProcess(t, config)
	p.start(t, "all", append(flags, "--data-dir", p.Dir)...)
	token, err := os.ReadFile(filepath.Join(p.Dir, "api-token"))
	require.NoError(t, err)
	p.Token = strings.TrimSpace(string(token))
	return p
}

// startRole starts a process of one role on servers of the test.
func startRole(t *testing.T, role, config, redisURL, natsURL, keyset string) *process {
	t.Helper()
	p := newProcess(t, config)
	p.Token = "api-token-of-the-tests"
	p.start(t, role, "--redis-url", redisURL, "--nats-url", natsURL, "--keyset", keyset, "--api-token", p.Token)
	return p
}

func (p *process) start(t *testing.T, role string, flags ...string) {
	t.Helper()
	p.args = append(append([]string{role}, p.args...), flags...)
	// Somebody else may take a port between its choice and the child's start.
	for try := 0; ; try++ {
		p.choosePorts(t)
		p.launch(t)
		if p.awaitReady() {
			return
		}
		if try == 2 || !strings.Contains(p.log(t), "in use") {
			t.Fatalf("callmask %s does not become ready:\n%s", role, tail(p.log(t)))
		}
		p.kill()
	}
}

func newProcess(t *testing.T, config string) *process {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // /proc shows directories without links
	require.NoError(t, err)
	path, err := executable()
	require.NoError(t, err)
	p := &process{
		path: path,
		Dir:  filepath.Join(dir, "data"), LogPath: filepath.Join(dir, "callmask.log"),
		web:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 20 * time.Second},
		exited: make(chan struct{}),
		env:    []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir},
	}
	close(p.exited)
	file := filepath.Join(dir, "callmask.yaml")
	writeFile(t, file, config)
	// Where tests share two processors a call may have to wait longer than in life.
	p.args = []string{"--config", file, "--log-level", "debug", "--log-format", "json", "--resolve-timeout", "5s"}
	t.Cleanup(func() { p.cleanUp(t) })
	return p
}

// choosePorts picks ports below those that the system gives to outgoing connections:
// none can take one while the child is down.
func (p *process) choosePorts(t *testing.T) {
	t.Helper()
	for _, addr := range []*string{&p.HTTP, &p.Admin, &p.Redis, &p.NATS} {
		*addr = freePort(t)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := "127.0.0.1:" + strconv.Itoa(12_000+rand.IntN(20_000))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			require.NoError(t, l.Close())
			return addr
		}
	}
	t.Fatal("no free port found")
	return ""
}

// launch starts the child and returns at once.
func (p *process) launch(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(p.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env = append(p.env, "CALLMASK_HTTP_ADDR="+p.HTTP, "CALLMASK_ADMIN_ADDR="+p.Admin,
		"CALLMASK_EMBEDDED_REDIS_ADDR="+p.Redis, "CALLMASK_EMBEDDED_NATS_ADDR="+p.NATS)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	require.NoError(t, p.cmd.Start())
	require.NoError(t, out.Close()) // the child has its own
	exited, cmd := make(chan struct{}), p.cmd
	p.exited = exited
	go func() {
		_ = cmd.Wait() // its ProcessState says how it ended
		close(exited)
	}()
}

// awaitReady tells whether /readyz answers 200 in time.
func (p *process) awaitReady() bool {
	ready := false
	eventually(startLimit, func() bool {
		ready = p.ready()
		return ready || p.gone()
	})
	return ready
}

func (p *process) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := p.web.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // the status is all there is to know
	return resp.StatusCode == http.StatusOK
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// restart starts a process that has ended again, with the same settings.
func (p *process) restart(t *testing.T) {
	t.Helper()
	require.True(t, p.gone())
	p.launch(t)
	if !p.awaitReady() {
		t.Fatalf("callmask does not become ready again:\n%s", tail(p.log(t)))
	}
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.exited
}

// terminate asks the process to end and returns its exit code.
func (p *process) terminate(t *testing.T) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	return p.awaitExit(t)
}

func (p *process) awaitExit(t *testing.T) int {
	t.Helper()
	end := time.NewTimer(stopLimit)
	defer end.Stop()
	select {
	case <-p.exited:
	case <-end.C:
		t.Fatalf("callmask did not end within %s:\n%s", stopLimit, tail(p.log(t)))
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) cleanUp(t *testing.T) {
	t.Helper()
	p.web.CloseIdleConnections()
	if p.cmd == nil {
		return
	}
	if !p.gone() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended meanwhile
		if !eventually(stopLimit, p.gone) {
			t.Errorf("callmask did not end within %s", stopLimit)
			p.kill()
		}
	}
	for _, pid := range p.redisServers(t) {
		t.Errorf("redis-server %d is still there", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
	}
	log := p.log(t)
	if strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") || strings.Contains(log, "request panicked") {
		t.Errorf("callmask raced or panicked:\n%s", log)
	}
	if t.Failed() {
		t.Logf("the end of callmask's log:\n%s", tail(log))
	}
}

func (p *process) log(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(p.LogPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	return string(b)
}

func tail(s string) string {
	const most = 6000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// redisServers lists the redis-server processes that run on the data directory, by
// their working directory in /proc. A zombie has ended: it is only not yet waited for.
func (p *process) redisServers(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Error(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		if cwd, err := os.Readlink(filepath.Join(dir, "cwd")); err != nil || cwd != filepath.Join(p.Dir, "redis") {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		name, rest, ok := bytes.Cut(stat, []byte(") "))
		if err == nil && ok && bytes.Contains(name, []byte("(redis-")) && rest[0] != 'Z' && rest[0] != 'X' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// redisServer returns the one redis-server of the process.
func (p *process) redisServer(t *testing.T) int {
	t.Helper()
	pids := p.redisServers(t)
	require.Len(t, pids, 1, "redis-server processes on the data directory")
	return pids[0]
}

// run runs another command of the binary beside the process and returns what it
// printed and its exit code.
func (p *process) run(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = append(p.env, "CALLMASK_ADMIN_ADDR="+p.Admin, "CALLMASK_EMBEDDED_REDIS_ADDR="+p.Redis,
		"CALLMASK_EMBEDDED_NATS_ADDR="+p.NATS, "CALLMASK_DATA_DIR="+p.Dir)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// requireClean fails the test unless `callmask check` finds nothing.
func (p *process) requireClean(t *testing.T) {
	t.Helper()
	out, code := p.run(t, "check")
	require.Zero(t, code, fmt.Sprintf("callmask check:\n%s", out))
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}
