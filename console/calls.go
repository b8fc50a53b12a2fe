package console

import (
	"slices"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

const (
	pointsMost = 300 // of the charts of calls
	feedMost   = 100
	// span is what percentiles and shares are made of.
	span = time.Minute
	// chartSpan is what a percentile in a chart is made of: fewer calls say nothing about
	// the slowest.
	chartSpan = 10 * time.Second
)

// calls is what is known of the calls of the last minutes.
type calls struct {
	PerSecond     float64 // over the last 10 s
	P50, P95, P99 time.Duration
	Reasons       []share      // of the last minute, the most frequent first
	Outcomes      []share      // of the legs that ended in the last minute
	Sampled       bool         // there were more than were read: all is estimated from the newest
	Feed          []decision   // newest first
	Fresh         int          // how many of the feed the last reading brought
	Points        []callsPoint // oldest first
}

// share is how often something was, a minute.
type share struct {
	Name  string
	Count float64
}

// decision is one line of the feed.
type decision struct {
	ID int64 // ascending, so that a page knows what it has

	events.CallDecided
}

// callsPoint is one point of the charts.
type callsPoint struct {
	At       int64   // Unix seconds
	Calls    float64 // a second
	Refused  float64
	P50, P99 int64 // microseconds
}

// slice is what one reading brought.
type slice struct {
	at      time.Time
	seconds float64
	weight  float64 // how many events each one that was read stands for
	took    []int64 // microseconds
	decided map[string]int
	told    map[string]int
}

// counter counts calls by what the tail reads. Only one goroutine uses it.
type counter struct {
	last   time.Time
	ids    int64
	slices []slice // of the last minute
	feed   []decision
	points []callsPoint
}

// take counts a batch that was read at a moment.
func (c *counter) take(batch *events.CallBatch, at time.Time) calls {
	c.fill(batch)
	if c.last.IsZero() { // what was there before says nothing of the rate
		c.last = at
		return calls{Feed: slices.Clone(c.feed), Fresh: len(c.feed)}
	}
	s := slice{at: at, seconds: at.Sub(c.last).Seconds(), weight: 1, decided: map[string]int{}, told: map[string]int{}}
	c.last = at
	if s.seconds <= 0 {
		s.seconds = 1 // the clock was set back
	}
	if batch.Read > 0 {
		s.weight = float64(batch.Stored) / float64(batch.Read)
	}
	for i := range batch.Decided {
		s.decided[batch.Decided[i].Reason]++
		s.took = append(s.took, batch.Decided[i].TookUS)
	}
	for i := range batch.Told {
		if st := &batch.Told[i]; st.Leg == vn.CalleeLeg.String() && final(st.Status) {
			s.told[st.Status]++
		}
	}
	c.slices = append(slices.DeleteFunc(c.slices, func(o slice) bool { return at.Sub(o.at) >= span }), s)
	out := c.sum(at)
	c.point(at, &s)
	out.Feed, out.Points = slices.Clone(c.feed), slices.Clone(c.points)
	out.Fresh = min(len(batch.Decided), len(c.feed))
	return out
}

// final tells whether a leg's status is its last one.
func final(status string) bool {
	for s := range vn.LegStatus(vn.LegStatuses) {
		if s.String() == status {
			return s.Final()
		}
	}
	return false
}

func (c *counter) fill(batch *events.CallBatch) {
	for i := range batch.Decided {
		c.ids++
		c.feed = append([]decision{{ID: c.ids, CallDecided: batch.Decided[i]}}, c.feed...)
	}
	c.feed = c.feed[:min(len(c.feed), feedMost)]
}

// sum puts the last minute together.
func (c *counter) sum(at time.Time) calls {
	var (
		out             calls
		took            []int64
		seconds, recent float64
		reasons, legs   = map[string]float64{}, map[string]float64{}
	)
	for _, s := range c.slices {
		out.Sampled = out.Sampled || s.weight > 1
		took = append(took, s.took...)
		for name, n := range s.decided {
			reasons[name] += float64(n) * s.weight
			if at.Sub(s.at) < chartSpan {
				recent += float64(n) * s.weight
			}
		}
		for name, n := range s.told {
			legs[name] += float64(n) * s.weight
		}
		if at.Sub(s.at) < chartSpan {
			seconds += s.seconds
		}
	}
	slices.Sort(took)
	out.P50, out.P95, out.P99 = percentile(took, 50), percentile(took, 95), percentile(took, 99)
	out.Reasons, out.Outcomes = shares(reasons), shares(legs)
	if seconds > 0 {
		out.PerSecond = recent / seconds
	}
	return out
}

// point adds the newest point of the charts.
func (c *counter) point(at time.Time, s *slice) {
	p := callsPoint{At: at.Unix()}
	for name, n := range s.decided {
		p.Calls += float64(n) * s.weight / s.seconds
		if name != vn.Connected.String() {
			p.Refused += float64(n) * s.weight / s.seconds
		}
	}
	var took []int64
	for _, o := range c.slices {
		if at.Sub(o.at) < chartSpan {
			took = append(took, o.took...)
		}
	}
	slices.Sort(took)
	p.P50, p.P99 = percentile(took, 50).Microseconds(), percentile(took, 99).Microseconds()
	if n := len(c.points); n > 0 && c.points[n-1].At >= p.At {
		return // the charts have one point a second
	}
	c.points = append(c.points[max(0, len(c.points)-pointsMost+1):], p)
}

// percentile returns the nearest rank of sorted microseconds; 0 of none.
func percentile(sorted []int64, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return time.Duration(sorted[max(1, rank)-1]) * time.Microsecond
}

func shares(counts map[string]float64) []share {
	list := make([]share, 0, len(counts))
	for name, n := range counts {
		list = append(list, share{name, n})
	}
	slices.SortFunc(list, func(x, y share) int {
		if x.Count != y.Count {
			if x.Count > y.Count {
				return -1
			}
			return 1
		}
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	return list
}
