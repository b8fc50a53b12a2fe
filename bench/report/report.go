// Package report keeps what was measured and writes it down.
//
//	Sample ─▶ Report ─▶ results.json, table.md, goals.md, *.svg
//
// Ratios are taken within a round and their median is reported: what disturbs the
// machine for a while disturbs all that is compared in that round.
package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/callmask/callmask/bench/load"
)

// Metric names what was measured.
type Metric string

// What is measured. CPU times are microseconds for each answered request.
const (
	RPS       Metric = "rps"       // answered a second
	ServerCPU Metric = "server_us" // of the server that answers
	StoreCPU  Metric = "store_us"  // of Redis or PostgreSQL
	LoadCPU   Metric = "load_us"   // of the load generator
	P50       Metric = "p50_us"
	P99       Metric = "p99_us"
	P999      Metric = "p999_us"
	MaxUS     Metric = "max_us"
	Busy      Metric = "busy"     // 503
	Unsent    Metric = "unsent"   // given up waiting for a connection
	Resident  Metric = "rss_mb"   // of the server that answers
	Bytes     Metric = "bytes"    // of Redis, for each thing
	Capacity  Metric = "capacity" // answered a second without a limit, measured just before
	BusyP99   Metric = "busy_p99_us"
	ServiceP9 Metric = "service_p99_us" // from the moment a call was sent
	Messages  Metric = "messages"       // that a stream took in, for each thing
	Commands  Metric = "commands"       // that a Redis processed a second
	Spread    Metric = "spread"         // commands of the fullest master through those of the emptiest
)

// Sample is one measurement.
type Sample struct {
	Scenario string             `json:"scenario"`
	Variant  string             `json:"variant"` // callmask, or the peer
	Point    string             `json:"point"`   // saturation, a rate, a size
	Round    int                `json:"round"`
	Values   map[Metric]float64 `json:"values"`
	Latency  *load.Latency      `json:"latency,omitempty"`
}

// Report is all that one run measured.
type Report struct {
	Machine   Machine   `json:"machine"`
	Started   time.Time `json:"started"`
	Command   []string  `json:"command"`
	Short     bool      `json:"short"` // a try-out: its figures mean nothing
	Notes     []string  `json:"notes"` // what was left out, and why
	Scenarios []string  `json:"scenarios"`
	Samples   []Sample  `json:"samples"`
}

// Add keeps a sample.
func (r *Report) Add(s Sample) { r.Samples = append(r.Samples, s) }

// Note keeps a remark for the reader, once.
func (r *Report) Note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, text) {
		r.Notes = append(r.Notes, text)
	}
}

// Stat is a figure over the rounds.
type Stat struct {
	Median, Min, Max float64
	N                int
}

// Key says which samples are meant.
type Key struct{ Scenario, Variant, Point string }

// Stat returns a metric over the rounds; N is 0 when it was not measured.
func (r *Report) Stat(k Key, m Metric) Stat {
	return newStat(slices.Collect(maps.Values(r.rounds(k, m))))
}

// Ratio returns a metric of one thing through that of another, round by round.
func (r *Report) Ratio(over, under Key, m Metric) Stat { return r.RatioOf(over, m, under, m) }

// RatioOf is Ratio of two different metrics.
func (r *Report) RatioOf(over Key, mo Metric, under Key, mu Metric) Stat {
	a, b := r.rounds(over, mo), r.rounds(under, mu)
	var ratios []float64
	for round, x := range a {
		if y, ok := b[round]; ok && y > 0 {
			ratios = append(ratios, x/y)
		}
	}
	return newStat(ratios)
}

// Count returns in how many rounds a metric was above a limit.
func (r *Report) Count(k Key, m Metric, above float64) (count, rounds int) {
	for _, v := range r.rounds(k, m) {
		rounds++
		if v > above {
			count++
		}
	}
	return count, rounds
}

func (r *Report) rounds(k Key, m Metric) map[int]float64 {
	values := map[int]float64{}
	for i := range r.Samples {
		s := &r.Samples[i]
		if v, ok := s.Values[m]; ok && s.Scenario == k.Scenario && s.Variant == k.Variant && s.Point == k.Point && !math.IsNaN(v) {
			values[s.Round] = v
		}
	}
	return values
}

// Variants lists the variants of a scenario in the order they were measured.
func (r *Report) Variants(scenario string) []string {
	return r.distinct(scenario, func(s *Sample) string { return s.Variant })
}

// Points lists the points of a scenario in the order they were measured.
func (r *Report) Points(scenario string) []string {
	return r.distinct(scenario, func(s *Sample) string { return s.Point })
}

func (r *Report) distinct(scenario string, name func(*Sample) string) []string {
	var names []string
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && !slices.Contains(names, name(s)) {
			names = append(names, name(s))
		}
	}
	return names
}

func newStat(values []float64) Stat {
	if len(values) == 0 {
		return Stat{}
	}
	slices.Sort(values)
	n := len(values)
	return Stat{Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1], N: n}
}
