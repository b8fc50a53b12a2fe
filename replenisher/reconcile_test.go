package replenisher

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const stranger vn.Number = 447700900999

// lists puts a number into the account of carrier first that no inventory has.
func (w *world) lists(n vn.Number, tag, url string) {
	w.shops["first"].held[n] = &sale{Bought: carrier.Bought{Number: n, Ref: "PN" + n.Digits(), Tag: tag, WebhookURL: url}, pool: "london"}
	w.shops["first"].bought++
}

func compare(t *testing.T, r *Replenisher, opt ReconcileOptions) Diff {
	t.Helper()
	d, err := r.Reconcile(t.Context(), "first", opt)
	require.NoError(t, err)
	for _, row := range d.Rows {
		require.Empty(t, row.Error)
	}
	return d
}

// single requires one row and returns it.
func single(t *testing.T, d Diff, action Action, n vn.Number) Row {
	t.Helper()
	require.Len(t, d.Rows, 1)
	require.Equal(t, []string{n.E164(), string(action)}, []string{d.Rows[0].VN, string(d.Rows[0].Action)}, d.Rows[0].Detail)
	return d.Rows[0]
}

func TestWhatAgreesIsLeftAlone(t *testing.T) {
	t.Parallel()
	w, p, r := filledLondon(t)
	w.lists(stranger, "the shop's hot line", "https://elsewhere.example.com")
	w.lists(stranger-1, "", "")
	imported := stranger - 2
	w.inventory[imported] = scripts.Inventory{Owned: scripts.Owned{VN: imported, Ref: imported.Digits()}, Pool: "london", Carrier: "first"}
	steps := &calls{of: map[string]int{}}
	p.next = steps.next
	d := compare(t, r, ReconcileOptions{})
	require.Equal(t, Diff{Carrier: "first", Listed: 7, Ours: 6, Agreed: 5, Imported: 1, Foreign: 2, Rows: []Row{}}, d)
	require.Zero(t, steps.count("configure")+steps.count("mark")+steps.count("retire")+steps.count("give")+steps.count("own"))
	require.InDelta(t, float64(w.now.Unix()), testutil.ToFloat64(r.keeper.last.WithLabelValues("first")), 0)
	for _, n := range []vn.Number{stranger, stranger - 1} {
		require.Contains(t, w.shops["first"].held, n)
	}
}

func TestWrongAddressesAreRepairedButNotOfImportedNumbers(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	w.shops["first"].held[n].WebhookURL = "https://old.example.com"
	single(t, compare(t, r, ReconcileOptions{}), Configure, n)
	require.Equal(t, webhook, w.shops["first"].held[n].WebhookURL)

	w.inventory[stranger] = scripts.Inventory{Owned: scripts.Owned{VN: stranger, Ref: stranger.Digits()}, Pool: "london", Carrier: "first"}
	w.lists(stranger, "", "https://pbx.example.com")
	single(t, compare(t, r, ReconcileOptions{}), Report, stranger)
	require.Equal(t, "https://pbx.example.com", w.shops["first"].held[stranger].WebhookURL)
}

// Only the address for calls is judged of a number that somebody set up by hand; all
// that we set is judged of one that was bought.
func TestOtherSettingsAreRepairedButNotOfImportedNumbers(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	for _, number := range []vn.Number{n, stranger} {
		if number == stranger {
			w.inventory[stranger] = scripts.Inventory{Owned: scripts.Owned{VN: stranger, Ref: stranger.Digits()}, Pool: "london", Carrier: "first"}
			w.lists(stranger, "", "")
		}
		w.shops["first"].held[number].WebhookURL, w.shops["first"].held[number].CallsGoTo = "", webhook+"#ct=500"
	}
	row := single(t, compare(t, r, ReconcileOptions{DryRun: true}), Configure, n)
	require.Contains(t, row.Detail, "other settings")
	single(t, compare(t, r, ReconcileOptions{}), Configure, n)
	require.Equal(t, webhook, w.shops["first"].held[n].WebhookURL)
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
	require.Empty(t, w.shops["first"].held[stranger].WebhookURL)
}

