//go:build faults

package chaos

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/installation"
)

const (
	startLimit = 2 * time.Minute
	numbers    = 40    // that the pool should have at least: they are bought
	imported   = 1_800 // brought in beside them
	areas      = 30    // area codes whose numbers are VNs: 10 of the carrier's, then those imported
	cooldown   = 3 * time.Second
	briefly    = 20 * time.Second // how long faults happen unless CHAOS_TIME says so
)

// run is one run: the installation, what is done to it and what is seen of it.
type run struct {
	*world

	t        *testing.T
	in       *installation.Installation
	binary   string
	shop     *shop
	caller   *caller
	follower *follower
	nemesis  *nemesis
	gauges   *gauges
}

// TestChaos lets everything happen to a callmask under load that its promises are made
// against, and then counts: nothing acknowledged is lost, no number is in two orders or in
// none, and nobody was ever connected to a stranger.
//
// CHAOS_SEED sets the choices, CHAOS_TIME for how long faults happen (20s), CHAOS_FAULTS is a
// regular expression of those that do (all), CHAOS_WORKERS how many customers order at a
// time (48), CHAOS_LOGS a directory that gets the processes' logs. CHAOS_PLANTED builds a bug
// into callmask: with "unfenced" and "unsettled" it must fail.
func TestChaos(t *testing.T) {
	seed := setting(t, "CHAOS_SEED", rand.Uint64(), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	length := setting(t, "CHAOS_TIME", briefly, time.ParseDuration)
	workers := setting(t, "CHAOS_WORKERS", 48, strconv.Atoi)
	t.Logf("seed: CHAOS_SEED=%d CHAOS_TIME=%s", seed, length)
	c := begin(t)
	servers, own := c.nemesis.decks(t)
	c.load(length, seed, workers, servers, own)
	c.settle()
	c.finish()
	c.verdict(seed, length)
}

// begin starts callmask and its load's connections.
func begin(t *testing.T) *run {
	t.Helper()
	w := newWorld()
	c := &run{world: w, t: t, binary: build(t)}
	dir, arms := t.TempDir(), t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	var err error
	c.in, err = installation.Start(ctx, installation.Config{
		Binary: c.binary, Dir: dir, Redis: cluster.RedisConfig{Masters: 3, Replicas: 1}, NATS: cluster.NATSConfig{Nodes: 3},
		Routers: 2, Allocators: 2, Replenishers: 2, Numbers: numbers, Cooldown: cooldown,
		Logs:  os.Getenv("CHAOS_LOGS"),
		Flags: []string{"--refusals-per-minute", "1000000", "--resolve-timeout", "1s"},
		Env:   []string{"CALLMASK_FAILPOINTS=" + arms, "CALLMASK_PLANTED=" + os.Getenv("CHAOS_PLANTED")},
	})
	require.NoError(t, err)
	t.Cleanup(c.stop)
	nc, err := nats.Connect(c.in.NATS.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	bus, err := events.Connect(ctx, events.Config{URL: c.in.NATS.URL(), Name: "chaos"})
	require.NoError(t, err)
	t.Cleanup(bus.Close)
	all, err := people()
	require.NoError(t, err)
	c.shop = &shop{
		world: w, in: c.in, js: js, people: all,
		web: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 8 * time.Second},
	}
	t.Cleanup(c.shop.web.CloseIdleConnections)
	c.caller, err = newCaller(w, c.in, all)
	require.NoError(t, err)
	t.Cleanup(c.caller.close)
	c.follower = &follower{world: w, bus: bus}
	c.nemesis = &nemesis{world: w, t: t, in: c.in, arms: arms, happened: map[string]int{}}
	c.gauges = newGauges(c.in)
	c.stock(ctx)
	return c
}

// stock brings numbers into the pool.
func (c *run) stock(ctx context.Context) {
	list := make([]string, imported)
	for i := range list {
		list[i] = vnOf(i)
	}
	done, err := c.shop.insist(ctx, http.MethodPost, "/v1/pools/"+installation.Pool+"/numbers",
		map[string]any{"numbers": list, "carrier": installation.Carrier}, nil)
	require.NoError(c.t, err)
	require.True(c.t, done, "the numbers are imported")
	require.Eventually(c.t, func() bool {
		s, err := c.pool(ctx)
		return err == nil && s.Free >= imported
	}, startLimit, 100*time.Millisecond, "the pool is full")
}

// load lets orders come and go, calls be made and faults happen.
func (c *run) load(length time.Duration, seed uint64, workers int, servers, own []fault) {
	source := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
	watching, stopWatching := context.WithCancel(c.t.Context())
	working, stopWorking := context.WithCancel(c.t.Context())
	defer stopWatching()
	defer stopWorking()
	striking, stopStriking := context.WithTimeout(c.t.Context(), length)
	defer stopStriking()
	var watch, work, strike errgroup.Group
	watch.Go(func() error { return c.follower.work(watching) })
	watch.Go(func() error { return c.gauges.work(watching) })
	for i := range workers {
		work.Go(func() error { return c.shop.work(working, source(100+uint64(i))) })
	}
	for i := range 4 {
		work.Go(func() error { return c.caller.work(working, source(10+uint64(i)), 10*time.Millisecond) })
	}
	strike.Go(func() error { return c.nemesis.deal(striking, source(1), servers, 2*time.Second) })
	strike.Go(func() error { return c.nemesis.deal(striking, source(2), own, 2*time.Second) })
	err := strike.Wait()
	stopWorking()
	require.NoError(c.t, work.Wait())
	stopWatching()
	require.NoError(c.t, watch.Wait())
	require.NoError(c.t, err)
}

// stop ends everything, and fails the test when a process has panicked.
func (c *run) stop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), startLimit)
	defer cancel()
	if err := c.in.Stop(ctx); err != nil {
		c.t.Error(err)
	}
	for _, r := range c.in.Roles {
		if out := r.Output(); strings.Contains(out, "panic:") {
			c.t.Errorf("%s panicked:\n%s", r.Name(), out)
		}
	}
}
