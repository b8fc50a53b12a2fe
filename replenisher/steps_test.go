package replenisher

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

var london = Pool{Name: "london", Region: "GB", Carriers: []string{"first", "second"}, LowWater: 3, Target: 5, Max: 8}

// oneShot makes the n-th call of step (from 1) meet f; everything else is fine.
func oneShot(step string, n int, f fate) func(string) fate {
	return func(s string) fate {
		if s != step {
			return fine
		}
		if n--; n == 0 {
			return f
		}
		return fine
	}
}

func stocked(pools ...Pool) (*world, *process) {
	w := newWorld(pools...)
	w.stockUp("first", 50)
	w.stockUp("second", 50)
	return w, &process{w: w}
}

func look(t *testing.T, r *Replenisher, pool string) {
	t.Helper()
	require.NoError(t, r.look(t.Context(), r.workers[pool]))
}

// TestACrashAtAnyStepIsMadeGood crashes a process before and after each of its
// calls in turn; the next process finishes what was begun and buys the rest.
func TestACrashAtAnyStepIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"ready", "stock", "intents", "lease", "hold", "search", "inventory", "intent", "buy", "configure", "own", "announce", "close"} {
		for _, f := range []fate{lost, unheard, crash, crashLate} {
			for n := 1; n <= 5; n++ {
				w, p := stocked(london)
				p.next = oneShot(step, n, f)
				r := p.start(t, 1)
				_ = r.look(t.Context(), r.workers["london"])
				_ = r.look(t.Context(), r.workers["london"])

				next := (&process{w: w}).start(t, 1)
				for range 4 {
					w.advance(time.Minute)
					look(t, next, "london")
				}
				w.settled(t)
				free, total, _ := w.level("london")
				require.Equal(t, []int{5, 5}, []int{free, total}, "%s, call %d, fate %d", step, n, f)
			}
		}
	}
}

func TestBuysUpToTheTargetAndOnlyBelowLowWater(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 4)
	look(t, r, "london")
	free, _, _ := w.level("london")
	require.Equal(t, 5, free)

	leased := 0
	for n := range w.inventory { // down to low water: nothing is bought
		if leased < 2 {
			w.leased[n] = true
			leased++
		}
	}
	look(t, r, "london")
	require.Len(t, w.inventory, 5)

	for n := range w.inventory { // none free: the need is 5, but 3 are all the pool may still have
		w.leased[n] = true
	}
	look(t, r, "london")
	free, total, _ := w.level("london")
	require.Equal(t, []int{3, 8}, []int{free, total})
	w.settled(t)
	require.InDelta(t, 8, testutil.ToFloat64(r.metrics.purchases.WithLabelValues("london", "first")), 0)
	require.InDelta(t, 3, testutil.ToFloat64(r.metrics.stock.WithLabelValues("london", "first", "free")), 0)
	require.InDelta(t, 5, testutil.ToFloat64(r.metrics.stock.WithLabelValues("london", "first", "leased")), 0)
	require.InDelta(t, 0, testutil.ToFloat64(r.metrics.openIntents.WithLabelValues("london")), 0)
	require.InDelta(t, float64(w.now.Unix()), testutil.ToFloat64(r.metrics.lastSweep.WithLabelValues("london")), 0)
}

func TestNothingIsBoughtWhileColdOrBlindOrWithoutCarriers(t *testing.T) {
	t.Parallel()
	bare := london
	bare.Carriers = nil
	tests := map[string]struct {
		pool   Pool
		cold   bool
		next   func(string) fate
		failed bool
	}{
		"cold":                 {pool: london, cold: true},
		"stock unreadable":     {pool: london, next: func(s string) fate { return map[bool]fate{true: lost}[s == "stock"] }, failed: true},
		"intents unreadable":   {pool: london, next: func(s string) fate { return map[bool]fate{true: lost}[s == "intents"] }, failed: true},
		"inventory unreadable": {pool: london, next: func(s string) fate { return map[bool]fate{true: lost}[s == "inventory"] }, failed: true},
		"pause unreadable":     {pool: london, next: func(s string) fate { return map[bool]fate{true: lost}[s == "paused"] }, failed: true},
		"readiness unreadable": {pool: london, next: oneShot("ready", 1, lost), failed: true},
		"no carriers":          {pool: bare},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, p := stocked(tt.pool)
			w.cold, p.next = tt.cold, tt.next
			r := p.start(t, 1)
			err := r.look(t.Context(), r.workers["london"])
			require.Equal(t, tt.failed, err != nil, "%v", err)
			require.Zero(t, w.shops["first"].bought+w.shops["second"].bought)
		})
	}
}

