package replenisher

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// start starts a process: a Replenisher whose every call goes through p.
func (p *process) start(tb require.TestingT, parallel int) *Replenisher {
	return p.startLogged(tb, parallel, prometheus.NewRegistry(), zerolog.Nop())
}

func (p *process) startLogged(tb require.TestingT, parallel int, reg prometheus.Registerer, log zerolog.Logger) *Replenisher {
	cfg := Config{Carriers: map[string]CarrierConfig{}, Parallel: parallel}
	for _, pool := range p.w.pools {
		cfg.Pools = append(cfg.Pools, pool)
	}
	for name := range p.w.shops {
		cfg.Carriers[name] = CarrierConfig{Numbers: numbers{process: p, name: name}, WebhookURL: webhook}
	}
	r, err := New(cfg, p, p, p, reg, log)
	require.NoError(tb, err)
	p.r = r
	r.now = func() time.Time {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		return p.w.now
	}
	return r
}

// lookAtAll looks once at every pool, in an order that does not change.
func (r *Replenisher) lookAtAll(ctx context.Context, pools []string) {
	for _, name := range append([]string{unknownPool}, pools...) {
		_ = r.look(ctx, r.workers[name]) // what it could not do is for the next look
	}
}

// turns runs processes one call at a time: whose call is next, and its fate, is
// drawn. So every interleaving and every fault comes from the seed.
type turns struct {
	asks  chan *turn        // a process wants to make a call
	quit  chan struct{}     // closed: every call fails from now on
	world func(rt *rapid.T) // what happens between two calls
}

type turn struct {
	who  int
	step string
	fate chan fate
}

func (s *turns) next(who int) func(step string) fate {
	return func(step string) fate {
		t := &turn{who: who, step: step, fate: make(chan fate, 1)}
		select {
		case s.asks <- t:
		case <-s.quit:
			return lost
		}
		select {
		case f := <-t.fate:
			return f
		case <-s.quit:
			return lost
		}
	}
}

// run lets each function make its calls until all have returned.
func (s *turns) run(rt *rapid.T, fns ...func()) {
	finished := make(chan struct{})
	left := len(fns)
	defer func() { // also when a draw gave up half way
		close(s.quit)
		for range left {
			<-finished
		}
	}()
	for _, fn := range fns {
		go func() {
			defer func() { finished <- struct{}{} }()
			fn()
		}()
	}
	var waiting []*turn
	for left > 0 {
		for len(waiting) < left { // everybody waits for a turn, or ends
			select {
			case t := <-s.asks:
				waiting = append(waiting, t)
			case <-finished:
				left--
			}
		}
		if left == 0 {
			return
		}
		s.world(rt)
		i := rapid.IntRange(0, len(waiting)-1).Draw(rt, "turn")
		t := waiting[i]
		waiting = append(waiting[:i], waiting[i+1:]...)
		f := fine
		if rapid.IntRange(0, 7).Draw(rt, "faulty") == 7 {
			f = fate(rapid.IntRange(int(lost), fates-1).Draw(rt, t.step))
		}
		t.fate <- f
	}
}

// between lets, between two calls, time pass that ends leases, 20 s at most in one round
// (a purchase in hand may be taken for lost after two minutes), or another process
// take a lease that has not ended.
func (w *world) between(pools []string) func(rt *rapid.T) {
	left := 20
	return func(rt *rapid.T) {
		switch rapid.IntRange(0, 40).Draw(rt, "meanwhile") {
		case 38:
			d := rapid.IntRange(0, left).Draw(rt, "pause")
			left -= d
			w.advance(time.Duration(d) * time.Second)
		case 39, 40:
			w.mu.Lock()
			defer w.mu.Unlock()
			pool := rapid.SampledFrom(pools).Draw(rt, "deposed")
			w.lease(pool, events.Lease{Owner: "thief"}) // anybody may take it from him
		}
	}
}

