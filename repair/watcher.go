package repair

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Store is what a Watcher needs of *scripts.Store.
type Store interface {
	Servers(ctx context.Context) ([]scripts.PartitionServer, error)
	MarkWhole(ctx context.Context, servers []scripts.PartitionServer) error
}

// Restorer is what a Watcher needs of *ledger.Restorer.
type Restorer interface {
	Restore(ctx context.Context, number vn.Number, idle bool) (scripts.RestoreStatus, error)
	Replay(ctx context.Context, partitions []int, cold bool, progress ledger.Progress) (ledger.Replayed, error)
}

// Bus is what a Watcher needs of *events.Bus.
type Bus interface {
	LedgerLastSeq(ctx context.Context) (uint64, error)
}

// Config holds the settings of a Watcher. A zero duration takes its default.
type Config struct {
	// Poll has the servers looked at; without it only conflicts are.
	Poll bool
	// Rebuild restores a partition that has lost everything; without it that waits for
	// `callmask rebuild`.
	Rebuild bool
	// Every is how often the servers are looked at; default 1s.
	Every time.Duration
	// Idle is after how long a change that began before is known to have been cut short:
	// longer than an allocator works on one order, and than an event waits to be delivered
	// again. Default 45s.
	Idle time.Duration
}

// Watcher repairs Redis from the ledger.
type Watcher struct {
	cfg       Config
	store     Store
	restorer  Restorer
	bus       Bus
	log       zerolog.Logger
	metrics   *metrics
	conflicts chan vn.Number

	state atomic.Pointer[string] // what Check says; nil: all is whole

	again map[vn.Number]retry // that were being changed when they were looked at
	quiet time.Time           // no replay before that: the last one has just failed
	fails int
}

// retry is when a number is looked at again, and how often it was.
type retry struct {
	at    time.Time
	tries int
}

const (
	mostConflicts = 4096
	mostRetries   = 100_000
	mostPause     = 30 * time.Second // between two replays that fail
)

// soon is when a number that is being changed is looked at again. An order that lost a
// race has others within milliseconds; after the last only Config.Idle helps.
var soon = [...]time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second}

// New returns a Watcher. reg takes its metrics.
func New(cfg Config, store Store, restorer Restorer, bus Bus, reg prometheus.Registerer, log zerolog.Logger) (*Watcher, error) {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Idle == 0 {
		cfg.Idle = 45 * time.Second
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	return &Watcher{
		cfg: cfg, store: store, restorer: restorer, bus: bus, log: log, metrics: m,
		conflicts: make(chan vn.Number, mostConflicts), again: make(map[vn.Number]retry),
	}, nil
}

// Conflict tells that the ledger has given a number to somebody else than Redis. It never
// blocks.
func (w *Watcher) Conflict(n vn.Number) {
	w.metrics.conflicts.Inc()
	select {
	case w.conflicts <- n:
	default:
		w.metrics.dropped.Inc()
	}
}

// Check returns an error while partitions wait to be restored, or are being.
func (w *Watcher) Check(context.Context) error {
	if s := w.state.Load(); s != nil {
		return errors.New(*s)
	}
	return nil
}

// Run repairs until ctx ends, and returns nil then.
func (w *Watcher) Run(ctx context.Context) error {
	look := time.NewTimer(0)
	defer look.Stop()
	retries := time.NewTicker(soon[0])
	defer retries.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-w.conflicts:
			w.restore(ctx, n, retry{})
		case now := <-retries.C:
			for n, r := range w.again {
				if ctx.Err() == nil && now.After(r.at) {
					delete(w.again, n)
					w.restore(ctx, n, r)
				}
			}
		case <-look.C:
			if w.cfg.Poll && time.Now().After(w.quiet) {
				w.look(ctx)
			}
			look.Reset(w.cfg.Every)
		}
	}
}

