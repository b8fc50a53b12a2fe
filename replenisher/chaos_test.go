package replenisher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const (
	chaosTarget = 6 // of pool london
	chaosCap    = 7 // of pool leeds, in USD
)

// chaos is a real Redis, a real JetStream and two simulated carriers, with a clock that
// moves when we say so.
type chaos struct {
	*rig

	shops   map[string]*sim.Server
	clients map[string]*sim.Numbers
	prices  map[string]float64
	pools   []Pool

	mu     sync.Mutex // of the generator, and of the clock
	rng    *rand.Rand
	time   time.Time
	paused time.Duration // in this round
	steps  atomic.Int64
	stormy atomic.Bool // leases are taken away all the time
	orders int
}

// steps is how many calls of the replenishers a chaos run makes: CALLMASK_STEPS, for
// example 100000, or a number that takes seconds.
func steps(t *testing.T) int64 {
	t.Helper()
	n, err := strconv.ParseInt(os.Getenv("CALLMASK_STEPS"), 10, 64)
	if err != nil {
		return 600
	}
	return n
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	c := &chaos{
		rig: newRig(t), rng: rand.New(rand.NewPCG(seed, 0)), time: time.Now(), shops: map[string]*sim.Server{},
		clients: map[string]*sim.Numbers{}, prices: map[string]float64{"first": 1, "second": 1.5},
	}
	for name, prefix := range map[string]string{"first": "+447700900", "second": "+442079460"} {
		c.shops[name], c.clients[name] = c.sell(t, sim.ServerConfig{
			Stock: []sim.Stock{{Region: "GB", Prefixes: []string{prefix}, Digits: 3}}, PageSize: 50,
			Price: strconv.FormatFloat(c.prices[name], 'f', 2, 64),
		}, 300*time.Millisecond)
	}
	both := []string{"first", "second"}
	c.pools = []Pool{
		// What it has free is what it needs at any moment: so it can be told exactly what
		// one replenisher would have bought.
		{Name: "london", Region: "GB", Carriers: both, LowWater: chaosTarget, Target: chaosTarget, Max: 2000, Fixed: true},
		{Name: "leeds", Region: "GB", Carriers: both, LowWater: 8, Target: 10, Max: 40, MonthlyCap: usd(t, chaosCap)},
	}
	require.NoError(t, c.store.MarkReady(t.Context()))
	return c
}

func (c *chaos) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *chaos) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time, c.paused = c.time.Add(d), 0
}

func (c *chaos) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// victim is one replenisher and its way to everything outside, on which it meets its
// fate.
type victim struct {
	Store
	Bus
	Ledger

	c    *chaos
	r    *Replenisher
	calm bool
	dead atomic.Bool
	stop context.CancelFunc // of the round
}

