package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Mark is a place in a stream, for whoever reads on where he stopped. The zero Mark is the
// beginning.
type Mark struct {
	Next  uint64    // the first sequence that was not read
	Since time.Time // while Next is 0: nothing stored before is read
	Most  uint64    // while Next is 0: nor more than so many, the newest; 0: all
}

// errBeyond ends the reading at what has come since it began.
var errBeyond = errors.New("beyond the end")

// readOn calls each with what a stream holds from a place on, until all of it was read that
// was there when readOn began, and returns the place after that; with an error the place
// after the last message that each was given.
func (b *Bus) readOn(
	ctx context.Context, stream, subject string, from Mark, each func(m jetstream.Msg, seq uint64, stored time.Time) error,
) (Mark, error) {
	last, err := b.lastSeq(ctx, stream)
	if err != nil {
		return from, err
	}
	end := Mark{Next: last + 1}
	first := from.Next
	if first == 0 && from.Most > 0 && last > from.Most {
		first = last - from.Most + 1
	}
	if first > last || last == 0 {
		return end, nil
	}
	consumer := jetstream.ConsumerConfig{
		FilterSubject: subject, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(1, first),
	}
	if from.Next == 0 && !from.Since.IsZero() {
		consumer.DeliverPolicy, consumer.OptStartSeq, consumer.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &from.Since
	}
	err = b.readWith(ctx, stream, consumer, func(m jetstream.Msg, seq uint64) error {
		if seq > last {
			return errBeyond
		}
		if seq < first {
			return nil
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("reading stream %s: %w", stream, err)
		}
		from.Next = seq + 1
		return each(m, seq, meta.Timestamp.UTC())
	})
	if err != nil && !errors.Is(err, errBeyond) {
		return from, err
	}
	return end, nil
}

// RecordsFrom calls each with the ledger records of VNs from a place on, oldest first, with
// their sequences and the times at which the stream stored them, and returns the place
// after the last one. The stream keeps the last record of a VN only: Record.After tells
// whether one is missing between two.
func (b *Bus) RecordsFrom(ctx context.Context, from Mark, each func(r *Record, seq uint64, stored time.Time) error) (Mark, error) {
	return b.readOn(ctx, streamLedger, subjectLedgerVN+"*", from, func(m jetstream.Msg, seq uint64, stored time.Time) error {
		var r Record
		if err := json.Unmarshal(m.Data(), &r); err != nil {
			return fmt.Errorf("ledger record %d cannot be read: %w", seq, err)
		}
		r.After, _ = strconv.ParseUint(m.Headers().Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
		return each(&r, seq, stored)
	})
}

// IntentsFrom is RecordsFrom for purchase intents, of which the stream keeps the last one of
// each pool and number.
func (b *Bus) IntentsFrom(ctx context.Context, from Mark, each func(in *PurchaseIntent) error) (Mark, error) {
	return b.readOn(ctx, streamLedger, subjectLedgerIntent+"*.*", from, func(m jetstream.Msg, seq uint64, _ time.Time) error {
		var in PurchaseIntent
		if err := json.Unmarshal(m.Data(), &in); err != nil {
			return fmt.Errorf("purchase intent %d cannot be read: %w", seq, err)
		}
		return each(&in)
	})
}

// Announcement is what apps were told about an order: one field but Stored is set.
type Announcement struct {
	Stored   time.Time
	Assigned *VNAssigned
	Released *VNReleased
}

// AnnouncementsFrom calls each with what stream VN tells of assignments and their ends, from
// a place on, oldest first, and returns the place after the last one. What cannot be read is
// not ours, and passed over.
func (b *Bus) AnnouncementsFrom(ctx context.Context, from Mark, each func(a *Announcement) error) (Mark, error) {
	return b.readOn(ctx, streamVN, "vn.*", from, func(m jetstream.Msg, _ uint64, stored time.Time) error {
		a := Announcement{Stored: stored}
		var err error
		switch m.Subject() {
		case SubjectAssigned:
			a.Assigned = &VNAssigned{}
			err = json.Unmarshal(m.Data(), a.Assigned)
		case SubjectReleased:
			a.Released = &VNReleased{}
			err = json.Unmarshal(m.Data(), a.Released)
		default:
			return nil
		}
		if err != nil {
			return nil //nolint:nilerr // said above
		}
		return each(&a)
	})
}

// DecisionsFrom is AnnouncementsFrom for calls.decided.
func (b *Bus) DecisionsFrom(ctx context.Context, from Mark, each func(c *CallDecided) error) (Mark, error) {
	return b.readOn(ctx, streamCalls, SubjectDecided, from, func(m jetstream.Msg, _ uint64, _ time.Time) error {
		var c CallDecided
		if json.Unmarshal(m.Data(), &c) != nil {
			return nil
		}
		return each(&c)
	})
}
