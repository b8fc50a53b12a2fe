package replenisher

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/callmask/callmask/events"
)

const (
	// wishFor is how long a wish is pursued: whoever asks for numbers by hand looks
	// whether they come, and does not want to be surprised by them tomorrow.
	wishFor = 10 * time.Minute
	// MostTopUp is the most numbers that may be asked for at once.
	MostTopUp = 1000
)

// wish is what somebody asked for by hand: that the pool have upTo VNs, before until.
type wish struct {
	upTo  int
	until time.Time
}

// handleTopUp takes a wish, once, if it is news. Every process hears it; the one that acts
// for the pool takes it up.
func (r *Replenisher) handleTopUp(pool string, m *events.Message) events.Result {
	var t events.TopUp
	if err := json.Unmarshal(m.Data, &t); err != nil || t.Numbers < 1 || t.Numbers > MostTopUp {
		return events.Dead("the payload is not a top-up of 1 to 1000 numbers")
	}
	if w, ok := r.workers[pool]; ok && m.Delivered <= 1 && r.now().Sub(m.Published) < hintAge {
		w.wished.Add(int64(t.Numbers))
		r.trigger(pool)
	}
	return events.Done()
}

// takeWish turns what was asked for since the last look into a number of VNs to reach, and
// drops a wish whose time is over. The pool's max and monthly cap
// hold for it as for everything that is bought.
func (r *Replenisher) takeWish(w *worker, now level) {
	if n := int(w.wished.Swap(0)); n > 0 {
		w.wish.upTo = max(w.wish.upTo, now.total+w.open) + n
		w.wish.until = r.now().Add(wishFor)
		r.log.Info().Str("pool", w.pool.Name).Int("numbers", n).Msg("somebody asked for more numbers by hand")
	}
	if w.wish.upTo > now.total && !r.now().Before(w.wish.until) {
		r.log.Warn().Str("pool", w.pool.Name).Int("missing", w.wish.upTo-now.total).
			Msg("numbers asked for by hand could not be bought in time; the wish is dropped")
		w.wish = wish{}
	}
}

// dropWish forgets what was asked for: another process takes it up.
func (w *worker) dropWish() {
	w.wished.Store(0)
	w.wish = wish{}
}

// paused tells whether somebody has paused a carrier. Until it is known, nothing is bought.
func (r *Replenisher) paused(ctx context.Context, s *seller) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	p, _, err := r.bus.CarrierPause(ctx, s.name)
	if err != nil {
		return false, fmt.Errorf("read whether the carrier is paused: %w", err)
	}
	if p.Paused {
		r.log.Info().Str("carrier", s.name).Msg("the carrier is paused by hand; nothing is bought of it")
	}
	return p.Paused, nil
}
