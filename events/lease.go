package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// ErrFenced means that the stream refused a write because the lease record that it
// named is not the pool's last one, or because the stream has not finished storing
// another write that named it (a replicated stream takes one at a time). Nothing was
// stored. Which of the two it is, Bus.Lease tells.
var ErrFenced = errors.New("fenced: the lease has another record by now")

// Lease is the last record of ledger.lease.<pool>: who buys for the pool.
type Lease struct {
	Owner string    `json:"owner"`          // of this one take-over
	Until time.Time `json:"until,omitzero"` // others wait until then; zero when it was given up
}

// LeasePool returns the pool whose lease a subject is of; false for other subjects.
func LeasePool(subject string) (pool string, ok bool) {
	return strings.CutPrefix(subject, subjectLedgerLease)
}

// Lease returns the last record of the pool's lease and its sequence, read from the
// stream's leader. Sequence 0 without an error means that there is none.
func (b *Bus) Lease(ctx context.Context, pool string) (l Lease, seq uint64, err error) {
	const doing = "reading a lease"
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.ledgerStream(ctx)
	if err != nil {
		return l, 0, failed(doing, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subjectLedgerLease+pool)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return l, 0, nil
	}
	if err != nil {
		return l, 0, failed(doing, err)
	}
	if err := json.Unmarshal(msg.Data, &l); err != nil {
		return l, 0, fmt.Errorf("%s: record %d cannot be read: %w", doing, msg.Sequence, err)
	}
	return l, msg.Sequence, nil
}

// PutLease writes the pool's lease if the record with the sequence last (0: none) is
// still the last one, and returns the sequence of the new one; else it gives
// ErrFenced. Its message id is lease:<pool>:<owner>:<until, ns>.
func (b *Bus) PutLease(ctx context.Context, pool string, l Lease, last uint64) (uint64, error) {
	if err := vn.CheckName("pool", pool); err != nil {
		return 0, err
	}
	id := "lease:" + pool + ":" + l.Owner + ":0"
	if !l.Until.IsZero() {
		l.Until = l.Until.UTC()
		id = "lease:" + pool + ":" + l.Owner + ":" + strconv.FormatInt(l.Until.UnixNano(), 10)
	}
	seq, err := b.store(ctx, subjectLedgerLease+pool, id, l, jetstream.WithExpectLastSequencePerSubject(last))
	return seq, fenced(err)
}

// The server's answers to an expected sequence that is not the last: the second one
// when it has not finished a write of the same subject.
const (
	codeWrongLastSequence        = 10071
	codeWrongLastSequenceUnknown = 10164
)

// fenced marks with ErrFenced the refusals of a write that expected a sequence.
func fenced(err error) error {
	if wrongSequence(err) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}

func wrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastSequenceUnknown)
}
