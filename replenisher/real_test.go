package replenisher

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

const token = "a token of the simulated carrier"

// rig is the real thing: Redis, JetStream and the simulated carrier over HTTP.
type rig struct {
	store  *scripts.Store
	bus    *events.Bus
	ledger *ledger.Ledger
	shop   *sim.Server
	client *sim.Numbers
	nats   *testkit.NATSServer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset"))
	require.NoError(t, err)
	g := &rig{nats: testkit.NATS(t)}
	g.store, err = scripts.New(scripts.Config{}, testkit.Redis(t).Client(t), keys)
	require.NoError(t, err)
	require.NoError(t, g.store.Start(t.Context()))
	g.bus, err = events.Connect(t.Context(), events.Config{URL: g.nats.URL, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(g.bus.Close)
	require.NoError(t, g.bus.EnsureStreams(t.Context()))
	g.ledger = ledger.New(g.store, g.bus, nil, zerolog.Nop())

	g.shop, g.client = g.sell(t, sim.ServerConfig{PageSize: 7}, 10*time.Second)
	return g
}

// sell serves a simulated carrier until the test ends.
func (g *rig) sell(t *testing.T, cfg sim.ServerConfig, timeout time.Duration) (*sim.Server, *sim.Numbers) {
	t.Helper()
	cfg.Tokens = []string{token}
	shop, err := sim.NewServer(cfg)
	require.NoError(t, err)
	require.NoError(t, shop.Listen(t.Context(), "127.0.0.1:0"))
	g.serve(t, shop.Run)
	client, err := sim.NewNumbers(sim.NumbersConfig{APIURL: shop.URL(), Token: token, Timeout: timeout})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return shop, client
}

// serve runs a service until the test ends or stop is called.
func (g *rig) serve(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var service errgroup.Group
	service.Go(func() error { return run(ctx) })
	stop = func() {
		cancel()
		require.NoError(t, service.Wait())
	}
	t.Cleanup(stop)
	return stop
}

func (g *rig) replenisher(t *testing.T, cfg Config) (stop func()) {
	t.Helper()
	cfg.Carriers = map[string]CarrierConfig{"sim": {Numbers: g.client, WebhookURL: "http://127.0.0.1:8080/v1/carriers/sim/voice"}}
	cfg.CarrierCall, cfg.SettleAfter, cfg.Gap = time.Second, 3*time.Second, 20*time.Millisecond
	cfg.BackoffFirst, cfg.BackoffMost = 20*time.Millisecond, 100*time.Millisecond
	r, err := New(cfg, g.store, g.bus, g.ledger, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	return g.serve(t, r.Run)
}

// stock reads the one row of the stock; all zero when there is none or Redis fails.
func (g *rig) stock(ctx context.Context) (row scripts.Stock) {
	rows, err := g.store.Stock(ctx)
	if err == nil && len(rows) == 1 {
		row = rows[0]
	}
	return row
}

// filled waits until the pool has n free VNs, then holds that what is paid for is
// what the pool has, each bought once and announced to us.
func (g *rig) filled(t *testing.T, free, total int) {
	t.Helper()
	require.Eventually(t, func() bool {
		open, err := testkit.OpenIntents(t.Context(), g.bus)
		return err == nil && len(open) == 0 && g.stock(t.Context()).Free == free
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, total, g.stock(t.Context()).Total)
	require.Equal(t, total, g.shop.Owned())
	once := map[vn.Number]bool{}
	for _, p := range g.shop.Purchases() {
		require.False(t, once[p.Number], "bought twice")
		once[p.Number] = true
		inv, err := g.store.Inventory(t.Context(), p.Number)
		require.NoError(t, err, "paid for and in no pool")
		require.Equal(t, p.ID, inv.Ref)
		require.NotEmpty(t, g.shop.WebhookURL(p.Number))
		rec, seq, err := g.bus.LastRecord(t.Context(), p.Number)
		require.NoError(t, err)
		require.Equal(t, inv.Fence, seq)
		require.Equal(t, "jakarta", rec.Pool)
	}
	require.Len(t, once, total)
}

var jakarta = Pool{Name: "jakarta", Region: "ID", Carriers: []string{"pbx", "sim"}, LowWater: 20, Target: 60, Max: 80}

func TestRealPurchasesSurviveAFaultyCarrierAndRestarts(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, f := range []sim.Fault{
		{Op: sim.OpSearch, Kind: sim.Fail},
		{Op: sim.OpBuy, Kind: sim.HangUp, Times: 3},
		{Op: sim.OpBuy, Kind: sim.Garble, Times: 2},
		{Op: sim.OpBuy, Kind: sim.Throttle},
		{Op: sim.OpBuy, Kind: sim.Snatch, Times: 2},
		{Op: sim.OpBuy, Kind: sim.Fail, Status: 502},
		{Op: sim.OpBuy, Kind: sim.Hang},
		{Op: sim.OpConfigure, Kind: sim.HangUp},
		{Op: sim.OpConfigure, Kind: sim.Fail},
		{Op: sim.OpList, Kind: sim.Garble},
	} {
		g.shop.Inject(f)
	}
	cfg := Config{Pools: []Pool{jakarta}, Sweep: 100 * time.Millisecond, Grace: time.Millisecond}
	stop := g.replenisher(t, cfg)
	require.Never(t, func() bool { return g.shop.Owned() > 0 }, 300*time.Millisecond, 20*time.Millisecond, "bought while Redis was not ready")
	require.NoError(t, g.store.MarkReady(t.Context()))
	for _, n := range []int{5, 30} { // stopped in the middle, with hardly any grace
		require.Eventually(t, func() bool { return g.shop.Owned() >= n }, 10*time.Second, time.Millisecond)
		stop()
		stop = g.replenisher(t, cfg)
	}
	g.filled(t, 60, 60)
}

// TestRealReplenishersBuyWhatOneWould runs several at once, and ends the one that acts
// half way: another one takes over at once, and together they buy for one need.
func TestRealReplenishersBuyWhatOneWould(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 4} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			g.shop.SetLatency(200 * time.Millisecond) // the purchases take seconds
			require.NoError(t, g.store.MarkReady(t.Context()))
			// Unless the first one gives it up, nobody else gets the lease within the test.
			cfg := Config{Pools: []Pool{jakarta}, Sweep: 100 * time.Millisecond, Grace: time.Second, Lease: time.Hour}
			stop := g.replenisher(t, cfg)
			require.Eventually(t, func() bool {
				l, _, err := g.bus.Lease(t.Context(), "jakarta")
				return err == nil && l.Owner != ""
			}, 10*time.Second, time.Millisecond)
			for range n - 1 {
				g.replenisher(t, cfg)
			}
			require.Eventually(t, func() bool { return g.shop.Owned() >= 5 && g.bus.Ping(t.Context()) == nil }, 10*time.Second, time.Millisecond)
			require.Less(t, g.shop.Owned(), 60)
			stop()
			g.shop.SetLatency(0)
			g.filled(t, 60, 60)
		})
	}
}

