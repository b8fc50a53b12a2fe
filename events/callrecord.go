package events

import (
	"cmp"
	"context"
	"encoding/json"
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

// FoldCall makes the record of one call of all its events, in whatever order they are.
//
// What was decided first counts, but a decision to connect before all others: that is
// what the carrier acted on. What the callee's leg was told about the order is a hint
// only where no decision names one.
func FoldCall(decided []CallDecided, told []CallStatus) CallRecord {
	var r CallRecord
	decided, told = slices.Clone(decided), slices.Clone(told)
	connected := vn.Connected.String()
	slices.SortFunc(decided, func(a, b CallDecided) int {
		if (a.Reason == connected) != (b.Reason == connected) {
			if a.Reason == connected {
				return -1
			}
			return 1
		}
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.OrderID, b.OrderID), cmp.Compare(a.Reason, b.Reason))
	})
	slices.SortFunc(told, func(a, b CallStatus) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Status, b.Status), cmp.Compare(a.OrderID, b.OrderID),
			cmp.Compare(b.Cause, a.Cause), cmp.Compare(b.DurationS, a.DurationS))
	})
	if len(decided) > 0 {
		d := &decided[0]
		r.Carrier, r.CallID, r.OrderID, r.VN, r.Reason, r.DecidedAt = d.Carrier, d.CallID, d.OrderID, d.VN, d.Reason, d.At
	}
	for i := range told {
		r.add(&told[i])
	}
	if r.Connected && r.Outcome != "" {
		r.Outcome = vn.LegCompleted.String() // whatever word another callback had for its end
	}
	return r
}

// add takes in a status; they come in the order of their times.
func (r *CallRecord) add(s *CallStatus) {
	r.Carrier, r.CallID = s.Carrier, s.CallID
	r.OrderID = cmp.Or(r.OrderID, s.OrderID)
	if s.Leg != vn.CalleeLeg.String() {
		return
	}
	told := slices.Index(finals, s.Status)
	if s.Status == vn.LegAnswered.String() || s.Status == vn.LegCompleted.String() {
		r.Connected = true
	}
	if s.Status == vn.LegAnswered.String() && r.AnsweredAt.IsZero() {
		r.AnsweredAt = s.At
	}
	if told < 0 {
		return
	}
	r.Cause = cmp.Or(r.Cause, s.Cause)
	r.DurationS = max(r.DurationS, s.DurationS)
	if told > slices.Index(finals, r.Outcome) {
		r.Outcome, r.EndedAt = s.Status, s.At
	}
}

// finals are the final statuses, the more telling later: a carrier may tell one leg's
// end in two callbacks and two words, such as no_answer for a caller who gave up.
var finals = []string{
	vn.LegFailed.String(), vn.LegNoAnswer.String(), vn.LegCancelled.String(), vn.LegBusy.String(), vn.LegCompleted.String(),
}

// Calls makes the records of all calls whose events were stored from since on, in the
// order in which their first events were. Calls without an id of the carrier's are left
// out: nothing tells them apart. unreadable counts the events that are not ours to read.
func (b *Bus) Calls(ctx context.Context, since time.Time) (calls []CallRecord, unreadable int, err error) {
	type events struct {
		decided []CallDecided
		told    []CallStatus
	}
	var order []*events
	byID := map[[2]string]*events{}
	of := func(carrier, id string) *events {
		e, ok := byID[[2]string{carrier, id}]
		if !ok {
			e = &events{}
			byID[[2]string{carrier, id}] = e
			order = append(order, e)
		}
		return e
	}
	err = b.readAll(ctx, streamCalls, "calls.>", since, func(m jetstream.Msg, _ uint64) error {
		var err error
		switch m.Subject() {
		case SubjectDecided:
			var d CallDecided
			if err = json.Unmarshal(m.Data(), &d); err == nil && d.CallID != "" {
				e := of(d.Carrier, d.CallID)
				e.decided = append(e.decided, d)
			}
		case SubjectStatus:
			var s CallStatus
			if err = json.Unmarshal(m.Data(), &s); err == nil && s.CallID != "" {
				e := of(s.Carrier, s.CallID)
				e.told = append(e.told, s)
			}
		}
		if err != nil {
			unreadable++
		}
		return nil
	})
	calls = make([]CallRecord, len(order))
	for i, e := range order {
		calls[i] = FoldCall(e.decided, e.told)
	}
	return calls, unreadable, err
}
