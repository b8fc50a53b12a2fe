package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmask/callmask/vn"
)

// metrics are the router's series. Children are bound when the router is made, so
// that the hot path looks nothing up.
type metrics struct {
	decisions *prometheus.CounterVec
	messages  *prometheus.CounterVec
	progress  *prometheus.CounterVec
	forbidden *prometheus.CounterVec
	malformed *prometheus.CounterVec

	duration      prometheus.Histogram
	limitedCaller prometheus.Counter
	limitedNumber prometheus.Counter
	limitedPair   prometheus.Counter
	lookupErrors  prometheus.Counter
	lookupRetries prometheus.Counter
	unauthorized  prometheus.Counter
	panics        prometheus.Counter
	turnedAway    [turnedAways]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Router) (*metrics, error) {
	const ns, room = "callmask", "router"
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: room, Name: name, Help: help})
		all = append(all, c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: room, Name: name, Help: help}, labels)
		all = append(all, c)
		return c
	}
	gauge := func(name, help string, value func() float64) {
		all = append(all, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: ns, Subsystem: room, Name: name, Help: help}, value))
	}
	limited := vec("limited_total", "Calls and messages refused unseen because too many before them were refused, and messages dropped because the same two sent too many.", "by")
	away := vec("requests_turned_away_total", "Requests answered with an HTTP error before any carrier was asked.", "cause")
	m := &metrics{
		decisions: vec("decisions_total", "Decided calls by carrier and reason.", "carrier", "reason"),
		messages:  vec("messages_total", "Text messages by carrier and what became of them.", "carrier", "verdict"),
		progress:  vec("call_progress_total", "What carriers told of calls, by leg and status.", "carrier", "leg", "status"),
		forbidden: vec("forbidden_total", "Requests of a carrier with a wrong or missing signature or secret.", "carrier"),
		malformed: vec("malformed_total", "Authenticated requests with a field that is missing or wrong.", "carrier"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: room, Name: "decision_seconds",
			Help:    "From the request read to the answer built.",
			Buckets: []float64{50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1},
		}),
		limitedCaller: limited.WithLabelValues("caller"),
		limitedNumber: limited.WithLabelValues("number"),
		limitedPair:   limited.WithLabelValues("pair"),
		lookupErrors:  counter("lookup_errors_total", "Calls refused as unavailable because the look-up failed."),
		lookupRetries: counter("lookup_retries_total", "Look-ups made a second time after an error."),
		unauthorized:  counter("unauthorized_total", "Requests to /v1/resolve with a wrong or missing token."),
		panics:        counter("panics_total", "Requests that ended in a panic; each is a bug."),
	}
	for t := range turnedAway(turnedAways) {
		m.turnedAway[t] = away.WithLabelValues(t.String())
	}
	all = append(all, m.duration)
	gauge("in_flight", "Requests being answered now.", func() float64 { return float64(r.inFlight.Load()) })
	gauge("open_connections", "Connections open now.", func() float64 { return float64(r.conns.open.Load()) })
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// bind gives a carrier its own counters.
func (m *metrics) bind(c Carrier) *carrier {
	b := &carrier{
		Carrier:   c,
		forbidden: m.forbidden.WithLabelValues(c.Name),
		malformed: m.malformed.WithLabelValues(c.Name),
	}
	for reason := range vn.Reason(vn.Reasons) {
		b.decisions[reason] = m.decisions.WithLabelValues(c.Name, reason.String())
	}
	if _, ok := c.Codec.(MessageCodec); ok {
		for v := range vn.Verdict(vn.Verdicts) {
			b.messages[v] = m.messages.WithLabelValues(c.Name, v.String())
		}
	}
	if _, ok := c.Codec.(ProgressCodec); ok {
		for leg := range vn.Leg(vn.Legs) {
			for status := range vn.LegStatus(vn.LegStatuses) {
				b.progress[leg][status] = m.progress.WithLabelValues(c.Name, leg.String(), status.String())
			}
		}
	}
	return b
}
