package replenisher

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// compared is a comparison of one carrier in which no row failed.
func (d *duo) compared(t *testing.T, r *Replenisher, a *account, opt ReconcileOptions) Diff {
	t.Helper()
	diff, err := r.Reconcile(t.Context(), a.name, opt)
	require.NoError(t, err)
	require.Zero(t, diff.Failed, "%s: %+v", a.name, diff.Rows)
	return diff
}

// differs holds that one number differs in one way, and nothing after that.
func (d *duo) differs(t *testing.T, r *Replenisher, a *account, n vn.Number, action Action, opt ReconcileOptions) {
	t.Helper()
	diff := d.compared(t, r, a, opt)
	require.Len(t, diff.Rows, 1, "%+v", diff.Rows)
	require.Equal(t, []string{n.E164(), string(action)}, []string{diff.Rows[0].VN, string(diff.Rows[0].Action)})
	if action != Report {
		require.Empty(t, d.compared(t, r, a, opt).Rows)
	}
}

// held returns a number as the carrier's list has it.
func (d *duo) held(t *testing.T, a *account, n vn.Number) carrier.Bought {
	t.Helper()
	list, err := a.List(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(list, func(b carrier.Bought) bool { return b.Number == n })
	require.NotEqual(t, -1, i)
	return list[i]
}

// half fills the pool from both carriers.
func (d *duo) half(t *testing.T, atTwilio int) *Replenisher {
	t.Helper()
	d.twilio.shop.SellOut("IN", atTwilio)
	r := d.stepper(t)
	look(t, r, bengaluru.Name)
	one, two := d.addsUp(t)
	require.Equal(t, []int{atTwilio, bengaluru.Target - atTwilio}, []int{one, two})
	return r
}

func TestRealASecondComparisonChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{})
	r := d.half(t, 1)
	for range 2 {
		for _, a := range d.accounts() {
			diff := d.compared(t, r, a, ReconcileOptions{})
			require.Equal(t, Diff{
				Carrier: a.name, Listed: a.shop.Owned(), Ours: a.shop.Owned(), Agreed: a.shop.Owned(), Rows: []Row{},
			}, diff)
		}
	}
	for _, a := range d.accounts() {
		require.Zero(t, a.configures.Load(), "%s shows what was set in a form that is not taken for it", a.name)
	}
}

func TestRealWrongSettingsAreRepaired(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{})
	r := d.half(t, 3)
	at := d.numbers(t, d.twilio)[1]
	for _, c := range [][2]string{
		{"voice_url", "https://old.example.com/v1/carriers/twilio/voice"},
		{"voice_url", ""},
		{"voice_url", "https://calls.example.com/v1/carriers/twilio/voice"}, // without what stands behind the #
		{"voice_method", "GET"},
		{"voice_application_sid", "AP0123456789abcdef0123456789abcdef"}, // would get the calls instead
		{"trunk_sid", "TK0123456789abcdef0123456789abcdef"},
		{"sms_url", "https://old.example.com/v1/carriers/twilio/sms"},
		{"status_callback", ""},
	} {
		before := d.twilio.configures.Load()
		d.twilioShop.SetField(at, c[0], c[1])
		d.differs(t, r, d.twilio, at, Configure, ReconcileOptions{})
		require.True(t, d.twilio.attached(at), c[0])
		require.Equal(t, before+1, d.twilio.configures.Load(), "one that is right was attached again")
	}
	at = d.numbers(t, d.exotel)[1]
	d.exotel.detach(t.Context(), d.held(t, d.exotel, at))
	require.False(t, d.exotel.attached(at))
	d.differs(t, r, d.exotel, at, Configure, ReconcileOptions{})
	require.EqualValues(t, 1, d.exotel.configures.Load())
	d.addsUp(t)
}

// late buys a number whose purchase was given up before.
func (d *duo) late(t *testing.T, a *account) (n vn.Number) {
	t.Helper()
	offers, err := a.Search(t.Context(), "IN", 1)
	require.NoError(t, err)
	n = offers[0].Number
	in := events.PurchaseIntent{VN: n.Digits(), Pool: bengaluru.Name, Carrier: a.name, At: stamp(time.Now()), Price: a.price, Currency: a.currency}
	require.NoError(t, d.bus.Intent(t.Context(), in))
	require.NoError(t, d.bus.CloseIntent(t.Context(), in, events.OutcomeNotBought))
	if _, err = a.Buy(t.Context(), n, tag(in)); err != nil {
		require.ErrorIs(t, err, carrier.ErrUnknownOutcome)
	}
	return n
}

