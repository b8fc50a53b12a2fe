package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a child process that ends with this process, however that ends (by the
// kernel on Linux; elsewhere only Stop and Kill end it).
type Process struct {
	name string
	path string
	args []string
	env  []string // nil: that of this process

	mu     sync.Mutex
	log    io.Writer
	out    tail
	life   *life // nil before the first start
	frozen bool
}

// NewProcess returns a process that Start will start: the program at path with the
// arguments and, unless it is nil, the environment. name stands for it in errors.
func NewProcess(name, path string, args, env []string) *Process {
	return &Process{name: name, path: path, args: args, env: env}
}

// LogTo has what the process prints from its next start on written to w as well.
func (p *Process) LogTo(w io.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = w
}

// life is one run of the program.
type life struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once it is gone and waited for
}

// Start starts the process, which must not run.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil && !p.life.gone() {
		return fmt.Errorf("%s runs already", p.name)
	}
	p.out.reset()
	p.frozen = false
	// Not bound to a context: it outlives the call that starts it.
	l := &life{cmd: exec.Command(p.path, p.args...), exited: make(chan struct{})} //nolint:gosec,noctx // redis-server, or this program
	l.cmd.Env = p.env
	l.cmd.Stdout, l.cmd.Stderr = &p.out, &p.out
	if p.log != nil {
		both := io.MultiWriter(&p.out, p.log)
		l.cmd.Stdout, l.cmd.Stderr = both, both
	}
	l.cmd.WaitDelay = time.Second
	// A group of its own: a Ctrl-C in the terminal is for this program, which ends its
	// children in order.
	l.cmd.SysProcAttr = dieWithParent(&syscall.SysProcAttr{Setpgid: true})
	began := make(chan error, 1)
	go l.run(began)
	if err := <-began; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.life = l
	return nil
}

func (l *life) run(began chan<- error) {
	// The kernel ends a child when the thread that started it ends (prctl(2),
	// PR_SET_PDEATHSIG), so the thread stays as long as the child does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := l.cmd.Start()
	began <- err
	if err != nil {
		return
	}
	_ = l.cmd.Wait() // how it ended is not asked; its output tells more
	// Its own children (a rewrite of an AOF) must not outlive it.
	_ = syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL) // no such group is the usual answer
	close(l.exited)
}

func (l *life) gone() bool {
	select {
	case <-l.exited:
		return true
	default:
		return false
	}
}

// Name names the process in errors.
func (p *Process) Name() string { return p.name }

// Pid returns the process id of the last start.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life.cmd.Process.Pid
}

// Exited is closed once the last start has ended.
func (p *Process) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life.exited
}

// Alive tells whether the process runs and is not frozen.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life != nil && !p.life.gone() && !p.frozen
}

// Output returns the end of what the process has printed since its last start.
func (p *Process) Output() string { return p.out.String() }

// Kill ends the process with SIGKILL and waits for it. A second call does nothing.
func (p *Process) Kill() {
	p.mu.Lock()
	l := p.life
	p.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.cmd.Process.Kill() // it may be gone already
	<-l.exited
}

// Freeze stops the process (SIGSTOP): it takes connections and requests and answers
// none, until Thaw.
func (p *Process) Freeze() error { return p.hold(syscall.SIGSTOP, true) }

// Thaw ends a Freeze.
func (p *Process) Thaw() error { return p.hold(syscall.SIGCONT, false) }

func (p *Process) hold(sig syscall.Signal, frozen bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.life.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.frozen = frozen
	return nil
}

// Stop asks the process to end (SIGTERM), thawing it if it is frozen, and waits. When
// ctx ends first it is killed, and an error says so.
func (p *Process) Stop(ctx context.Context) error { return p.stop(ctx, nil) }

// stop is Stop that asks once more at each tick of again.
func (p *Process) stop(ctx context.Context, again <-chan time.Time) error {
	p.mu.Lock()
	l, frozen := p.life, p.frozen
	p.mu.Unlock()
	if l == nil || l.gone() {
		return nil
	}
	if frozen {
		_ = p.Thaw() // it may have ended meanwhile
	}
	for {
		_ = l.cmd.Process.Signal(syscall.SIGTERM) // for the same reason
		select {
		case <-l.exited:
			return nil
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("%s did not end in time and was killed: %w\n%s", p.name, ctx.Err(), p.Output())
		case <-again:
		}
	}
}

// errEnded says that a process ended before it was ready.
var errEnded = errors.New("it ended at its start")

// WaitReady asks until ok says nil; it gives up when the process ends or ctx does. The
// error holds what the process printed.
func (p *Process) WaitReady(ctx context.Context, ok func(context.Context) error) error {
	exited := p.Exited()
	err := poll(ctx, func(ctx context.Context) error {
		select {
		case <-exited:
			return final{errEnded}
		default:
			return ok(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w\n%s", p.name, err, p.Output())
	}
	return nil
}

// final is an error that asking again does not change.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// poll calls ok every few milliseconds until it returns nil or a final error, or ctx
// ends: then its last error is returned.
func poll(ctx context.Context, ok func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		if f := (final{}); errors.As(err, &f) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// each calls do for all nodes at once and returns all errors.
func each[N any](nodes []N, do func(N) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = t.buf[:0]
}
