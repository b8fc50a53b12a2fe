package events

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// Decision is what was answered to one call, as the router knows it. It becomes a
// CallDecided.
type Decision struct {
	Carrier string
	CallID  []byte    // the carrier's; empty when it sent none
	VN      vn.Number // the VN dialled; 0 unless it is known to be ours
	OrderID []byte
	Reason  vn.Reason
	At      time.Time
	Took    time.Duration
}

// callWriter publishes calls.decided from one goroutine, out of the callers' way and
// many at a time: to wake somebody and write to a socket for each call would cost a
// router more than the calls themselves. For the same reason the stream is not asked
// to acknowledge each: one message in ackEvery asks for it, so that a stream which
// stores nothing is noticed, counted and logged.
type callWriter struct {
	bus  *Bus
	js   jetstream.JetStream // its own, so that a stall here does not slow the ledger
	wake chan struct{}       // something waits
	stop chan struct{}
	done chan struct{}
	once sync.Once

	mu      sync.Mutex
	waiting callBatch

	taken callBatch // the writer's
	sent  uint64
	data  []byte
	msg   nats.Msg
}

// callBatch holds calls, in text what their slices point to, and the rarer events
// about them.
type callBatch struct {
	calls []Decision
	text  []byte
	notes []note
}

func (q *callBatch) len() int { return len(q.calls) + len(q.notes) }

func (q *callBatch) add(d *Decision) {
	at, end := len(q.text), len(q.text)+len(d.CallID)
	q.text = append(append(q.text, d.CallID...), d.OrderID...)
	c := *d
	c.CallID, c.OrderID = q.text[at:end:end], q.text[end:]
	q.calls = append(q.calls, c)
}

func (q *callBatch) reset() {
	clear(q.notes)
	q.calls, q.text, q.notes = q.calls[:0], q.text[:0], q.notes[:0]
}

const (
	// callsInFlight is how many acknowledgements may be outstanding.
	callsInFlight = 64
	ackEvery      = 128
	// callsPause is how long calls gather before they are published together.
	callsPause = 5 * time.Millisecond
)

func newCallWriter(b *Bus) (*callWriter, error) {
	w := &callWriter{
		bus: b, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		msg: nats.Msg{Header: headers("", "", time.Time{})},
	}
	var err error
	w.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(callsInFlight),
		jetstream.WithPublishAsyncTimeout(b.cfg.Timeout),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
			b.metrics.callsDropped.Add(ackEvery) // and likely all since the last that was stored
			b.log.Warn().Err(err).Msg("the events of calls are not stored")
		}))
	if err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

// Decided publishes calls.decided without waiting, and copies what d points to. It
// never blocks: when NATS is away or slow the event waits in a bounded queue, and once
// that is full it is dropped and counted in callmask_events_calls_dropped_total.
//
// The message id is a hash of carrier, call id and reason, so that a call that the
// carrier sends twice is stored once; calls without id are never taken for repeats.
func (b *Bus) Decided(d *Decision) {
	w := b.calls
	w.mu.Lock()
	n := w.waiting.len()
	if n < b.cfg.CallsQueue {
		w.waiting.add(d)
	}
	w.mu.Unlock()
	w.queued(n)
}

// enqueue is Decided for the rarer events.
func (w *callWriter) enqueue(add func(*callBatch)) {
	w.mu.Lock()
	n := w.waiting.len()
	if n < w.bus.cfg.CallsQueue {
		add(&w.waiting)
	}
	w.mu.Unlock()
	w.queued(n)
}