func TestRealOrphansAreAdopted(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{})
	r := d.stepper(t)
	look(t, r, bengaluru.Name)
	for _, a := range d.accounts() {
		d.differs(t, r, a, d.late(t, a), Adopt, ReconcileOptions{})
		require.Zero(t, a.configures.Load(), "it was attached when it was bought")

		// Half a purchase leaves neither our mark nor our address: somebody has to say that it is ours.
		a.shop.Inject(sim.Fault{Op: sim.OpBuy, Kind: sim.Partial})
		n := d.late(t, a)
		d.differs(t, r, a, n, Report, ReconcileOptions{})
		require.Zero(t, a.configures.Load())
		diff := d.compared(t, r, a, ReconcileOptions{Pool: bengaluru.Name})
		require.Len(t, diff.Rows, 1)
		require.Equal(t, Adopt, diff.Rows[0].Action)
		require.True(t, a.attached(n))
		require.EqualValues(t, 1, a.configures.Load())
		require.Empty(t, d.compared(t, r, a, ReconcileOptions{}).Rows)
	}
	require.Equal(t, level{free: 10, total: 10}, d.level(t))
	d.everyPurchaseHasAnIntent(t)
}

// Exotel answers 202 to a release, and the number is there for some time after that.
func TestRealAReleaseThatTakesTimeIsSeenThrough(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{releaseLate: 1})
	r := d.half(t, 0)
	n := d.numbers(t, d.exotel)[2]
	intent := func() events.PurchaseIntent {
		in, _, err := d.bus.LastIntent(t.Context(), bengaluru.Name, n)
		require.NoError(t, err)
		return in
	}
	unharmed := func() {
		t.Helper()
		s := r.sellers["exotel"]
		require.True(t, s.open(r.now()), "a release under way is no failure")
		require.Zero(t, s.failures)
	}
	how, err := r.Release(t.Context(), bengaluru.Name, n)
	require.NoError(t, err)
	require.Equal(t, Released, how)
	require.Equal(t, []int{6, 5}, []int{d.exotel.shop.Owned(), len(d.inventory(t, d.exotel))})
	require.Equal(t, []string{events.OutcomeReleasing, events.ReleasedOperator}, []string{intent().Outcome, intent().Reason})
	unharmed()

	how, err = r.Release(t.Context(), bengaluru.Name, n) // asked for again, by hand
	require.NoError(t, err)
	require.Equal(t, Released, how)
	require.Equal(t, events.OutcomeReleasing, intent().Outcome)
	require.EqualValues(t, 2, d.exotel.pending.Load())
	unharmed()

	d.differs(t, r, d.exotel, n, GiveBack, ReconcileOptions{})
	require.Equal(t, events.OutcomeReleased, intent().Outcome)
	require.Equal(t, 5, d.exotel.shop.Owned())
	require.Zero(t, d.exotel.configures.Load(), "it was attached again on its way out")
	unharmed()
	look(t, r, bengaluru.Name) // the pool buys another one
	_, atExotel := d.addsUp(t)
	require.Equal(t, 6, atExotel)
}

// everyPurchaseHasAnIntent holds that nothing was bought that the ledger does not know.
func (d *duo) everyPurchaseHasAnIntent(t *testing.T) {
	t.Helper()
	known := map[string]bool{}
	require.NoError(t, d.bus.Intents(t.Context(), func(in events.PurchaseIntent, _ uint64) error {
		known[in.Carrier+in.VN] = in.Outcome != events.OutcomeNotBought
		return nil
	}))
	for _, a := range d.accounts() {
		for _, p := range a.shop.Purchases() {
			require.True(t, known[a.name+p.Number.Digits()], "%s sold a number whose intent is missing, or says that it did not", a.name)
		}
	}
}

// storm is a run in which everything goes wrong that may.
type storm struct {
	*duo

	rng    *rand.Rand
	r      *Replenisher
	orders []string // that hold numbers
	placed int
}

func (s *storm) draw(n int) int { return s.rng.IntN(n) }

// some returns one of the VNs of a carrier; ok is false when there is none.
func (s *storm) some(t *testing.T, a *account) (n vn.Number, ok bool) {
	t.Helper()
	all := s.numbers(t, a)
	if len(all) == 0 {
		return n, false
	}
	return all[s.draw(len(all))], true
}

func (s *storm) step(t *testing.T) {
	t.Helper()
	a := s.accounts()[s.draw(2)]
	n, ok := s.some(t, a)
	switch fate := s.draw(100); {
	case fate < 35:
		_ = s.r.look(t.Context(), s.r.workers[bengaluru.Name]) // what it could not do is for the next look
	case fate < 38:
		s.stopped(t)
	case fate < 52:
		_, _ = s.r.Reconcile(t.Context(), a.name, ReconcileOptions{}) // as above
	case fate < 58 && ok:
		_, _ = s.r.Release(t.Context(), bengaluru.Name, n) // as above
	case fate < 66:
		s.order(t)
	case fate < 74:
		s.end(t)
	case fate < 77 && ok:
		if b, err := a.List(t.Context()); err == nil {
			if i := slices.IndexFunc(b, func(b carrier.Bought) bool { return b.Number == n }); i >= 0 {
				a.detach(t.Context(), b[i])
			}
		}
	case fate < 78 && ok:
		a.shop.Drop(n)
	case fate < 95:
		s.trouble(a)
	case fate < 97:
		s.restart(t) // the process before is gone and has given nothing up
	default:
		s.later += 11 * time.Minute
	}
	s.later += time.Duration(s.draw(40)) * time.Second
}