func TestAGhostLeavesAfterTwoReadings(t *testing.T) {
	t.Parallel()
	for _, leased := range []bool{false, true} {
		w, _, r := filledLondon(t)
		n := w.anyVN()
		w.leased[n] = leased
		delete(w.shops["first"].held, n)
		w.shops["first"].bought--
		single(t, compare(t, r, ReconcileOptions{}), Wait, n)
		w.advance(5 * time.Minute)
		single(t, compare(t, r, ReconcileOptions{}), Wait, n)
		require.Contains(t, w.inventory, n)
		w.advance(5 * time.Minute)
		single(t, compare(t, r, ReconcileOptions{}), Remove, n)
		require.Len(t, w.announced, 1)
		require.Equal(t, events.ReleasedGhost, w.announced[0].Reason)
		require.Equal(t, events.OutcomeReleased, w.outcome("london", n))
		if leased {
			require.True(t, w.draining[n])
			single(t, compare(t, r, ReconcileOptions{}), Remove, n) // still there: its order goes on
			require.Len(t, w.announced, 1)
			w.leaves(n)
		}
		require.NotContains(t, w.inventory, n)
		require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
		w.addsUp(t)
	}
}

// A list that once lacked a number, as one whose pages shifted while they were read.
func TestANumberThatTheListHasAgainStays(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	held := w.shops["first"].held[n]
	delete(w.shops["first"].held, n)
	single(t, compare(t, r, ReconcileOptions{}), Wait, n)
	w.shops["first"].held[n] = held
	w.advance(time.Hour)
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
	delete(w.shops["first"].held, n)
	w.advance(time.Hour)
	single(t, compare(t, r, ReconcileOptions{}), Wait, n) // it is counted anew
	w.shops["first"].held[n] = held

	// Even one that had been taken for gone comes back, leased or not.
	for _, leased := range []bool{true, false} {
		delete(w.shops["first"].held, n)
		w.leased[n] = leased
		for range 2 {
			w.advance(time.Hour)
			compare(t, r, ReconcileOptions{})
		}
		require.Equal(t, !leased, w.retired[n])
		w.shops["first"].held[n] = held
		single(t, compare(t, r, ReconcileOptions{}), Adopt, n)
		require.Contains(t, w.inventory, n)
		require.False(t, w.draining[n])
		require.Equal(t, events.OutcomeBought, w.outcome("london", n))
	}
	w.leased = map[vn.Number]bool{}
	w.addsUp(t)
}

func TestTheBrakeStopsWhatLooksLikeAWrongList(t *testing.T) {
	t.Parallel()
	w, _, r := tooMany(t, roomy(), 30, "first")
	all := w.shops["first"].held
	w.shops["first"].held = map[vn.Number]*sale{}
	check := func(missing int) {
		t.Helper()
		for range 3 {
			w.advance(time.Hour)
			d, err := r.Reconcile(t.Context(), "first", ReconcileOptions{})
			var brake *BrakeError
			require.ErrorAs(t, err, &brake)
			require.Equal(t, []int{missing, 30}, []int{brake.Missing, brake.Bought})
			require.ErrorContains(t, err, "callmask pool reconcile first --force")
			require.Len(t, brake.Diff.Rows, missing)
			require.NotEmpty(t, d.Brake)
			require.InDelta(t, 1, testutil.ToFloat64(r.keeper.braked.WithLabelValues("first")), 0)
		}
		require.Len(t, w.inventory, 30)
		require.Empty(t, w.announced)
	}
	check(30) // an empty list
	for n, s := range all {
		if len(w.shops["first"].held) < 26 {
			w.shops["first"].held[n] = s
		}
	}
	check(4) // a part of one
	// A wrong list must not do harm by its other rows either.
	for _, s := range w.shops["first"].held {
		s.WebhookURL = ""
	}
	_, err := r.Reconcile(t.Context(), "first", ReconcileOptions{})
	require.Error(t, err)
	for _, s := range w.shops["first"].held {
		require.Empty(t, s.WebhookURL)
		s.WebhookURL = webhook
	}
	d := compare(t, r, ReconcileOptions{DryRun: true})
	require.Contains(t, d.Brake, "lacks 4 of the 30")
	compare(t, r, ReconcileOptions{Force: true}) // the first list that is believed
	require.Len(t, w.inventory, 30)
	w.advance(time.Hour)
	d = compare(t, r, ReconcileOptions{Force: true})
	require.Len(t, d.Rows, 4)
	require.Len(t, w.inventory, 26)
	require.Len(t, w.announced, 4)
	require.InDelta(t, 0, testutil.ToFloat64(r.keeper.braked.WithLabelValues("first")), 0)
}

