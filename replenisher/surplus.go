package replenisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// shedBatch is how many numbers one look gives back at most: a look that takes long
// keeps the pool from buying.
const shedBatch = 20

// shedLooks is how many free numbers are looked at for those: imported ones may be
// among them.
const shedLooks = 200

// surplus remembers since when a pool has had more free VNs than it keeps, and the
// fewest that it had since. What was free at the busiest moment nobody needed.
type surplus struct {
	since time.Time // zero: it has no more than it keeps
	least int
}

// spare tells how many VNs nobody has needed for the time after.
func (s *surplus) spare(now time.Time, free, keep int, after time.Duration) int {
	if after < 0 || free <= keep {
		s.since = time.Time{}
		return 0
	}
	if s.since.IsZero() {
		s.since, s.least = now, free
	}
	s.least = min(s.least, free)
	if now.Sub(s.since) < after {
		return 0
	}
	if s.least > keep {
		return s.least - keep
	}
	s.since, s.least = now, free // nothing is left of it; it is counted anew
	return 0
}

// keeps is how many free VNs the pool never falls below by giving numbers back: a
// tenth more than the target of now, so that the next order does not make it buy again.
func (w *worker) keeps() int { return w.plan.Target + max(1, w.plan.Target/10) }

// shed gives back what the pool has had too much of for Pool.SurplusAfter, but never a
// leased or cooling VN, nor an imported one. It returns an error when Redis or the
// ledger did not answer; what a carrier refuses is left for the next look.
func (r *Replenisher) shed(ctx context.Context, w *worker, now level) error {
	spare := min(shedBatch, w.surplus.spare(r.now(), now.free, w.keeps(), w.pool.SurplusAfter))
	if spare == 0 {
		return nil
	}
	gone, futile := 0, true
	for _, s := range r.leastPreferred(w) {
		if !s.open(r.now()) {
			futile = false
			continue
		}
		n, err := r.shedAt(ctx, w, s, spare-gone)
		gone += n
		futile = futile && n == 0 && err == nil
		if err != nil {
			if ours := r.failed(s, err); ours != nil {
				return ours
			}
		}
		if gone == spare || ctx.Err() != nil {
			return nil
		}
	}
	if futile {
		w.surplus.since = time.Time{} // none of what is free was bought; it need not be asked again at every look
	}
	return nil
}

// leastPreferred returns the carriers that numbers are given back to, in this order:
// those that the pool does not buy from any more, then its own from the last to the first.
func (r *Replenisher) leastPreferred(w *worker) []*seller {
	var all []*seller
	for name, s := range r.sellers {
		if !slices.Contains(w.pool.Carriers, name) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *seller) int { return strings.Compare(a.name, b.name) })
	for _, name := range slices.Backward(w.pool.Carriers) {
		if s, ok := r.sellers[name]; ok {
			all = append(all, s)
		}
	}
	return all
}

// shedAt gives up to n free numbers of one carrier back and returns how many.
func (r *Replenisher) shedAt(ctx context.Context, w *worker, s *seller, n int) (gone int, err error) {
	free, err := r.someFree(ctx, w, s)
	if err != nil {
		return 0, err
	}
	longer, cancel := lingering(ctx, r.cfg.Grace)
	defer cancel()
	for _, number := range free {
		if gone == n || ctx.Err() != nil {
			break
		}
		// The stock is read anew for each: orders go on meanwhile.
		now, err := r.level(longer, w)
		if err != nil {
			return gone, err
		}
		if now.free <= w.keeps() {
			break
		}
		if err := w.lease.sure(longer); err != nil {
			return gone, err
		}
		how, err := r.shedOne(longer, s, w.pool.Name, number)
		if err != nil {
			return gone, err
		}
		if how == Released {
			gone++
			w.surplus.least--
		}
	}
	return gone, nil
}

func (r *Replenisher) someFree(ctx context.Context, w *worker, s *seller) ([]vn.Number, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	free, err := r.store.SomeFree(ctx, w.pool.Name, s.name, shedLooks)
	if err != nil {
		return nil, fmt.Errorf("read the free numbers: %w", err)
	}
	return free, nil
}

func (r *Replenisher) shedOne(ctx context.Context, s *seller, pool string, number vn.Number) (Giving, error) {
	inv, known, err := r.inventory(ctx, number)
	if err != nil {
		return "", &fault{step: "inventory", ours: true, err: err}
	}
	in, seq, err := r.lastIntent(ctx, pool, number)
	if err != nil {
		return "", &fault{step: "intent", ours: true, err: err}
	}
	if !known || inv.Pool != pool || inv.Carrier != s.name || !bought(inv, &in) || seq > 0 && in.ClosedAt.IsZero() {
		return Kept, nil
	}
	in, seq, err = r.markReleasing(ctx, inv, in, seq, events.ReleasedSurplus)
	if errors.Is(err, events.ErrOvertaken) {
		return Kept, nil
	}
	if err != nil {
		return "", err
	}
	return r.giveBack(ctx, s, in, seq)
}
