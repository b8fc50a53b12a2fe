package audit

import (
	"time"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Invariant names a promise, also in metrics.
type Invariant string

// The invariants.
const (
	Exclusive    Invariant = "exclusive"    // a VN is in one live assignment at most
	Durable      Invariant = "durable"      // an acknowledged assignment routes calls until it ends
	Conservation Invariant = "conservation" // every VN that we own is in exactly one state
	Terminal     Invariant = "terminal"     // an order that has ended gets no VN again, and routes no call
	NoMisroute   Invariant = "no_misroute"  // a call is connected only by an assignment that lives
	Idempotent   Invariant = "idempotent"   // however often an order is announced, its VNs are the same
	CoolDown     Invariant = "cool_down"    // a VN rests before another order gets it
	Money        Invariant = "money"        // a purchase was written down before it was made
	FailClosed   Invariant = "fail_closed"  // what is uncertain connects no call
)

// Invariants returns all of them.
func Invariants() []Invariant {
	return []Invariant{Exclusive, Durable, Conservation, Terminal, NoMisroute, Idempotent, CoolDown, Money, FailClosed}
}

// Violation is a promise that was broken in the past, as the events tell it.
type Violation struct {
	Invariant Invariant
	VN        vn.Number // 0 when it is of an order alone
	OrderID   string    // empty when it is of a VN alone
	At        time.Time // of the event that shows it
	Detail    string    // reads on after the VN or the order; holds no number
}

// ofProblem tells which promise a mismatch inside Redis breaks.
func ofProblem(kind scripts.ProblemKind) Invariant {
	switch kind {
	case scripts.ProblemShared:
		return Exclusive
	case scripts.ProblemBinding, scripts.ProblemDamaged:
		return NoMisroute
	case scripts.ProblemCold:
		return Durable
	case scripts.ProblemForward:
		return Idempotent
	case scripts.ProblemLease:
		return Terminal
	}
	return Conservation
}
