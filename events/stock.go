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

// OutcomeReleasing is the outcome of an intent whose number is being given back: what is
// left to do is done by whoever finds it.
const OutcomeReleasing = "releasing"

// ErrOvertaken means that an intent was written by somebody else since it was read.
var ErrOvertaken = errors.New("intent_overtaken: the number's intent was changed meanwhile")

// PoolReleased publishes pools.released and waits until the stream has stored it. at is
// the time of the number's intent. Its message id is released:<pool>:<vn>:<at, ns>, so
// that a repeat is dropped.
func (b *Bus) PoolReleased(ctx context.Context, p PoolReleased, at time.Time) error {
	p.At = p.At.UTC()
	return b.publish(ctx, SubjectPoolReleased, "released:"+p.Pool+":"+p.VN+":"+strconv.FormatInt(at.UnixNano(), 10), p)
}

// LastIntent returns the pool's intent of a number and its sequence, read from the
// stream's leader. Sequence 0 without an error means that there is none.
func (b *Bus) LastIntent(ctx context.Context, pool string, number vn.Number) (in PurchaseIntent, seq uint64, err error) {
	const doing = "reading a purchase intent"
	if err := vn.CheckName("pool", pool); err != nil {
		return in, 0, err
	}
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.ledgerStream(ctx)
	if err != nil {
		return in, 0, failed(doing, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subjectLedgerIntent+pool+"."+number.Digits())
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

// MarkIntent replaces the pool's intent of a number, if that still is the one with this
// sequence (0: there is none), and returns the new sequence. ErrOvertaken: it is not,
// and nothing was written. in must be closed: an open intent is written by Intent. Its
// message id is mark:<outcome>:<pool>:<vn>:<sequence>.
func (b *Bus) MarkIntent(ctx context.Context, in PurchaseIntent, seq uint64) (uint64, error) {
	if _, ok := vn.ParseDigits(in.VN); !ok {
		return 0, &vn.FieldError{Field: "vn", Problem: "is not a number in digits"}
	}
	if err := vn.CheckName("pool", in.Pool); err != nil {
		return 0, err
	}
	if in.ClosedAt.IsZero() {
		return 0, &vn.FieldError{Field: "closed_at", Problem: "is missing"}
	}
	in.At, in.ClosedAt = in.At.UTC(), in.ClosedAt.UTC()
	id := "mark:" + in.Outcome + ":" + in.Pool + ":" + in.VN + ":" + strconv.FormatUint(seq, 10)
	next, err := b.store(ctx, subjectLedgerIntent+in.Pool+"."+in.VN, id, in, jetstream.WithExpectLastSequencePerSubject(seq))
	if !errors.Is(fenced(err), ErrFenced) {
		return next, err
	}
	// A repeat of what is stored already is refused as well.
	number, _ := vn.ParseDigits(in.VN)
	last, next, err := b.LastIntent(ctx, in.Pool, number)
	if err != nil {
		return 0, err
	}
	if !last.same(&in) {
		return 0, ErrOvertaken
	}
	return next, nil
}

// same tells whether two intents of one pool and number say the same.
func (in *PurchaseIntent) same(other *PurchaseIntent) bool {
	return in.At.Equal(other.At) && in.ClosedAt.Equal(other.ClosedAt) && in.Outcome == other.Outcome && in.Reason == other.Reason
}
