package events

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connected    prometheus.Gauge
	callsDropped prometheus.Counter
	handled      *prometheus.CounterVec
	deadLetters  *prometheus.CounterVec
	waiting      *prometheus.GaugeVec
	recreated    *prometheus.CounterVec
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "callmask", Subsystem: "events", Name: name, Help: help}
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts(name, help)), labels)
	}
	return &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts(opts("connected", "1 while connected to NATS."))),
		callsDropped: prometheus.NewCounter(prometheus.CounterOpts(opts("calls_dropped_total",
			"Events of calls that were not stored: the queue was full, or NATS did not take it in time."))),
		handled: counter("handled_total", "Messages handled, by consumer and by what became of them.",
			"consumer", "result"),
		deadLetters: counter("dead_letters_total", "Messages that became dead letters.", "consumer"),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("waiting",
			"Messages held back because something they need is away.")), []string{"consumer"}),
		recreated: counter("consumer_restarts_total",
			"How often a consumer had to be looked up or created again.", "consumer"),
	}
}

// register makes the metrics known; nil: to nobody.
func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		m.connected, m.callsDropped, m.handled, m.deadLetters, m.waiting, m.recreated,
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("registering the metrics of events: %w", err)
		}
	}
	return nil
}
