package events

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// DeadLetter is what becomes of a message that could not be handled, on
// dead.<its subject>. Its message id is dead:<stream>:<consumer>:<sequence>:<when
// published, ns>. Payload is the message sealed by Consumer.Dead (base64 in JSON), absent
// when it could not be sealed or was gone.
type DeadLetter struct {
	Stream     string    `json:"stream"`
	Sequence   uint64    `json:"sequence"`
	Subject    string    `json:"subject"`
	OrderID    string    `json:"order_id,omitempty"` // when the payload names a valid one
	Consumer   string    `json:"consumer"`
	Reason     string    `json:"reason"`
	Deliveries int       `json:"deliveries"`
	Published  time.Time `json:"published,omitzero"` // when the event was first published: before any replay
	At         time.Time `json:"at"`
	Payload    []byte    `json:"payload,omitempty"`
}

// deadLetters writes the dead letters of one consumer.
type deadLetters struct {
	bus      *Bus
	consumer Consumer
}

// write stores the dead letter of a message; nil means that it is stored.
func (d *deadLetters) write(ctx context.Context, m Message, deliveries int, reason string) error {
	letter := DeadLetter{
		Stream: d.consumer.Stream, Sequence: m.Sequence, Subject: m.Subject, Consumer: d.consumer.Durable,
		OrderID: orderOf(m.Data), Reason: masked(reason), Deliveries: deliveries,
		Published: m.firstPublished().UTC(), At: time.Now().UTC(),
	}
	log := d.bus.log.With().Str("stream", letter.Stream).Str("consumer", letter.Consumer).
		Uint64("sequence", m.Sequence).Str("subject", m.Subject).Logger()
	if d.consumer.Dead != nil && m.Data != nil {
		var err error
		if letter.Payload, err = d.consumer.Dead(m.Data); err != nil {
			letter.Payload = nil
			log.Error().Err(err).Msg("a dead letter's payload could not be sealed and is left out")
		}
	}
	id := deadID(letter.Stream, letter.Consumer, m.Sequence, m.Published)
	if err := d.bus.publish(ctx, subjectDead+m.Subject, id, letter); err != nil {
		return err
	}
	d.bus.metrics.deadLetters.WithLabelValues(letter.Consumer).Inc()
	log.Error().Str("reason", letter.Reason).Int("deliveries", deliveries).Msg("a message became a dead letter")
	return nil
}

// deadID is the message id of a dead letter: what names it for good.
func deadID(stream, consumer string, sequence uint64, published time.Time) string {
	return "dead:" + stream + ":" + consumer + ":" + strconv.FormatUint(sequence, 10) + ":" + strconv.FormatInt(published.UnixNano(), 10)
}

// orderOf returns the order that a payload is about; empty when it names none, or none
// that could be one.
func orderOf(data []byte) string {
	var p struct {
		OrderID string `json:"order_id"`
	}
	if json.Unmarshal(data, &p) != nil || vn.CheckOrderID(p.OrderID) != nil {
		return ""
	}
	return p.OrderID
}

// advisory is what the server tells of a message whose deliveries are used up.
type advisory struct {
	Stream     string    `json:"stream"`
	Consumer   string    `json:"consumer"`
	Sequence   uint64    `json:"stream_seq"`
	Deliveries int       `json:"deliveries"`
	At         time.Time `json:"timestamp"`
}

const (
	reasonExhausted = "no delivery was answered: each ended with its process, or in silence"
	reasonGone      = reasonExhausted + "; the message is no longer in the stream"
)

// exhausted handles an advisory: the server gave up on a message whose deliveries
// all ended without an answer.
func (d *deadLetters) exhausted(ctx context.Context, m Message) Result {
	var told advisory
	if err := json.Unmarshal(m.Data, &told); err != nil || told.Sequence == 0 {
		d.bus.log.Error().Uint64("sequence", m.Sequence).Msg("an advisory of the server cannot be read")
		return Done()
	}
	stream, err := d.bus.js.Stream(ctx, d.consumer.Stream)
	if err != nil {
		return Retry(failed("looking up stream "+d.consumer.Stream, err))
	}
	lost := Message{Subject: d.consumer.Stream, Sequence: told.Sequence}
	reason := reasonExhausted
	msg, err := stream.GetMsg(ctx, told.Sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		reason = reasonGone
	case err != nil:
		return Retry(failed("reading the message of an advisory", err))
	default:
		lost.Subject, lost.Data, lost.Published, lost.first = msg.Subject, msg.Data, msg.Time, firstPublished(msg.Header)
	}
	if err := d.write(ctx, lost, told.Deliveries, reason); err != nil {
		return Retry(err)
	}
	return Done()
}