func (c *chaos) start(t *testing.T, calm bool, pools []Pool) *victim {
	t.Helper()
	v := &victim{Store: c.store, Bus: c.bus, Ledger: c.ledger, c: c, calm: calm, stop: func() {}}
	cfg := Config{Pools: pools, Carriers: map[string]CarrierConfig{}, Grace: 200 * time.Millisecond}
	for name, client := range c.clients {
		cfg.Carriers[name] = CarrierConfig{Numbers: victimNumbers{v, client}, WebhookURL: webhook}
	}
	r, err := New(cfg, v, v, v, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	r.now, v.r = c.now, r
	return v
}

// try makes one call, and crashes, stops, deposes, delays or blinds its process before or
// after it.
func try[T any](v *victim, call func() (T, error)) (result T, err error) {
	v.c.steps.Add(1)
	if v.dead.Load() {
		return result, errDead
	}
	if !v.calm {
		if err := v.meet(v.c.draw(1000)); err != nil {
			return result, err
		}
	}
	answer, err := call()
	if !v.calm {
		if fault := v.meet(v.c.draw(1000)); fault != nil {
			return result, fault
		}
	}
	return answer, err
}

// meet is what happens between two steps of a process; an error when it does not live to
// see the second one, or the answer of the first.
func (v *victim) meet(fate int) error {
	switch {
	case fate < 8:
		v.dead.Store(true)
		return errDead
	case fate < 16:
		return errLost
	case fate < 20:
		v.stop()
	case fate < 24:
		v.c.pause()
	case fate < 30, v.c.stormy.Load() && fate < 100:
		v.c.depose()
	}
	return nil
}

func only(call func() error) func() (struct{}, error) {
	return func() (struct{}, error) { return struct{}{}, call() }
}

// depose takes the lease of a pool away from whoever has it, and gives somebody else the
// time to take it and to buy.
func (c *chaos) depose() {
	ctx := context.Background() // the process whose call this is may just be ending
	pool := []string{"london", "london", "leeds"}[c.draw(3)]
	thief := events.Lease{Owner: fmt.Sprint("thief ", c.draw(1<<30))}
	_, seq, err := c.bus.Lease(ctx, pool)
	if err != nil {
		return
	}
	_, _ = c.bus.PutLease(ctx, pool, thief, seq) // somebody may be quicker: no harm
	for range 20 {
		_ = rest(ctx, time.Duration(1+c.draw(3))*time.Millisecond)
		if l, _, err := c.bus.Lease(ctx, pool); err != nil || l.Owner != thief.Owner {
			break
		}
	}
	_ = rest(ctx, time.Duration(c.draw(20))*time.Millisecond)
}

// pause lets time pass in which leases end: 20 s at most in a round, as a purchase in
// hand may be taken for lost after two minutes.
func (c *chaos) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := time.Duration(c.rng.Int64N(int64(20*time.Second - c.paused + 1)))
	c.time, c.paused = c.time.Add(d), c.paused+d
}

func (v *victim) Ready(ctx context.Context) (bool, error) {
	return try(v, func() (bool, error) { return v.Store.Ready(ctx) })
}

func (v *victim) Stock(ctx context.Context) ([]scripts.Stock, error) {
	return try(v, func() ([]scripts.Stock, error) { return v.Store.Stock(ctx) })
}

func (v *victim) Inventory(ctx context.Context, n vn.Number) (scripts.Inventory, error) {
	return try(v, func() (scripts.Inventory, error) { return v.Store.Inventory(ctx, n) })
}

func (v *victim) Own(ctx context.Context, pool, by string, n []scripts.Owned) (scripts.Refilled, error) {
	return try(v, func() (scripts.Refilled, error) { return v.Ledger.Own(ctx, pool, by, n) })
}

func (v *victim) Intent(ctx context.Context, in events.PurchaseIntent) error {
	_, err := try(v, only(func() error { return v.Bus.Intent(ctx, in) }))
	return err
}

func (v *victim) CloseIntent(ctx context.Context, in events.PurchaseIntent, outcome string) error {
	_, err := try(v, only(func() error { return v.Bus.CloseIntent(ctx, in, outcome) }))
	return err
}

func (v *victim) Intents(ctx context.Context, each func(events.PurchaseIntent, uint64) error) error {
	_, err := try(v, only(func() error { return v.Bus.Intents(ctx, each) }))
	return err
}

func (v *victim) Lease(ctx context.Context, pool string) (l events.Lease, seq uint64, err error) {
	_, err = try(v, only(func() (err error) { l, seq, err = v.Bus.Lease(ctx, pool); return err }))
	return l, seq, err
}

func (v *victim) PutLease(ctx context.Context, pool string, l events.Lease, last uint64) (uint64, error) {
	return try(v, func() (uint64, error) { return v.Bus.PutLease(ctx, pool, l, last) })
}

func (v *victim) PoolBought(ctx context.Context, e events.PoolBought, at time.Time) error {
	_, err := try(v, only(func() error { return v.Bus.PoolBought(ctx, e, at) }))
	return err
}

// victimNumbers is a victim's client of one carrier.
type victimNumbers struct {
	v *victim
	Numbers
}

