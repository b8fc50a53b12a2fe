package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StoredLetter is a dead letter as Bus.DeadLetters finds it.
type StoredLetter struct {
	DeadLetter // without its payload

	ID       string    // its message id, see DeadLetter
	Stored   uint64    // its sequence in stream DEAD; 0 when no consumer has taken the server's advisory yet
	Replayed time.Time // when it was published again; zero when it was not
}

// replayed is the payload of dead.replayed: the letter with this message id was published
// again. Its own message id is replayed:<id>.
type replayed struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

const (
	subjectReplayed = "dead.replayed"

	// headerFirst holds, on a replayed event, when it was published at first, RFC 3339.
	headerFirst = "Callmask-First-Published"

	// replayFor is how long after it was published an event that gives an order its
	// numbers may be replayed: an hour less than the least time for which an ended order
	// is remembered (the setting tombstone), for clocks that differ.
	replayFor = 23 * time.Hour
)

// The reasons why a dead letter is not published again.
var (
	ErrReplayTooLate = errors.New("replay_too_late: the event is older than 23 hours, so its order may have ended and been forgotten; " +
		"if the order still lives, let its service publish it anew")
	ErrReplayNoPayload = errors.New("replay_no_payload: the letter has no payload, and the message is no longer in its stream")
	ErrReplayLedger    = errors.New("replay_ledger: it is of the ledger, whose later records it would overwrite")
)

