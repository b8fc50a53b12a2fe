// Package rig starts what a benchmark needs, each server a process of its own on a
// free port of the loopback, and stops it all.
//
//	Rig ─▶ Redis, NATS, callmask (any role), the peers, PostgreSQL, the load generator
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/proc"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
)

const (
	startTime = time.Minute
	// loadTimeout is the deadline of one command while a Redis is filled: nobody waits.
	loadTimeout = 20 * time.Second
)

// Rig owns the processes and files of one run of the harness.
type Rig struct {
	Dir    string // removed by Close
	Keyset string // path of the keyset file
	Keys   *seal.Keyset

	self     string // this program, for its hidden commands
	callmask string // the product
	starter  *proc.Starter
	names    atomic.Int64
	clients  []io.Closer
	dirs     []string
}

// New makes a Rig. self is the program that knows the hidden commands, callmask the
// path of the product's binary; empty: it is built from this source.
func New(ctx context.Context, self, callmask string) (r *Rig, err error) {
	dir, err := os.MkdirTemp("", "callmask-bench-")
	if err != nil {
		return nil, err
	}
	r = &Rig{Dir: dir, Keyset: filepath.Join(dir, "keyset.json"), self: self, callmask: callmask, starter: proc.NewStarter(dir)}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.Keys, err = seal.Create(r.Keyset, seal.WithLogger(zerolog.Nop())); err != nil {
		return nil, err
	}
	if r.callmask == "" {
		r.callmask = filepath.Join(dir, "callmask")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", r.callmask, "github.com/callmask/callmask/cmd/callmask") //nolint:gosec // G204: the path is the harness's own
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build callmask: %w: %s", err, out)
		}
	}
	return r, nil
}

