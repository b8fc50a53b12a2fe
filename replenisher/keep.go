package replenisher

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// keeper is what is remembered between two comparisons of a carrier's list with the
// inventory, and their metrics.
type keeper struct {
	mu      sync.Mutex
	running map[string]bool                    // by carrier
	missing map[string]map[vn.Number]time.Time // by carrier: since when its lists lack a number
	seen    map[string]comparison              // by carrier: the last one

	released *prometheus.CounterVec // pool, carrier, reason
	rows     *prometheus.GaugeVec   // carrier, action
	failed   *prometheus.GaugeVec   // carrier
	braked   *prometheus.GaugeVec   // carrier
	last     *prometheus.GaugeVec   // carrier
}

func newKeeper(reg prometheus.Registerer) (*keeper, error) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	k := &keeper{
		running: make(map[string]bool), missing: make(map[string]map[vn.Number]time.Time), seen: make(map[string]comparison),
		released: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "released_total",
			Help: "Numbers that are not paid for any more, by reason (surplus, operator, ghost).",
		}, []string{"pool", "carrier", "reason"}),
		rows:   gauge("reconcile_rows", "Numbers that were not as they should be at the last comparison, by action.", "carrier", "action"),
		failed: gauge("reconcile_failed_rows", "Numbers that the last comparison could not put right.", "carrier"),
		braked: gauge("reconcile_braked", "1 when the last comparison changed nothing because too many numbers were missing.", "carrier"),
		last:   gauge("last_reconcile_timestamp_seconds", "When the carrier's list was last compared with success.", "carrier"),
	}
	return k, register(reg, k.released, k.rows, k.failed, k.braked, k.last)
}

// begin tells whether no comparison of the carrier is under way; the caller ends it.
func (k *keeper) begin(carrier string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running[carrier] {
		return false
	}
	k.running[carrier] = true
	return true
}

func (k *keeper) end(carrier string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.running, carrier)
}

// missed returns since when each of the numbers is missing, now included.
func (k *keeper) missed(carrier string, numbers []scripts.Inventory, now time.Time) map[vn.Number]time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	since := make(map[vn.Number]time.Time, len(numbers))
	for _, n := range numbers {
		before, ok := k.missing[carrier][n.VN]
		if !ok {
			before = now
		}
		since[n.VN] = before
	}
	return since
}

// remember notes what missed returned, of a list that is believed. What was missing
// before and is not now is forgotten.
func (k *keeper) remember(carrier string, since map[vn.Number]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.missing[carrier] = since
}

// show sets the metrics of a comparison.
func (k *keeper) show(d *Diff, err error, now time.Time) {
	var brake *BrakeError
	if err != nil && !errors.As(err, &brake) {
		return // nothing is known of the list
	}
	counts := map[Action]int{Adopt: 0, Configure: 0, Remove: 0, GiveBack: 0, Wait: 0, Report: 0}
	for i := range d.Rows {
		counts[d.Rows[i].Action]++
	}
	for action, n := range counts {
		k.rows.WithLabelValues(d.Carrier, string(action)).Set(float64(n))
	}
	k.failed.WithLabelValues(d.Carrier).Set(float64(d.Failed))
	k.mu.Lock()
	k.seen[d.Carrier] = comparison{at: now, braked: brake != nil, differed: len(d.Rows)}
	k.mu.Unlock()
	braked := 0.0
	if brake != nil {
		braked = 1
	} else if d.Failed == 0 {
		k.last.WithLabelValues(d.Carrier).Set(float64(now.Unix()))
	}
	k.braked.WithLabelValues(d.Carrier).Set(braked)
}

// reconciles compares a carrier's list with the inventory from time to time until ctx ends.
// The first comparison comes early: it finishes what the process before left undone.
func (r *Replenisher) reconciles(ctx context.Context, s *seller) {
	next := time.NewTimer(jitter(r.cfg.Reconcile / 10))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if !s.open(r.now()) { // buying failed a moment ago: soon again
			next.Reset(jitter(min(time.Minute, r.cfg.Reconcile)))
			continue
		}
		r.compareNow(ctx, s)
		next.Reset(jitter(r.cfg.Reconcile))
	}
}

func (r *Replenisher) compareNow(ctx context.Context, s *seller) {
	longer, cancel := lingering(ctx, r.cfg.Grace)
	defer cancel()
	diff, err := r.Reconcile(longer, s.name, ReconcileOptions{})
	var brake *BrakeError
	switch {
	case errors.As(err, &brake):
		r.log.Error().Str("carrier", s.name).Err(err).Msg("the carrier's list lacks too many of our numbers; nothing was changed")
	case errors.Is(err, ErrRunning), ctx.Err() != nil:
	case err != nil:
		r.log.Warn().Str("carrier", s.name).Err(err).Msg("the carrier's list could not be compared with the inventory; trying again later")
	case len(diff.Rows) > 0:
		r.log.Info().Str("carrier", s.name).Int("listed", diff.Listed).Int("ours", diff.Ours).Int("rows", len(diff.Rows)).
			Int("failed", diff.Failed).Msg("the carrier's list differed from the inventory; `callmask pool reconcile` shows how")
	}
}
