package audit

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	violations *prometheus.GaugeVec   // invariant
	broken     *prometheus.CounterVec // invariant
	lastRun    prometheus.Gauge
	duration   prometheus.Gauge
	checked    prometheus.Gauge
	inFlight   prometheus.Gauge
	unlooked   prometheus.Gauge
	failures   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	options := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "callmask", Subsystem: "audit", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts(options(name, help)))
	}
	m := &metrics{
		violations: prometheus.NewGaugeVec(prometheus.GaugeOpts(options("violations",
			"Numbers and orders of which Redis, or Redis and the ledger, broke the promise at the last round.")), []string{"invariant"}),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts(options("past_violations_total",
			"Promises broken in the past, as the events of ledger, assignments and calls tell it.")), []string{"invariant"}),
		lastRun:  gauge("last_run_timestamp_seconds", "When a round last ended with success."),
		duration: gauge("duration_seconds", "How long the last round took."),
		checked:  gauge("checked_numbers", "Numbers that the last round looked at, in Redis and in the ledger."),
		inFlight: gauge("in_flight", "What the last round found to be on its way between Redis and the ledger."),
		unlooked: gauge("unlooked", "Suspects that the last round had no room to look at again; likely more of the same."),
		failures: prometheus.NewCounter(prometheus.CounterOpts(options("failures_total",
			"Rounds given up because Redis or NATS did not answer."))),
	}
	for _, i := range Invariants() {
		m.violations.WithLabelValues(string(i)).Set(0)
		m.broken.WithLabelValues(string(i)).Add(0)
	}
	for _, c := range []prometheus.Collector{
		m.violations, m.broken, m.lastRun, m.duration, m.checked, m.inFlight, m.unlooked, m.failures,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("audit: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) show(r *Report) {
	for i, n := range r.Violations() {
		m.violations.WithLabelValues(string(i)).Set(float64(n))
	}
	m.lastRun.Set(float64(r.At.Add(r.Took).UnixMilli()) / 1000)
	m.duration.Set(r.Took.Seconds())
	m.checked.Set(float64(max(r.Redis.VNs, r.Records)))
	m.inFlight.Set(float64(r.InFlight))
	m.unlooked.Set(float64(r.Unlooked))
}

func (m *metrics) past(found []Violation) {
	for _, v := range found {
		m.broken.WithLabelValues(string(v.Invariant)).Inc()
	}
}

// rest takes back what another process tells from now on.
func (m *metrics) rest() {
	for _, i := range Invariants() {
		m.violations.WithLabelValues(string(i)).Set(0)
	}
	m.inFlight.Set(0)
	m.unlooked.Set(0)
}
