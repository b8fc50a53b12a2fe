package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// Holding is an order's hold on a VN, without real numbers.
type Holding struct {
	OrderID string
	Pool    string
	Parties []VNParty // of the whole order
	From    time.Time // when it was first recorded, as far as is known
	Until   time.Time // its end, or the end of its lease when that came first or it has not ended
	Reason  string    // of its end; empty while that is not known
}

// Role is the party that the VN reaches; empty when it is not one of the order's.
func (h *Holding) Role(number vn.Number) string {
	for _, p := range h.Parties {
		if p.VN == number.E164() {
			return p.Role
		}
	}
	return ""
}

// Held is what is known of who held a VN at a moment.
type Held struct {
	Holding *Holding // nil: nobody, or nobody knows
	Known   bool     // the history reaches back far enough to tell
	// Since is from when on the history is whole; set when it is not Known.
	Since time.Time
}

// HeldAt tells which order held a VN at a moment: by the records of the ledger as far as
// they go back, and before that by the events of stream VN. Both are written moments after
// what they tell of, so the answer is good to about a second. No lease may be longer than
// longest: what was announced earlier than that before the moment is not read.
func (b *Bus) HeldAt(ctx context.Context, number vn.Number, at time.Time, longest time.Duration) (Held, error) {
	held, err := b.heldByLedger(ctx, number, at)
	if err != nil || held.Known {
		return held, err
	}
	return b.heldByEvents(ctx, number, at, longest)
}

// AssignedRecord returns the newest record that the ledger still has of an order's hold on
// a VN: the one with the sealed numbers. ok is false when there is none any more.
func (b *Bus) AssignedRecord(ctx context.Context, number vn.Number, orderID string) (rec Record, ok bool, err error) {
	err = b.recordsOf(ctx, number, func(r *Record, _ time.Time) {
		if r.Kind == KindAssigned && r.OrderID == orderID {
			rec, ok = *r, true
		}
	})
	return rec, ok, err
}

// recordsOf calls each with what the ledger keeps of a VN, oldest first, and when it was stored.
func (b *Bus) recordsOf(ctx context.Context, number vn.Number, each func(*Record, time.Time)) error {
	return b.readAll(ctx, streamLedger, subjectLedgerVN+number.Digits(), time.Time{}, func(m jetstream.Msg, _ uint64) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		var r Record
		if err := json.Unmarshal(m.Data(), &r); err != nil {
			return err
		}
		each(&r, meta.Timestamp.UTC())
		return nil
	})
}

// heldByLedger knows the answer when the ledger has a record from before the moment.
func (b *Bus) heldByLedger(ctx context.Context, number vn.Number, at time.Time) (Held, error) {
	var (
		held Held
		open *Holding // by the records so far
	)
	err := b.recordsOf(ctx, number, func(r *Record, stored time.Time) {
		if stored.After(at) {
			// What came later tells only how it went on with the order that held the VN.
			if open != nil && r.OrderID == open.OrderID {
				open.follow(r)
			}
			return
		}
		held.Known = true
		switch {
		case r.Kind != KindAssigned:
			open = nil
		case open != nil && open.OrderID == r.OrderID:
			open.Until = r.ExpiresAt
		default:
			open = &Holding{OrderID: r.OrderID, Pool: r.Pool, Parties: r.parties(), From: stored, Until: r.ExpiresAt}
		}
	})
	if open != nil && open.Until.After(at) {
		held.Holding = open
	}
	return held, err
}

// follow takes in a later record of the order.
func (h *Holding) follow(r *Record) {
	switch {
	case h.Reason != "":
	case r.Kind == KindAssigned:
		h.Until = r.ExpiresAt
	default:
		h.end(r.EndedAt, r.Reason)
	}
}

// end notes the order's end; a lease that ran out before had ended it already.
func (h *Holding) end(at time.Time, reason string) {
	if at.Before(h.Until) {
		h.Until = at.UTC()
	}
	h.Reason = reason
}

func (r *Record) parties() []VNParty {
	parties := make([]VNParty, min(len(r.Roles), len(r.VNs)))
	for i := range parties {
		parties[i] = VNParty{Role: r.Roles[i], VN: "+" + r.VNs[i]}
	}
	return parties
}

// heldByEvents reads stream VN from a lease's length before the moment on.
func (b *Bus) heldByEvents(ctx context.Context, number vn.Number, at time.Time, longest time.Duration) (Held, error) {
	first, lost, err := b.oldest(ctx, streamVN)
	if err != nil {
		return Held{}, err
	}
	from := at.Add(-longest)
	held := Held{Known: !lost || !first.After(from)}
	if !held.Known {
		held.Since = first.Add(longest)
	}
	open, err := b.lastAssigned(ctx, number, from, at)
	if err != nil || open == nil {
		return held, err
	}
	if err := b.findEnd(ctx, open); err != nil {
		return held, err
	}
	if open.Until.After(at) {
		held = Held{Holding: open, Known: true}
	}
	return held, nil
}

// oldest tells when the oldest event of a stream was stored, and whether there were older ones.
func (b *Bus) oldest(ctx context.Context, stream string) (first time.Time, lost bool, err error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return first, false, failed("reading the state of stream "+stream, err)
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return time.Now(), state.LastSeq > 0, nil
	}
	return state.FirstTime.UTC(), state.FirstSeq > 1, nil
}

// lastAssigned finds the last order that was given a VN between two moments.
func (b *Bus) lastAssigned(ctx context.Context, number vn.Number, from, at time.Time) (*Holding, error) {
	var open *Holding
	needle := []byte(number.E164())
	err := b.readAll(ctx, streamVN, SubjectAssigned, from, func(m jetstream.Msg, _ uint64) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Timestamp.After(at) {
			return errEnough
		}
		var e VNAssigned
		if !bytes.Contains(m.Data(), needle) || json.Unmarshal(m.Data(), &e) != nil { // what cannot be read is not ours
			return nil
		}
		h := &Holding{OrderID: e.OrderID, Pool: e.Pool, Parties: e.Parties, From: meta.Timestamp.UTC(), Until: e.ExpiresAt}
		if open != nil && open.OrderID == e.OrderID {
			h.From = open.From // its lease was moved
		}
		if h.Role(number) != "" {
			open = h
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return open, err
}

// findEnd looks for vn.released of an order.
func (b *Bus) findEnd(ctx context.Context, h *Holding) error {
	needle := []byte(`"` + h.OrderID + `"`)
	last := h.Until.Add(time.Minute) // later it only tells what the lease's end has told
	err := b.readAll(ctx, streamVN, SubjectReleased, h.From, func(m jetstream.Msg, _ uint64) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Timestamp.After(last) {
			return errEnough
		}
		var e VNReleased
		if bytes.Contains(m.Data(), needle) && json.Unmarshal(m.Data(), &e) == nil && e.OrderID == h.OrderID {
			h.end(meta.Timestamp, e.Reason)
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}
