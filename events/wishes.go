package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// ErrAskedSince means that somebody else has asked for the same thing meanwhile. Nothing
// was stored.
var ErrAskedSince = errors.New("asked_since: somebody else has just asked for this; look again and decide anew")

// TopUp is the payload of pools.top_up.<pool>: somebody wants more numbers in the pool
// than the settings ask for.
type TopUp struct {
	ID      string `json:"id"` // of the wish: a repeat is dropped
	Pool    string `json:"pool"`
	Numbers int    `json:"numbers"`
	By      string `json:"by"` // whoever asked
}

// TopUpPool returns the pool whose top-up a subject is of; false for other subjects.
func TopUpPool(subject string) (pool string, ok bool) {
	return strings.CutPrefix(subject, subjectTopUp)
}

// AskTopUp publishes pools.top_up.<pool>, if the message with the sequence last (of
// LastTopUp) is still its last one: of two people who ask at once only one is heard, the
// other gets ErrAskedSince. Its message id is top_up:<pool>:<id>.
func (b *Bus) AskTopUp(ctx context.Context, t TopUp, last uint64) error {
	if err := vn.CheckName("pool", t.Pool); err != nil {
		return err
	}
	_, err := b.store(ctx, subjectTopUp+t.Pool, "top_up:"+t.Pool+":"+t.ID, t, jetstream.WithExpectLastSequencePerSubject(last))
	if err = askedSince(err); errors.Is(err, ErrAskedSince) {
		// A repeat of one's own wish is refused alike.
		if now, _, reading := b.LastTopUp(ctx, t.Pool); reading == nil && now == t {
			return nil
		}
	}
	return err
}

// LastTopUp returns the pool's last top-up of the last 24 hours and its sequence, 0 when
// there was none.
func (b *Bus) LastTopUp(ctx context.Context, pool string) (t TopUp, seq uint64, err error) {
	seq, err = b.lastOf(ctx, streamPools, subjectTopUp+pool, &t)
	return t, seq, err
}

// Pause is the last record of ledger.pause.<carrier>: whether anything may be bought of
// the carrier.
type Pause struct {
	Carrier string `json:"carrier"`
	Paused  bool   `json:"paused"`
	By      string `json:"by"` // whoever said so
}

// PutPause writes a carrier's pause, if the record with the sequence last (of CarrierPause)
// is still its last one; else it gives ErrAskedSince.
func (b *Bus) PutPause(ctx context.Context, p Pause, last uint64) error {
	if err := vn.CheckName("carrier", p.Carrier); err != nil {
		return err
	}
	id := "pause:" + p.Carrier + ":" + strconv.FormatUint(last, 10) + ":" + p.By + ":" + strconv.FormatBool(p.Paused)
	_, err := b.store(ctx, subjectLedgerPause+p.Carrier, id, p, jetstream.WithExpectLastSequencePerSubject(last))
	if err = askedSince(err); errors.Is(err, ErrAskedSince) {
		if now, _, reading := b.CarrierPause(ctx, p.Carrier); reading == nil && now == p {
			return nil
		}
	}
	return err
}

// CarrierPause returns the carrier's last pause and its sequence, read from the stream's
// leader; 0 when it was never paused.
func (b *Bus) CarrierPause(ctx context.Context, carrier string) (p Pause, seq uint64, err error) {
	seq, err = b.lastOf(ctx, streamLedger, subjectLedgerPause+carrier, &p)
	return p, seq, err
}

// lastOf reads the last message of a subject into a payload, from the stream's leader.
func (b *Bus) lastOf(ctx context.Context, stream, subject string, into any) (seq uint64, err error) {
	doing := "reading the last message of stream " + stream
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, failed(doing, err)
	}
	msg, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, failed(doing, err)
	}
	if err := json.Unmarshal(msg.Data, into); err != nil {
		return 0, fmt.Errorf("%s: message %d cannot be read: %w", doing, msg.Sequence, err)
	}
	return msg.Sequence, nil
}

// askedSince marks with ErrAskedSince the refusals of a write that expected a sequence.
func askedSince(err error) error {
	if errors.Is(fenced(err), ErrFenced) {
		return fmt.Errorf("%w: %w", ErrAskedSince, err)
	}
	return err
}