func TestTheNextCarrierIsAskedWhenOneFails(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"search", "buy"} {
		w, p := stocked(london)
		p.next = oneShot(step, 1, refusal)
		r := p.start(t, 1)
		look(t, r, "london")
		require.Zero(t, w.shops["first"].bought, step)
		require.Equal(t, 5, w.shops["second"].bought, step)
		w.settled(t)
		require.InDelta(t, 1, testutil.ToFloat64(r.metrics.failures.WithLabelValues("first", step)), 0)
		// 429 with Retry-After 20 s: left alone that long, though the back-off is 1 s.
		require.False(t, r.sellers["first"].open(w.now.Add(19*time.Second)), step)
		require.True(t, r.sellers["first"].open(w.now.Add(20*time.Second)), step)
	}
}

func TestASoldOutOfferIsPassedOver(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	gone := w.shops["first"].forSale[0]
	p.next = oneShot("buy", 1, sold)
	r := p.start(t, 1)
	look(t, r, "london")
	w.settled(t)
	require.Equal(t, 5, w.shops["first"].bought)
	require.NotContains(t, w.inventory, gone)
	require.True(t, r.sellers["first"].open(w.now), "a number that somebody else bought is no failure of the carrier")
}

func TestAnUnknownOutcomeCountsAsBoughtUntilTheListTells(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	p.next = oneShot("buy", 1, unheard)
	r := p.start(t, 1)
	look(t, r, "london")
	require.Equal(t, 1, w.shops["first"].bought, "after an unknown outcome the carrier is left alone")
	require.Equal(t, 4, w.shops["second"].bought, "and the purchase counts as one of the five")
	require.Len(t, w.openIntents(), 1)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.openIntents.WithLabelValues("london")), 0)

	w.advance(2 * time.Second)
	look(t, r, "london")
	w.settled(t)
	require.Len(t, w.inventory, 5)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.adopted.WithLabelValues("london", "first")), 0)
}

func TestAPurchaseIsGivenUpOnlyAfterTwoListsWithoutIt(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	p.next = oneShot("buy", 1, lost)
	r := p.start(t, 1)
	look(t, r, "london")
	require.Len(t, w.openIntents(), 1)
	w.advance(61 * time.Second)
	look(t, r, "london") // too young to be judged
	require.Len(t, w.openIntents(), 1)
	w.advance(61 * time.Second)
	look(t, r, "london") // the first list that counts
	require.Len(t, w.openIntents(), 1)
	require.Len(t, w.inventory, 4)
	look(t, r, "london") // the second
	require.Empty(t, w.openIntents())
	require.Len(t, w.inventory, 5, "and the need that it had counted for is bought now")
	w.settled(t)
}

func TestANumberOfSomebodyElseIsNeverAdopted(t *testing.T) {
	t.Parallel()
	for _, held := range []carrier.Bought{
		{Number: 447700900999, Ref: "PN9", Tag: "callmask:447700900999:other"},
		{Number: 447700900999, Ref: "PN9", WebhookURL: "https://pbx.example.com"}, // bought by hand, and in use
	} {
		w, p := stocked(london)
		mine := events.PurchaseIntent{VN: "447700900999", Pool: "london", Carrier: "first", At: w.now}
		w.put(mine)
		w.shops["first"].held[447700900999] = &sale{Bought: held}
		r := p.start(t, 1)
		for range 4 {
			w.advance(time.Minute)
			look(t, r, "london")
		}
		require.NotContains(t, w.inventory, vn.Number(447700900999))
		require.Equal(t, held.WebhookURL, w.shops["first"].held[447700900999].WebhookURL, "its calls must not be turned to us")
		require.Empty(t, w.openIntents())
	}
}

func TestANumberOfACarrierWithoutReferencesIsAdopted(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	w.put(events.PurchaseIntent{VN: "447700900999", Pool: "gone", Carrier: "first", Price: "1.00", Currency: "USD", At: w.now})
	w.shops["first"].held[447700900999] = &sale{Bought: carrier.Bought{Number: 447700900999, Ref: "PN9"}, pool: "gone"}
	w.shops["first"].bought++
	r := p.start(t, 1)
	look(t, r, unknownPool) // its pool is not configured any more: the number is kept all the same
	w.settled(t)
	require.Equal(t, "gone", w.inventory[447700900999].Pool)
}

func TestAnIntentThatCannotBeSettledStaysOpen(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	w.put(events.PurchaseIntent{VN: "447700900999", Pool: "london", Carrier: "dismissed", At: w.now})
	w.put(events.PurchaseIntent{VN: "not a number", Pool: "london", Carrier: "first", At: w.now})
	r := p.start(t, 1)
	for range 5 {
		w.advance(time.Minute)
		look(t, r, "london")
	}
	require.Len(t, w.openIntents(), 2)
	require.Len(t, w.inventory, 3, "they count as bought: 5 less 2")
}

