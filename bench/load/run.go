package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const defaultGrace = 2 * time.Second

// Run is a run that is connected and warm: Go starts it.
type Run struct {
	spec  Spec
	calls *Calls
	rng   *rand.Rand
	to    []unix.Sockaddr // connection i goes to i modulo its length
	epoll int
	timer int
	conns []conn
	free  ring[int]   // connections without a request
	due   ring[int64] // calls that wait for a connection: when each was due

	start    time.Time
	now      int64
	out      int
	request  []byte
	scratch  []byte
	events   []unix.EpollEvent
	armed    int64
	result   Result
	latency  *hdrhistogram.Histogram
	service  *hdrhistogram.Histogram
	refused  *hdrhistogram.Histogram
	position int
}

// timerEvent is the epoll's name for the timer.
const timerEvent = -1

// Prepare connects to the server and warms it up.
func Prepare(ctx context.Context, calls *Calls, spec Spec) (*Run, error) {
	if spec.Grace == 0 {
		spec.Grace = defaultGrace
	}
	to, err := sockaddrs(spec.Addr)
	if err != nil {
		return nil, err
	}
	r := &Run{
		spec: spec, calls: calls, to: to, epoll: -1, timer: -1, events: make([]unix.EpollEvent, 256),
		conns: make([]conn, spec.Conns),
		rng:   rand.New(rand.NewPCG(spec.Seed, 2)), //nolint:gosec // G404: a repeatable load, no secret
	}
	r.position = r.rng.IntN(len(calls.connected))
	for i := range r.conns {
		r.conns[i].fd = -1
	}
	if err := r.open(); err != nil {
		r.Close()
		return nil, err
	}
	if spec.Warm > 0 {
		warm := r.spec
		warm.Rate, warm.For, warm.GiveUp = 0, spec.Warm, 0
		measured := r.spec
		r.spec = warm
		_, err := r.Go(ctx)
		r.spec = measured
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("warm up: %w", err)
		}
	}
	return r, nil
}

func (r *Run) open() error {
	var err error
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if r.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	// Edge-triggered: setting it again is enough, it need not be read.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: timerEvent}
	if err = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, r.timer, &event); err != nil {
		return fmt.Errorf("timer: %w", err)
	}
	for i := range r.conns {
		if err := r.dial(i); err != nil {
			return err
		}
	}
	return nil
}

// Close closes all connections.
func (r *Run) Close() {
	for i := range r.conns {
		r.conns[i].close()
	}
	for _, fd := range []int{r.timer, r.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing can be done about it
		}
	}
}

// Go makes the load and returns what came of it. An error means that the load could
// not be made; what the server did wrong is in the Result.
func (r *Run) Go(ctx context.Context) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r.result, r.out, r.armed = Result{}, 0, 0
	r.latency, r.service, r.refused = newHistogram(), newHistogram(), newHistogram()
	r.free.reset(len(r.conns))
	r.due.reset(1024)
	for i := range r.conns {
		r.free.push(i)
	}
	r.start, r.now = time.Now(), 0
	end, last := int64(r.spec.For), int64(r.spec.For+r.spec.Grace)
	next := r.gap()
	for {
		if err := ctx.Err(); err != nil {
			return r.result, err
		}
		for r.spec.Rate > 0 && next <= r.now && next < end {
			r.due.push(next)
			next += r.gap()
		}
		if err := r.sendAll(end); err != nil {
			return r.result, err
		}
		if r.now >= end && r.out == 0 && r.due.len() == 0 || r.now >= last {
			break
		}
		wake := end
		switch {
		case r.now >= end:
			wake = last
		case r.spec.Rate > 0 && next < end:
			wake = next
		}
		if err := r.wait(wake); err != nil {
			return r.result, err
		}
	}
	r.result.Took = min(time.Duration(r.now), r.spec.For)
	r.result.Late = r.out
	r.result.Unsent += r.due.len()
	r.result.Latency, r.result.Service, r.result.Refused = latency(r.latency), latency(r.service), latency(r.refused)
	return r.result, nil
}

