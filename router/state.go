package router

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmask/callmask/vn"
)

// state is what one request needs; states are pooled, so that a call allocates
// nothing. It belongs to one request at a time.
type state struct {
	call     vn.Call
	message  vn.Message
	progress vn.Progress
	decision vn.Decision
	answer   []byte
	text     []byte // a message's, redacted
	budget   *budget
}

func newState() *state {
	return &state{
		decision: vn.Decision{OrderID: make([]byte, 0, 64)},
		answer:   make([]byte, 0, 1024),
		budget:   newBudget(),
	}
}

// reset forgets the request; nothing in a pooled state points into one.
func (s *state) reset() {
	s.call, s.message, s.progress = vn.Call{}, vn.Message{}, vn.Progress{}
	s.decision = vn.Decision{OrderID: s.decision.OrderID[:0]}
	s.answer = s.answer[:0]
}

// budget is the context of one look-up: a deadline and nothing else. Unlike
// context.WithTimeout it is used again, which costs no allocation; one whose time
// ran out is thrown away, because its Done channel is closed. Its timer runs only once
// somebody asks to be woken: most look-ups read the deadline and no more.
type budget struct {
	deadline time.Time
	done     chan struct{}
	timer    *time.Timer

	mu      sync.Mutex
	armed   atomic.Bool // the timer runs
	expired bool
	after   []*func()
}

var _ context.Context = (*budget)(nil)

func newBudget() *budget {
	b := &budget{done: make(chan struct{})}
	b.timer = time.AfterFunc(time.Hour, b.expire)
	b.timer.Stop()
	return b
}

func (b *budget) start(deadline time.Time) { b.deadline = deadline }

// arm starts the timer, once.
func (b *budget) arm() {
	if b.armed.CompareAndSwap(false, true) {
		b.timer.Reset(time.Until(b.deadline))
	}
}

// stop ends the budget and tells whether it may be started again: not when its time
// ran out, nor when somebody still waits for that.
func (b *budget) stop() bool {
	if !b.armed.Load() {
		return true
	}
	if !b.timer.Stop() {
		return false
	}
	b.armed.Store(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.after) == 0
}

func (b *budget) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expired = true
	close(b.done)
	for _, f := range b.after {
		go (*f)()
	}
	b.after = nil
}

// Deadline implements context.Context.
func (b *budget) Deadline() (time.Time, bool) { return b.deadline, true }

// Done implements context.Context.
func (b *budget) Done() <-chan struct{} {
	b.arm()
	return b.done
}

// Err implements context.Context.
func (b *budget) Err() error {
	if time.Now().Before(b.deadline) {
		return nil
	}
	return context.DeadlineExceeded
}

// Value implements context.Context.
func (*budget) Value(any) any { return nil }

// AfterFunc runs f in a goroutine of its own when the time has run out, unless stop
// was called before. Package context looks for this method: without it every context
// derived from a budget would cost a goroutine.
func (b *budget) AfterFunc(f func()) (stop func() bool) {
	b.arm()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expired {
		go f()
		return func() bool { return false }
	}
	entry := &f
	b.after = append(b.after, entry)
	return func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		i := slices.Index(b.after, entry)
		if i < 0 {
			return false
		}
		b.after = slices.Delete(b.after, i, i+1)
		return true
	}
}
