package events

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// CallStatus is the payload of calls.status: what a carrier told about a call. Carriers
// tell things twice and out of order: a repeat has the same message id, and Bus.Calls
// puts them together in any order. It holds no real number.
type CallStatus struct {
	Carrier   string    `json:"carrier"`
	CallID    string    `json:"call_id"`              // that of the call's CallDecided
	OrderID   string    `json:"order_id,omitempty"`   // when the carrier gave it back
	Leg       string    `json:"leg"`                  // vn.Leg's name: caller or callee
	Status    string    `json:"status"`               // vn.LegStatus's name
	Cause     string    `json:"cause,omitempty"`      // the carrier's word or SIP code
	DurationS int       `json:"duration_s,omitempty"` // how long the two could talk, seconds
	At        time.Time `json:"at"`                   // by the carrier's clock, ours when it gave none
}

// MessageDecided is the payload of calls.message: what became of one text message. It
// holds neither the text nor a real number.
type MessageDecided struct {
	Carrier   string    `json:"carrier"`
	MessageID string    `json:"message_id,omitempty"`
	VN        string    `json:"vn,omitempty"` // written to, E.164; only when it is known to be ours
	OrderID   string    `json:"order_id,omitempty"`
	Reason    string    `json:"reason"`  // vn.Reason's name
	Verdict   string    `json:"verdict"` // vn.Verdict's name
	At        time.Time `json:"at"`
}

// note is an event of stream CALLS that is encoded when it is queued.
type note struct {
	subject, id string
	at          time.Time
	data        []byte
}

// Status publishes calls.status as Decided publishes calls.decided: without waiting,
// dropped and counted when too much waits. The message id is a hash of everything but
// the time: of two callbacks about one end only one may know how long it lasted, or why
// it came.
func (b *Bus) Status(s *CallStatus) {
	b.note(SubjectStatus, hashID("status:", s.Carrier, s.CallID, s.OrderID, s.Leg, s.Status, s.Cause, strconv.Itoa(s.DurationS)), s.At, s)
}

// Message publishes calls.message like Status. A message without an id is never taken
// for a repeat.
func (b *Bus) Message(m *MessageDecided) {
	id := "message:" + rand.Text()
	if m.MessageID != "" {
		id = hashID("message:", m.Carrier, m.MessageID, m.Verdict)
	}
	b.note(SubjectMessage, id, m.At, m)
}

func (b *Bus) note(subject, id string, at time.Time, payload any) {
	data, err := json.Marshal(payload)
	if err != nil {
		b.metrics.callsDropped.Inc()
		b.log.Error().Err(err).Str("subject", subject).Msg("an event cannot be encoded")
		return
	}
	b.calls.enqueue(func(q *callBatch) { q.notes = append(q.notes, note{subject, id, at, data}) })
}

// hashID makes a message id of bounded length of what may be long or odd.
func hashID(prefix string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return prefix + hex.EncodeToString(h.Sum(nil)[:16])
}
