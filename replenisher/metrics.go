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

	acting     *prometheus.GaugeVec // pool
	lowWater   *prometheus.GaugeVec // pool
	target     *prometheus.GaugeVec // pool
	demand     *prometheus.GaugeVec // pool
	runsOut    *prometheus.GaugeVec // pool
	leadTime   *prometheus.GaugeVec // carrier
	committed  *prometheus.GaugeVec // pool, currency
	capReached *prometheus.GaugeVec // pool
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
		acting:     gauge("acting", "1 while this process is the one that buys for the pool.", "pool"),
		lowWater:   gauge("low_water", "Buying starts when fewer VNs are free, as the forecast has it now.", "pool"),
		target:     gauge("target", "Buying goes on until as many VNs are free, as the forecast has it now.", "pool"),
		demand:     gauge("demand_per_minute", "Free VNs that the pool is expected to lose a minute.", "pool"),
		runsOut:    gauge("runs_out_seconds", "When the last free VN is used up at this rate; -1 when it is not.", "pool"),
		leadTime:   gauge("lead_time_seconds", "From the intent to buy a number until it is in its pool.", "carrier"),
		committed:  gauge("committed", "What this calendar month costs the pool already.", "pool", "currency"),
		capReached: gauge("cap_reached", "1 while numbers are needed and none is offered for what is left of the cap.", "pool"),
	}
	return m, register(reg, m.purchases, m.adopted, m.failures, m.stock, m.openIntents, m.lastSweep, m.lookFailures,
		m.acting, m.lowWater, m.target, m.demand, m.runsOut, m.leadTime, m.committed, m.capReached)
}

func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("replenisher: metrics: %w", err)
		}
	}
	return nil
}