// queued wakes the writer for the first event, and counts one that found n, too many,
// waiting.
func (w *callWriter) queued(n int) {
	switch n {
	case w.bus.cfg.CallsQueue:
		w.bus.metrics.callsDropped.Inc()
	case 0:
		select {
		case w.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

func (w *callWriter) run() {
	defer close(w.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-w.wake:
		case <-w.stop:
			w.flush()
			return
		}
		pause.Reset(callsPause)
		select {
		case <-pause.C:
		case <-w.stop:
			w.flush()
			return
		}
		if w.connected(w.stop) {
			w.publishAll(context.Background())
		}
	}
}

// publishAll publishes what waits until ctx ends; the rest is dropped and counted.
func (w *callWriter) publishAll(ctx context.Context) {
	w.mu.Lock()
	w.waiting, w.taken = w.taken, w.waiting
	w.mu.Unlock()
	defer w.taken.reset()
	for i := range w.taken.calls {
		if !w.may(ctx, w.taken.len()-i) {
			return
		}
		call := &w.taken.calls[i]
		w.data = call.appendJSON(w.data[:0])
		w.publish(SubjectDecided, call.messageID(), call.At, w.data)
	}
	for i, n := range w.taken.notes {
		if !w.may(ctx, len(w.taken.notes)-i) {
			return
		}
		w.publish(n.subject, n.id, n.at, n.data)
	}
}

// may tells whether publishing can go on; where it cannot, what is left is dropped and
// counted.
func (w *callWriter) may(ctx context.Context, left int) bool {
	if ctx.Err() == nil && w.bus.nc.IsConnected() {
		return true
	}
	w.bus.metrics.callsDropped.Add(float64(left))
	return false
}

// connected waits until there is a connection, or until stop is closed.
func (w *callWriter) connected(stop <-chan struct{}) bool {
	if w.bus.nc.IsConnected() {
		return true
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if w.bus.nc.IsConnected() {
				return true
			}
		case <-stop:
			return w.bus.nc.IsConnected()
		}
	}
}

// publish sends one event, which happened at at. data is copied.
func (w *callWriter) publish(subject, id string, at time.Time, data []byte) {
	w.sent++
	var err error
	if w.sent%ackEvery == 1 {
		_, err = w.js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: headers(subject, id, at), Data: slices.Clone(data)})
	} else {
		setHeaders(w.msg.Header, subject, id, at)
		w.msg.Subject, w.msg.Data = subject, data // copied into the connection's buffer
		err = w.bus.nc.PublishMsg(&w.msg)
	}
	if err != nil {
		w.bus.metrics.callsDropped.Inc()
		w.bus.log.Debug().Err(err).Msg("a call's event was not published")
	}
}

// appendJSON appends the call as a CallDecided, as encoding/json would: a router writes
// one for every call.
func (d *Decision) appendJSON(dst []byte) []byte {
	dst = appendJSONString(append(dst, `{"carrier":`...), []byte(d.Carrier))
	if len(d.CallID) > 0 {
		dst = appendJSONString(append(dst, `,"call_id":`...), d.CallID)
	}
	if d.VN != 0 {
		dst = append(d.VN.AppendE164(append(dst, `,"vn":"`...)), '"')
	}
	if len(d.OrderID) > 0 {
		dst = appendJSONString(append(dst, `,"order_id":`...), d.OrderID)
	}
	dst = append(append(dst, `,"reason":"`...), d.Reason.String()...)
	dst = d.At.UTC().AppendFormat(append(dst, `","at":"`...), time.RFC3339Nano)
	dst = strconv.AppendInt(append(dst, `","took_us":`...), d.Took.Microseconds(), 10)
	return append(dst, '}')
}

// appendJSONString appends s as a JSON string (RFC 8259 section 7); bytes that are not
// UTF-8 become U+FFFD.
func appendJSONString(dst, s []byte) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

func (d *Decision) messageID() string {
	if len(d.CallID) == 0 {
		return "decided:" + rand.Text()
	}
	var buf [192]byte
	text := append(append(append(append(append(buf[:0], d.Carrier...), 0), d.CallID...), 0), d.Reason.String()...)
	sum := sha256.Sum256(text)
	const prefix = "decided:"
	var id [len(prefix) + 32]byte
	hex.Encode(id[copy(id[:], prefix):], sum[:16])
	return string(id[:])
}

// flush publishes what is queued and waits for the acknowledgements, no longer
// than Config.Timeout in all.
func (w *callWriter) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), w.bus.cfg.Timeout)
	defer cancel()
	w.publishAll(ctx)
	select {
	case <-w.js.PublishAsyncComplete():
	case <-ctx.Done():
	}
	if err := w.bus.nc.FlushWithContext(ctx); err != nil && w.bus.nc.IsConnected() {
		w.bus.log.Debug().Err(err).Msg("the last events of calls may be lost")
	}
	w.js.CleanupPublisher()
}

func (w *callWriter) close() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}
