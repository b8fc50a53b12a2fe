package replenisher

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// roomy is london with a day's patience, and steady levels.
func roomy() Pool {
	p := london
	p.Fixed, p.Max = true, 30
	return p
}

// tooMany is a world whose pool has n VNs of each of the carriers named, all free.
func tooMany(t *testing.T, pool Pool, n int, carriers ...string) (*world, *process, *Replenisher) {
	t.Helper()
	w, p := stocked(pool)
	for _, name := range carriers {
		for range n {
			w.hold(name, pool.Name)
		}
	}
	return w, p, p.start(t, 1)
}

// hold gives the account of a carrier one number more, bought for the pool and in it.
func (w *world) hold(name, pool string) vn.Number {
	s := w.shops[name]
	n := s.forSale[len(s.forSale)-1]
	s.forSale = s.forSale[:len(s.forSale)-1]
	in := events.PurchaseIntent{VN: n.Digits(), Pool: pool, Carrier: name, Ref: "PN" + n.Digits(), Price: s.price, Currency: "USD", At: w.now, ClosedAt: w.now, Outcome: events.OutcomeBought}
	s.held[n] = &sale{pool: pool, from: w.now}
	s.held[n].Number, s.held[n].Ref, s.held[n].Tag, s.held[n].WebhookURL = n, in.Ref, tag(in), webhook
	s.bought++
	w.put(in)
	w.inventory[n] = scripts.Inventory{Owned: scripts.Owned{VN: n, Ref: in.Ref}, Pool: pool, Carrier: name}
	return n
}

// lasts lets time pass, with a look every ten minutes.
func (w *world) lasts(t *testing.T, r *Replenisher, d time.Duration) {
	t.Helper()
	for range d / (10 * time.Minute) {
		w.advance(10 * time.Minute)
		look(t, r, "london")
	}
}

func TestWhatNobodyNeededForADayIsGivenBack(t *testing.T) {
	t.Parallel()
	w, _, r := tooMany(t, roomy(), 8, "first", "second")
	look(t, r, "london")
	w.lasts(t, r, 23*time.Hour+50*time.Minute)
	require.Empty(t, w.announced, "not before a day is over")
	w.lasts(t, r, time.Hour)
	free, _, _ := w.level("london")
	require.Equal(t, 6, free, "the target and a margin stay")
	w.addsUp(t)
	require.Empty(t, w.shops["second"].held, "the carrier that is preferred last goes first")
	require.Len(t, w.shops["first"].held, 6)
	require.Len(t, w.announced, 10)
	for _, e := range w.announced {
		require.Equal(t, events.ReleasedSurplus, e.Reason)
	}
	bought := w.shops["first"].bought + w.shops["second"].bought
	w.lasts(t, r, 72*time.Hour)
	require.Len(t, w.announced, 10, "and that is all")
	require.Equal(t, bought, w.shops["first"].bought+w.shops["second"].bought, "nothing is bought in its place")
}

func TestTheBusiestHourSaysWhatIsSpare(t *testing.T) {
	t.Parallel()
	w, _, r := tooMany(t, roomy(), 16, "first")
	busy := 7
	for range 3 * 24 { // every day one hour with 7 of 16 leased
		leased := 0
		for n := range w.inventory {
			w.leased[n] = w.now.Hour() == 12 && leased < busy
			leased++
		}
		w.lasts(t, r, time.Hour)
	}
	clear(w.leased)
	free, _, _ := w.level("london")
	require.Equal(t, 6+busy, free, "at the busiest hour the target and a margin were free")
	require.Empty(t, w.broken)
}

func TestSurplusIsNeverTakenFromWhatIsInUseOrImported(t *testing.T) {
	t.Parallel()
	w, _, r := tooMany(t, roomy(), 12, "first")
	i := 0
	for n, inv := range w.inventory {
		switch i++; {
		case i <= 2:
			w.leased[n] = true
		case i <= 10: // imported: the carrier lists them, but we did not buy them
			inv.Ref = n.Digits()
			w.inventory[n] = inv
			in, _ := w.lastIntent("london", n)
			in.Outcome = events.OutcomeNotBought
			w.put(in)
		}
	}
	w.lasts(t, r, 80*time.Hour)
	for n := range w.leased {
		require.Contains(t, w.inventory, n)
	}
	require.Len(t, w.announced, 2, "only two are free and were bought")
	require.Empty(t, w.broken)
}