// gap returns the time between two calls.
func (r *Run) gap() int64 {
	if r.spec.Rate <= 0 {
		return 0
	}
	return int64(r.rng.ExpFloat64() / r.spec.Rate * float64(time.Second))
}

// sendAll gives calls to connections until there is none left of either.
func (r *Run) sendAll(end int64) error {
	if r.spec.Rate <= 0 {
		for r.now < end && r.free.len() > 0 {
			if err := r.send(r.free.pop(), r.now); err != nil {
				return err
			}
		}
		return nil
	}
	for r.due.len() > 0 {
		due := r.due.peek()
		if r.spec.GiveUp > 0 && r.now-due > int64(r.spec.GiveUp) {
			r.due.pop()
			r.result.Unsent++
			continue
		}
		if r.free.len() == 0 {
			return nil
		}
		r.due.pop()
		if err := r.send(r.free.pop(), due); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) send(i int, due int64) error {
	c := &r.conns[i]
	calls := r.calls.connected
	if r.spec.Miss > 0 && r.rng.Float64() < r.spec.Miss {
		calls = r.calls.refused
	}
	if r.position++; r.position >= len(calls) {
		r.position %= len(calls)
	}
	c.call, c.due, c.busy = &calls[r.position], due, true
	r.request = r.calls.appendRequest(r.request[:0], r.position, c.call)
	r.now = int64(time.Since(r.start))
	c.sent = r.now
	r.out++
	if !c.write(r.request) {
		return r.broken(i)
	}
	return nil
}

// wait handles what happens until there is something to send.
func (r *Run) wait(wake int64) error {
	if r.armed != wake {
		after := max(1, wake-int64(time.Since(r.start)))
		set := unix.ItimerSpec{Value: unix.NsecToTimespec(after)}
		if err := unix.TimerfdSettime(r.timer, 0, &set, nil); err != nil {
			return fmt.Errorf("set the timer: %w", err)
		}
		r.armed = wake
	}
	n, err := unix.EpollWait(r.epoll, r.events, -1)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	r.now = int64(time.Since(r.start))
	for _, e := range r.events[:max(n, 0)] {
		if e.Fd == timerEvent {
			r.armed = 0
			continue
		}
		if err := r.receive(int(e.Fd)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) receive(i int) error {
	c := &r.conns[i]
	if !c.read() {
		return r.broken(i)
	}
	status, body, whole, ok := c.answer()
	if !ok || whole && !c.busy {
		return r.broken(i)
	}
	if !whole {
		return nil
	}
	r.now = int64(time.Since(r.start))
	switch {
	case status == http.StatusServiceUnavailable:
		r.result.Busy++
		record(r.refused, time.Duration(r.now-c.sent))
	case status == http.StatusOK && (r.spec.Fixed || r.calls.right(body, c.call, &r.scratch)):
		r.result.Answered++
		if r.now <= int64(r.spec.For) {
			r.result.InTime++
		}
		record(r.latency, time.Duration(r.now-c.due))
		record(r.service, time.Duration(r.now-c.sent))
	default:
		r.result.Wrong++
		if r.result.Example == "" {
			r.result.Example = fmt.Sprintf("%d %s, expected %s", status, hidden(body), hidden(r.calls.appendAnswer(nil, c.call)))
		}
	}
	c.n, c.busy = 0, false
	r.out--
	r.free.push(i)
	return nil
}

// hidden hides the digits of an answer.
func hidden(body []byte) string {
	out := make([]byte, 0, len(body))
	for _, b := range body[:min(len(body), 300)] {
		if b >= '0' && b <= '9' {
			b = '#'
		}
		out = append(out, b)
	}
	return string(out)
}

// broken counts a connection that ended with a request on its way, and makes
// another one.
func (r *Run) broken(i int) error {
	c := &r.conns[i]
	if c.busy {
		r.result.Broken++
		r.out--
		r.free.push(i)
	}
	c.close()
	return r.dial(i)
}

func (r *Run) dial(i int) error { return r.conns[i].dial(r.to[i%len(r.to)], r.epoll, i) }
