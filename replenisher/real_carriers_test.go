package replenisher

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/exotelsim"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// What the settings make of a Twilio carrier named twilio and an Exotel one. How Twilio
// shall connect stands behind the #.
const (
	twilioSID     = "AC0123456789abcdef0123456789abcdef"
	twilioBundle  = "BU0123456789abcdef0123456789abcdef"
	overrides     = "#ct=500&rt=2000&rc=1&rp=ct,rt,5xx"
	twilioVoice   = "https://calls.example.com/v1/carriers/twilio/voice" + overrides
	twilioMessage = "https://calls.example.com/v1/carriers/twilio/sms" + overrides
	twilioStatus  = "https://calls.example.com/v1/carriers/twilio/status"
	exotelAccount = "callmask1"
	exotelFlow    = "http://my.exotel.com/" + exotelAccount + "/exoml/start_voice/77001"
)

var bengaluru = Pool{
	Name: "bengaluru", Region: "IN", Carriers: []string{"twilio", "exotel"}, LowWater: 6, Target: 6, Max: 1000, Fixed: true,
	SurplusAfter: time.Hour,
}

// account is ours at one of the two carriers: the client that the product has for it,
// which counts what may cost money or time, and the simulated carrier behind it.
type account struct {
	Numbers

	name            string
	webhook         string
	price, currency string
	shop            interface {
		Inject(f sim.Fault)
		ClearFaults()
		SellOut(region string, n int)
		Purchases() []sim.Purchase
		Owned() int
		Drop(number vn.Number)
	}
	attached func(vn.Number) bool                  // all of the number's settings, as the carrier has them
	detach   func(context.Context, carrier.Bought) // as somebody at the carrier's console would

	buys, configures atomic.Int64
	pending          atomic.Int64 // releases that were accepted and not done
}

func (a *account) Buy(ctx context.Context, n vn.Number, ref string) (carrier.Bought, error) {
	a.buys.Add(1)
	return a.Numbers.Buy(ctx, n, ref)
}

func (a *account) Configure(ctx context.Context, b carrier.Bought, url string) error {
	a.configures.Add(1)
	return a.Numbers.Configure(ctx, b, url)
}

func (a *account) Release(ctx context.Context, ref string) error {
	err := a.Numbers.Release(ctx, ref)
	if errors.Is(err, carrier.ErrPending) {
		a.pending.Add(1)
	}
	return err
}

// duo is a real Redis, a real JetStream, and Twilio's and Exotel's clients over the
// simulated carriers.
type duo struct {
	*rig

	twilio, exotel *account
	twilioShop     *twiliosim.Server
	carriers       []string      // of the pool, in its order
	later          time.Duration // how far the clock is ahead
}

// terms are what differs between the tests.
type terms struct {
	papers      bool          // Twilio sells nothing without a bundle, and we have none
	timeout     time.Duration // of a request
	releaseLate int           // for how many looks Exotel has a number that was released
}

func newDuo(t *testing.T, is terms) *duo {
	t.Helper()
	d := &duo{rig: newRig(t), carriers: bengaluru.Carriers}
	require.NoError(t, d.store.MarkReady(t.Context()))
	limits := carrier.Limits{Timeout: is.timeout, PerSecond: 1000, Burst: 1000, Rest: 20 * time.Millisecond}
	d.openTwilio(t, is, limits)
	d.openExotel(t, is, limits)
	return d
}

func (d *duo) openTwilio(t *testing.T, is terms, limits carrier.Limits) {
	t.Helper()
	cfg := twiliosim.Config{
		AccountSID: twilioSID, AuthToken: token, PageSize: 4,
		Stock: []sim.Stock{{Region: "IN", Prefixes: []string{"+915555510"}, Digits: 4}},
	}
	if is.papers {
		cfg.Bundles = map[string]string{"IN": twilioBundle}
	}
	shop, err := twiliosim.New(cfg)
	require.NoError(t, err)
	require.NoError(t, shop.Listen(t.Context(), "127.0.0.1:0"))
	d.serve(t, shop.Run)
	client, err := twilio.NewNumbers(twilio.NumbersConfig{
		APIURL: shop.URL(), PricingURL: shop.URL(), AccountSID: twilioSID, AuthToken: token,
		WebhookURL: twilioVoice, MessageURL: twilioMessage, StatusURL: twilioStatus, Limits: limits,
	})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	d.twilioShop = shop
	d.twilio = &account{
		Numbers: client, name: "twilio", webhook: twilioVoice, price: "1.15", currency: "USD", shop: shop,
		attached: func(n vn.Number) bool {
			return shop.Field(n, "voice_url") == twilioVoice && shop.Field(n, "voice_method") == "POST" &&
				shop.Field(n, "sms_url") == twilioMessage && shop.Field(n, "status_callback") == twilioStatus &&
				shop.Field(n, "trunk_sid") == "" && shop.Field(n, "voice_application_sid") == ""
		},
		detach: func(_ context.Context, b carrier.Bought) {
			shop.SetField(b.Number, "voice_url", "https://old.example.com/v1/carriers/twilio/voice")
		},
	}
}

