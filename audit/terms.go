package audit

import (
	"hash/maphash"
	"time"
)

// Terms is what the rules need to know beside the events. Durations that are 0 take their
// default.
type Terms struct {
	// Skew is how far the clocks of Redis, NATS and the routers may be apart. Default 5s.
	Skew time.Duration
	// Late is how long an event may be on its way: an announcement under way when its order
	// ends, a call told before its assignment. Default 1m.
	Late time.Duration
	// Since is when the events given begin; the zero time says with the first one ever. What
	// may rest on an event before that is not judged.
	Since time.Time
	// Life is the longest time for which an order may live without being announced anew: one
	// that was not announced within it was not announced. Default 24h.
	Life time.Duration
	// Remember is how long an ended order is remembered. Default 25h.
	Remember time.Duration
	// Orders bounds how many ended orders are remembered, the newest. Default a million.
	Orders int
}

func (t *Terms) complete() {
	for _, d := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{
		{&t.Skew, 5 * time.Second}, {&t.Late, time.Minute}, {&t.Life, 24 * time.Hour}, {&t.Remember, 25 * time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.otherwise
		}
	}
	if t.Orders == 0 {
		t.Orders = 1_000_000
	}
}

// orderKey stands for an order's id where millions are kept: two ids that meet by chance are
// one in 10^7 among a million.
type orderKey uint64

var seed = maphash.MakeSeed()

func keyOf(id string) orderKey {
	if id == "" {
		return 0
	}
	return orderKey(maphash.String(seed, id))
}
