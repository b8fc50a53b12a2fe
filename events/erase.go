package events

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Trace is a message that holds, or may hold sealed, real numbers of an order's parties.
type Trace struct {
	Stream   string
	Sequence uint64
	Subject  string
	OrderID  string // empty when the payload names none
	At       time.Time
}

// Traces finds what the streams still hold of orders with the numbers of their parties:
// orders.assigned in the stream of orders, and dead letters of it. about judges each by
// its order and its payload; that of a dead letter is what open makes of the sealed one,
// nil when that fails. The ledger is not looked at: an order's end replaces its records.
func (b *Bus) Traces(ctx context.Context, open func(box []byte) ([]byte, error), about func(orderID string, payload []byte) bool) ([]Trace, error) {
	var found []Trace
	note := func(m jetstream.Msg, stream string, seq uint64, orderID string, payload []byte) error {
		meta, err := m.Metadata()
		if err == nil && about(orderID, payload) {
			found = append(found, Trace{Stream: stream, Sequence: seq, Subject: m.Subject(), OrderID: orderID, At: meta.Timestamp.UTC()})
		}
		return err
	}
	assigned := b.OrderSubject(EventAssigned)
	err := b.readAll(ctx, b.cfg.OrdersStream, assigned, time.Time{}, func(m jetstream.Msg, seq uint64) error {
		return note(m, b.cfg.OrdersStream, seq, orderOf(m.Data()), m.Data())
	})
	if err != nil {
		return nil, err
	}
	err = b.readAll(ctx, streamDead, subjectDead+assigned, time.Time{}, func(m jetstream.Msg, seq uint64) error {
		var l DeadLetter
		if json.Unmarshal(m.Data(), &l) != nil {
			return nil // not ours
		}
		payload, err := open(l.Payload)
		if err != nil {
			payload = nil
		}
		return note(m, streamDead, seq, l.OrderID, payload)
	})
	return found, err
}

// EraseTrace deletes a message for good: the server overwrites it on the disk. One that is
// gone already is no error.
func (b *Bus) EraseTrace(ctx context.Context, t Trace) error {
	doing := "erasing a message of stream " + t.Stream
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, t.Stream)
	if err != nil {
		return failed(doing, err)
	}
	err = s.SecureDeleteMsg(ctx, t.Sequence)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if still, lookErr := b.original(ctx, t.Stream, t.Sequence); lookErr == nil && still == nil {
			return nil
		}
	}
	return failed(doing, err)
}