func (d *duo) openExotel(t *testing.T, is terms, limits carrier.Limits) {
	t.Helper()
	shop, err := exotelsim.New(exotelsim.Config{
		AccountSID: exotelAccount, APIKey: "key", APIToken: token, PageSize: 4, ReleaseAfter: is.releaseLate,
	})
	require.NoError(t, err)
	require.NoError(t, shop.Listen(t.Context(), "127.0.0.1:0"))
	d.serve(t, shop.Run)
	open := func(app string) *exotel.Numbers {
		client, err := exotel.NewNumbers(exotel.NumbersConfig{
			APIURL: shop.URL(), AccountSID: exotelAccount, APIKey: "key", APIToken: token, AppID: app, Limits: limits,
			ReleaseWait: time.Nanosecond, // so that it is never gone at once
		})
		require.NoError(t, err)
		t.Cleanup(client.Close)
		return client
	}
	client, other := open("77001"), open("99002")
	require.Equal(t, exotelFlow, client.WebhookURL())
	d.exotel = &account{
		Numbers: client, name: "exotel", webhook: client.WebhookURL(), price: "499.00", currency: "INR", shop: shop,
		attached: func(n vn.Number) bool { return shop.VoiceURL(n) == exotelFlow },
		detach: func(ctx context.Context, b carrier.Bought) {
			_ = other.Configure(ctx, b, other.WebhookURL()) // the carrier may fail just then
		},
	}
}

func (d *duo) accounts() []*account { return []*account{d.twilio, d.exotel} }

func (d *duo) config() Config {
	pool := bengaluru
	pool.Carriers = d.carriers
	cfg := Config{Pools: []Pool{pool}, Carriers: map[string]CarrierConfig{}, CarrierCall: 2 * time.Second, Grace: time.Millisecond}
	for _, a := range d.accounts() {
		cfg.Carriers[a.name] = CarrierConfig{Numbers: a, WebhookURL: a.webhook}
	}
	return cfg
}

