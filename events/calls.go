package events

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// callWriter publishes calls.decided from one goroutine, out of the callers' way.
type callWriter struct {
	bus   *Bus
	js    jetstream.JetStream // its own, so that a stall here does not slow the ledger
	queue chan CallDecided
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
}

// callsInFlight is how many published calls may be unacknowledged.
const callsInFlight = 1024

func newCallWriter(b *Bus) (*callWriter, error) {
	w := &callWriter{
		bus: b, queue: make(chan CallDecided, b.cfg.CallsQueue),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	var err error
	w.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(callsInFlight),
		jetstream.WithPublishAsyncTimeout(b.cfg.Timeout),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
			b.metrics.callsDropped.Inc()
			b.log.Debug().Err(err).Msg("a call's event was not stored")
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
	call.At = call.At.UTC()
	data, err := json.Marshal(call)
	if err == nil {
		_, err = w.js.PublishAsync(SubjectDecided, data, jetstream.WithMsgID(call.messageID()))
	}
	if err != nil {
		w.bus.metrics.callsDropped.Inc()
		w.bus.log.Debug().Err(err).Msg("a call's event was not published")
	}
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
	w.js.CleanupPublisher()
}

func (w *callWriter) close() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}
