// Package proc starts the programs that a benchmark compares, each as a process of
// its own, and reads what they cost.
//
//	Starter ─▶ Child ─▶ Usage: CPU time and resident memory from /proc
//	             └────▶ Stop: SIGTERM, then SIGKILL
package proc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a child may take to end by itself.
const patience = 10 * time.Second

// Spec says what to start.
type Spec struct {
	Name string // also the name of its log
	Path string
	Args []string
	Env  []string // beside the environment of this process
	Dir  string
	// UID and GID are those it runs under when they are not 0.
	UID, GID uint32
	// Tree adds the processes it starts itself to its Usage.
	Tree bool
	// Abrupt ends it by SIGKILL: it has nothing to put in order.
	Abrupt bool
	// Stdin keeps a pipe to its standard input, and Stdout gives its standard output
	// to Child.Lines instead of the log.
	Stdin, Stdout bool
}

// Starter starts children that end when this process does, however it ends.
type Starter struct {
	logs  string
	start chan func()

	mu       sync.Mutex
	children []*Child
}

// NewStarter returns a Starter whose children log into the directory logs.
func NewStarter(logs string) *Starter {
	s := &Starter{logs: logs, start: make(chan func())}
	go func() {
		// The kernel ends a child when the thread that started it ends (prctl(2),
		// PR_SET_PDEATHSIG), so all are started by one that stays.
		runtime.LockOSThread()
		for start := range s.start {
			start()
		}
	}()
	return s
}

// Child is a running program.
type Child struct {
	Name  string
	Lines *bufio.Reader  // its standard output, with Spec.Stdout
	Stdin io.WriteCloser // with Spec.Stdin

	cmd    *exec.Cmd
	tree   bool
	abrupt bool
	log    string
	done   chan struct{}
	err    error // once done
}

// Start starts a program. It runs until it is stopped, whatever becomes of ctx.
func (s *Starter) Start(ctx context.Context, spec Spec) (*Child, error) {
	log := filepath.Join(s.logs, spec.Name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", spec.Name, err)
	}
	defer func() { _ = out.Close() }()                                              // the child has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), spec.Path, spec.Args...) //nolint:gosec // G204: the programs compared; the harness names them
	cmd.Env, cmd.Dir = append(os.Environ(), spec.Env...), spec.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if spec.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: spec.UID, Gid: spec.GID}
	}
	c := &Child{Name: spec.Name, cmd: cmd, tree: spec.Tree, abrupt: spec.Abrupt, log: log, done: make(chan struct{})}
	if spec.Stdin {
		if c.Stdin, err = cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
	}
	if spec.Stdout {
		cmd.Stdout = nil
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
		c.Lines = bufio.NewReaderSize(pipe, 1<<20)
	}
	started := make(chan error)
	s.start <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	s.mu.Lock()
	s.children = append(s.children, c)
	s.mu.Unlock()
	return c, nil
}

// StopAll ends every child that still runs, the last started first.
func (s *Starter) StopAll() {
	s.mu.Lock()
	children := s.children
	s.children = nil
	s.mu.Unlock()
	for i := len(children) - 1; i >= 0; i-- {
		children[i].Stop()
	}
}

// Pid returns the process id.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Stop ends the child and waits for it. A second call does nothing.
func (c *Child) Stop() {
	if c.Stdin != nil {
		_ = c.Stdin.Close() // it may have ended already
	}
	if !c.abrupt {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.done:
			return
		case <-time.After(patience):
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.done
}

// Await calls ready until it gives no error. It fails when the child ends, ctx ends,
// or the time is up; the error then ends with the child's last words.
func (c *Child) Await(ctx context.Context, most time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended (%v): %w: %s", c.Name, c.err, err, c.lastWords()) //nolint:errorlint // how it ended may be nil
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", c.Name, err, c.lastWords())
		case <-tick.C:
		}
	}
}

// Err returns an error when the child has ended.
func (c *Child) Err() error {
	select {
	case <-c.done:
		return fmt.Errorf("%s ended: %s", c.Name, c.lastWords())
	default:
		return nil
	}
}

func (c *Child) lastWords() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}
