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
)

// callWriter publishes calls.decided from one goroutine, out of the callers' way.
//
// It publishes without asking the stream for an acknowledgement: those would cost a
// router more than the calls themselves. One message in ackEvery asks for one all the
// same, so that a stream which stores nothing is noticed, counted and logged.
type callWriter struct {
	bus   *Bus
	js    jetstream.JetStream // its own, so that a stall here does not slow the ledger
	queue chan CallDecided
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
	sent  uint64
	data  []byte
	msg   nats.Msg
}

const (
	// callsInFlight is how many acknowledgements may be outstanding.
	callsInFlight = 64
	ackEvery      = 128
)

func newCallWriter(b *Bus) (*callWriter, error) {
	w := &callWriter{
		bus: b, queue: make(chan CallDecided, b.cfg.CallsQueue),
		stop: make(chan struct{}), done: make(chan struct{}),
		msg: nats.Msg{Subject: SubjectDecided, Header: nats.Header{}},
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

// Decided publishes calls.decided without waiting. It never blocks: when NATS is
// away or slow the event waits in a bounded queue, and once that is full it is
// dropped and counted in callmask_events_calls_dropped_total.
//
// The message id is a hash of carrier, call id and reason, so that a call that the
// carrier sends twice is stored once; calls without id are never taken for repeats.
func (b *Bus) Decided(call CallDecided) {
	select {
	case b.calls.queue <- call:
	default:
		b.metrics.callsDropped.Inc()
	}
}

func (w *callWriter) run() {
	defer close(w.done)
	for {
		select {
		case call := <-w.queue:
			if !w.connected(w.stop) {
				w.bus.metrics.callsDropped.Inc()
				continue
			}
			w.publish(call)
		case <-w.stop:
			w.flush()
			return
		}
	}
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

func (w *callWriter) publish(call CallDecided) {
	id := call.messageID()
	w.data = call.appendJSON(w.data[:0])
	w.sent++
	var err error
	if w.sent%ackEvery == 1 {
		_, err = w.js.PublishAsync(SubjectDecided, slices.Clone(w.data), jetstream.WithMsgID(id))
	} else {
		w.msg.Header[jetstream.MsgIDHeader] = []string{id}
		w.msg.Data = w.data // copied into the connection's buffer
		err = w.bus.nc.PublishMsg(&w.msg)
	}
	if err != nil {
		w.bus.metrics.callsDropped.Inc()
		w.bus.log.Debug().Err(err).Msg("a call's event was not published")
	}
}

// appendJSON appends what encoding/json would make of the call: a router writes one for
// every call.
func (c *CallDecided) appendJSON(dst []byte) []byte {
	field := func(name, value string, omitEmpty bool) {
		if value == "" && omitEmpty {
			return
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), `":`...)
		dst = appendJSONString(dst, value)
	}
	dst = append(dst, '{')
	field("carrier", c.Carrier, false)
	field("call_id", c.CallID, true)
	field("vn", c.VN, true)
	field("order_id", c.OrderID, true)
	field("reason", c.Reason, false)
	dst = append(dst, `,"at":"`...)
	dst = c.At.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","took_us":`...)
	return append(strconv.AppendInt(dst, c.TookUS, 10), '}')
}

// appendJSONString appends s as a JSON string (RFC 8259 section 7); bytes that are not
// UTF-8 become U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

func (c *CallDecided) messageID() string {
	if c.CallID == "" {
		return "decided:" + rand.Text()
	}
	sum := sha256.Sum256([]byte(c.Carrier + "\x00" + c.CallID + "\x00" + c.Reason))
	return "decided:" + hex.EncodeToString(sum[:16])
}

// flush publishes what is queued and waits for the acknowledgements, no longer
// than Config.Timeout in all.
func (w *callWriter) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), w.bus.cfg.Timeout)
	defer cancel()
	for len(w.queue) > 0 {
		call := <-w.queue
		if ctx.Err() != nil || !w.bus.nc.IsConnected() {
			w.bus.metrics.callsDropped.Inc()
			continue
		}
		w.publish(call)
	}
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
