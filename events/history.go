package events

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// Sought says whose history is meant: exactly one field is set.
type Sought struct {
	OrderID string
	VN      vn.Number
	CallID  string // the carrier's
}

// Happened is one thing that happened to an order, a VN or a call. It holds no real number.
type Happened struct {
	At      time.Time
	Subject string // of the event; for incoming orders as Bus.OrderSubject gives it
	OrderID string
	Parties []VNParty // of an assignment
	Until   time.Time // the lease end of an assignment
	Reason  string    // of the end of an order, a failure or a decision
	Call    *CallDecided
	Status  *CallStatus
	Message *MessageDecided
}

// History is what the streams hold about a Sought.
type History struct {
	Events []Happened // oldest first
	Read   int        // how many events were looked at
	// Whole is false when there was more to read than time or room; Events then lack what
	// came last.
	Whole bool
}

// mostEvents bounds a History: what is longer is nothing that a person reads.
const mostEvents = 500

// errEnough ends the reading of a stream.
var errEnough = errors.New("enough")

// History reads the streams ORDERS, VN and CALLS from since on for what happened to one
// order, VN or call. The streams have no index, so it takes the longer the more there is;
// when ctx ends it returns what it has found so far.
func (b *Bus) History(ctx context.Context, of Sought, since time.Time) (History, error) {
	h := History{Whole: true}
	streams := []struct{ name, subject string }{
		{streamVN, "vn.>"},
		{streamCalls, "calls.>"},
		// All but orders.assigned: what holds real numbers is not even read for this.
		{b.cfg.OrdersStream, b.OrderSubject(EventPlaced)},
		{b.cfg.OrdersStream, b.OrderSubject(EventCompleted)},
		{b.cfg.OrdersStream, b.OrderSubject(EventCancelled)},
	}
	needle := of.needle()
	for _, s := range streams {
		if of.CallID != "" && s.name != streamCalls || of.VN != 0 && s.name == b.cfg.OrdersStream {
			continue
		}
		err := b.readAll(ctx, s.name, s.subject, since, func(m jetstream.Msg, _ uint64) error {
			h.Read++
			if !bytes.Contains(m.Data(), needle) {
				return nil
			}
			if e, ok := b.happened(m); ok && of.meets(&e) {
				h.Events = append(h.Events, e)
			}
			if len(h.Events) >= mostEvents || ctx.Err() != nil {
				return errEnough
			}
			return nil
		})
		switch {
		case errors.Is(err, errEnough), err != nil && ctx.Err() != nil:
			h.Whole = false
		case err != nil:
			return h, err
		}
	}
	slices.SortStableFunc(h.Events, func(x, y Happened) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.Subject, y.Subject)) })
	return h, nil
}

// needle is what an event about the Sought holds in its JSON: only such an event is worth
// reading.
func (s *Sought) needle() []byte {
	if s.VN != 0 {
		return []byte(s.VN.E164())
	}
	text, err := json.Marshal(cmp.Or(s.OrderID, s.CallID))
	if err != nil || bytes.IndexByte(text, '\\') >= 0 {
		return nil // JSON has several ways to write it, so every event is read
	}
	return text
}

func (s *Sought) meets(e *Happened) bool {
	switch {
	case s.OrderID != "":
		return e.OrderID == s.OrderID
	case s.CallID != "":
		return e.Call != nil && e.Call.CallID == s.CallID || e.Status != nil && e.Status.CallID == s.CallID
	}
	number := s.VN.E164()
	return slices.ContainsFunc(e.Parties, func(p VNParty) bool { return p.VN == number }) ||
		e.Call != nil && e.Call.VN == number || e.Message != nil && e.Message.VN == number
}

// happened reads an event.
func (b *Bus) happened(m jetstream.Msg) (Happened, bool) {
	var (
		e   = Happened{Subject: m.Subject()}
		err error
	)
	if meta, merr := m.Metadata(); merr == nil {
		e.At = meta.Timestamp.UTC()
	}
	switch e.Subject {
	case SubjectDecided:
		e.Call = &CallDecided{}
		err = json.Unmarshal(m.Data(), e.Call)
		e.At, e.OrderID, e.Reason = e.Call.At, e.Call.OrderID, e.Call.Reason
	case SubjectStatus:
		e.Status = &CallStatus{}
		err = json.Unmarshal(m.Data(), e.Status)
		e.At, e.OrderID, e.Reason = e.Status.At, e.Status.OrderID, e.Status.Status
	case SubjectMessage:
		e.Message = &MessageDecided{}
		err = json.Unmarshal(m.Data(), e.Message)
		e.At, e.OrderID, e.Reason = e.Message.At, e.Message.OrderID, e.Message.Reason
	case SubjectAssigned:
		var p VNAssigned
		err = json.Unmarshal(m.Data(), &p)
		e.OrderID, e.Parties, e.Until = p.OrderID, p.Parties, p.ExpiresAt
	default: // vn.released, vn.failed and incoming orders
		var p VNReleased
		err = json.Unmarshal(m.Data(), &p)
		e.OrderID, e.Reason = p.OrderID, p.Reason
	}
	return e, err == nil
}