// stopped is a look during which the process is told to stop; another one takes over.
func (s *storm) stopped(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(s.draw(8000))*time.Microsecond)
	defer cancel()
	w := s.r.workers[bengaluru.Name]
	_ = s.r.look(ctx, w)
	require.NoError(t, w.lease.giveUp(t.Context()))
	s.restart(t)
}

// restart starts another process, whose settings may prefer the other carrier.
func (s *storm) restart(t *testing.T) {
	t.Helper()
	if s.draw(2) == 0 {
		s.carriers = []string{s.carriers[1], s.carriers[0]}
	}
	s.r = s.stepper(t)
}

func (s *storm) trouble(a *account) {
	ops := []sim.Op{sim.OpSearch, sim.OpList, sim.OpConfigure, sim.OpRelease, sim.OpRelease, sim.OpBuy, sim.OpBuy, sim.OpBuy, sim.OpBuy}
	kinds := []sim.FaultKind{sim.Fail, sim.Throttle, sim.HangUp, sim.Garble, sim.Snatch, sim.Partial, sim.Hang}
	f := sim.Fault{Op: ops[s.draw(len(ops))], Kind: kinds[s.draw(len(kinds))], Times: 1 + s.draw(4), RetryAfter: 20 * time.Second}
	if f.Kind == sim.Hang || f.Op == sim.OpSearch || f.Op == sim.OpList { // each costs a time-out, or a pause before it is read again
		f.Times = 1
	}
	if f.Kind != sim.Hang && s.draw(2) == 0 {
		f.Status = []int{502, 503, 403, 404}[s.draw(4)]
		if f.Kind == sim.Fail {
			f.Status = 503
		}
	}
	a.shop.Inject(f)
}

func (s *storm) order(t *testing.T) {
	t.Helper()
	id := "o-" + strconv.Itoa(s.placed)
	a, err := s.store.Allocate(t.Context(), scripts.AllocateRequest{
		Order: vn.Order{ID: id, Pool: bengaluru.Name, TTL: 24 * time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102},
		}},
		Cooldown: time.Second, Carriers: []scripts.Carrier{{Name: "twilio", ID: 1}, {Name: "exotel", ID: 2}},
	})
	if errors.Is(err, vn.ErrPoolExhausted) {
		return
	}
	require.NoError(t, err)
	require.NoError(t, s.ledger.Assign(t.Context(), &a))
	s.orders, s.placed = append(s.orders, id), s.placed+1
}

func (s *storm) end(t *testing.T) {
	t.Helper()
	if len(s.orders) == 0 {
		return
	}
	i := s.draw(len(s.orders))
	ended, err := s.store.Release(t.Context(), s.orders[i], vn.Completed)
	require.NoError(t, err)
	require.NoError(t, s.ledger.End(t.Context(), &ended))
	s.orders = slices.Delete(s.orders, i, i+1)
	_, _, err = s.store.Reap(t.Context())
	require.NoError(t, err)
}

// calm ends all trouble and lets one replenisher finish.
func (s *storm) calm(t *testing.T) {
	t.Helper()
	for _, a := range s.accounts() {
		a.shop.ClearFaults()
	}
	for len(s.orders) > 0 {
		s.end(t)
	}
	for quiet, rounds := 0, 0; quiet < 3; rounds++ {
		require.Less(t, rounds, 60, "it does not come to rest")
		s.later += 6 * time.Minute
		look(t, s.r, bengaluru.Name)
		rows := 0
		for _, a := range s.accounts() {
			// By force: what somebody took away may be more than a list may lack.
			diff, err := s.r.Reconcile(t.Context(), a.name, ReconcileOptions{Force: true})
			if rows += len(diff.Rows); err != nil {
				rows++ // the client still leaves the carrier alone
			}
		}
		if quiet++; rows > 0 || s.level(t).free < bengaluru.Target {
			quiet = 0
		}
	}
}

// TestRealCarriersAddUpUnderFaults makes steps at random: looks, comparisons, releases,
// orders, changes at the carriers' consoles, restarts, and faults of each kind at both.
// CALLMASK_STEPS is how many, CALLMASK_SEED repeats a run.
func TestRealCarriersAddUpUnderFaults(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(os.Getenv("CALLMASK_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("CALLMASK_SEED=%d", seed)
	d := newDuo(t, terms{timeout: 300 * time.Millisecond, releaseLate: 2})
	s := &storm{duo: d, rng: rand.New(rand.NewPCG(seed, 0))}
	s.restart(t)
	for range steps(t) / 3 { // a step here does more than one there
		s.step(t)
		s.everyPurchaseHasAnIntent(t)
	}
	s.calm(t)
	atTwilio, atExotel := d.addsUp(t)
	t.Logf("%d numbers of Twilio's and %d of Exotel's are left of %d and %d; %d orders", atTwilio, atExotel,
		len(d.twilio.shop.Purchases()), len(d.exotel.shop.Purchases()), s.placed)
}
