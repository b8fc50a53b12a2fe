package events

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// hands holds the messages that one Consume has fetched and not yet brought to an
// end: ready, being handled, or waiting. It keeps telling the server that it works
// on them, so that none is delivered again while it is held.
type hands struct {
	s      *consumption
	ctx    context.Context // of the handlers: ends stopGrace after stop
	cancel context.CancelFunc
	ready  chan *delivery
	quit   chan struct{} // closed by stop
	group  sync.WaitGroup

	mu   sync.Mutex
	open map[deliveryID]*delivery
}

// deliveryID tells messages apart even when a stream was deleted and created anew.
type deliveryID struct {
	sequence  uint64
	published int64
}

// delivery is one message in hand. Its fields are guarded by hands.mu.
type delivery struct {
	id       deliveryID
	msg      jetstream.Msg // the newest copy: its reply subject is the one to answer
	message  Message
	slot     bool      // it holds a slot of the consumption
	since    time.Time // of the current stay: when it was taken or last told to wait
	deadline time.Time // while handled: when the server may take it for lost
	waiting  *time.Timer
	due      time.Time
	verdict  *Result // a dead letter that could not be written yet
}

func newHands(s *consumption) *hands {
	h := &hands{
		s: s, open: make(map[deliveryID]*delivery), quit: make(chan struct{}),
		ready: make(chan *delivery, s.cfg.inHand()),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

func (h *hands) start() {
	for range h.s.cfg.Workers {
		h.group.Go(h.work)
	}
	h.group.Go(h.keepAlive)
}

// take accepts a message that holds a slot. A second copy of one that is in hand
// only replaces the first: the server had lost sight of it.
func (h *hands) take(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	d := &delivery{
		id: deliveryID{meta.Sequence.Stream, meta.Timestamp.UnixNano()}, msg: msg, slot: true, since: time.Now(),
		message: Message{
			Subject: msg.Subject(), Data: msg.Data(), Delivered: int(meta.NumDelivered),
			Published: meta.Timestamp, Sequence: meta.Sequence.Stream, first: firstPublished(msg.Headers()), header: msg.Headers(),
		},
	}
	h.mu.Lock()
	held, again := h.open[d.id]
	if again {
		held.msg, held.message.Delivered = msg, d.message.Delivered
		h.s.slots <- struct{}{}
	} else {
		h.open[d.id] = d
	}
	h.mu.Unlock()
	if !again {
		h.ready <- d // never full: a slot for each
	}
	return nil
}

func (h *hands) work() {
	for {
		select {
		case <-h.quit:
			return
		default:
		}
		select {
		case <-h.quit:
			return
		case d := <-h.ready:
			h.handle(d)
		}
	}
}

func (h *hands) handle(d *delivery) {
	h.mu.Lock()
	m, verdict := d.message, d.verdict
	d.deadline = time.Now().Add(h.s.cfg.Timeout)
	h.mu.Unlock()
	if verdict == nil {
		r := h.verdict(m)
		verdict = &r
	}
	h.mu.Lock()
	d.deadline = time.Time{}
	msg, delivered := d.msg, d.message.Delivered
	h.mu.Unlock()
	h.s.bus.metrics.handled.WithLabelValues(h.s.cfg.Durable, verdict.String()).Inc()
	if verdict.err != nil {
		h.s.log.Warn().Str("error", masked(verdict.reason)).Uint64("sequence", m.Sequence).Str("subject", m.Subject).
			Int("delivered", delivered).Msg("handling a message failed")
	}
	switch {
	case verdict.verdict == verdictWait:
		h.hold(d, verdict.delay, nil)
		return
	case verdict.verdict == verdictDone:
		h.answered(msg.Ack())
	case verdict.verdict == verdictRetry && (h.s.advisories || delivered < h.s.cfg.MaxDeliver):
		h.answered(msg.NakWithDelay(h.s.cfg.backOff(delivered)))
	default:
		dead := deadLetters{bus: h.s.bus, consumer: h.s.cfg}
		if err := dead.write(h.ctx, m, delivered, verdict.reason); err != nil {
			h.s.log.Error().Err(err).Uint64("sequence", m.Sequence).Msg("a dead letter could not be written; trying again")
			h.hold(d, h.s.cfg.backOff(1), verdict)
			return
		}
		h.answered(msg.Term())
	}
	h.drop(d)
}

// answered notes that the server could not be told; it then delivers the message
// again, which handlers must bear anyway.
func (h *hands) answered(err error) {
	if err != nil {
		h.s.log.Debug().Err(err).Msg("a message could not be acknowledged and will come again")
	}
}

func (c *Consumer) backOff(delivered int) time.Duration {
	return c.BackOff[min(max(delivered, 1), len(c.BackOff))-1]
}

// verdict calls the handler, but not for a replay that came too late.
func (h *hands) verdict(m Message) Result {
	if !m.first.IsZero() && h.s.bus.tooLate(m.Subject, m.first) {
		return Dead(ErrReplayTooLate.Error())
	}
	return h.call(m)
}

// call runs the handler within its deadline and turns a panic into a Retry.
func (h *hands) call(m Message) (r Result) {
	ctx, cancel := context.WithTimeout(h.ctx, h.s.cfg.Timeout)
	defer cancel()
	ctx, end := h.s.bus.cfg.Tracer.Handle(ctx, m.Subject, h.s.cfg.Durable, m.header)
	defer func() { end(r.String(), r.err) }()
	defer func() {
		if v := recover(); v != nil {
			h.s.log.Error().Str("panic", masked(fmt.Sprint(v))).Str("at", callers()).
				Uint64("sequence", m.Sequence).Msg("a handler panicked")
			r = Retry(errors.New("the handler panicked"))
		}
	}()
	return h.s.handle(ctx, m)
}

// callers lists the functions that led to a panic. Unlike debug.Stack it leaves out
// their arguments, which may be a number's bits.
func callers() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	var out strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&out, "%s:%d ", f.Function, f.Line)
		if !more {
			return out.String()
		}
	}
}

