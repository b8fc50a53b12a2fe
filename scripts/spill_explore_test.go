//go:build !race

package scripts

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

type spillExplorer struct {
	mutant mutant
	total  int8
	paths  map[spillWorld]float64
}

// explore returns the number of interleavings from here on, or the first broken promise.
func (x *spillExplorer) explore(w spillWorld) (float64, string) {
	if n, ok := x.paths[w]; ok {
		return n, ""
	}
	if why := w.broken(x.total); why != "" {
		return 0, why
	}
	if why := w.closing(x.total, x.mutant); why != "" {
		return 0, "after a crash here and a repeated end: " + why
	}
	var next []spillWorld
	for i := range w.workers {
		if w.workers[i].done {
			continue
		}
		next = append(next, w.step(i, x.mutant)...)
		if w.ghosts > 0 {
			next = append(next, w.ghost(i, x.mutant))
		}
	}
	if w.jumps > 0 {
		later := w
		later.jumps--
		later.pass()
		next = append(next, later)
	}
	if w.others > 0 {
		for p := range w.free {
			other := w
			other.others--
			switch {
			case w.free[p] > 0:
				other.free[p]--
				other.lent[p]++
			case w.lent[p] > 0:
				other.free[p]++
				other.lent[p]--
			default:
				continue
			}
			next = append(next, other)
		}
	}
	sum := 0.0
	for _, n := range next {
		paths, why := x.explore(n)
		if why != "" {
			return 0, why
		}
		sum += paths
	}
	if len(next) == 0 {
		sum = 1
	}
	x.paths[w] = sum
	return sum, ""
}

// exploreAll explores every start of interest and returns the moments and interleavings
// seen, or the first broken promise.
func exploreAll(m mutant) (moments int, paths float64, why string) {
	for _, start := range []spillStart{
		{free: [modelPartitions]int8{0, 1, 1}, deliveries: 3},
		{free: [modelPartitions]int8{0, 1, 1}, deliveries: 2, ghosts: 1},
		{free: [modelPartitions]int8{0, 1, 1}, deliveries: 2, jumps: 1},
		{free: [modelPartitions]int8{0, 1, 0}, deliveries: 2, others: 2},
		{free: [modelPartitions]int8{0, 0, 1}, lent: [modelPartitions]int8{0, 1, 0}, deliveries: 2, jumps: 1, others: 1},
		{lent: [modelPartitions]int8{1, 1, 0}, deliveries: 2, ghosts: 1, others: 2},
	} {
		w, total := start.world()
		x := &spillExplorer{mutant: m, total: total, paths: map[spillWorld]float64{}}
		n, broken := x.explore(w)
		moments += len(x.paths)
		if broken != "" {
			return moments, paths, fmt.Sprintf("start %v: %s", start, broken)
		}
		paths += n
	}
	return moments, paths, ""
}

// TestEveryInterleavingOfTheSpillOverKeepsThePromises runs every order in which the
// scripts of three assignments and an end can reach Redis, with crashes, repeats, late
// scripts and others who take and return VNs.
func TestEveryInterleavingOfTheSpillOverKeepsThePromises(t *testing.T) {
	t.Parallel()
	moments, paths, why := exploreAll(sound)
	require.Empty(t, why)
	require.Greater(t, paths, 1e6, "the exploration must be worth its name")
	t.Logf("%d moments, %.3g interleavings", moments, paths)
}

func TestTheModelOfTheSpillOverCatchesEveryRuleLeftOut(t *testing.T) {
	t.Parallel()
	for m, name := range map[mutant]string{
		markNotKept: "mark not kept", refusalNotLeft: "refusal not left", anyoneMoves: "anyone moves the mark",
		endsHomeOnly: "ends at home only", endsThereFirst: "ends there first", lateIsHonoured: "late marks are honoured",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, why := exploreAll(m)
			require.NotEmpty(t, why)
			t.Log(why)
		})
	}
}
