package replenisher

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	namespace = "callmask"
	subsystem = "replenisher"
)

type metrics struct {
	purchases    *prometheus.CounterVec // pool, carrier
	adopted      *prometheus.CounterVec // pool, carrier
	failures     *prometheus.CounterVec // carrier, step
	stock        *prometheus.GaugeVec   // pool, carrier, state
	openIntents  *prometheus.GaugeVec   // pool
	lastSweep    *prometheus.GaugeVec   // pool
	lookFailures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	m := &metrics{
		purchases:   counter("purchases_total", "Numbers bought and put into their pool.", "pool", "carrier"),
		adopted:     counter("adopted_total", "Numbers found in the carrier's list after a purchase whose outcome was unknown.", "pool", "carrier"),
		failures:    counter("failures_total", "Failed steps of buying, by carrier and step.", "carrier", "step"),
		stock:       gauge("stock", "VNs by state, as read at the last look.", "pool", "carrier", "state"),
		openIntents: gauge("open_intents", "Purchases whose outcome is not known yet.", "pool"),
		lastSweep:   gauge("last_sweep_timestamp_seconds", "When the pool was last looked at with success.", "pool"),
		lookFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "look_failures_total",
			Help: "Looks at a pool given up because Redis or the ledger did not answer.",
		}),
	}
	return m, register(reg, m.purchases, m.adopted, m.failures, m.stock, m.openIntents, m.lastSweep, m.lookFailures)
}

func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("replenisher: metrics: %w", err)
		}
	}
	return nil
}
