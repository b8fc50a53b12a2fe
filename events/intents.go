package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// The outcomes of a closed intent.
const (
	OutcomeBought    = "bought"     // the number is ours
	OutcomeNotBought = "not_bought" // it never was
	OutcomeReleased  = "released"   // it was, and was given back to its carrier at ClosedAt
)

// PurchaseIntent is written to ledger.intent.<pool>.<VN> before a VN is bought, and
// closed when it is known what became of it. VN holds digits without a plus sign.
type PurchaseIntent struct {
	VN       string    `json:"vn"`
	Pool     string    `json:"pool"`
	Carrier  string    `json:"carrier"`
	Ref      string    `json:"ref,omitempty"`      // the carrier's id of the number, when known
	For      string    `json:"for,omitempty"`      // why it is bought: ReasonLowWater or ReasonForecast
	Price    string    `json:"price,omitempty"`    // monthly, as the carrier offered it, such as "1.15"; empty when it named none
	Currency string    `json:"currency,omitempty"` // ISO 4217; empty with Price
	At       time.Time `json:"at"`
	ClosedAt time.Time `json:"closed_at,omitzero"`
	Outcome  string    `json:"outcome,omitempty"` // set by CloseIntent
	Reason   string    `json:"reason,omitempty"`  // why it is given back: one of PoolReleased's

	// Fence is the sequence of the lease record that the writer acts under. When
	// another one is the last of the pool's lease, the stream refuses the write, which
	// gives ErrFenced. 0 writes without a fence; what is read has none.
	Fence uint64 `json:"-"`
}

// Intent writes a purchase intent before the purchase is made, and waits until it
// is stored. Its message id is intent:<pool>:<vn>:<at, ns>.
func (b *Bus) Intent(ctx context.Context, in PurchaseIntent) error {
	return b.storeIntent(ctx, in, "intent")
}

// CloseIntent notes what became of an intent; it is no longer open then. A bought
// one is closed once more when its number is released. Its message id is
// <outcome>:<pool>:<vn>:<at, ns>.
func (b *Bus) CloseIntent(ctx context.Context, in PurchaseIntent, outcome string) error {
	in.Outcome, in.ClosedAt = outcome, time.Now().UTC()
	return b.storeIntent(ctx, in, outcome)
}

func (b *Bus) storeIntent(ctx context.Context, in PurchaseIntent, kind string) error {
	if _, ok := vn.ParseDigits(in.VN); !ok {
		return &vn.FieldError{Field: "vn", Problem: "is not a number in digits"}
	}
	if err := vn.CheckName("pool", in.Pool); err != nil {
		return err
	}
	in.At = in.At.UTC()
	var opts []jetstream.PublishOpt
	if in.Fence != 0 {
		opts = append(opts, jetstream.WithExpectLastSequenceForSubject(in.Fence, subjectLedgerLease+in.Pool))
	}
	id := kind + ":" + in.Pool + ":" + in.VN + ":" + strconv.FormatInt(in.At.UnixNano(), 10)
	_, err := b.store(ctx, subjectLedgerIntent+in.Pool+"."+in.VN, id, in, opts...)
	return fenced(err)
}

// Intents calls each with the last intent of every pool and number, open or closed,
// and its sequence, in that order, until each returns an error or all were read.
func (b *Bus) Intents(ctx context.Context, each func(in PurchaseIntent, seq uint64) error) error {
	return b.readAll(ctx, streamLedger, subjectLedgerIntent+"*.*", time.Time{}, func(m jetstream.Msg, seq uint64) error {
		var in PurchaseIntent
		if err := json.Unmarshal(m.Data(), &in); err != nil {
			return fmt.Errorf("purchase intent %d cannot be read: %w", seq, err)
		}
		return each(in, seq)
	})
}
