package allocator

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmask/callmask/vn"
)

// metrics are bound when the Allocator is made; none has a label with an order's or
// a number's identity.
type metrics struct {
	ready              prometheus.Gauge
	assign             verb
	end                verb
	extend             verb
	imports            verb
	remove             verb
	lowSent, lowFailed prometheus.Counter
	lostRaces          prometheus.Counter
	messages           *prometheus.CounterVec
	requests           *prometheus.CounterVec
}

// verb counts what became of one kind of work, and how long it took.
type verb struct {
	outcomes map[string]prometheus.Counter
	seconds  prometheus.Observer
}

func (v verb) observe(began time.Time, err *error) {
	v.seconds.Observe(time.Since(began).Seconds())
	v.outcomes[outcome(*err)].Inc()
}

var outcomes = []string{
	"ok", "invalid", "pool_unknown", "pool_exhausted", "order_conflict", "order_ended", "order_unknown",
	"number_unknown", "cold", "unavailable", "error",
}

func outcome(err error) string {
	var field *vn.FieldError
	var list *numbersError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &field), errors.As(err, &list):
		return "invalid"
	case errors.Is(err, vn.ErrPoolUnknown):
		return "pool_unknown"
	case errors.Is(err, vn.ErrPoolExhausted):
		return "pool_exhausted"
	case errors.Is(err, vn.ErrOrderConflict):
		return "order_conflict"
	case errors.Is(err, vn.ErrOrderEnded):
		return "order_ended"
	case errors.Is(err, vn.ErrOrderUnknown):
		return "order_unknown"
	case errors.Is(err, vn.ErrNumberUnknown):
		return "number_unknown"
	case errors.Is(err, vn.ErrCold):
		return "cold"
	case away(err):
		return "unavailable"
	}
	return "error"
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "callmask_allocator_operations_total", Help: "Work done for events and requests, by verb and outcome.",
	}, []string{"verb", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "callmask_allocator_operation_seconds", Help: "Time from the start of a verb to its last acknowledgement.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
	}, []string{"verb"})
	low := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "callmask_allocator_pool_low_total", Help: "Reports that a pool is low, by result.",
	}, []string{"result"})
	m := &metrics{
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "callmask_allocator_ready", Help: "1 while Redis answers and is marked ready.",
		}),
		lostRaces: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_allocator_lost_races_total",
			Help: "Assignments given up because another order had one of their numbers in the ledger: Redis had lost data.",
		}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmask_allocator_messages_total", Help: "Order events handled, by event and result.",
		}, []string{"event", "result"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmask_allocator_requests_total", Help: "Requests to the private API, by route and status.",
		}, []string{"route", "status"}),
	}
	for _, c := range []prometheus.Collector{operations, seconds, low, m.ready, m.lostRaces, m.messages, m.requests} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	bind := func(name string) verb {
		v := verb{outcomes: make(map[string]prometheus.Counter, len(outcomes)), seconds: seconds.WithLabelValues(name)}
		for _, o := range outcomes {
			v.outcomes[o] = operations.WithLabelValues(name, o)
		}
		return v
	}
	m.assign, m.end, m.extend, m.imports, m.remove = bind("assign"), bind("end"), bind("extend"), bind("import"), bind("remove")
	m.lowSent, m.lowFailed = low.WithLabelValues("sent"), low.WithLabelValues("failed")
	return m, nil
}
