package router

import (
	"context"
	"time"

	"github.com/callmask/callmask/vn"
)

// state is what one request needs; states are pooled, so that a call allocates
// nothing. It belongs to one request at a time.
type state struct {
	call     vn.Call
	decision vn.Decision
	answer   []byte
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
	s.call = vn.Call{}
	s.decision = vn.Decision{OrderID: s.decision.OrderID[:0]}
	s.answer = s.answer[:0]
}

// budget is the context of one look-up: a deadline and nothing else. Unlike
// context.WithTimeout it is used again, which costs no allocation; one whose time
// ran out is thrown away, because its Done channel is closed.
type budget struct {
	deadline time.Time
	done     chan struct{}
	timer    *time.Timer
}

var _ context.Context = (*budget)(nil)

func newBudget() *budget {
	b := &budget{done: make(chan struct{})}
	b.timer = time.AfterFunc(time.Hour, func() { close(b.done) })
	b.timer.Stop()
	return b
}

func (b *budget) start(d time.Duration) {
	b.deadline = time.Now().Add(d)
	b.timer.Reset(d)
}

// stop ends the budget and tells whether it may be started again.
func (b *budget) stop() bool { return b.timer.Stop() }

// Deadline implements context.Context.
func (b *budget) Deadline() (time.Time, bool) { return b.deadline, true }

// Done implements context.Context.
func (b *budget) Done() <-chan struct{} { return b.done }

// Err implements context.Context.
func (b *budget) Err() error {
	select {
	case <-b.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Value implements context.Context.
func (*budget) Value(any) any { return nil }