// stepper returns a replenisher that does what the test calls. A carrier that failed is
// left alone for a minute at least, so that no test depends on how fast it runs.
func (d *duo) stepper(t *testing.T) *Replenisher {
	t.Helper()
	cfg := d.config()
	cfg.BackoffFirst = time.Minute
	r, err := New(cfg, d.store, d.bus, d.ledger, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	r.now = func() time.Time { return time.Now().Add(d.later) }
	return r
}

func (d *duo) level(t *testing.T) (sum level) {
	t.Helper()
	rows, err := d.store.Stock(t.Context())
	require.NoError(t, err)
	for _, row := range rows {
		sum.free, sum.total = sum.free+row.Free, sum.total+row.Total
	}
	return sum
}

// settle lets time pass until every purchase is settled and the pool is at its target.
func (d *duo) settle(t *testing.T, r *Replenisher) {
	t.Helper()
	for range 20 {
		d.later += 3 * time.Minute
		look(t, r, bengaluru.Name)
		open, err := testkit.OpenIntents(t.Context(), d.bus)
		require.NoError(t, err)
		if len(open) == 0 && d.level(t).free >= bengaluru.Target {
			return
		}
	}
	require.Fail(t, "purchases stay open, or the pool does not come to its target")
}

// addsUp holds that what is paid for at the carriers is what the inventory has, that no
// number was bought twice, that each is attached to us, and what its pool pays for it.
// It returns how many numbers each carrier has.
func (d *duo) addsUp(t *testing.T) (atTwilio, atExotel int) {
	t.Helper()
	open, err := testkit.OpenIntents(t.Context(), d.bus)
	require.NoError(t, err)
	require.Empty(t, open)
	paid := map[string]events.PurchaseIntent{} // by VN
	require.NoError(t, d.bus.Intents(t.Context(), func(in events.PurchaseIntent, _ uint64) error {
		if in.Outcome == events.OutcomeBought {
			paid[in.VN] = in
		}
		return nil
	}))
	total := 0
	for _, a := range d.accounts() {
		once := map[vn.Number]bool{}
		for _, p := range a.shop.Purchases() {
			require.False(t, once[p.Number], "bought twice")
			once[p.Number] = true
		}
		have := map[vn.Number]string{}
		for n, inv := range d.inventory(t, a) {
			have[n] = inv.Ref
		}
		list, err := a.List(t.Context())
		require.NoError(t, err)
		held := map[vn.Number]string{}
		for _, b := range list {
			held[b.Number] = b.Ref
			require.Equal(t, a.webhook, b.WebhookURL)
			require.True(t, a.attached(b.Number))
			in := paid[b.Number.Digits()]
			require.Equal(t, []string{a.name, a.price, a.currency}, []string{in.Carrier, in.Price, in.Currency})
		}
		require.True(t, maps.Equal(held, have), "%s has %d numbers, the inventory %d", a.name, len(held), len(have))
		require.Len(t, held, a.shop.Owned())
		total += len(held)
	}
	require.Len(t, paid, total, "a pool pays for a number that it has not")
	require.Equal(t, total, d.level(t).total)
	audit, err := d.store.Audit(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
	return d.twilio.shop.Owned(), d.exotel.shop.Owned()
}

func (d *duo) inventory(t *testing.T, a *account) map[vn.Number]scripts.Inventory {
	t.Helper()
	all, err := d.store.InventoryOf(t.Context(), a.name)
	require.NoError(t, err)
	return all
}

// numbers returns the VNs of a carrier in an order that does not change.
func (d *duo) numbers(t *testing.T, a *account) []vn.Number {
	t.Helper()
	return slices.Sorted(maps.Keys(d.inventory(t, a)))
}

func TestRealTwilioFillsAPool(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{})
	plain, err := nats.Connect(d.nats.URL) // as any other program hears it
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	sub, err := plain.SubscribeSync(events.SubjectPoolBought)
	require.NoError(t, err)
	require.NoError(t, plain.Flush())

	cfg := d.config()
	cfg.Sweep, cfg.Grace = 100*time.Millisecond, time.Second
	r, err := New(cfg, d.store, d.bus, d.ledger, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	stop := d.serve(t, r.Run)
	require.Eventually(t, func() bool {
		rows, err := d.store.Stock(t.Context())
		return err == nil && len(rows) == 1 && rows[0].Free == bengaluru.Target
	}, 20*time.Second, 20*time.Millisecond)
	stop()

	atTwilio, atExotel := d.addsUp(t)
	require.Equal(t, []int{6, 0}, []int{atTwilio, atExotel})
	require.EqualValues(t, 6, d.twilio.buys.Load())
	require.Zero(t, d.twilio.configures.Load(), "the settings go with the purchase")
	announced := map[string]bool{}
	for range 6 {
		m, err := sub.NextMsg(10 * time.Second)
		require.NoError(t, err)
		var e events.PoolBought
		require.NoError(t, json.Unmarshal(m.Data, &e))
		require.Equal(t, []string{"bengaluru", "twilio", "1.15", "USD", events.ReasonLowWater},
			[]string{e.Pool, e.Carrier, e.Price, e.Currency, e.Reason})
		announced[e.VN] = true
	}
	for _, n := range d.numbers(t, d.twilio) {
		require.True(t, announced[n.E164()])
	}
	require.NoError(t, plain.Flush())
	left, _, err := sub.Pending()
	require.NoError(t, err)
	require.Zero(t, left)
}

// TestRealExotelSellsWhatTwilioDoesNot has Twilio fail in each way while the pool is
// filled: the same look goes on at Exotel, nothing is asked for again on a guess, and
// in the end the pool has what it needs and not one number more.
func TestRealExotelSellsWhatTwilioDoesNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   sim.Fault
		unknown bool // the answer leaves open whether the number was bought
		bought  bool // it was
	}{
		"throttled":                      {fault: sim.Fault{Kind: sim.Throttle, RetryAfter: 20 * time.Minute}},
		"HTTP 500 of its own":            {fault: sim.Fault{Kind: sim.Fail}, unknown: true},
		"HTTP 503 of its own":            {fault: sim.Fault{Kind: sim.Fail, Status: 503}, unknown: true},
		"bought, and HTML":               {fault: sim.Fault{Kind: sim.Garble}, unknown: true, bought: true},
		"bought, and HTML with HTTP 502": {fault: sim.Fault{Kind: sim.Garble, Status: 502}, unknown: true, bought: true},
		"bought, and HTML with HTTP 403": {fault: sim.Fault{Kind: sim.Garble, Status: 403}, unknown: true, bought: true},
		"bought, and no answer in time":  {fault: sim.Fault{Kind: sim.Hang}, unknown: true, bought: true},
		"bought, and hung up":            {fault: sim.Fault{Kind: sim.HangUp}, unknown: true, bought: true},
		"bought, and half an answer":     {fault: sim.Fault{Kind: sim.Partial}, unknown: true, bought: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDuo(t, terms{timeout: time.Second})
			r := d.stepper(t)
			c.fault.Op, c.fault.Times = sim.OpBuy, 4 // as many as are under way at once
			d.twilio.shop.Inject(c.fault)
			look(t, r, bengaluru.Name)
			d.twilio.shop.ClearFaults()

			tried := int(d.twilio.buys.Load())
			require.GreaterOrEqual(t, tried, 1)
			require.LessOrEqual(t, tried, 4)
			open, err := testkit.OpenIntents(t.Context(), d.bus)
			require.NoError(t, err)
			if c.unknown {
				require.Len(t, open, tried)
				require.Equal(t, 6-tried, d.exotel.shop.Owned(), "what may have been bought counts as bought")
			} else {
				require.Empty(t, open)
				require.Equal(t, 6, d.exotel.shop.Owned())
				require.False(t, r.sellers["twilio"].open(r.now().Add(19*time.Minute)), "it said how long to wait")
			}
			require.Equal(t, c.bought, d.twilio.shop.Owned() > 0)
			look(t, r, bengaluru.Name) // right after: Twilio is left alone
			require.EqualValues(t, tried, d.twilio.buys.Load())

			d.settle(t, r)
			atTwilio, atExotel := d.addsUp(t)
			require.Equal(t, 6, atTwilio+atExotel)
			if c.bought {
				require.Equal(t, tried, atTwilio)
				require.EqualValues(t, tried, d.twilio.buys.Load(), "what was bought is found in the list")
			}
		})
	}
}

