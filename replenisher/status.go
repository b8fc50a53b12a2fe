package replenisher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier"
)

// Status is what a Replenisher knows of its pools and carriers.
type Status struct {
	Pools    map[string]PoolStatus // those that were looked at
	Carriers []CarrierStatus       // by name
}

// PoolStatus is a pool as of the last look. What only the process that acts for the pool
// knows (Open, Committed, Capped, Wished) is zero in any other.
type PoolStatus struct {
	At       time.Time
	Acting   bool // this process buys for the pool
	LowWater int  // as the forecast has it
	Target   int
	Max      int
	// PerMinute is how many free VNs the pool is expected to lose a minute; RunsOut in how
	// long the last one is used up then, 0 when it is not.
	PerMinute float64
	RunsOut   time.Duration
	Open      int // purchases whose outcome is not known yet
	Wished    int // VNs asked for by hand and not bought yet
	Cap       carrier.Money
	Committed carrier.Money // this month, in the currency of the cap, or in the first of those paid
	Capped    bool
}

// CarrierStatus is how a carrier that sells numbers does.
type CarrierStatus struct {
	Name     string
	Failures int           // in a row
	Until    time.Time     // left alone until then; zero when it is not
	LeadTime time.Duration // from the intent to the pool, mean; 0 when nothing was bought yet
	Compared time.Time     // when its list was last read and compared with the inventory
	Differed int           // how many numbers differed then
	Braked   bool          // too many were missing then, so nothing was changed
}

// comparison is what is remembered of the last one with a carrier's list.
type comparison struct {
	at       time.Time
	braked   bool
	differed int
}

// Status returns what is known now. It asks nobody and never waits.
func (r *Replenisher) Status() Status {
	s := Status{Pools: make(map[string]PoolStatus, len(r.workers))}
	for name, w := range r.workers {
		if p := w.shown.Load(); p != nil {
			s.Pools[name] = *p
		}
	}
	for _, one := range r.sellers {
		s.Carriers = append(s.Carriers, r.keeper.status(one, r.now()))
	}
	slices.SortFunc(s.Carriers, func(x, y CarrierStatus) int { return cmp.Compare(x.Name, y.Name) })
	return s
}

// Check returns an error that names the carriers of which nothing is asked for a while,
// because they have failed too often.
func (r *Replenisher) Check(context.Context) error {
	var resting []string
	for _, c := range r.Status().Carriers {
		if !c.Until.IsZero() {
			resting = append(resting, fmt.Sprintf("%s until %s after %d failures", c.Name, c.Until.UTC().Format(time.RFC3339), c.Failures))
		}
	}
	if len(resting) > 0 {
		return fmt.Errorf("nothing is bought of %s", strings.Join(resting, ", "))
	}
	return nil
}

func (k *keeper) status(s *seller, now time.Time) CarrierStatus {
	c := CarrierStatus{Name: s.name}
	s.mu.Lock()
	c.Failures = s.failures
	if now.Before(s.until) {
		c.Until = s.until
	}
	if s.lead.Known() {
		c.LeadTime = s.lead.Mean()
	}
	s.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	last := k.seen[s.name]
	c.Compared, c.Differed, c.Braked = last.at, last.differed, last.braked
	return c
}

// showStatus publishes a pool's status to Status.
func (r *Replenisher) showStatus(w *worker, now level) {
	p := &PoolStatus{
		At: r.now(), Acting: w.lease.held(), LowWater: w.plan.LowWater, Target: w.plan.Target, Max: w.pool.Max,
		PerMinute: w.demand.PerMinute(), Open: w.open, Cap: w.pool.MonthlyCap, Capped: w.capped,
	}
	if left, runs := w.demand.RunsOut(now.free); runs {
		p.RunsOut = left
	}
	if w.wish.upTo > 0 {
		p.Wished = max(0, w.wish.upTo-now.total)
	}
	p.Committed = w.budget.shown()
	w.shown.Store(p)
}

// shown is what the month costs in one currency: that of the cap, else the first by name.
func (b *budget) shown() carrier.Money {
	if !b.limit.IsZero() {
		return b.spent()
	}
	var first carrier.Money
	for currency, sum := range b.committed {
		if first.IsZero() || currency < first.Currency() {
			first = sum
		}
	}
	return first
}
