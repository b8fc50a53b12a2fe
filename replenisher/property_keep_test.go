package replenisher

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/vn"
)

// chores is what one process does in a round of TestTheStockAddsUp.
func (r *Replenisher) chores(t *rapid.T, w *world) func() {
	look := rapid.IntRange(0, 2).Draw(t, "looks") > 0
	carrier := rapid.SampledFrom([]string{"", "first", "second"}).Draw(t, "compares")
	var release vn.Number
	if all := slices.Sorted(maps.Keys(w.inventory)); len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "releases") == 0 {
		release = rapid.SampledFrom(all).Draw(t, "released")
	}
	return func() {
		// What a fault cuts short is for the next round.
		if look {
			_ = r.look(t.Context(), r.workers["london"])
		}
		if carrier != "" {
			_, _ = r.Reconcile(t.Context(), carrier, ReconcileOptions{})
		}
		if release != 0 {
			_, _ = r.Release(t.Context(), "london", release)
		}
	}
}

// happens lets orders end and carriers lose numbers, between two rounds.
func (w *world) happens(t *rapid.T) {
	w.traffic(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(w.draining)) {
		if !w.leased[n] {
			w.leaves(n)
		}
	}
	for _, name := range []string{"first", "second"} {
		held := w.shops[name].held
		if len(held) > 0 && rapid.IntRange(0, 5).Draw(t, name+" loses one") == 0 {
			delete(held, rapid.SampledFrom(slices.Sorted(maps.Keys(held))).Draw(t, "lost"))
		}
		for _, n := range slices.Sorted(maps.Keys(held)) {
			if rapid.IntRange(0, 20).Draw(t, "turned elsewhere") == 0 {
				held[n].WebhookURL = "https://old.example.com"
			}
		}
	}
}

// TestTheStockAddsUp lets one or two processes buy, compare, give surplus back and
// release, with faults and crashes at every step, while orders come and go and carriers
// lose numbers. In the end what is paid for is what the pool has, attached and billed.
func TestTheStockAddsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		pool := Pool{
			Name: "london", Region: "GB", Carriers: []string{"first", "second"}, LowWater: 2, Target: 4, Max: 14, Fixed: true,
			SurplusAfter: time.Duration(rapid.IntRange(1, 90).Draw(rt, "surplus after")) * time.Minute,
		}
		w := newWorld(pool)
		w.stockUp("first", rapid.IntRange(0, 9).Draw(rt, "first's stock"))
		w.stockUp("second", 300)
		processes := make([]*process, rapid.IntRange(1, 2).Draw(rt, "processes"))
		running := make([]*Replenisher, len(processes))
		for range rapid.IntRange(1, 12).Draw(rt, "rounds") {
			w.advance(time.Duration(rapid.IntRange(1, 40).Draw(rt, "minutes")) * time.Minute)
			w.happens(rt)
			s := &turns{asks: make(chan *turn), quit: make(chan struct{}), world: func(*rapid.T) {}}
			var fns []func()
			for i := range processes {
				if processes[i] == nil || processes[i].dead {
					processes[i] = &process{w: w}
					running[i] = processes[i].start(rt, 1)
				}
				processes[i].next = s.next(i)
				fns = append(fns, running[i].chores(rt, w))
			}
			s.run(rt, fns...)
			if len(w.broken) > 0 {
				rt.Fatalf("broken: %q", w.broken)
			}
		}

		// The faults end, the orders too.
		clear(w.leased)
		for n := range w.draining {
			w.leaves(n)
		}
		last := (&process{w: w}).start(rt, 1)
		for range 6 {
			w.advance(10 * time.Hour)
			_ = last.look(rt.Context(), last.workers["london"])
			for _, name := range []string{"first", "second"} {
				_, err := last.Reconcile(rt.Context(), name, ReconcileOptions{Force: true})
				require.NoError(rt, err)
			}
		}
		w.addsUp(rt)
		free, _, _ := w.level("london")
		require.GreaterOrEqual(rt, free, pool.LowWater)
		require.LessOrEqual(rt, free, last.workers["london"].keeps(), "surplus is gone")
	})
}