// hold keeps a message back for a while and frees its slot.
func (h *hands) hold(d *delivery, delay time.Duration, verdict *Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free(d)
	d.verdict, d.due = verdict, time.Now().Add(delay)
	h.s.bus.metrics.waiting.WithLabelValues(h.s.cfg.Durable).Inc()
	d.waiting = time.AfterFunc(delay, func() { h.resume(d) })
}

func (h *hands) resume(d *delivery) {
	h.mu.Lock()
	d.waiting = nil
	h.mu.Unlock()
	h.s.bus.metrics.waiting.WithLabelValues(h.s.cfg.Durable).Dec()
	select {
	case h.ready <- d:
	case <-h.quit:
	}
}

func (h *hands) drop(d *delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free(d)
	delete(h.open, d.id)
}

func (h *hands) free(d *delivery) {
	if d.slot {
		d.slot = false
		h.s.slots <- struct{}{} // never full: the token came from there
	}
}

// keepAlive tells the server of every message in hand that the work goes on. A
// handler that is past its deadline is not vouched for any longer.
func (h *hands) keepAlive() {
	every := h.s.cfg.AckWait / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-h.quit:
			return
		case now := <-tick.C:
			h.vouch(now, every)
		}
	}
}

func (h *hands) vouch(now time.Time, every time.Duration) {
	h.mu.Lock()
	held := make([]jetstream.Msg, 0, len(h.open))
	for _, d := range h.open {
		late := !d.deadline.IsZero() && now.After(d.deadline)
		if !late && now.Sub(d.since) > every/2 {
			held = append(held, d.msg)
		}
	}
	h.mu.Unlock()
	for _, msg := range held {
		if err := msg.InProgress(); err != nil {
			h.s.log.Debug().Err(err).Msg("the server could not be told that work goes on")
			return
		}
	}
}

// stop lets the handlers that run finish, hands back what is ready or waits, and
// ends the goroutines. A handler that ignores the end of its context is an error:
// its goroutine cannot be ended.
func (h *hands) stop() error {
	close(h.quit)
	defer h.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.group.Wait()
	}()
	grace := time.NewTimer(min(stopGrace, h.s.cfg.Timeout))
	defer grace.Stop()
	var err error
	select {
	case <-done:
	case <-grace.C:
		h.cancel()
		grace.Reset(stopGrace)
		select {
		case <-done:
		case <-grace.C:
			err = fmt.Errorf("consumer %s: a handler did not end with its context", h.s.cfg.Durable)
		}
	}
	h.handBack()
	return err
}

// handBack lets the server deliver what is still in hand to somebody else, not
// before it was due here.
func (h *hands) handBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.open {
		if d.waiting != nil && d.waiting.Stop() {
			h.s.bus.metrics.waiting.WithLabelValues(h.s.cfg.Durable).Dec()
		}
		h.answered(d.msg.NakWithDelay(max(time.Until(d.due), time.Millisecond)))
	}
	clear(h.open)
	if h.s.bus.nc.IsConnected() {
		h.answered(h.s.bus.nc.FlushTimeout(h.s.bus.cfg.Timeout))
	}
}