func TestNeverMeansNever(t *testing.T) {
	t.Parallel()
	pool := roomy()
	pool.SurplusAfter = -1
	w, _, r := tooMany(t, pool, 20, "first")
	w.lasts(t, r, 100*time.Hour)
	require.Empty(t, w.announced)
}

func TestARefusedReleaseOfSurplusIsTriedAgain(t *testing.T) {
	t.Parallel()
	w, p, r := tooMany(t, roomy(), 8, "first")
	p.next = oneShot("give", 1, refusal)
	w.lasts(t, r, 25*time.Hour)
	reconciled(t, w, r)
	free, total, _ := w.level("london")
	require.Equal(t, []int{6, 6}, []int{free, total})
	w.addsUp(t)
	require.Len(t, w.announced, 2)
}

// Only the process that acts for the pool gives back, and both together no more than one.
func TestTwoProcessesGiveBackWhatOneWould(t *testing.T) {
	t.Parallel()
	w, _, r := tooMany(t, roomy(), 16, "first")
	other := (&process{w: w}).start(t, 1)
	for range 26 * 6 {
		w.advance(10 * time.Minute)
		look(t, r, "london")
		look(t, other, "london")
	}
	free, _, _ := w.level("london")
	require.Equal(t, 6, free)
	w.addsUp(t)
}

// A crash at any step leaves a number given back or in its pool, never between.
func TestACrashWhileSurplusIsGivenBackIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"stock", "free", "inventory", "last intent", "mark", "retire", "record", "give", "announce"} {
		for _, f := range []fate{lost, unheard, crash, crashLate, refusal} {
			w, p, r := tooMany(t, roomy(), 8, "first")
			look(t, r, "london")
			w.advance(23 * time.Hour)
			look(t, r, "london")
			w.advance(2 * time.Hour)
			p.next = oneShot(step, 2, f)
			_ = r.look(t.Context(), r.workers["london"])
			_ = r.look(t.Context(), r.workers["london"])

			next := (&process{w: w}).start(t, 1)
			reconciled(t, w, next)
			w.lasts(t, next, 26*time.Hour)
			reconciled(t, w, next)
			w.addsUp(t)
			free, _, _ := w.level("london")
			require.Equal(t, 6, free, "%s, fate %d", step, f)
			require.GreaterOrEqual(t, len(w.announced), 2)
		}
	}
}

func TestSpareIsWhatWasFreeAllTheTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		const after = time.Hour
		keep := rapid.IntRange(0, 20).Draw(rt, "keep")
		var s surplus
		now := time.Unix(0, 0)
		var seen []struct {
			at   time.Time
			free int
		}
		for range rapid.IntRange(1, 60).Draw(rt, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 20).Draw(rt, "minutes")) * time.Minute)
			free := rapid.IntRange(0, 60).Draw(rt, "free")
			seen = append(seen, struct {
				at   time.Time
				free int
			}{now, free})
			spare := s.spare(now, free, keep, after)
			require.GreaterOrEqual(rt, spare, 0)
			if spare == 0 {
				continue
			}
			covered := false
			for i := len(seen) - 1; i >= 0; i-- { // back to an hour ago
				require.GreaterOrEqual(rt, seen[i].free-spare, keep, "somebody needed it within the hour")
				if now.Sub(seen[i].at) >= after {
					covered = true
					break
				}
			}
			require.True(rt, covered, "it was not watched for an hour")
		}
	})
}

// Between choosing a free number and taking it out, an order takes it.
func TestANumberThatAnOrderTakesMeanwhileStays(t *testing.T) {
	t.Parallel()
	w, p, r := tooMany(t, roomy(), 8, "first")
	w.lasts(t, r, 23*time.Hour)
	before := maps.Clone(w.inventory)
	p.next = func(step string) fate {
		if step == "retire" {
			w.mu.Lock()
			defer w.mu.Unlock()
			for n := range w.inventory {
				w.leased[n] = true
			}
		}
		return fine
	}
	w.lasts(t, r, 2*time.Hour)
	for n := range before {
		require.Contains(t, w.inventory, n)
	}
	require.Empty(t, w.draining, "nor does it leave later")
	require.Empty(t, w.returned)
	w.addsUp(t)
}
