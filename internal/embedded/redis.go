package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// RedisConfig says where the supervised redis-server listens and keeps its files.
type RedisConfig struct {
	// Addr is the TCP address to listen at, host:port; port 0 is any free port. A
	// loopback host needs no credentials, any other is refused without a Password.
	Addr string
	// Dir is the data directory. The server writes below Dir/redis, which is locked
	// while it runs.
	Dir string
	// Password is what clients must show; empty: none, on loopback only.
	Password string
	// Binary is the program to run; empty means redis-server from PATH.
	Binary string
	Logger zerolog.Logger
}

// Redis is a redis-server child process: restarted with back-off when it dies, in a
// process group of its own so that a Ctrl-C in the terminal does not reach it before
// we have stopped using it.
type Redis struct {
	cfg    RedisConfig
	binary string
	addr   redisAddr
	dir    string // absolute, links resolved
	conf   string
	lock   *DirLock
	out    *redisLog

	stop chan struct{} // closed by Stop
	kill chan struct{} // closed when Stop's patience ends
	done chan struct{} // closed when no child runs and none will

	once, killOnce sync.Once
	mu             sync.Mutex
	pid            int
	restarts       int
}

const (
	redisStart   = 5 * time.Minute // a large AOF takes its time to load
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
	stableAfter  = 30 * time.Second // a child that ran so long starts the back-off anew
	minRedis     = 7                // the scripts begin with #!lua
)

// StartRedis locks the directory, ends a server that a killed callmask left behind on
// it, starts a new one and returns when it answers with its data loaded. ctx bounds
// the start only; Stop ends the server. Errors name what to do.
func StartRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	addr, err := parseRedisAddr(cfg.Addr, cfg.Password)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, redisStart)
	defer cancel()
	binary, err := findRedis(ctx, cfg.Binary)
	if err != nil {
		return nil, err
	}
	lock, err := LockDir(filepath.Join(cfg.Dir, "redis"))
	if err != nil {
		return nil, err
	}
	r := &Redis{
		cfg: cfg, binary: binary, lock: lock, out: &redisLog{log: cfg.Logger},
		stop: make(chan struct{}), kill: make(chan struct{}), done: make(chan struct{}),
	}
	if err := r.start(ctx, addr); err != nil {
		lock.Unlock()
		return nil, err
	}
	return r, nil
}

// findRedis returns the program's path once it has proved to be new enough.
func findRedis(ctx context.Context, binary string) (string, error) {
	if binary == "" {
		binary = "redis-server"
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return "", errors.New("redis-server is not installed: apt-get install redis-server (macOS: brew install redis), or name a running Redis in CALLMASK_REDIS_URL")
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output() //nolint:gosec // the operator's own redis-server
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	_, version, ok := strings.Cut(string(out), " v=")
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	if !ok || err != nil {
		return "", fmt.Errorf("%s --version: the answer is not a redis-server's", path)
	}
	if major < minRedis {
		return "", fmt.Errorf("redis-server %s is too old: version %d.0 or newer is needed", strings.Fields(version)[0], minRedis)
	}
	return path, nil
}

func (r *Redis) start(ctx context.Context, addr redisAddr) error {
	dir, err := filepath.Abs(filepath.Join(r.cfg.Dir, "redis"))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // /proc shows directories without links
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	r.dir, r.conf = dir, filepath.Join(dir, "redis.conf")
	if err := orphans(ctx, r.dir, r.conf, r.cfg.Logger); err != nil {
		return err
	}
	// A port found free may be taken by somebody else before the child has it.
	for try := 0; ; try++ {
		if r.addr, err = addr.free(ctx); err != nil {
			return err
		}
		if err := writeConf(r.conf, redisConf(r.dir, r.addr, r.cfg.Password)); err != nil {
			return err
		}
		c, err := r.spawn()
		if err != nil {
			return err
		}
		if err = r.await(ctx, c); err == nil {
			go r.supervise(c)
			return nil
		}
		c.end()
		if addr.port != 0 || try == 4 || ctx.Err() != nil || !strings.Contains(r.out.tail(), "Address already in use") {
			return err
		}
	}
}

// child is one life of the server.
type child struct {
	cmd    *exec.Cmd
	began  time.Time
	exited chan struct{} // closed once the process is gone; state is set before
	state  string
}

func (r *Redis) spawn() (*child, error) {
	// Not bound to a context: its end is Stop's, in order, never a sudden kill.
	cmd := exec.Command(r.binary, r.conf) //nolint:gosec,noctx // the operator's own redis-server
	cmd.Dir = r.dir
	cmd.Stdout, cmd.Stderr = r.out, r.out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// None of our environment: it may hold secrets. Redis writes its title, by which
	// an orphan is known, over its arguments and environment: the variable makes room.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CALLMASK_TITLE=" + r.conf + strings.Repeat("-", 64)}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", r.binary, err)
	}
	c := &child{cmd: cmd, began: time.Now(), exited: make(chan struct{})}
	r.mu.Lock()
	r.pid = cmd.Process.Pid
	r.mu.Unlock()
	go func() {
		defer close(c.exited)
		c.state = "ended"
		if err := cmd.Wait(); err != nil {
			c.state = err.Error()
		}
		// Its own children (an AOF rewrite) must not outlive it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // no such group is the usual answer
	}()
	return c, nil
}