func TestRealANumberSoldMeanwhileIsPassedOver(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{})
	r := d.stepper(t)
	for _, a := range d.accounts() { // 21422 at Twilio, 409 at Exotel
		a.shop.Inject(sim.Fault{Op: sim.OpBuy, Kind: sim.Snatch, Times: 2})
	}
	d.twilio.shop.SellOut("IN", 5)
	look(t, r, bengaluru.Name)
	atTwilio, atExotel := d.addsUp(t)
	require.Equal(t, []int{3, 3}, []int{atTwilio, atExotel})
	require.Equal(t, []int64{5, 5}, []int64{d.twilio.buys.Load(), d.exotel.buys.Load()})
	for _, a := range d.accounts() {
		require.True(t, r.sellers[a.name].open(r.now()), "that is no failure of the carrier's")
	}
}

// Twilio wants a regulatory bundle (21649): that is the same for its next number too.
func TestRealMissingPapersLeadToTheNextCarrierAtOnce(t *testing.T) {
	t.Parallel()
	d := newDuo(t, terms{papers: true})
	d.exotel.shop.SellOut("IN", 4) // the pool goes on needing two
	r := d.stepper(t)
	look(t, r, bengaluru.Name)
	require.Equal(t, 4, d.level(t).free)
	first := d.twilio.buys.Load()
	require.LessOrEqual(t, first, int64(4), "those under way at once, and no more")
	look(t, r, bengaluru.Name)
	require.Equal(t, first, d.twilio.buys.Load(), "not again until the pause is over")
	open, err := testkit.OpenIntents(t.Context(), d.bus)
	require.NoError(t, err)
	require.Empty(t, open, "nothing was bought, and that is certain")
	d.later += 2 * time.Minute
	look(t, r, bengaluru.Name)
	require.Greater(t, d.twilio.buys.Load(), first)
	atTwilio, atExotel := d.addsUp(t)
	require.Equal(t, []int{0, 4}, []int{atTwilio, atExotel})
}