func (n victimNumbers) Search(ctx context.Context, region string, most int) ([]carrier.Offer, error) {
	return try(n.v, func() ([]carrier.Offer, error) {
		offers, err := n.Numbers.Search(ctx, region, most+50)
		n.v.c.mu.Lock() // as real ones do, it offers everybody something else: that two do not buy the same is our business
		n.v.c.rng.Shuffle(len(offers), func(i, j int) { offers[i], offers[j] = offers[j], offers[i] })
		n.v.c.mu.Unlock()
		return offers[:min(most, len(offers))], err
	})
}

func (n victimNumbers) Buy(ctx context.Context, number vn.Number, ref string) (carrier.Bought, error) {
	return try(n.v, func() (carrier.Bought, error) { return n.Numbers.Buy(ctx, number, ref) })
}

func (n victimNumbers) Configure(ctx context.Context, b carrier.Bought, url string) error {
	_, err := try(n.v, only(func() error { return n.Numbers.Configure(ctx, b, url) }))
	return err
}

func (n victimNumbers) List(ctx context.Context) ([]carrier.Bought, error) {
	return try(n.v, func() ([]carrier.Bought, error) { return n.Numbers.List(ctx) })
}

// trouble lets a carrier go wrong.
func (c *chaos) trouble() {
	kinds := []sim.FaultKind{sim.Fail, sim.Throttle, sim.HangUp, sim.Garble, sim.Snatch, sim.HangUp, sim.Throttle, sim.Hang}
	ops := []sim.Op{sim.OpSearch, sim.OpBuy, sim.OpBuy, sim.OpBuy, sim.OpConfigure, sim.OpList}
	f := sim.Fault{Op: ops[c.draw(len(ops))], Kind: kinds[c.draw(len(kinds))], Times: 1 + c.draw(3), RetryAfter: 20 * time.Second}
	if f.Kind == sim.Hang { // each costs the client's time-out
		f.Times = 1
	}
	if f.Op == sim.OpBuy && c.draw(2) == 0 {
		f.Status = 502
	}
	c.shops[[]string{"first", "second"}[c.draw(2)]].Inject(f)
}

// order leases two VNs of london, if that many are free.
func (c *chaos) order(t *testing.T) {
	t.Helper()
	a, err := c.store.Allocate(t.Context(), scripts.AllocateRequest{
		Order: vn.Order{ID: "o-" + strconv.Itoa(c.orders), Pool: "london", TTL: 24 * time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102},
		}},
		Cooldown: time.Second, Carriers: []scripts.Carrier{{Name: "first", ID: 1}, {Name: "second", ID: 2}},
	})
	if errors.Is(err, vn.ErrPoolExhausted) {
		return
	}
	require.NoError(t, err)
	require.NoError(t, c.ledger.Assign(t.Context(), &a))
	c.orders++
}

// books adds up what was bought, by pool, and checks that every purchase has an intent
// that was not given up.
func (c *chaos) books(t *testing.T) (count map[string]int, cost map[string]float64) {
	t.Helper()
	byTag := map[string]events.PurchaseIntent{}
	require.NoError(t, c.bus.Intents(t.Context(), func(in events.PurchaseIntent, _ uint64) error {
		if in.Outcome != events.OutcomeNotBought {
			byTag[tag(in)] = in
		}
		return nil
	}))
	count, cost = map[string]int{}, map[string]float64{}
	for name, shop := range c.shops {
		for _, p := range shop.Purchases() {
			in, ok := byTag[p.Ref]
			require.True(t, ok, "a number was bought and its intent is missing, or says that it was not")
			count[in.Pool]++
			cost[in.Pool] += c.prices[name]
		}
	}
	return count, cost
}

func (c *chaos) level(t *testing.T, pool string) (free, total int) {
	t.Helper()
	rows, err := c.store.Stock(t.Context())
	require.NoError(t, err)
	for _, row := range rows {
		if row.Pool == pool {
			free, total = free+row.Free, total+row.Total
		}
	}
	return free, total
}

