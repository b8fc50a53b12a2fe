package forecast

import "time"

// LeadTime learns how long a carrier takes from the intent to buy a number until the
// number is in its pool: a smoothed mean and mean deviation, with the weights that TCP
// uses for round trips (RFC 6298). The zero LeadTime knows nothing.
type LeadTime struct {
	mean, deviation time.Duration
	known           bool
}

// Observe takes in one purchase; a negative time counts as 0.
func (l *LeadTime) Observe(took time.Duration) {
	took = max(0, took)
	if !l.known {
		l.mean, l.deviation, l.known = took, took/2, true
		return
	}
	l.deviation += ((took - l.mean).Abs() - l.deviation) / 4
	l.mean += (took - l.mean) / 8
}

// Known tells whether a purchase was observed yet.
func (l *LeadTime) Known() bool { return l.known }

// Mean returns the mean; 0 while nothing is known.
func (l *LeadTime) Mean() time.Duration { return l.mean }

// sigma is the standard deviation, taken from the mean deviation as for normal
// deviates: √(π/2) times as much.
func (l *LeadTime) sigma() time.Duration { return l.deviation * 5 / 4 }

// Most returns what a purchase rarely exceeds: the mean and twice the standard
// deviation.
func (l *LeadTime) Most() time.Duration { return l.mean + safety*l.sigma() }

// Slowest returns the one that takes longest of those that know something; the zero
// LeadTime when none does.
func Slowest(all ...LeadTime) LeadTime {
	var slowest LeadTime
	for _, l := range all {
		if l.known && (!slowest.known || l.Most() > slowest.Most()) {
			slowest = l
		}
	}
	return slowest
}
