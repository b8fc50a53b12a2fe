package forecast

import (
	"math"
	"time"
)

const (
	// drainMemory is the time constant over which the drain is averaged.
	drainMemory = 10 * time.Minute
	// recentMemory and longMemory are those of the orders placed: what is placed now,
	// against what is usual.
	recentMemory = 2 * time.Minute
	longMemory   = time.Hour
	// burstMost and burstLeast bound the orders placed that are believed, in multiples of
	// the usual and per minute: they are only hints, and a sender that runs wild must not
	// spend our money.
	burstMost, burstLeast = 4, 60
	// perOrder is how many VNs an order is taken to need: it has two parties or more,
	// and how many is not known before it is assigned.
	perOrder = 2
	// warmUp is how long a pool is watched before anything is forecast for it.
	warmUp = 5 * time.Minute
)

// Demand learns how fast a pool uses up its free VNs. The zero Demand is ready for
// its first Observe. It is not safe for concurrent use.
type Demand struct {
	at      time.Time
	used    int
	watched time.Duration

	drain        average // VNs in use, per minute: more of them, or fewer
	above        average // squares of what a step was above the drain expected
	recent, long average // orders placed, per minute
}

// Observe takes in how many VNs are not free at a moment, and how many orders were
// placed since the last one. Moments that do not come after the last one are ignored.
func (d *Demand) Observe(at time.Time, used, placed int) {
	if d.at.IsZero() {
		d.at, d.used = at, used
		return
	}
	dt := at.Sub(d.at)
	if dt <= 0 {
		return
	}
	step := float64(used - d.used)
	d.at, d.used, d.watched = at, used, d.watched+dt
	// Only a step above the expected one can empty the pool. Noise is as often above
	// as below, so what is above counts twice to give its variance.
	above := max(0, step-d.drain.perMinute()*dt.Minutes())
	d.above.add(2*above*above, dt, drainMemory)
	d.drain.add(step, dt, drainMemory)
	orders := float64(placed)
	if d.watched >= warmUp {
		orders = min(orders, max(burstLeast, burstMost*d.long.perMinute())*dt.Minutes())
	}
	d.recent.add(orders, dt, recentMemory)
	d.long.add(orders, dt, longMemory)
}

// PerMinute returns how many free VNs the pool is expected to lose a minute, 0 when
// it gets as many back, and while it has not been watched for long enough.
func (d *Demand) PerMinute() float64 {
	if d.watched < warmUp {
		return 0
	}
	surge := d.recent.perMinute() - d.long.perMinute()
	return max(0, d.drain.perMinute(), perOrder*surge)
}

// RunsOut returns in how long the last of the free VNs is used up; false when they
// are not, within a year.
func (d *Demand) RunsOut(free int) (time.Duration, bool) {
	minutes := float64(max(0, free)) / d.PerMinute() // +Inf or NaN without demand
	if !(minutes < (365 * 24 * time.Hour).Minutes()) {
		return 0, false
	}
	return time.Duration(minutes * float64(time.Minute)), true
}

// variance returns that of the VNs lost in one minute.
func (d *Demand) variance() float64 {
	if d.watched < warmUp {
		return 0
	}
	return d.above.perMinute()
}

// average is an exponentially weighted average of amounts over time. Both sums decay
// alike, so it needs no time to settle: a steady rate is right from the first step.
type average struct{ sum, minutes float64 }

func (a *average) add(amount float64, dt, memory time.Duration) {
	keep := math.Exp(-dt.Minutes() / memory.Minutes())
	a.sum = a.sum*keep + amount
	a.minutes = a.minutes*keep + dt.Minutes()
}

func (a *average) perMinute() float64 {
	if a.minutes == 0 {
		return 0
	}
	return a.sum / a.minutes
}
