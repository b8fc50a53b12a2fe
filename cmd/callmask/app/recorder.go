package app

import (
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// recorder publishes what was answered to carriers and what they told, without ever
// waiting.
type recorder struct {
	bus  *events.Bus
	isVN func(vn.Number) bool
}

// ours returns what was dialled when it is one of our numbers: anything else may be
// somebody's real one. What was connected was found under the VN, so that one is ours.
func (r *recorder) ours(called vn.Number, reason vn.Reason) vn.Number {
	if reason == vn.Connected || r.isVN(called) {
		return called
	}
	return 0
}

// Record implements router.Recorder.
func (r *recorder) Record(carrier string, call *vn.Call, d *vn.Decision, took time.Duration) {
	r.bus.Decided(&events.Decision{
		Carrier: carrier, CallID: call.ID, OrderID: d.OrderID, Reason: d.Reason, At: time.Now(), Took: took,
		VN: r.ours(call.Called, d.Reason),
	})
}

// Message implements router.Recorder.
func (r *recorder) Message(carrier string, m *vn.Message, d *vn.Decision, v vn.Verdict) {
	e := events.MessageDecided{
		Carrier: carrier, MessageID: string(m.ID), OrderID: string(d.OrderID),
		Reason: d.Reason.String(), Verdict: v.String(), At: time.Now().UTC(),
	}
	if n := r.ours(m.Called, d.Reason); n != 0 {
		e.VN = n.E164()
	}
	r.bus.Message(&e)
}

// Progress implements router.Recorder.
func (r *recorder) Progress(carrier string, p *vn.Progress) {
	at := p.At
	if at.IsZero() {
		at = time.Now()
	}
	r.bus.Status(&events.CallStatus{
		Carrier: carrier, CallID: string(p.CallID), OrderID: string(p.OrderID), Leg: p.Leg.String(), Status: p.Status.String(),
		Cause: string(p.Cause), DurationS: int(p.Duration / time.Second), At: at.UTC(),
	})
}