func TestTheBrakeLetsASmallShareThrough(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		missing, bought, listed int
		stops                   bool
	}{
		{0, 0, 0, false},
		{0, 5, 0, false},
		{1, 1, 0, true},
		{1, 1, 7, false},
		{1, 5, 4, false},
		{2, 5, 3, true},
		{2, 19, 17, true},
		{2, 20, 18, false},
		{100, 1000, 900, false},
		{101, 1000, 899, true},
	} {
		require.Equal(t, c.stops, brake(c.missing, c.bought, c.listed), "%+v", c)
	}
}

// everything is a world with one number of each kind of difference.
func everything(t *testing.T) (*world, *process, *Replenisher) {
	t.Helper()
	w, p, r := tooMany(t, roomy(), 12, "first")
	late := events.PurchaseIntent{VN: stranger.Digits(), Pool: "london", Carrier: "first", At: w.now, ClosedAt: w.now, Outcome: events.OutcomeNotBought}
	w.put(late)
	w.lists(stranger, tag(late), "")
	w.lists(stranger-1, "callmask:x:y", "")
	a, b, c := w.anyVN(), w.anyVN()+1, w.anyVN()+2
	w.shops["first"].held[a].WebhookURL = "https://old.example.com"
	delete(w.shops["first"].held, b)
	w.shops["first"].bought--
	in, _ := w.lastIntent("london", c)
	in.Outcome, in.Reason = events.OutcomeReleasing, events.ReleasedOperator
	w.put(in)
	return w, p, r
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	w, p, r := everything(t)
	compare(t, r, ReconcileOptions{DryRun: true})
	w.advance(time.Hour)
	steps := &calls{of: map[string]int{}}
	p.next = steps.next
	d := compare(t, r, ReconcileOptions{DryRun: true, Pool: "london"})
	require.True(t, d.DryRun)
	require.Len(t, d.Rows, 5)
	for _, step := range []string{"own", "mark", "configure", "retire", "give", "announce", "close", "intent", "bought"} {
		require.Zero(t, steps.count(step), step)
	}
	actions := map[Action]int{}
	for _, row := range d.Rows {
		actions[row.Action]++
	}
	require.Equal(t, map[Action]int{Adopt: 2, Configure: 1, GiveBack: 1, Wait: 1}, actions, "and it counts as no reading")
	p.next = nil
	var seen []int
	compare(t, r, ReconcileOptions{Pool: "london", Progress: func(done, of int) { seen = append(seen, done, of) }})
	require.Equal(t, []int{5, 5}, seen[len(seen)-2:])
	w.advance(time.Hour)
	compare(t, r, ReconcileOptions{})
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
	w.addsUp(t)
}

// A comparison that a fault or a crash cuts short anywhere ends the same in the end.
func TestACrashAtAnyStepOfAComparisonIsMadeGood(t *testing.T) {
	t.Parallel()
	end := func(w *world) []string {
		var got []string
		for n, inv := range w.inventory {
			got = append(got, "in "+n.Digits()+inv.Pool)
		}
		for n, s := range w.shops["first"].held {
			got = append(got, "held "+n.Digits()+s.WebhookURL)
		}
		for _, in := range w.intents {
			got = append(got, "intent "+in.VN+in.Outcome+in.Reason)
		}
		return got
	}
	healthy := func(f func(string) fate) (*world, []string) {
		w, p, r := everything(t)
		p.next = f
		for range 2 {
			_, _ = r.Reconcile(t.Context(), "first", ReconcileOptions{Pool: "london"})
			w.advance(time.Hour)
		}
		next := (&process{w: w}).start(t, 1)
		for range 4 {
			w.advance(time.Hour)
			_, err := next.Reconcile(t.Context(), "first", ReconcileOptions{Pool: "london"})
			require.NoError(t, err)
		}
		require.Empty(t, compare(t, next, ReconcileOptions{Pool: "london"}).Rows)
		w.addsUp(t)
		return w, end(w)
	}
	_, want := healthy(nil)
	sorted := cmp.Transformer("set", func(s []string) map[string]int {
		m := map[string]int{}
		for _, x := range s {
			m[x]++
		}
		return m
	})
	for _, step := range []string{
		"ready", "intents", "inventory of", "list", "inventory", "last intent", "record", "configure", "own", "bought", "mark", "retire", "give", "announce",
	} {
		for _, f := range []fate{lost, unheard, crash, crashLate, refusal} {
			for n := 1; n <= 3; n++ {
				_, got := healthy(oneShot(step, n, f))
				require.Empty(t, cmp.Diff(want, got, sorted), "%s, call %d, fate %d", step, n, f)
			}
		}
	}
}

