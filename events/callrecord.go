package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// CallRecord is what is known about one call: a call detail record (CDR). It is made of
// the call's events alone, so it can be made again for as long as the stream keeps
// them, and it holds no real number.
type CallRecord struct {
	Carrier   string    `json:"carrier"`
	CallID    string    `json:"call_id"`
	OrderID   string    `json:"order_id,omitempty"`
	VN        string    `json:"vn,omitempty"`     // the VN dialled, E.164
	Reason    string    `json:"reason,omitempty"` // what was decided (vn.Reason's name); empty when that event is missing
	DecidedAt time.Time `json:"decided_at,omitzero"`

	// Connected tells whether the party that was dialled answered: the second leg's
	// truth, and not what was decided.
	Connected bool `json:"connected"`
	// Outcome is the callee's leg's final status (vn.LegStatus's name); empty while it
	// is not known.
	Outcome    string    `json:"outcome,omitempty"`
	Cause      string    `json:"cause,omitempty"`
	AnsweredAt time.Time `json:"answered_at,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	DurationS  int       `json:"duration_s,omitempty"` // how long the two could talk, seconds
}

// errNotACall means that an event is not one of a call.
var errNotACall = errors.New("is not an event of a call")

// Add puts one event of the call into its record. The order of events does not matter,
// and neither does a repeat.
func (r *CallRecord) Add(subject string, data []byte) error {
	switch subject {
	case SubjectDecided:
		var d CallDecided
		if err := json.Unmarshal(data, &d); err != nil {
			return err
		}
		r.decided(&d)
	case SubjectStatus:
		var s CallStatus
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		r.status(&s)
	default:
		return errNotACall
	}
	return nil
}

func (r *CallRecord) decided(d *CallDecided) {
	r.Carrier, r.CallID = d.Carrier, d.CallID
	// A carrier that asks again gets an answer again; the first one began the call, but
	// one that connected it is what the carrier acted on.
	if r.Reason != "" && (d.At.After(r.DecidedAt) && d.Reason != vn.Connected.String() || r.Reason == vn.Connected.String()) {
		return
	}
	r.OrderID, r.VN, r.Reason, r.DecidedAt = d.OrderID, d.VN, d.Reason, d.At
}

func (r *CallRecord) status(s *CallStatus) {
	r.Carrier, r.CallID = s.Carrier, s.CallID
	if r.OrderID == "" {
		r.OrderID = s.OrderID
	}
	if s.Leg != vn.CalleeLeg.String() {
		return
	}
	switch s.Status {
	case vn.LegAnswered.String():
		r.Connected, r.AnsweredAt = true, s.At
	case vn.LegCompleted.String():
		r.Connected = true
		r.end(s)
	case vn.LegBusy.String(), vn.LegNoAnswer.String(), vn.LegCancelled.String(), vn.LegFailed.String():
		r.end(s)
	}
}

// finals are the final statuses, the more telling later: a carrier may tell one leg's
// end in two callbacks and two words, such as no_answer for a caller who gave up.
var finals = []string{
	"", vn.LegFailed.String(), vn.LegNoAnswer.String(), vn.LegCancelled.String(), vn.LegBusy.String(), vn.LegCompleted.String(),
}

func (r *CallRecord) end(s *CallStatus) {
	r.DurationS = max(r.DurationS, s.DurationS)
	held, told := slices.Index(finals, r.Outcome), slices.Index(finals, s.Status)
	if told < held || told == held && !s.At.Before(r.EndedAt) {
		return
	}
	r.Outcome, r.EndedAt = s.Status, s.At
	if s.Cause != "" || told > held {
		r.Cause = s.Cause
	}
}

// Calls makes the records of all calls whose events were stored from since on, in the
// order in which their first events were. Calls without an id of the carrier's are left
// out: nothing tells them apart.
func (b *Bus) Calls(ctx context.Context, since time.Time) ([]*CallRecord, error) {
	var all []*CallRecord
	byID := map[[2]string]*CallRecord{}
	err := b.readAll(ctx, streamCalls, "calls.>", since, func(m jetstream.Msg, seq uint64) error {
		var key struct {
			Carrier string `json:"carrier"`
			CallID  string `json:"call_id"`
		}
		if m.Subject() != SubjectDecided && m.Subject() != SubjectStatus {
			return nil
		}
		if err := json.Unmarshal(m.Data(), &key); err != nil {
			return fmt.Errorf("event %d of a call cannot be read: %w", seq, err)
		}
		if key.CallID == "" {
			return nil
		}
		r, ok := byID[[2]string{key.Carrier, key.CallID}]
		if !ok {
			r = &CallRecord{}
			byID[[2]string{key.Carrier, key.CallID}] = r
			all = append(all, r)
		}
		if err := r.Add(m.Subject(), m.Data()); err != nil {
			return fmt.Errorf("event %d of a call cannot be read: %w", seq, err)
		}
		return nil
	})
	return all, err
}
