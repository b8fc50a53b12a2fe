package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// SubjectPoolReleased is the subject of PoolReleased.
const SubjectPoolReleased = "pools.released"

// PoolReleased is the payload of pools.released: a number that was bought is not paid
// for any more. Price and Currency are those of the purchase, per month, where they
// are known.
type PoolReleased struct {
	Pool     string    `json:"pool"`
	VN       string    `json:"vn"` // E.164
	Carrier  string    `json:"carrier"`
	Price    string    `json:"price,omitempty"`
	Currency string    `json:"currency,omitempty"`
	Reason   string    `json:"reason"` // surplus, operator or ghost
	At       time.Time `json:"at"`
}

// The reasons of a PoolReleased.
const (
	ReleasedSurplus  = "surplus"  // free for a long time and not needed
	ReleasedOperator = "operator" // somebody asked for it
	ReleasedGhost    = "ghost"    // the carrier did not have it any more
)

// What an intent says of its number once the number is ours, beside the outcomes of
// the purchase. Each of them counts as bought where money is summed up.
const (
	OutcomeAdopted   = "adopted"   // found at the carrier without a purchase of ours that is known
	OutcomeReleasing = "releasing" // it is being given back: what is left to do is done by whoever finds this
	OutcomeReleased  = "released"  // it was given back, and pools.released was published
	OutcomeLost      = "lost"      // the carrier does not have it any more; it left its pool
)

// ErrOvertaken means that an intent was written by somebody else since it was read.
var ErrOvertaken = errors.New("intent_overtaken: the number's intent was changed meanwhile")

// PoolReleased publishes pools.released and waits until the stream has stored it. Its
// message id is released:<vn>:<reason>:<intent's time>, so that a repeat is dropped.
func (b *Bus) PoolReleased(ctx context.Context, p PoolReleased, intent PurchaseIntent) error {
	p.At = p.At.UTC()
	id := "released:" + intent.VN + ":" + p.Reason + ":" + strconv.FormatInt(intent.At.UnixNano(), 36)
	return b.publish(ctx, SubjectPoolReleased, id, p)
}

// Intents calls each with the intent of every number that has one, open or closed, and
// its sequence, until each returns an error or all were read.
func (b *Bus) Intents(ctx context.Context, each func(in PurchaseIntent, seq uint64) error) error {
	return b.readAll(ctx, streamLedger, subjectLedgerIntent+"*", func(m jetstream.Msg, seq uint64) error {
		var in PurchaseIntent
		if err := json.Unmarshal(m.Data(), &in); err != nil {
			return fmt.Errorf("purchase intent %d cannot be read: %w", seq, err)
		}
		return each(in, seq)
	})
}

// LastIntent returns the number's intent and its sequence, read from the stream's
// leader. Sequence 0 without an error means that there is none.
func (b *Bus) LastIntent(ctx context.Context, number vn.Number) (in PurchaseIntent, seq uint64, err error) {
	const doing = "reading a purchase intent"
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.ledgerStream(ctx)
	if err != nil {
		return in, 0, failed(doing, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subjectLedgerIntent+number.Digits())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return in, 0, nil
	}
	if err != nil {
		return in, 0, failed(doing, err)
	}
	if err := json.Unmarshal(msg.Data, &in); err != nil {
		return in, 0, fmt.Errorf("%s: record %d cannot be read: %w", doing, msg.Sequence, err)
	}
	return in, msg.Sequence, nil
}

// MarkIntent replaces the number's intent, if that still is the one with this sequence
// (0: there is none), and returns the new sequence. ErrOvertaken: it is not, and
// nothing was written. in must be closed: an open intent is written by Intent.
func (b *Bus) MarkIntent(ctx context.Context, in PurchaseIntent, seq uint64) (uint64, error) {
	const doing = "marking a purchase intent"
	if _, ok := vn.ParseDigits(in.VN); !ok {
		return 0, &vn.FieldError{Field: "vn", Problem: "is not a number in digits"}
	}
	if in.ClosedAt.IsZero() {
		return 0, &vn.FieldError{Field: "closed_at", Problem: "is missing"}
	}
	in.At, in.ClosedAt = in.At.UTC(), in.ClosedAt.UTC()
	data, err := json.Marshal(in)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	if !b.nc.IsConnected() {
		return 0, fmt.Errorf("%s: %w: not connected to nats", doing, vn.ErrUnavailable)
	}
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	id := "mark:" + in.VN + ":" + in.Outcome + ":" + strconv.FormatUint(seq, 10)
	ack, err := b.js.Publish(ctx, subjectLedgerIntent+in.VN, data,
		jetstream.WithMsgID(id), jetstream.WithExpectLastSequencePerSubject(seq))
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return 0, fmt.Errorf("%s: %w", doing, ErrOvertaken)
	}
	if err != nil {
		return 0, failed(doing, err)
	}
	return ack.Sequence, nil
}