// end kills a child that did not start well.
func (c *child) end() {
	_ = c.cmd.Process.Kill() // it may be gone already
	<-c.exited
}

// await returns nil once the child, and no other server, answers with its data loaded.
func (r *Redis) await(ctx context.Context, c *child) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := serverInfo(ctx, r.addr, r.cfg.Password)
		if err == nil {
			if info["process_id"] != strconv.Itoa(c.cmd.Process.Pid) {
				return fmt.Errorf("embedded redis address: another Redis answers at %s", r.addr.dial())
			}
			// PING is refused while the AOF is being loaded, INFO is not.
			if _, err = ask(ctx, r.addr, r.cfg.Password, "PING"); err == nil {
				return nil
			}
		}
		select {
		case <-c.exited:
			return fmt.Errorf("redis-server ended at its start (%s): %s", c.state, r.out.tail())
		case <-r.stop:
			return errors.New("embedded redis: stopped")
		case <-ctx.Done():
			return fmt.Errorf("redis-server at %s is not ready in time: %w", r.addr.dial(), err)
		case <-tick.C:
		}
	}
}

// supervise keeps a child alive until Stop.
func (r *Redis) supervise(c *child) {
	defer close(r.done)
	defer r.lock.Unlock()
	wait := firstBackoff
	for {
		select {
		case <-r.stop:
			r.finish(c)
			return
		case <-c.exited:
		}
		if time.Since(c.began) > stableAfter {
			wait = firstBackoff
		}
		next, ok := r.revive(c.state, &wait)
		if !ok {
			return
		}
		c = next
	}
}

// revive starts a new child after the back-off, as often as it takes.
func (r *Redis) revive(state string, wait *time.Duration) (*child, bool) {
	for {
		r.cfg.Logger.Error().Str("state", state).Stringer("restart_in", *wait).Msg("redis-server ended by itself")
		timer := time.NewTimer(*wait)
		select {
		case <-r.stop:
			timer.Stop()
			return nil, false
		case <-timer.C:
		}
		*wait = min(2**wait, maxBackoff)
		c, err := r.spawn()
		if err == nil {
			r.mu.Lock()
			r.restarts++
			r.mu.Unlock()
			return c, true
		}
		state = err.Error()
	}
}

// finish asks the child to write its AOF and end; when Stop loses patience it is killed.
func (r *Redis) finish(c *child) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-c.exited:
	case <-r.kill:
		c.end()
	}
}

// URL returns the address for clients of this machine, with the password if there is
// one: not for logs.
func (r *Redis) URL() string {
	u := url.URL{Scheme: "redis", Host: r.addr.dial()}
	if r.cfg.Password != "" {
		u.User = url.UserPassword("", r.cfg.Password)
	}
	return u.String()
}

// Addr returns the host:port at which clients of this machine reach the server.
func (r *Redis) Addr() string { return r.addr.dial() }

// Pid returns the process id of the child that was started last.
func (r *Redis) Pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pid
}

// Restarts returns how often a dead child was replaced.
func (r *Redis) Restarts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.restarts
}

// Done is closed when the server has ended for good, after Stop.
func (r *Redis) Done() <-chan struct{} { return r.done }

// Stop ends the server and waits until it has written everything and is gone. When
// ctx ends first, the server is killed and an error says so: what it acknowledged
// since its last fsync (a second) is then in the system's cache, not yet on disk. It
// may be called again.
func (r *Redis) Stop(ctx context.Context) error {
	r.once.Do(func() { close(r.stop) })
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-r.done:
		return nil
	default:
	}
	r.killOnce.Do(func() { close(r.kill) })
	<-r.done // SIGKILL cannot be refused
	return fmt.Errorf("embedded redis: it did not end in time and was killed: %w", ctx.Err())
}
