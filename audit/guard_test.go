package audit_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/internal/testkit"
)

// TestAGuardAuditsWhileItActs pins that one that does not act reads nothing and tells
// nothing, and that what it tells has few values and no number in clear.
func TestAGuardAuditsWhileItActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	a := w.order("o-1", time.Hour)
	require.NoError(t, w.redis.Del(t.Context(), key("order:o-1")).Err())
	var acting atomic.Bool
	asked := make(chan struct{}, 1)
	log := &testkit.Buffer{}
	reg := prometheus.NewRegistry()
	g, err := audit.NewGuard(audit.GuardConfig{
		Config: audit.Config{Patience: 10 * time.Millisecond}, Every: 20 * time.Millisecond,
		Acting: func() bool {
			select {
			case asked <- struct{}{}:
			default:
			}
			return acting.Load()
		},
	}, w.store, w.bus, reg, zerolog.New(log))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	gauge := func(name string, labels ...string) float64 { return value(t, reg, name, labels...) }
	for range 3 {
		<-asked
	}
	require.Zero(t, gauge("callmask_audit_last_run_timestamp_seconds"))

	acting.Store(true)
	until := func(violations float64) {
		t.Helper()
		require.Eventually(t, func() bool {
			return gauge("callmask_audit_violations", "durable") == violations
		}, 10*time.Second, 10*time.Millisecond)
	}
	until(2)
	require.InDelta(t, float64(time.Now().Unix()), gauge("callmask_audit_last_run_timestamp_seconds"), 30)
	require.InDelta(t, 6, gauge("callmask_audit_checked_numbers"), 0)
	require.Contains(t, log.String(), `"invariant":"durable","kind":"lost","found":2,"vn":"`+a.Numbers[0].VN.String()[:6])
	require.NotContains(t, log.String(), "447700900")

	acting.Store(false)
	until(0) // another process tells now
	stop()
	require.NoError(t, <-done)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// value returns the value of a metric, by the value of its label where it has one.
func value(t *testing.T, reg *prometheus.Registry, name string, label ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (len(label) == 0 || strings.Contains(m.GetLabel()[0].GetValue(), label[0])) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s %v", name, label)
	return 0
}
