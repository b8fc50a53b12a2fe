package vn

import "time"

// Progress is what a carrier tells about a call that was put through before. Carriers
// tell the same thing twice, and late things first. Its slices may point into the
// request's buffer: whoever keeps them beyond the request copies them. It holds no
// number: whose leg it is about is all that is told.
type Progress struct {
	// CallID is the id that Call.ID was: the carrier's id of the caller's leg.
	CallID []byte
	// OrderID comes back from our answer to the call; empty when the carrier has no
	// place for it.
	OrderID []byte
	Leg     Leg
	Status  LegStatus
	// Cause is the carrier's own word or SIP code for why a leg ended: printable ASCII,
	// empty when it gave none, and never anything with a number of somebody in it.
	Cause []byte
	// Duration is how long the leg's two ends could talk; 0 unless it has ended.
	Duration time.Duration
	// At is the carrier's time of it; zero when it gave none.
	At time.Time
}

// Leg is one of the two calls that a masked call consists of.
type Leg uint8

// The legs. Only CalleeLeg tells whether anybody was reached.
const (
	CallerLeg Leg = iota // from the one who dialled the VN to the carrier
	CalleeLeg            // from the carrier to the party that was dialled
	Legs      = iota
)

var legs = [Legs]string{CallerLeg: "caller", CalleeLeg: "callee"}

// String returns the leg's name in events.
func (l Leg) String() string { return legs[l] }

// LegStatus is what happened to a leg.
type LegStatus uint8

// The statuses. The last five are final. LegCompleted means that the leg was answered and
// has ended.
const (
	LegRinging LegStatus = iota
	LegAnswered
	LegCompleted
	LegBusy
	LegNoAnswer
	LegCancelled // the caller hung up first
	LegFailed    // the carrier could not reach the party
	LegStatuses  = iota
)

var statuses = [LegStatuses]string{
	LegRinging: "ringing", LegAnswered: "answered", LegCompleted: "completed", LegBusy: "busy", LegNoAnswer: "no_answer",
	LegCancelled: "cancelled", LegFailed: "failed",
}

// String returns the status's name in events and metrics.
func (s LegStatus) String() string { return statuses[s] }

// Final tells whether nothing can follow for the leg.
func (s LegStatus) Final() bool { return s >= LegCompleted }