// TestMoneyIsCareful holds promise 8 under random faults at every step, crashes
// between any two, leases that end or are taken at any moment, and two processes that
// want to buy for the same pools: numbers paid for are numbers in the inventory, none is
// bought beyond a need, a maximum or a cap, none without an intent, and in the end every
// pool is at its target.
func TestMoneyIsCareful(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		target := rapid.IntRange(1, 8).Draw(rt, "target")
		pool := Pool{
			Name: "london", Region: "GB", Carriers: []string{"first", "second"},
			LowWater: rapid.IntRange(1, target).Draw(rt, "low"), Target: target, Max: target + rapid.IntRange(0, 6).Draw(rt, "over"),
			Fixed: rapid.Bool().Draw(rt, "fixed"),
		}
		most := pool.Max
		if rapid.Bool().Draw(rt, "capped") {
			most = rapid.IntRange(0, pool.Max).Draw(rt, "cap")
			pool.MonthlyCap = usd(rt, most)
		}
		small := Pool{Name: "leeds", Region: "GB", Carriers: []string{"second"}, LowWater: 1, Target: 2, Max: 3}
		bare := Pool{Name: "york", Region: "GB", LowWater: 1, Target: 2}
		names := []string{"london", "leeds", "york"}
		w := newWorld(pool, small, bare)
		w.stockUp("first", rapid.IntRange(0, 12).Draw(rt, "first's stock"))
		w.stockUp("second", 200)

		processes := make([]*process, rapid.IntRange(1, 2).Draw(rt, "processes"))
		running := make([]*Replenisher, len(processes))
		for range rapid.IntRange(1, 12).Draw(rt, "rounds") {
			w.advance(time.Duration(rapid.IntRange(0, 150).Draw(rt, "seconds")) * time.Second)
			w.cold = rapid.IntRange(0, 9).Draw(rt, "cold") == 9
			w.traffic(rt)
			s := &turns{asks: make(chan *turn), quit: make(chan struct{}), world: w.between(names)}
			var fns []func()
			for i := range processes {
				if processes[i] == nil || processes[i].dead {
					processes[i] = &process{w: w}
					running[i] = processes[i].start(rt, 1)
				}
				processes[i].next = s.next(i)
				looks := rapid.IntRange(1, 3).Draw(rt, "looks")
				fns = append(fns, func() {
					for range looks {
						running[i].lookAtAll(rt.Context(), names)
					}
				})
			}
			s.run(rt, fns...)
			if len(w.broken) > 0 {
				rt.Fatalf("broken: %q", w.broken)
			}
		}

		// The faults end. What is open is settled, within minutes and by any process.
		w.cold = false
		last := (&process{w: w}).start(rt, 1)
		for range 6 {
			w.advance(time.Minute)
			last.lookAtAll(rt.Context(), names)
		}
		w.settled(rt)
		// And the next need fills the pools to their target, or as far as they may go.
		for n := range w.inventory {
			w.leased[n] = true
		}
		w.advance(capRest) // in which a pool at its cap asks for nothing
		last.lookAtAll(rt.Context(), names)
		w.settled(rt)
		for name, room := range map[string]int{"london": most, "leeds": small.Max, "york": 0} {
			free, total, _ := w.level(name)
			require.Equal(rt, min(last.workers[name].plan.Target, room-(total-free)), free, "free VNs of pool %s", name)
		}
	})
}

func usd(tb require.TestingT, units int) carrier.Money {
	m, err := carrier.ParsePrice(strconv.Itoa(units), "USD")
	require.NoError(tb, err)
	return m
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// traffic leases and returns some VNs.
func (w *world) traffic(rt *rapid.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	share := rapid.IntRange(0, 3).Draw(rt, "leased of 3")
	for i, n := range slices.Sorted(maps.Keys(w.inventory)) {
		w.leased[n] = i%3 < share
	}
}

// settled checks that money and stock agree and that nothing is left open.
func (w *world) settled(tb require.TestingT) {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(tb, w.broken)
	require.Empty(tb, w.openIntents(), "intents left open")
	held := 0
	for name, s := range w.shops {
		require.Len(tb, s.held, s.bought, "carrier %s: bought and held", name)
		held += len(s.held)
		for n, b := range s.held {
			inv, ok := w.inventory[n]
			require.True(tb, ok, "carrier %s: a number is paid for and in no pool", name)
			require.Equal(tb, fmt.Sprint(b.pool, name, b.Ref), fmt.Sprint(inv.Pool, inv.Carrier, inv.Ref))
		}
	}
	require.Len(tb, w.inventory, held)
	heard := map[string]bool{}
	for _, e := range w.bought {
		heard[e.VN] = true
	}
	require.Len(tb, heard, held, "numbers announced as bought")
	for pool := range w.pools {
		costs := newBudget(usd(tb, 1000), w.now)
		for _, in := range w.intents {
			if in.Pool == pool && costs.bills(&in) {
				costs.add(&in)
			}
		}
		require.Equal(tb, w.paid(pool).Units(), costs.spent().Units(), "what pool %s costs by its intents", pool)
	}
	require.NotContains(tb, w.inventory, vn.Number(0))
}
