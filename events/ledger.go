package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/internal/tracing"
	"github.com/callmask/callmask/vn"
)

// Record writes ledger records concurrently, each only if the VN's last record is still
// the one that it follows (Record.After): the fence. It waits until the stream has
// answered for all of them. seqs holds the sequence of each that was stored, 0 for the
// others. refused lists, ascending, those that the stream did not store because the VN's
// last record is another one, or because it had stored them before: what stands there
// then, LastRecord tells. A call must not hold two records of one VN.
//
// The message id of an assigned, released or order-ended retired record is
// kind:order:vn:lease end (or end) in ms. An owned record, and a retired one without
// order, may rightly come again and has an id of its own.
func (b *Bus) Record(ctx context.Context, recs ...Record) (seqs []uint64, refused []int, err error) {
	seqs = make([]uint64, len(recs))
	if len(recs) == 0 {
		return seqs, nil, nil
	}
	if !b.nc.IsConnected() {
		return seqs, nil, fmt.Errorf("writing to the ledger: %w: not connected to nats", vn.ErrUnavailable)
	}
	msgs := make([]recordMsg, len(recs))
	for i := range recs {
		if _, ok := vn.ParseDigits(recs[i].VN); !ok {
			return seqs, nil, &vn.FieldError{Field: "records[" + strconv.Itoa(i) + "].vn", Problem: "is not a number in digits"}
		}
		data, err := json.Marshal(recs[i])
		if err != nil {
			return seqs, nil, fmt.Errorf("encoding a ledger record: %w", err)
		}
		msgs[i] = recordMsg{subject: subjectLedgerVN + recs[i].VN, id: recs[i].messageID(), after: recs[i].After, data: data}
	}
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	err = persist(ctx, func(ctx context.Context) error { return b.record(ctx, msgs) })
	for i := range msgs {
		if seqs[i] = msgs[i].seq; msgs[i].refused {
			refused = append(refused, i)
		}
	}
	return seqs, refused, err
}

// recordMsg is a ledger record as it is published, and what became of it: neither a
// sequence nor refused while there is no answer.
type recordMsg struct {
	subject, id string
	after       uint64
	data        []byte

	seq     uint64
	refused bool
}

// record publishes those that have no answer yet and waits for it.
func (b *Bus) record(ctx context.Context, msgs []recordMsg) error {
	acks := make([]jetstream.PubAckFuture, len(msgs))
	var errs []error
	var err error
	for i := range msgs {
		m := &msgs[i]
		if m.seq != 0 || m.refused {
			continue
		}
		header := headers(m.subject, m.id, time.Now())
		tracing.Inject(ctx, header)
		acks[i], err = b.js.PublishMsgAsync(&nats.Msg{Subject: m.subject, Data: m.data, Header: header},
			jetstream.WithExpectLastSequencePerSubject(m.after))
		if err != nil {
			errs = append(errs, failed("writing to the ledger", err))
			break // the connection is gone or stalled
		}
	}
	for i, ack := range acks {
		if ack == nil {
			continue
		}
		select {
		case ok := <-ack.Ok():
			if msgs[i].refused = ok.Duplicate; !ok.Duplicate {
				msgs[i].seq = ok.Sequence
			}
		case err := <-ack.Err():
			if msgs[i].refused = wrongSequence(err); !msgs[i].refused {
				errs = append(errs, failed("writing to the ledger", err))
			}
		case <-ctx.Done():
			errs = append(errs, failed("writing to the ledger", ctx.Err()))
		}
	}
	return errors.Join(errs...)
}

func (r *Record) messageID() string {
	at := r.ExpiresAt
	if r.Kind != KindAssigned {
		at = r.EndedAt
	}
	if r.OrderID == "" || r.Kind == KindOwned {
		return r.Kind + "::" + r.VN + ":" + rand.Text()
	}
	return r.Kind + ":" + r.OrderID + ":" + r.VN + ":" + strconv.FormatInt(at.UnixMilli(), 10)
}

// LastRecord returns the VN's last ledger record and its sequence, read from the
// stream's leader. Sequence 0 without an error means that there is none.
func (b *Bus) LastRecord(ctx context.Context, number vn.Number) (rec Record, seq uint64, err error) {
	const doing = "reading the ledger"
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.ledgerStream(ctx)
	if err != nil {
		return rec, 0, failed(doing, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subjectLedgerVN+number.Digits())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return rec, 0, nil
	}
	if err != nil {
		return rec, 0, failed(doing, err)
	}
	if err := json.Unmarshal(msg.Data, &rec); err != nil {
		return rec, 0, fmt.Errorf("%s: record %d cannot be read: %w", doing, msg.Sequence, err)
	}
	return rec, msg.Sequence, nil
}

// ledgerStream spares LastRecord a second request at each call.
func (b *Bus) ledgerStream(ctx context.Context) (jetstream.Stream, error) {
	b.mu.Lock()
	stream := b.ledger
	b.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := b.js.Stream(ctx, streamLedger)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger = stream
	return stream, nil
}

// LedgerLastSeq returns the last sequence that stream LEDGER ever gave out: 0 only
// if nothing was ever recorded.
func (b *Bus) LedgerLastSeq(ctx context.Context) (uint64, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.js.Stream(ctx, streamLedger)
	if err != nil {
		return 0, failed("reading the ledger's state", err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// Records calls each with the last record of every VN and its sequence, oldest
// first, until each returns an error or all were read.
func (b *Bus) Records(ctx context.Context, each func(rec Record, seq uint64) error) error {
	return b.readAll(ctx, streamLedger, subjectLedgerVN+"*", time.Time{}, func(m jetstream.Msg, seq uint64) error {
		var rec Record
		if err := json.Unmarshal(m.Data(), &rec); err != nil {
			return fmt.Errorf("ledger record %d cannot be read: %w", seq, err)
		}
		return each(rec, seq)
	})
}

// RecordCount returns about how many Records there are: how many messages the stream holds.
func (b *Bus) RecordCount(ctx context.Context) (uint64, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.js.Stream(ctx, streamLedger)
	if err != nil {
		return 0, failed("reading the ledger's state", err)
	}
	return stream.CachedInfo().State.Msgs, nil
}

// OrdersReleased calls each with every vn.released since a time and when it was stored,
// oldest first, until each returns an error or all were read.
func (b *Bus) OrdersReleased(ctx context.Context, since time.Time, each func(e VNReleased, at time.Time) error) error {
	return b.readAll(ctx, streamVN, SubjectReleased, since, func(m jetstream.Msg, seq uint64) error {
		var e VNReleased
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			return fmt.Errorf("event %d of stream %s cannot be read: %w", seq, streamVN, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("event %d of stream %s: %w", seq, streamVN, err)
		}
		return each(e, meta.Timestamp)
	})
}