func TestRealEventsTriggerALookAndTheReaperBringsVNsBack(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	require.NoError(t, g.store.MarkReady(t.Context()))
	pool := jakarta
	pool.LowWater, pool.Target, pool.Max = 2, 2, 6
	g.replenisher(t, Config{Pools: []Pool{pool}, Sweep: time.Hour})
	g.filled(t, 2, 2)

	lease := func(id string, ttl time.Duration) {
		a, err := g.store.Allocate(t.Context(), scripts.AllocateRequest{
			Order: vn.Order{ID: id, Pool: "jakarta", TTL: ttl, Parties: []vn.Party{
				{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102},
			}},
			Cooldown: time.Second, Carriers: []scripts.Carrier{{Name: "sim", ID: 1}},
		})
		require.NoError(t, err)
		require.NoError(t, g.ledger.Assign(t.Context(), &a))
	}
	lease("o-1", 2*time.Second)
	require.NoError(t, g.bus.PoolLow(t.Context(), events.PoolLow{Pool: "jakarta", Free: 0, Target: 2}))
	g.filledFree(t, 2)
	lease("o-2", 2*time.Second)
	plain, err := nats.Connect(g.nats.URL) // as any other program publishes it
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	require.NoError(t, plain.Publish("orders.placed", []byte(`{"order_id":"o-3","pool":"jakarta"}`)))
	require.NoError(t, plain.Publish("orders.placed", []byte(`{"order_id"`)))
	g.filledFree(t, 2)
	require.Equal(t, 6, g.stock(t.Context()).Total)

	reaper, err := NewReaper(ReaperConfig{Every: 50 * time.Millisecond}, g.store, g.ledger, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	g.serve(t, reaper.Run)
	require.Eventually(t, func() bool { return g.stock(t.Context()).Free == 6 }, 15*time.Second, 20*time.Millisecond)
	for _, id := range []string{"o-1", "o-2"} {
		o, err := g.store.Order(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, vn.Expired, o.EndReason)
	}
	released := 0
	require.NoError(t, g.bus.Records(t.Context(), func(rec events.Record, _ uint64) error {
		if rec.Kind == events.KindReleased {
			released++
		}
		return nil
	}))
	require.Equal(t, 4, released)
}

func (g *rig) filledFree(t *testing.T, free int) {
	t.Helper()
	require.Eventually(t, func() bool { return g.stock(t.Context()).Free == free }, 10*time.Second, 20*time.Millisecond)
}