func TestASlowCarrierMakesLateIntentsBeWithdrawn(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	p.next = func(step string) fate {
		if step == "buy" {
			w.advance(50 * time.Second) // others may take an intent of two minutes for one that came to nothing
		}
		return fine
	}
	r := p.start(t, 1)
	require.NoError(t, r.look(t.Context(), r.workers["london"]))
	w.settled(t)
	for _, in := range w.intents {
		if in.Outcome == events.OutcomeBought {
			require.LessOrEqual(t, in.ClosedAt.Sub(in.At), 2*time.Minute+20*time.Second)
		}
	}
}

func TestTheBackOffDoublesAndEnds(t *testing.T) {
	t.Parallel()
	s := &seller{first: time.Second, most: 5 * time.Minute}
	now := time.Unix(0, 0)
	var pauses []time.Duration
	for range 40 {
		pauses = append(pauses, s.failed(now, errLost))
	}
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, pauses[:3])
	require.Equal(t, 5*time.Minute, pauses[39])
	require.Equal(t, time.Hour, s.failed(now, errLost, &carrier.APIError{Status: 503, RetryAfter: time.Hour}))
	require.False(t, s.open(now.Add(time.Hour-1)))
	s.succeeded()
	require.True(t, s.open(now))
	require.Equal(t, time.Second, s.failed(now, errLost))
}

func TestWrongSettingsAreRefusedByName(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*Config){
		"low_water must not be negative":   func(c *Config) { c.Pools[0].LowWater = -1 },
		"target must be at least":          func(c *Config) { c.Pools[0].Target = 1 },
		"max must be at least":             func(c *Config) { c.Pools[0].Max = 4 },
		"region is missing":                func(c *Config) { c.Pools[0].Region = "" },
		"name is missing":                  func(c *Config) { c.Pools[0].Name = "" },
		"is there twice":                   func(c *Config) { c.Pools = append(c.Pools, london) },
		"has no number client":             func(c *Config) { c.Carriers = map[string]CarrierConfig{"x": {}} },
		"Sweep must not be negative":       func(c *Config) { c.Sweep = -1 },
		"Parallel must not be negative":    func(c *Config) { c.Parallel = -1 },
		"SettleAfter must be at least":     func(c *Config) { c.SettleAfter = time.Second },
		"Lease must be at least 1s":        func(c *Config) { c.Lease = time.Millisecond },
		"metrics: duplicate metrics colle": nil,
	}
	for want, change := range tests {
		cfg := Config{Pools: []Pool{london}}
		reg := prometheus.NewRegistry()
		if change == nil {
			_, err := newMetrics(reg)
			require.NoError(t, err)
		} else {
			change(&cfg)
		}
		_, err := New(cfg, nil, nil, nil, reg, zerolog.Nop())
		require.ErrorContains(t, err, want)
	}
}

func TestNoNumberIsLoggedOrCountedInClear(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	reg := prometheus.NewRegistry()
	w, p := stocked(london)
	p.next = func(step string) fate { return map[string]fate{"buy": unheard, "list": stale, "own": fine}[step] }
	w.put(events.PurchaseIntent{VN: "447700900999", Pool: "london", Carrier: "dismissed", At: w.now})
	w.put(events.PurchaseIntent{VN: "447700900998", Pool: "london", Carrier: "first", At: w.now})
	r := p.startLogged(t, 1, reg, zerolog.New(&logs))
	for range 5 {
		w.advance(61 * time.Second)
		look(t, r, "london")
	}
	for _, said := range []string{"leaving it alone", "adopted", "did not happen", "cannot be settled"} {
		require.Contains(t, logs.String(), said)
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	require.NotContains(t, logs.String()+fmt.Sprint(families), "44770090")
}

func TestEventsNameThePoolToLookAt(t *testing.T) {
	t.Parallel()
	_, p := stocked(london)
	r := p.start(t, 1)
	tests := map[string]struct{ data, verdict string }{
		"pools.low":     {`{"pool":"london","free":1,"target":5}`, "done"},
		"orders.placed": {`{"order_id":"o-1","pool":"london"}`, "done"},
		"unknown pool":  {`{"order_id":"o-1","pool":"paris"}`, "done"},
		"no pool":       {`{"order_id":"o-1"}`, "dead"},
		"not JSON":      {`{"order_id`, "dead"},
		"not an object": {`["london"]`, "dead"},
		"odd pool":      {`{"pool":7}`, "dead"},
		"our own room":  {`{"pool":""}`, "dead"},
	}
	for name, tt := range tests {
		require.Equal(t, tt.verdict, r.handle(t.Context(), events.Message{Data: []byte(tt.data)}).String(), name)
	}
	require.Len(t, r.workers["london"].wake, 1, "many triggers are one look")
	require.Empty(t, r.workers[unknownPool].wake)
	var subjects []string
	for _, c := range r.consumers() {
		require.True(t, c.Each, "whichever process acts must hear of it")
		subjects = append(subjects, c.Subjects...)
	}
	require.Equal(t, []string{"pools.low", "pools.top_up.*", "orders.placed", "ledger.lease.*"}, subjects)
}
