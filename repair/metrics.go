package repair

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	runs      *prometheus.CounterVec // by trigger and outcome
	numbers   *prometheus.CounterVec // by outcome
	conflicts prometheus.Counter
	dropped   prometheus.Counter
	cold      prometheus.Gauge
	running   prometheus.Gauge
	took      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmask_repair_runs_total",
			Help: "Replays of the ledger, by what made them necessary (changed: another server has a partition; cold: it has lost everything) and outcome (done, failed).",
		}, []string{"trigger", "outcome"}),
		numbers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmask_repair_numbers_total",
			Help: "Numbers of which Redis did not know the last ledger record, by outcome (restored, busy, failed).",
		}, []string{"outcome"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_repair_conflicts_total",
			Help: "Numbers that another order had in the ledger when a record was to be written.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_repair_conflicts_dropped_total",
			Help: "Conflicts that were not looked at because too many waited; the auditor finds them.",
		}),
		cold: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callmask_repair_cold_partitions",
			Help: "Partitions that have lost their data and are not restored yet.",
		}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callmask_repair_running",
			Help: "1 while the ledger is being replayed.",
		}),
		took: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callmask_repair_last_seconds",
			Help: "How long the last replay of the ledger took.",
		}),
	}
	for _, c := range []prometheus.Collector{m.runs, m.numbers, m.conflicts, m.dropped, m.cold, m.running, m.took} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	for _, trigger := range []string{triggerChanged, triggerCold} {
		for _, outcome := range []string{outcomeDone, outcomeFailed} {
			m.runs.WithLabelValues(trigger, outcome)
		}
	}
	for _, outcome := range []string{outcomeRestored, outcomeBusy, outcomeFailed} {
		m.numbers.WithLabelValues(outcome)
	}
	return m, nil
}

const (
	triggerChanged = "changed"
	triggerCold    = "cold"

	outcomeDone     = "done"
	outcomeFailed   = "failed"
	outcomeRestored = "restored"
	outcomeBusy     = "busy"
)