// DeadLetters returns what could not be handled, oldest first: the letters of stream DEAD,
// and after them the messages whose deliveries were all used up and that no consumer has
// made a letter of yet, because none of its kind runs. unreadable counts what is not ours.
func (b *Bus) DeadLetters(ctx context.Context) (letters []StoredLetter, unreadable int, err error) {
	done := map[string]time.Time{}
	err = b.readAll(ctx, streamDead, subjectReplayed, time.Time{}, func(m jetstream.Msg, _ uint64) error {
		var r replayed
		if json.Unmarshal(m.Data(), &r) == nil {
			done[r.ID] = r.At
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	known := map[string]bool{} // by stream, consumer and sequence
	err = b.readAll(ctx, streamDead, subjectDead+">", time.Time{}, func(m jetstream.Msg, seq uint64) error {
		if m.Subject() == subjectReplayed {
			return nil
		}
		l := StoredLetter{ID: m.Headers().Get(jetstream.MsgIDHeader), Stored: seq}
		if json.Unmarshal(m.Data(), &l.DeadLetter) != nil || l.ID == "" {
			unreadable++
			return nil
		}
		l.Payload, l.Replayed = nil, done[l.ID]
		known[deadKey(l.Stream, l.Consumer, l.Sequence)] = true
		letters = append(letters, l)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	pending, err := b.exhausted(ctx, known)
	for i := range pending {
		pending[i].Replayed = done[pending[i].ID]
	}
	return append(letters, pending...), unreadable, err
}

func deadKey(stream, consumer string, sequence uint64) string {
	return fmt.Sprintf("%s %s %d", stream, consumer, sequence)
}

// exhausted returns what the server has given up on for consumers of ours, but for what is
// known already.
func (b *Bus) exhausted(ctx context.Context, known map[string]bool) (letters []StoredLetter, err error) {
	ours, err := b.consumerNames(ctx, streamAdvisories)
	if err != nil {
		return nil, err
	}
	var told []advisory
	err = b.readAll(ctx, streamAdvisories, advisoryPrefix+">", time.Time{}, func(m jetstream.Msg, _ uint64) error {
		var a advisory
		if json.Unmarshal(m.Data(), &a) != nil || !ours[fmt.Sprintf(advisoriesDurable, a.Stream, a.Consumer)] {
			return nil // another program's consumer
		}
		if key := deadKey(a.Stream, a.Consumer, a.Sequence); !known[key] {
			known[key] = true
			told = append(told, a)
		}
		return nil
	})
	for i := range told {
		if err != nil {
			return nil, err
		}
		a := &told[i]
		l := StoredLetter{DeadLetter: DeadLetter{
			Stream: a.Stream, Sequence: a.Sequence, Subject: a.Stream, Consumer: a.Consumer,
			Reason: reasonGone, Deliveries: a.Deliveries, At: a.At.UTC(),
		}}
		var msg *jetstream.RawStreamMsg
		if msg, err = b.original(ctx, a.Stream, a.Sequence); msg != nil {
			m := Message{Published: msg.Time, first: firstPublished(msg.Header)}
			l.Subject, l.OrderID, l.Reason, l.Published = msg.Subject, orderOf(msg.Data), reasonExhausted, m.firstPublished()
			l.ID = deadID(a.Stream, a.Consumer, a.Sequence, msg.Time)
		}
		letters = append(letters, l)
	}
	return letters, err
}

func (b *Bus) consumerNames(ctx context.Context, stream string) (map[string]bool, error) {
	doing := "listing the consumers of stream " + stream
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, failed(doing, err)
	}
	names := map[string]bool{}
	list := s.ConsumerNames(ctx)
	for name := range list.Name() {
		names[name] = true
	}
	return names, failed(doing, list.Err())
}

// original reads a message from its stream; nil without an error means that it is gone.
func (b *Bus) original(ctx context.Context, stream string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err == nil {
		var msg *jetstream.RawStreamMsg
		if msg, err = s.GetMsg(ctx, sequence); err == nil {
			return msg, nil
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // said above
	}
	return nil, failed("reading a message of stream "+stream, err)
}

// Replay publishes the message of a dead letter again, to its subject, and notes that it
// did: DeadLetters tells so from then on. open opens what Consumer.Dead sealed; it is not
// asked while the stream still holds the message itself. A repeat within two minutes,
// also by another process, is dropped by the stream. Where Replay is cut short between
// the two steps, a later one publishes once more, which handlers must bear anyway.
func (b *Bus) Replay(ctx context.Context, l *StoredLetter, open func(box []byte) ([]byte, error)) error {
	if err := b.MayReplay(l); err != nil {
		return err
	}
	data, err := b.payload(ctx, l, open)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: l.Subject, Data: data, Header: nats.Header{}}
	msg.Header.Set(headerFirst, l.Published.UTC().Format(time.RFC3339Nano))
	if _, err := b.storeMsg(ctx, msg, jetstream.WithMsgID("replay:"+l.ID), jetstream.WithExpectStream(l.Stream)); err != nil {
		return err
	}
	l.Replayed = time.Now().UTC()
	return b.publish(ctx, subjectReplayed, "replayed:"+l.ID, replayed{ID: l.ID, At: l.Replayed})
}

// MayReplay tells by the letter alone why Replay would refuse it.
func (b *Bus) MayReplay(l *StoredLetter) error {
	switch {
	case l.Stream == streamLedger:
		return ErrReplayLedger
	case l.ID == "":
		return ErrReplayNoPayload
	case b.tooLate(l.Subject, l.Published):
		return ErrReplayTooLate
	}
	return nil
}

// tooLate tells whether a replay could bring back an order that has ended.
func (b *Bus) tooLate(subject string, published time.Time) bool {
	return subject == b.OrderSubject(EventAssigned) && time.Since(published) > replayFor
}

func firstPublished(header nats.Header) time.Time {
	at, err := time.Parse(time.RFC3339Nano, header.Get(headerFirst))
	if err != nil {
		return time.Time{} // it has none
	}
	return at
}

func (b *Bus) payload(ctx context.Context, l *StoredLetter, open func([]byte) ([]byte, error)) ([]byte, error) {
	msg, err := b.original(ctx, l.Stream, l.Sequence)
	if err != nil {
		return nil, err
	}
	if msg != nil && deadID(l.Stream, l.Consumer, l.Sequence, msg.Time) == l.ID {
		return msg.Data, nil
	}
	if l.Stored == 0 {
		return nil, ErrReplayNoPayload
	}
	if msg, err = b.original(ctx, streamDead, l.Stored); err != nil {
		return nil, err
	}
	var letter DeadLetter
	if msg == nil || json.Unmarshal(msg.Data, &letter) != nil || len(letter.Payload) == 0 {
		return nil, ErrReplayNoPayload
	}
	data, err := open(letter.Payload)
	if err != nil {
		return nil, fmt.Errorf("the letter's payload cannot be opened: %w", err)
	}
	return data, nil
}
