package router

import (
	"sync/atomic"
	"time"
)

// timeouts bound how long a connection may take. One goroutine looks at all
// connections a few times within the shortest of them: to set a deadline for each
// step of each request would cost every call about as much as its signature check.
// So a connection is cut up to an eighth of the shortest timeout late.
type timeouts struct {
	read, write, idle int64 // ticks
	every             time.Duration
	ticks             atomic.Int64 // the clock: ticks since the start
}

// The bounds of a tick.
const (
	shortestTick = 5 * time.Millisecond
	longestTick  = 250 * time.Millisecond
)

func newTimeouts(read, write, idle time.Duration) *timeouts {
	t := &timeouts{every: min(max(min(read, write, idle)/8, shortestTick), longestTick)}
	// A tick more, for the one under way when a step began.
	in := func(d time.Duration) int64 { return int64((d+t.every-1)/t.every) + 1 }
	t.read, t.write, t.idle = in(read), in(write), in(idle)
	return t
}

// step is what a connection is doing.
type step int64

const (
	reading step = iota // a request, from its first byte; the first one from the connection's
	writing
	idling // between two requests
	steps  = iota
)

// stepping holds the step of a connection and the tick it began at, in one word, so
// that who looks at it sees both of the same moment.
type stepping struct{ word atomic.Int64 }

func (s *stepping) begin(what step, tick int64) { s.word.Store(tick*steps + int64(what)) }

func (s *stepping) now() (what step, tick int64) {
	w := s.word.Load()
	return step(w % steps), w / steps
}

// watch cuts connections of s whose time is up, until stop is called.
func (t *timeouts) watch(s *connSet) (stop func()) {
	ticker := time.NewTicker(t.every)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticker.C:
				t.ticks.Add(1)
				s.each(t.check)
			case <-end:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(end)
		<-ended
	}
}

// check ends the wait of a connection that took too long; the server answers and
// closes it.
func (t *timeouts) check(c *conn) {
	what, since := c.step.now()
	took := t.ticks.Load() - since
	past := time.Unix(1, 0)
	switch {
	case what == reading && took > t.read, what == idling && took > t.idle:
		_ = c.SetReadDeadline(past) // fails only on a closed connection
	case what == writing && took > t.write:
		_ = c.SetWriteDeadline(past) // fails only on a closed connection
	}
}
