package app

import (
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// recorder publishes each decision as calls.decided, without ever waiting.
type recorder struct {
	bus  *events.Bus
	isVN func(vn.Number) bool
}

// Record implements router.Recorder. What was dialled goes out only when it is one
// of our numbers: anything else may be somebody's real one.
func (r *recorder) Record(carrier string, call *vn.Call, d *vn.Decision, took time.Duration) {
	e := events.Decision{
		Carrier: carrier, CallID: call.ID, OrderID: d.OrderID, Reason: d.Reason, At: time.Now(), Took: took,
	}
	// A call that was connected was found under the VN, so that one is ours.
	if d.Reason == vn.Connected || r.isVN(call.Called) {
		e.VN = call.Called
	}
	r.bus.Decided(&e)
}
