// Package plan says how many virtual numbers a load needs, and what to set for it.
//
// # The model
//
// An order takes one VN per party, all at once or none, and holds them until it has
// ended and the cool-down is over. So orders are the customers of a loss system, and a
// slot (as many VNs as an order has parties) is a server: with orders that arrive at
// random (Poisson) at λ an hour and hold their slot for T on average, the offered load
// is A = λ·T erlangs, and the share of orders that find all N slots taken is Erlang's B
// formula (A. K. Erlang, 1917; ITU-T E.501 and E.520 use it for trunks):
//
//	B(0, A) = 1        B(N, A) = A·B(N-1, A) / (N + A·B(N-1, A))
//
// It depends on the mean of T alone, not on how T is spread.
//
// # Its limits
//
//   - Arrivals are taken as random around an even rate. Rushes (a lunch hour) need the
//     rate of the rush: that is what Load.Peak is for.
//   - Orders with different numbers of parties are planned with the largest.
//   - An order takes its VNs from one carrier: plan the pool of each carrier by itself
//     where it is to carry the load alone.
//   - A blocked order is not lost here: it waits, or is asked for again. That adds to the
//     load, so keep Load.Blocking small.
package plan

import (
	"math"
	"time"

	"github.com/callmask/callmask/vn"
)

// Load is what a pool has to carry.
type Load struct {
	OrdersPerHour float64       // in an ordinary hour
	Peak          float64       // how many times as many come in the busiest hour; at least 1
	Parties       int           // VNs that an order takes, 2 to 8
	Length        time.Duration // of an order, on average
	Cooldown      time.Duration // how long a VN rests afterwards
	Blocking      float64       // share of orders that may find too few VNs in the busiest hour, such as 0.001
	LeadTime      time.Duration // from falling below low water until bought numbers are in the pool
}

// Plan is what a load needs.
type Plan struct {
	Erlangs  float64 // orders that hold VNs at the same time, on average in the busiest hour
	Orders   int     // orders that must be able to do so
	VNs      int     // VNs for them
	Blocking float64 // share of orders that find too few of them
	LowWater int     // what to set: enough free VNs for the orders of the lead time
	Target   int     // twice that, so that a purchase lasts for a while
	Max      int     // room for VNs beside a full target
}

// mostVNs is the largest pool that settings allow.
const mostVNs = 10_000_000

// For returns the plan of a load. Errors are *vn.FieldError.
func For(l Load) (Plan, error) {
	if err := l.check(); err != nil {
		return Plan{}, err
	}
	perHour := l.OrdersPerHour * l.Peak
	held := (l.Length + l.Cooldown).Hours()
	p := Plan{Erlangs: perHour * held}
	if p.Erlangs*float64(l.Parties) > mostVNs {
		return Plan{}, &vn.FieldError{Field: "orders per hour", Problem: "need more numbers than a pool may have (10,000,000)"}
	}
	p.Orders, p.Blocking = slots(p.Erlangs, l.Blocking)
	p.VNs = p.Orders * l.Parties
	// Of the orders that come in the lead time, those still hold their VNs at its end
	// that came within the last `held`.
	short := quantile(perHour*min(l.LeadTime.Hours(), held), l.Blocking)
	p.LowWater = max(1, short) * l.Parties
	p.Target = 2 * p.LowWater
	p.Max = p.VNs + p.Target
	return p, nil
}

func (l *Load) check() error {
	for _, c := range []struct {
		bad            bool
		field, problem string
	}{
		{!(l.OrdersPerHour > 0) || math.IsInf(l.OrdersPerHour, 0), "orders per hour", "must be more than 0"},
		{!(l.Peak >= 1) || math.IsInf(l.Peak, 0), "peak", "must be at least 1: the busiest hour has at least the orders of an ordinary one"},
		{l.Parties < vn.MinParties || l.Parties > vn.MaxParties, "parties", "must be 2 to 8"},
		{l.Length <= 0, "order length", "must be a positive duration"},
		{l.Cooldown < 0, "cooldown", "must not be negative"},
		{!(l.Blocking >= 1e-9) || !(l.Blocking < 1), "blocking", "must be between 0.000000001 and 1, such as 0.001 for one order in a thousand"},
		{l.LeadTime < 0, "lead time", "must not be negative"},
	} {
		if c.bad {
			return &vn.FieldError{Field: c.field, Problem: c.problem}
		}
	}
	return nil
}

// ErlangB returns the share of arrivals that find all servers busy, for an offered load
// in erlangs. Both must not be negative.
func ErlangB(servers int, erlangs float64) float64 {
	blocked := 1.0
	for n := 1; n <= servers; n++ {
		blocked = next(n, erlangs, blocked)
	}
	return blocked
}

func next(n int, erlangs, blocked float64) float64 {
	return erlangs * blocked / (float64(n) + erlangs*blocked)
}

// slots returns the fewest servers that block no more than most, and what they block.
func slots(erlangs, most float64) (int, float64) {
	n, blocked := 0, 1.0
	for blocked > most {
		n++
		blocked = next(n, erlangs, blocked)
	}
	return n, blocked
}

// quantile returns the smallest n that a Poisson variable of this mean exceeds with a
// probability of p at most.
func quantile(mean, p float64) int {
	if mean <= 0 {
		return 0
	}
	n := int(max(0, mean-12*math.Sqrt(mean)-12)) // what lies below is no part of p
	for below := 0.0; ; n++ {
		gamma, _ := math.Lgamma(float64(n) + 1)
		below += math.Exp(float64(n)*math.Log(mean) - mean - gamma)
		if 1-below <= p || float64(n) > mean+12*math.Sqrt(mean)+100 {
			return n
		}
	}
}
