package events

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// DeadLetter is what becomes of a message that could not be handled, on
// dead.<its subject>. Its message id is dead:<stream>:<consumer>:<sequence>:<when
// published, ns>. Payload is the message sealed by Consumer.Dead (base64 in JSON), absent
// when it could not be sealed or was gone.
type DeadLetter struct {
	Stream     string    `json:"stream"`
	Sequence   uint64    `json:"sequence"`
	Subject    string    `json:"subject"`
	Consumer   string    `json:"consumer"`
	Reason     string    `json:"reason"`
	Deliveries int       `json:"deliveries"`
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
		Reason: masked(reason), Deliveries: deliveries, At: time.Now().UTC(),
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
	id := "dead:" + letter.Stream + ":" + letter.Consumer + ":" + strconv.FormatUint(m.Sequence, 10) +
		":" + strconv.FormatInt(m.Published.UnixNano(), 10)
	if err := d.bus.publish(ctx, subjectDead+m.Subject, id, letter); err != nil {
		return err
	}
	d.bus.metrics.deadLetters.WithLabelValues(letter.Consumer).Inc()
	log.Error().Str("reason", letter.Reason).Int("deliveries", deliveries).Msg("a message became a dead letter")
	return nil
}

// exhausted handles an advisory: the server gave up on a message whose deliveries
// all ended without an answer.
func (d *deadLetters) exhausted(ctx context.Context, m Message) Result {
	var advisory struct {
		Stream     string `json:"stream"`
		Consumer   string `json:"consumer"`
		Sequence   uint64 `json:"stream_seq"`
		Deliveries int    `json:"deliveries"`
	}
	if err := json.Unmarshal(m.Data, &advisory); err != nil || advisory.Sequence == 0 {
		d.bus.log.Error().Uint64("sequence", m.Sequence).Msg("an advisory of the server cannot be read")
		return Done()
	}
	stream, err := d.bus.js.Stream(ctx, d.consumer.Stream)
	if err != nil {
		return Retry(failed("looking up stream "+d.consumer.Stream, err))
	}
	lost := Message{Subject: d.consumer.Stream, Sequence: advisory.Sequence}
	reason := "no delivery was answered: each ended with its process, or in silence"
	msg, err := stream.GetMsg(ctx, advisory.Sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		reason += "; the message is no longer in the stream"
	case err != nil:
		return Retry(failed("reading the message of an advisory", err))
	default:
		lost.Subject, lost.Data, lost.Published = msg.Subject, msg.Data, msg.Time
	}
	if err := d.write(ctx, lost, advisory.Deliveries, reason); err != nil {
		return Retry(err)
	}
	return Done()
}