// restore restores one number, and has it looked at again when it is being changed.
func (w *Watcher) restore(ctx context.Context, n vn.Number, r retry) {
	idle := r.tries > len(soon)
	status, err := w.restorer.Restore(ctx, n, idle)
	switch {
	case ctx.Err() != nil, errors.Is(err, vn.ErrNumberUnknown):
	case err != nil:
		w.metrics.numbers.WithLabelValues(outcomeFailed).Inc()
		w.log.Error().Err(err).Stringer("number", n).Msg("a number could not be restored from the ledger")
		if errors.Is(err, vn.ErrUnavailable) {
			w.later(n, retry{at: time.Now().Add(soon[len(soon)-1]), tries: r.tries})
		}
	case status == scripts.RestoreDone:
		w.metrics.numbers.WithLabelValues(outcomeRestored).Inc()
		w.log.Info().Stringer("number", n).Msg("a number was restored from the ledger")
	case status == scripts.RestoreBusy:
		pause := w.cfg.Idle
		if r.tries < len(soon) {
			pause = soon[r.tries]
		}
		w.later(n, retry{at: time.Now().Add(pause), tries: r.tries + 1})
	}
}

func (w *Watcher) later(n vn.Number, r retry) {
	if len(w.again) >= mostRetries {
		w.metrics.dropped.Inc()
		return
	}
	w.again[n] = r
}

// look finds the partitions that another server has than the one they were whole on, and
// those that have lost everything, and repairs them.
func (w *Watcher) look(ctx context.Context) {
	servers, err := w.store.Servers(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Debug().Err(err).Msg("it is not known which servers have the partitions")
		}
		// What is known of the others is acted on: one that is away must not keep them waiting.
	}
	var changed, cold []scripts.PartitionServer
	for _, s := range servers {
		switch {
		case !s.Ready:
			cold = append(cold, s)
		case s.Server != s.WholeOn:
			changed = append(changed, s)
		}
	}
	if len(cold) > 0 {
		// Where nothing was ever recorded there is nothing to restore; the allocator marks it.
		if seq, err := w.bus.LedgerLastSeq(ctx); err != nil || seq == 0 {
			cold = nil
		}
	}
	w.metrics.cold.Set(float64(len(cold)))
	switch {
	case len(cold) > 0 && !w.cfg.Rebuild:
		w.say("%d partitions have lost their data; run callmask rebuild", len(cold))
	case len(cold)+len(changed) > 0:
		w.say("%d partitions are being restored from the ledger", len(cold)+len(changed))
	default:
		w.state.Store(nil)
	}
	if len(changed) > 0 {
		w.replay(ctx, triggerChanged, changed)
	}
	if len(cold) > 0 && w.cfg.Rebuild {
		w.replay(ctx, triggerCold, cold)
	}
}

func (w *Watcher) say(format string, n int) {
	s := fmt.Sprintf(format, n)
	w.state.Store(&s)
}

func (w *Watcher) replay(ctx context.Context, trigger string, servers []scripts.PartitionServer) {
	partitions := make([]int, len(servers))
	for i, s := range servers {
		partitions[i] = s.Partition
	}
	w.log.Warn().Str("trigger", trigger).Ints("partitions", partitions).Msg("restoring from the ledger")
	w.metrics.running.Set(1)
	defer w.metrics.running.Set(0)
	began := time.Now()
	done, err := w.restorer.Replay(ctx, partitions, trigger == triggerCold, nil)
	if err == nil {
		err = w.store.MarkWhole(ctx, servers)
	}
	took := time.Since(began)
	w.metrics.took.Set(took.Seconds())
	w.metrics.numbers.WithLabelValues(outcomeRestored).Add(float64(done.Restored))
	w.metrics.numbers.WithLabelValues(outcomeBusy).Add(float64(len(done.Busy)))
	w.metrics.numbers.WithLabelValues(outcomeFailed).Add(float64(done.Failed))
	for _, n := range done.Busy {
		w.later(n, retry{at: time.Now().Add(w.cfg.Idle), tries: len(soon) + 1})
	}
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		w.fails++
		pause := min(mostPause, time.Second<<min(w.fails, 5))
		w.quiet = time.Now().Add(pause)
		w.metrics.runs.WithLabelValues(trigger, outcomeFailed).Inc()
		w.log.Error().Err(err).Str("trigger", trigger).Dur("again_in", pause).Msg("restoring from the ledger failed")
		return
	}
	w.fails = 0
	w.metrics.runs.WithLabelValues(trigger, outcomeDone).Inc()
	w.log.Info().Str("trigger", trigger).Int("records", done.Records).Int("restored", done.Restored).Int("busy", len(done.Busy)).
		Int("ended_orders", done.Ended).Dur("took", took).Msg("restored from the ledger")
}