func TestADrainedNumberIsReportedNotReleased(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	w.leaves(n) // `callmask pool drain`
	for range 3 {
		w.advance(time.Hour)
		single(t, compare(t, r, ReconcileOptions{}), Report, n)
	}
	require.Contains(t, w.shops["first"].held, n, "it was taken out of its pool, not given back")
	single(t, compare(t, r, ReconcileOptions{Pool: "london"}), Adopt, n)
	w.addsUp(t)

	w.leaves(n)
	how, err := r.Release(t.Context(), "london", n)
	require.NoError(t, err)
	require.Equal(t, Released, how)
	w.addsUp(t)
}

// Taken out of its pool here, and given back at the carrier by hand.
func TestANumberThatWasGivenBackByHandIsPaidForNoMore(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	w.leaves(n)
	delete(w.shops["first"].held, n)
	single(t, compare(t, r, ReconcileOptions{}), Wait, n)
	w.advance(time.Hour)
	single(t, compare(t, r, ReconcileOptions{}), Remove, n)
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
	require.Len(t, w.announced, 1)
	w.addsUp(t)
}

// A carrier that accepts a release and does not carry it out.
func TestAReleaseThatTheCarrierForgotIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	held := w.shops["first"].held[n]
	_, err := r.Release(t.Context(), "london", n)
	require.NoError(t, err)
	w.shops["first"].held[n] = held
	w.shops["first"].bought++
	w.advance(30 * time.Minute)
	single(t, compare(t, r, ReconcileOptions{}), Wait, n)
	w.advance(31 * time.Minute)
	single(t, compare(t, r, ReconcileOptions{}), GiveBack, n)
	require.NotContains(t, w.shops["first"].held, n)
	require.Len(t, w.announced, 1, "it is no news")
	w.addsUp(t)

	// Somebody buys it anew, by hand: it is theirs.
	w.lists(n, "", "https://pbx.example.com")
	w.advance(time.Hour)
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
	w.shops["first"].held[n].WebhookURL = webhook
	single(t, compare(t, r, ReconcileOptions{}), Report, n)
	require.Contains(t, w.shops["first"].held, n)
}

func TestAnOpenPurchaseIsLeftToItsPool(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	in := events.PurchaseIntent{VN: stranger.Digits(), Pool: "london", Carrier: "first", At: w.now}
	w.put(in)
	w.lists(stranger, tag(in), "")
	single(t, compare(t, r, ReconcileOptions{Pool: "london"}), Wait, stranger)
	require.NotContains(t, w.inventory, stranger)
}

func TestWithoutAListOrAReadyRedisNothingHappens(t *testing.T) {
	t.Parallel()
	w, p, r := filledLondon(t)
	p.next = func(step string) fate { return map[string]fate{"list": refusal}[step] }
	_, err := r.Reconcile(t.Context(), "first", ReconcileOptions{})
	require.ErrorIs(t, err, errNoList)
	require.ErrorContains(t, err, "429")
	require.False(t, r.sellers["first"].open(w.now), "a carrier that fails is left alone")
	p.next = nil
	w.cold = true
	_, err = r.Reconcile(t.Context(), "first", ReconcileOptions{})
	require.ErrorIs(t, err, vn.ErrCold)
	_, err = r.Reconcile(t.Context(), "nobody", ReconcileOptions{})
	require.ErrorIs(t, err, ErrNoSeller)
	_, err = r.Reconcile(t.Context(), "first", ReconcileOptions{Pool: "nowhere"})
	require.ErrorIs(t, err, vn.ErrPoolUnknown)
	require.True(t, r.keeper.begin("first"))
	_, err = r.Reconcile(t.Context(), "first", ReconcileOptions{})
	require.ErrorIs(t, err, ErrRunning)
}

func TestNoNumberOfAComparisonIsLogged(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	reg := prometheus.NewRegistry()
	w, p, _ := everything(t)
	p.next = oneShot("configure", 1, refusal)
	r := p.startLogged(t, 1, reg, zerolog.New(&logs))
	for range 4 {
		r.compareNow(t.Context(), r.sellers["first"])
		w.advance(time.Hour)
	}
	w.shops["first"].held = map[vn.Number]*sale{}
	r.compareNow(t.Context(), r.sellers["first"])
	for _, said := range []string{"adopted a number", "gave a number back", "differed from the inventory", "lacks too many", "leaving it alone"} {
		require.Contains(t, logs.String(), said)
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	require.NotContains(t, logs.String()+fmt.Sprint(families), "44770090")
}
