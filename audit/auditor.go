package audit

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Store is what an audit needs of *scripts.Store.
type Store interface {
	Survey(ctx context.Context, options scripts.SurveyOptions) (scripts.Audit, error)
	Holding(ctx context.Context, number vn.Number, orders ...string) (scripts.Holding, error)
}

// Bus is what an audit needs of *events.Bus.
type Bus interface {
	LastRecord(ctx context.Context, number vn.Number) (events.Record, uint64, error)
	RecordCount(ctx context.Context) (uint64, error)
	RecordsFrom(ctx context.Context, from events.Mark, each func(r *events.Record, seq uint64, stored time.Time) error) (events.Mark, error)
	IntentsFrom(ctx context.Context, from events.Mark, each func(in *events.PurchaseIntent) error) (events.Mark, error)
	AnnouncementsFrom(ctx context.Context, from events.Mark, each func(a *events.Announcement) error) (events.Mark, error)
	DecisionsFrom(ctx context.Context, from events.Mark, each func(c *events.CallDecided) error) (events.Mark, error)
}

// Config is what an Auditor is told. What is 0 takes its default.
type Config struct {
	Rate     int           // keys of Redis read a second, or four times as many records and events (default 50000)
	Patience time.Duration // how long a difference must persist (default 3s)
	History  time.Duration // how far back announcements and calls are read at first (default 25h)
	Most     uint64        // and how many of each at most (default two million)
	// StateOnly leaves announcements, calls and intents unread: what is, not what was.
	StateOnly bool
	Suspects  int // VNs that are looked at again in a round (default 20000)
	Terms     Terms
}

func (c *Config) complete() {
	if c.Suspects == 0 {
		c.Suspects = 20_000
	}
	if c.Rate == 0 {
		c.Rate = 50_000
	}
	if c.Patience == 0 {
		c.Patience = 3 * time.Second
	}
	if c.History == 0 {
		c.History = 25 * time.Hour
	}
	if c.Most == 0 {
		c.Most = 2_000_000
	}
}

// Auditor holds Redis and the ledger against each other, and the history against the
// promises, round by round. It is not safe for concurrent use.
type Auditor struct {
	cfg     Config
	store   Store
	bus     Bus
	limiter *rate.Limiter

	history *History
	records events.Mark
	intents events.Mark
	told    events.Mark
	calls   events.Mark
}

// New returns an Auditor that has seen nothing.
func New(cfg Config, store Store, bus Bus) *Auditor {
	cfg.complete()
	since := time.Now().Add(-cfg.History)
	first := events.Mark{Since: since, Most: cfg.Most}
	cfg.Terms.Since = since
	return &Auditor{
		cfg: cfg, store: store, bus: bus, limiter: rate.NewLimiter(rate.Limit(cfg.Rate), max(cfg.Rate/10, burst)),
		history: NewHistory(cfg.Terms), told: first, calls: first,
	}
}

// cheap is how many records or events cost what one key of Redis does: streams are read in
// one piece, and no call waits for them.
const cheap = 4

// burst is the most that is read without asking again.
const burst = 1000

// pace waits until n more may be read.
func (a *Auditor) pace(ctx context.Context, n int) error {
	for ; n > 0; n -= burst {
		if err := a.limiter.WaitN(ctx, min(n, burst)); err != nil {
			return fmt.Errorf("keep to the rate: %w", err)
		}
	}
	return nil
}

// Report is what a round found.
type Report struct {
	At          time.Time
	Took        time.Duration
	Redis       scripts.Audit // Redis by itself
	Records     int           // VNs that the ledger knows
	Read        int           // records, announcements and calls read in this round
	Differences []Difference
	History     []Violation // found in what was read in this round
	InFlight    int         // suspects that were changes in flight
	Unlooked    int         // suspects beyond Config.Suspects: likely more of the same
}

// Violations counts what is wrong now, by the promise that it breaks; each has an entry.
func (r *Report) Violations() map[Invariant]int {
	counts := make(map[Invariant]int)
	for _, i := range Invariants() {
		counts[i] = 0
	}
	for _, p := range r.Redis.Problems {
		counts[ofProblem(p.Kind)]++
	}
	for i := range r.Differences {
		counts[r.Differences[i].Kind.Invariant()]++
	}
	return counts
}

// Progress is told how far a round is: what is being read, and how much of how much; of is 0
// while that is not known.
type Progress func(what string, done, of int)