// round lets every replenisher look at everything a few times, all at the same time.
func (c *chaos) round(t *testing.T, all []*victim) {
	t.Helper()
	c.stormy.Store(c.draw(3) == 0)
	var group sync.WaitGroup
	for i, v := range all {
		if v == nil || v.dead.Load() {
			pools := c.pools
			if c.draw(8) == 0 {
				pools = pools[:1] // with settings that do not know the second pool
			}
			v = c.start(t, false, pools)
			all[i] = v
		}
		ctx, cancel := context.WithCancel(t.Context())
		v.stop = cancel
		looks := 1 + c.draw(4)
		if c.stormy.Load() {
			looks = 6
		}
		group.Go(func() {
			defer cancel()
			names := make([]string, len(v.r.cfg.Pools))
			for i := range names {
				names[i] = v.r.cfg.Pools[i].Name
			}
			for range looks {
				v.r.lookAtAll(ctx, names)
			}
			if ctx.Err() != nil { // it was told to stop: it gives up what it has, and a new one starts
				for _, name := range names {
					_ = v.r.workers[name].lease.giveUp(t.Context())
				}
				v.dead.Store(true)
			}
		})
	}
	group.Wait()
}

// TestStockKeepersSurviveChaos runs one, two and four replenishers under random crashes
// between any two steps, cut and lost answers, throttling, fail-over, stops, and leases
// taken away: they buy exactly what one replenisher without any trouble would.
func TestStockKeepersSurviveChaos(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 4} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			seed, err := strconv.ParseUint(os.Getenv("CALLMASK_SEED"), 10, 64)
			if err != nil {
				seed = uint64(time.Now().UnixNano())
			}
			t.Logf("CALLMASK_SEED=%d", seed)
			c := newChaos(t, seed)
			most, orders := steps(t), int(min(250, steps(t)/40))
			all := make([]*victim, n)
			for c.steps.Load() < most {
				if c.draw(2) == 0 {
					c.trouble()
				}
				if c.orders < orders && c.steps.Load()/40 > int64(c.orders) {
					c.order(t)
				}
				c.round(t, all)
				count, cost := c.books(t)
				require.LessOrEqual(t, count["london"], 2*c.orders+chaosTarget, "bought twice for one need")
				require.LessOrEqual(t, cost["leeds"], float64(chaosCap), "the cap is passed")
				c.advance(time.Duration(c.draw(60)) * time.Second)
			}
			c.calmDown(t, orders)
		})
	}
}

// calmDown ends all trouble and lets one replenisher finish.
func (c *chaos) calmDown(t *testing.T, orders int) {
	t.Helper()
	for _, shop := range c.shops {
		shop.ClearFaults()
	}
	last := c.start(t, true, c.pools)
	for calm := 0; calm < 8; {
		c.advance(time.Minute)
		last.r.lookAtAll(t.Context(), []string{"london", "leeds"})
		if c.orders < orders {
			c.order(t)
		} else {
			calm++
		}
	}
	open, err := testkit.OpenIntents(t.Context(), c.bus)
	require.NoError(t, err)
	require.Empty(t, open)
	count, cost := c.books(t)
	free, total := c.level(t, "london")
	require.Equal(t, chaosTarget, free, "the pool is at its target")
	require.Equal(t, []int{2*orders + chaosTarget, total}, []int{total, count["london"]}, "what one would have bought")
	require.LessOrEqual(t, cost["leeds"], float64(chaosCap))
	require.Greater(t, cost["leeds"], float64(chaosCap)-c.prices["first"], "what is left of the cap buys nothing any more")
	_, leeds := c.level(t, "leeds")
	require.Equal(t, leeds, count["leeds"])
	for name, shop := range c.shops {
		once := map[vn.Number]bool{}
		for _, p := range shop.Purchases() {
			require.False(t, once[p.Number])
			once[p.Number] = true
			inv, err := c.store.Inventory(t.Context(), p.Number)
			require.NoError(t, err, "paid for and in no pool")
			require.Equal(t, []string{name, p.ID}, []string{inv.Carrier, inv.Ref})
			require.Equal(t, webhook, shop.WebhookURL(p.Number))
		}
		require.Equal(t, len(once), shop.Owned())
	}
	t.Logf("%d steps, %d purchases, %d orders", c.steps.Load(), count["london"]+count["leeds"], c.orders)
}