// Close stops everything and removes all files.
func (r *Rig) Close() error {
	errs := make([]error, 0, len(r.clients)+len(r.dirs)+1)
	for _, c := range r.clients {
		errs = append(errs, c.Close())
	}
	r.starter.StopAll()
	for _, dir := range append(r.dirs, r.Dir) {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// MemoryDir makes a directory whose files are in memory, removed by Close. An error tells
// that there is no such file system.
func (r *Rig) MemoryDir() (string, error) {
	dir, err := os.MkdirTemp("/dev/shm", "callmask-bench-")
	if err != nil {
		return "", fmt.Errorf("no files in memory: %w", err)
	}
	r.dirs = append(r.dirs, dir)
	return dir, nil
}

func (r *Rig) name(kind string) string { return fmt.Sprintf("%s-%d", kind, r.names.Add(1)) }

// FreeAddr returns a loopback address that nobody listened on a moment ago.
func FreeAddr(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// Redis is a redis-server.
type Redis struct {
	*proc.Child

	Addr   string
	Client *redis.Client // for loading and asking, not for what is measured
	Store  *scripts.Store
}

// URL returns the address as a redis:// URL.
func (s *Redis) URL() string { return "redis://" + s.Addr }

// Redis starts a redis-server as callmask's own, but with an AOF only when asked.
func (r *Rig) Redis(ctx context.Context, aof bool) (*Redis, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed: run `make deps`")
	}
	addr, err := FreeAddr(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	name := r.name("redis")
	dir := filepath.Join(r.Dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	appendOnly := "no"
	if aof {
		appendOnly = "yes"
	}
	child, err := r.starter.Start(ctx, proc.Spec{Name: name, Path: path, Abrupt: true, Args: []string{
		"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", appendOnly,
		"--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--slowlog-log-slower-than", "-1", "--latency-tracking", "no",
		"--hash-max-listpack-value", "128",
	}})
	if err != nil {
		return nil, err
	}
	s := &Redis{Child: child, Addr: addr, Client: redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: 64, ContextTimeoutEnabled: true, DisableIdentity: true,
		ReadTimeout: loadTimeout, WriteTimeout: loadTimeout, PoolTimeout: loadTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
	r.clients = append(r.clients, s.Client)
	if err := child.Await(ctx, startTime, func(ctx context.Context) error { return s.Client.Ping(ctx).Err() }); err != nil {
		return nil, err
	}
	s.Store, err = scripts.New(scripts.Config{Timeout: loadTimeout}, s.Client, r.Keys)
	return s, err
}

// Memory returns Redis's own count of the bytes it uses, but for its clients' buffers.
func (s *Redis) Memory(ctx context.Context) (int64, error) {
	info, err := s.Client.InfoMap(ctx, "memory").Result()
	if err != nil {
		return 0, fmt.Errorf("ask Redis for its memory: %w", err)
	}
	var used, clients int64
	if _, err = fmt.Sscan(info["Memory"]["used_memory"], &used); err == nil {
		_, err = fmt.Sscan(info["Memory"]["mem_clients_normal"], &clients)
	}
	return used - clients, err
}

// CPU returns Redis's own count of the CPU time it has used, which is finer than the
// kernel's.
func (s *Redis) CPU(ctx context.Context) (time.Duration, error) {
	use, err := use(ctx, s.Client)
	return use.CPU, err
}

// Use is what a Redis has done so far, by its own count.
type Use struct {
	CPU      time.Duration // in user mode and in the kernel
	Commands int64         // processed
}

// Use returns what the Redis has done.
func (s *Redis) Use(ctx context.Context) ([]Use, error) {
	use, err := use(ctx, s.Client)
	return []Use{use}, err
}

func use(ctx context.Context, client *redis.Client) (u Use, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	info, err := client.InfoMap(ctx, "cpu", "stats").Result()
	if err != nil {
		return u, fmt.Errorf("ask Redis what it has done: %w", err)
	}
	for _, field := range []string{"used_cpu_sys", "used_cpu_user"} {
		seconds, err := strconv.ParseFloat(info["CPU"][field], 64)
		if err != nil {
			return u, fmt.Errorf("ask Redis what it has done: %w", err)
		}
		u.CPU += time.Duration(seconds * float64(time.Second))
	}
	if u.Commands, err = strconv.ParseInt(info["Stats"]["total_commands_processed"], 10, 64); err != nil {
		return u, fmt.Errorf("ask Redis what it has done: %w", err)
	}
	return u, nil
}

// Load starts a load generator.
func (r *Rig) Load(ctx context.Context) (*load.Client, error) {
	child, err := r.starter.Start(ctx, proc.Spec{Name: r.name("load"), Path: r.self, Args: []string{"load"}, Stdin: true, Stdout: true})
	if err != nil {
		return nil, err
	}
	return load.NewClient(child), nil
}

// Server is something that calls can be sent to.
type Server struct {
	*proc.Child

	Addr string
}

// announced starts a program that writes its address as its first line.
func (r *Rig) announced(ctx context.Context, spec proc.Spec) (*Server, error) {
	spec.Name, spec.Stdout, spec.Stdin, spec.Abrupt = r.name(spec.Name), true, true, true
	child, err := r.starter.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	line := make(chan string, 1)
	go func() {
		text, err := child.Lines.ReadString('\n')
		if err != nil {
			text = ""
		}
		line <- strings.TrimSpace(text)
		_, _ = io.Copy(io.Discard, child.Lines) // until it ends
	}()
	select {
	case addr := <-line:
		if addr == "" {
			<-child.Done()
			return nil, child.Err()
		}
		return &Server{Child: child, Addr: addr}, nil
	case <-time.After(startTime):
		return nil, fmt.Errorf("%s told no address for %s", spec.Name, startTime)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// NATS starts callmask's embedded JetStream server, alone in a process.
func (r *Rig) NATS(ctx context.Context) (*Server, error) {
	dir := filepath.Join(r.Dir, r.name("jetstream"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return r.announced(ctx, proc.Spec{Name: "nats", Path: r.self, Args: []string{"nats", "--dir", dir}})
}

// get asks a URL and gives an error unless the answer is 200.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // only the status matters
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