// Round looks at everything once. The first one reads the whole ledger, later ones what came
// since. After an error the next one goes on where this one stopped.
func (a *Auditor) Round(ctx context.Context, progress Progress) (Report, error) {
	if progress == nil {
		progress = func(string, int, int) {}
	}
	r := Report{At: time.Now()}
	b := a.history.book
	for n, e := range b.entries {
		if e.moved || e.seen {
			e.moved, e.seen = false, false
			b.entries[n] = e
		}
	}
	if err := a.readLedger(ctx, &r, progress, false); err != nil {
		return r, err
	}
	suspects, err := a.survey(ctx, &r, progress)
	if err != nil {
		return r, err
	}
	if suspects, err = a.leaveMoved(ctx, &r, suspects, progress); err != nil {
		return r, err
	}
	if r.Unlooked = max(0, len(suspects)-a.cfg.Suspects); r.Unlooked > 0 {
		suspects = suspects[:a.cfg.Suspects]
	}
	var cleared int
	r.Differences, cleared, err = a.confirm(ctx, suspects)
	if err != nil {
		return r, err
	}
	r.InFlight += cleared + r.Redis.Cleared
	if !a.cfg.StateOnly {
		if err := a.readHistory(ctx, &r, progress); err != nil {
			return r, err
		}
		r.History = a.history.Settle(time.Now())
	}
	r.Records, r.Took = len(b.entries), time.Since(r.At)
	return r, nil
}

// catchUps is how often the ledger is read on until nothing much came while it was read.
const catchUps = 5

// readLedger reads the records that came since the last time. moving marks their VNs as
// changed while Redis was read.
func (a *Auditor) readLedger(ctx context.Context, r *Report, progress Progress, moving bool) error {
	of := 0
	if a.records.Next == 0 { // later there are few
		count, err := a.bus.RecordCount(ctx)
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		of = int(count)
	}
	for range catchUps {
		read := 0
		var err error
		a.records, err = a.bus.RecordsFrom(ctx, a.records, func(rec *events.Record, seq uint64, stored time.Time) error {
			read++
			if read%burst == 0 {
				progress("ledger", r.Read+read, max(of, r.Read+read))
				if err := a.pace(ctx, burst/cheap); err != nil {
					return err
				}
			}
			e, ok := OfRecord(rec, seq, stored)
			if !ok {
				return nil
			}
			a.history.See(&e)
			if moving {
				last := a.history.book.entries[e.VN]
				last.moved = true
				a.history.book.entries[e.VN] = last
			}
			return nil
		})
		r.Read += read
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		if read < burst {
			return nil
		}
	}
	return nil
}

// survey looks at Redis and returns the VNs of which the ledger does not say the same.
func (a *Auditor) survey(ctx context.Context, r *Report, progress Progress) (suspects []suspect, err error) {
	b := a.history.book
	now := time.Now()
	r.Redis, err = a.store.Survey(ctx, scripts.SurveyOptions{
		Pace:     a.pace,
		Progress: func(done, of int) { progress("redis", done, of) },
		Each: func(h *scripts.Holding) {
			e, known := b.entries[h.VN]
			if known {
				e.seen = true
				b.entries[h.VN] = e
			}
			if h.Unsettled {
				r.InFlight++
			}
			if kind := b.differs(&e, h, now); kind != "" {
				suspects = append(suspects, suspect{vn: h.VN, holder: h.OrderID, kind: kind})
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("look at Redis: %w", err)
	}
	for n, e := range b.entries {
		if e.inPool() && !e.seen {
			suspects = append(suspects, suspect{vn: n, kind: Missing})
		}
	}
	return suspects, nil
}

// leaveMoved drops the suspects whose record changed while Redis was read: when they are not
// in flight, the next round finds them.
func (a *Auditor) leaveMoved(ctx context.Context, r *Report, suspects []suspect, progress Progress) ([]suspect, error) {
	if err := a.readLedger(ctx, r, progress, true); err != nil {
		return nil, err
	}
	left := suspects[:0]
	for _, s := range suspects {
		if a.history.book.entries[s.vn].moved {
			r.InFlight++
			continue
		}
		left = append(left, s)
	}
	return left, nil
}

// readHistory reads the intents, announcements and calls that came since the last time.
func (a *Auditor) readHistory(ctx context.Context, r *Report, progress Progress) error {
	read := 0
	see := func(what string, e Event, ok bool) error {
		if ok {
			a.history.See(&e)
		}
		read++
		if read%burst != 0 {
			return nil
		}
		progress(what, read, 0)
		return a.pace(ctx, burst/cheap)
	}
	defer func() { r.Read += read }()
	var err error
	if a.intents, err = a.bus.IntentsFrom(ctx, a.intents, func(in *events.PurchaseIntent) error {
		e, ok := OfIntent(in)
		return see("intents", e, ok)
	}); err != nil {
		return fmt.Errorf("read the purchase intents: %w", err)
	}
	first := a.told.Next == 0
	if a.told, err = a.bus.AnnouncementsFrom(ctx, a.told, func(t *events.Announcement) error {
		if first { // the streams may begin later, or what is read may be bounded
			a.history.terms.Since, first = t.Stored, false
		}
		e, ok := OfAnnouncement(t)
		return see("announcements", e, ok)
	}); err != nil {
		return fmt.Errorf("read what apps were told: %w", err)
	}
	if a.calls, err = a.bus.DecisionsFrom(ctx, a.calls, func(c *events.CallDecided) error {
		e, ok := OfCall(c)
		return see("calls", e, ok)
	}); err != nil {
		return fmt.Errorf("read the calls: %w", err)
	}
	return nil
}
