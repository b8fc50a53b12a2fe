package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/vn"
)

// GuardConfig is what a Guard is told.
type GuardConfig struct {
	Config

	Every time.Duration // from the beginning of one round to that of the next
	// Acting tells whether this process is the one that audits: of all that share an
	// installation one at a time.
	Acting func() bool
}

// Guard audits round after round, tells what it found as metrics and in the log, and changes
// nothing. When it begins to act it reads Config.History anew, so what was found of the past
// is told once more then.
type Guard struct {
	cfg     GuardConfig
	store   Store
	bus     Bus
	log     zerolog.Logger
	metrics *metrics
	auditor *Auditor // nil while another process acts: it holds much of the ledger
}

// NewGuard checks the settings and binds the metrics.
func NewGuard(cfg GuardConfig, store Store, bus Bus, reg prometheus.Registerer, log zerolog.Logger) (*Guard, error) {
	if cfg.Every <= 0 || cfg.Acting == nil {
		return nil, errors.New("audit: Every and Acting are missing")
	}
	m, err := newMetrics(reg)
	return &Guard{cfg: cfg, store: store, bus: bus, log: log, metrics: m}, err
}

// lookout is how often a process that does not audit looks whether it is to.
const lookout = 5 * time.Second

// Run audits until ctx ends, and returns nil then.
func (g *Guard) Run(ctx context.Context) error {
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait := min(lookout, g.cfg.Every)
		switch due := time.Until(last.Add(g.cfg.Every)); {
		case !g.cfg.Acting():
			g.rest()
		case due > 0:
			wait = min(wait, due)
		default:
			last = time.Now()
			g.round(ctx)
		}
		timer.Reset(wait)
	}
}

// rest forgets what only the process that audits needs to know.
func (g *Guard) rest() {
	if g.auditor != nil {
		g.auditor = nil
		g.metrics.rest()
	}
}

func (g *Guard) round(ctx context.Context) {
	if g.auditor == nil {
		g.auditor = New(g.cfg.Config, g.store, g.bus)
	}
	r, err := g.auditor.Round(ctx, nil)
	g.metrics.past(r.History)
	g.tell(&r)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		g.metrics.failures.Inc()
		g.log.Warn().Err(err).Msg("Redis and the ledger could not be audited; trying again at the next round")
	default:
		g.metrics.show(&r)
	}
}

// finding is all of a kind that a round found, with one of them as an example.
type finding struct {
	invariant    Invariant
	kind, detail string
	count        int
	vn           vn.Number
	order        string
}

// tell writes one line for each kind of what was found.
func (g *Guard) tell(r *Report) {
	for _, f := range r.findings() {
		g.log.Error().Str("invariant", string(f.invariant)).Str("kind", f.kind).Int("found", f.count).
			Stringer("vn", f.vn).Str("order", f.order).Str("detail", f.detail).Msg("a promise is broken; one of those that the audit found")
	}
}

func (r *Report) findings() []*finding {
	all := map[string]*finding{}
	add := func(f finding) {
		key := string(f.invariant) + " " + f.kind
		if known := all[key]; known != nil {
			known.count++
			return
		}
		f.count = 1
		all[key] = &f
	}
	for _, p := range r.Redis.Problems {
		add(finding{invariant: ofProblem(p.Kind), kind: string(p.Kind), detail: p.Detail, vn: p.VN, order: p.OrderID})
	}
	for i := range r.Differences {
		d := &r.Differences[i]
		add(finding{
			invariant: d.Kind.Invariant(), kind: string(d.Kind), vn: d.VN,
			detail: fmt.Sprintf("Redis says %q, the ledger %q", d.Redis, d.Ledger),
		})
	}
	for _, v := range r.History {
		add(finding{invariant: v.Invariant, kind: "past", detail: v.Detail, vn: v.VN, order: v.OrderID})
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *finding) int {
		return cmp.Or(cmp.Compare(a.invariant, b.invariant), cmp.Compare(a.kind, b.kind))
	})
}
