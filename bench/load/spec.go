package load

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Spec says what load to make.
type Spec struct {
	Addr   string        `json:"addr"` // several with commas: the connections are dealt out to them
	Form   Form          `json:"form"`
	Conns  int           `json:"conns"`
	Rate   float64       `json:"rate"` // requests a second, open loop; 0: closed loop
	For    time.Duration `json:"for"`
	Warm   time.Duration `json:"warm"`    // closed loop beforehand, not measured
	Miss   float64       `json:"miss"`    // the part of the calls that strangers make
	Fixed  bool          `json:"fixed"`   // any body will do: the peer that looks nothing up
	GiveUp time.Duration `json:"give_up"` // open loop: how long a call waits for a connection; 0: for ever
	Seed   uint64        `json:"seed"`
	Grace  time.Duration `json:"grace"` // for the answers still out at the end; 0: 2s
}

// Result is what came of it.
type Result struct {
	Answered int           `json:"answered"` // right answers
	InTime   int           `json:"in_time"`  // of them, before the time was up
	Busy     int           `json:"busy"`     // 503: refused by a server that says it has too much to do
	Wrong    int           `json:"wrong"`    // answers that are not the right one: never acceptable
	Broken   int           `json:"broken"`   // connections that ended instead of answering
	Unsent   int           `json:"unsent"`   // open loop: given up waiting for a connection
	Late     int           `json:"late"`     // sent and not answered when all was over
	Took     time.Duration `json:"took"`
	Latency  Latency       `json:"latency"` // of right answers, open loop: from the moment a call was due
	Service  Latency       `json:"service"` // of right answers, from the moment it was sent
	Refused  Latency       `json:"refused"` // of Busy, from the moment it was sent
	Example  string        `json:"example"` // of a wrong answer, its digits hidden
}

// Latency is a distribution in microseconds.
type Latency struct {
	Count int64     `json:"count"`
	Mean  float64   `json:"mean"`
	Max   float64   `json:"max"`
	At    []float64 `json:"at"` // by Quantiles
}

// Quantiles are the percentiles kept of every distribution, for tables and plots.
var Quantiles = []float64{
	10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99,
}

// Percentile returns the latency at one of Quantiles, NaN when there is none.
func (l *Latency) Percentile(q float64) float64 {
	for i, have := range Quantiles {
		if have == q && i < len(l.At) && l.Count > 0 {
			return l.At[i]
		}
	}
	return math.NaN()
}

// The recorded range: 100 ns to a minute, with three digits.
const (
	unit    = 100 * time.Nanosecond
	longest = int64(time.Minute / unit)
	digits  = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, digits) }

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// Within the range RecordValue cannot fail.
	_ = h.RecordValue(min(max(int64(d/unit), 1), longest))
}

func latency(h *hdrhistogram.Histogram) Latency {
	const us = float64(unit) / float64(time.Microsecond)
	l := Latency{Count: h.TotalCount(), Mean: h.Mean() * us, Max: float64(h.Max()) * us}
	if l.Count == 0 {
		return Latency{}
	}
	for _, q := range Quantiles {
		l.At = append(l.At, float64(h.ValueAtQuantile(q))*us)
	}
	return l
}
