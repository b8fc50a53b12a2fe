package scripts

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func testEachPartyReachesTheOthersThroughTheirVNs(t *testing.T, f *fixture) {
	t.Helper()
	everybody := []vn.Number{customer, agent, merchant, 12025550104, 12025550105, 12025550106, 12025550107, 12025550108}
	f.refill(t, sim, vns(35)...)
	for n := vn.MinParties; n <= vn.MaxParties; n++ {
		id := "order-" + string(rune('0'+n))
		a := f.allocate(t, id, everybody[:n]...)
		for called := range n {
			for calling := range n {
				d := f.lookup(t, a.Numbers[called].VN, everybody[calling])
				if calling == called {
					require.Equal(t, vn.CallerNotAllowed, d.Reason, "nobody reaches himself")
					continue
				}
				require.Equal(t, vn.Connected, d.Reason)
				require.Equal(t, everybody[called].E164(), d.Destination.E164())
				require.Equal(t, a.Numbers[calling].VN, d.CallerID, "the VN shown is the caller's own")
				require.Equal(t, id, string(d.OrderID))
			}
			require.Equal(t, vn.CallerNotAllowed, f.lookup(t, a.Numbers[called].VN, stranger).Reason)
		}
	}
}

func testAMissIsToldApart(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	require.Equal(t, vn.NumberNotAssigned, f.lookup(t, vns(1)[0], customer).Reason)
	a := f.allocate(t, "o", customer, agent)
	require.Equal(t, vn.CallerNotAllowed, f.lookup(t, a.Numbers[0].VN, stranger).Reason)
	_, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	d := f.lookup(t, a.Numbers[0].VN, agent)
	require.Equal(t, vn.OrderEnded, d.Reason)
	require.Equal(t, "o", string(d.OrderID))
	require.Equal(t, vn.NumberNotAssigned, f.lookup(t, a.Numbers[0].VN, stranger).Reason)

	// The next order on the same VN: the former party still hears that its order ended,
	// until the new one ends and takes its place.
	f.advance(t, ttl+cooldown)
	b := f.allocate(t, "p", merchant, stranger)
	require.ElementsMatch(t, []vn.Number{a.Numbers[0].VN, a.Numbers[1].VN}, []vn.Number{b.Numbers[0].VN, b.Numbers[1].VN})
	require.Equal(t, vn.OrderEnded, f.lookup(t, a.Numbers[0].VN, agent).Reason)
	_, err = f.Release(t.Context(), "p", vn.Cancelled)
	require.NoError(t, err)
	require.Equal(t, vn.NumberNotAssigned, f.lookup(t, a.Numbers[0].VN, agent).Reason)
}

func testAllocateTwiceGivesTheSameVNs(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(10)...)
	first := f.allocate(t, "o", customer, agent)
	require.False(t, first.Replayed)
	before := f.dump(t, &first)
	second := f.allocate(t, "o", customer, agent)
	require.True(t, second.Replayed)
	require.Equal(t, first.Assignment, second.Assignment)
	require.Equal(t, before, f.dump(t, &first), "a replay changes nothing")
	// The parties in another order are the same order.
	swapped := request("o", customer, agent)
	swapped.Order.Parties[0], swapped.Order.Parties[1] = swapped.Order.Parties[1], swapped.Order.Parties[0]
	third, err := f.Allocate(t.Context(), swapped)
	require.NoError(t, err)
	require.Equal(t, first.Assignment, third.Assignment)

	for name, change := range map[string]func(*AllocateRequest){
		"another number": func(r *AllocateRequest) { r.Order.Parties[1].Number = merchant },
		"another role":   func(r *AllocateRequest) { r.Order.Parties[1].Role = "courier" },
		"another pool":   func(r *AllocateRequest) { r.Order.Pool = "bali" },
		"a third party": func(r *AllocateRequest) {
			r.Order.Parties = append(r.Order.Parties, vn.Party{Role: "m", Number: merchant})
		},
	} {
		r := request("o", customer, agent)
		change(&r)
		_, err := f.Allocate(t.Context(), r)
		require.ErrorIs(t, err, vn.ErrOrderConflict, name)
	}
	require.Equal(t, before, f.dump(t, &first), "a conflict changes nothing")
}

func testAnOrderGetsAllItsVNsOrNone(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(1)...)
	f.refill(t, twilio, vn.Number(447700901000), vn.Number(447700901001))
	before := f.dump(t, nil)
	_, err := f.Allocate(t.Context(), request("o", customer, agent, merchant))
	require.ErrorIs(t, err, vn.ErrPoolExhausted, "three VNs of two carriers do not make an order of three")
	require.Equal(t, before, f.dump(t, nil))
	a := f.allocate(t, "p", customer, agent)
	require.Equal(t, "twilio", a.Carrier, "the next carrier that has enough")
	require.Equal(t, 1, a.Free)
}

func testALapsedOrderHasEndedForEveryVerb(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "o", customer, agent)
	f.advance(t, ttl-time.Millisecond)
	require.Equal(t, vn.Connected, f.lookup(t, a.Numbers[0].VN, agent).Reason)
	f.advance(t, time.Millisecond)
	require.NotEqual(t, vn.Connected, f.lookup(t, a.Numbers[0].VN, agent).Reason)
	_, err := f.Allocate(t.Context(), request("o", customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	_, err = f.Extend(t.Context(), "o", ttl)
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	got, err := f.Order(t.Context(), "o")
	require.NoError(t, err)
	require.Equal(t, vn.Assignment{OrderID: "o", Pool: pool, State: vn.Ended, EndReason: vn.Expired}, got)
	r, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	require.Equal(t, vn.Expired, r.Reason)
}

func testAPoolRecoversWithNoReaperAlive(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	f.allocate(t, "o", customer, agent)
	_, err := f.Allocate(t.Context(), request("p", merchant, agent))
	require.ErrorIs(t, err, vn.ErrPoolExhausted)
	f.advance(t, ttl+cooldown)
	f.allocate(t, "p", merchant, agent)
}

func testALateEventChangesNothing(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(4)...)
	unknown, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	require.False(t, unknown.Known)
	_, err = f.Allocate(t.Context(), request("o", customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded, "completed came before assigned")

	a := f.allocate(t, "p", customer, agent)
	first, err := f.Release(t.Context(), "p", vn.Cancelled)
	require.NoError(t, err)
	before := f.dump(t, &a)
	again, err := f.Release(t.Context(), "p", vn.Completed)
	require.NoError(t, err)
	require.Equal(t, first, again)
	_, err = f.Allocate(t.Context(), request("p", customer, agent))
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	require.NoError(t, f.SettleAssigned(t.Context(), &a, []uint64{1, 1}), "a late settle of what has ended")
	require.Equal(t, before, f.dump(t, &a))
}

func testOrdersUnderAKeyAreCountedUntilTheirTombstonesAreGone(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(4)...)
	under := func(id byte) int {
		n, err := OrdersUnder(t.Context(), f.client, id)
		require.NoError(t, err)
		return n
	}
	require.Zero(t, under(1))
	f.allocate(t, "live", customer, agent)
	f.allocate(t, "ended", customer, agent)
	for _, id := range []string{"ended", "never seen"} {
		_, err := f.Release(t.Context(), id, vn.Completed)
		require.NoError(t, err)
	}
	require.Equal(t, 2, under(1))
	require.Zero(t, under(2))
	require.NoError(t, f.client.HSet(t.Context(), orderKey(f.prefix, "live"), "terms", "damaged").Err())
	_, err := OrdersUnder(t.Context(), f.client, 2)
	require.ErrorIs(t, err, errRecord, "what cannot be read may use any key")
}

func testAnUnsettledReleaseComesBack(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	f.allocate(t, "o", customer, agent)
	r, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	ended, _, err := f.Reap(t.Context())
	require.NoError(t, err)
	require.Empty(t, ended, "not before 30 s")
	f.advance(t, 30*time.Second)
	ended, _, err = f.Reap(t.Context())
	require.NoError(t, err)
	require.Equal(t, []Release{r}, ended)
	require.NoError(t, f.SettleReleased(t.Context(), &r, []uint64{7, 8}))
	f.advance(t, time.Minute)
	ended, _, err = f.Reap(t.Context())
	require.NoError(t, err)
	require.Empty(t, ended)
	require.Equal(t, 2, f.stockOf(t, sim).Cooling)
	f.advance(t, cooldown)
	require.Equal(t, 2, f.stockOf(t, sim).Free, "release + cool-down, not lease end + cool-down")
}

func testAVNDrainedWhileItsReleaseIsUnsettledStaysRetired(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "o", customer, agent)
	_, err := f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	d, err := f.Drain(t.Context(), pool, a.Numbers[0].VN)
	require.NoError(t, err)
	require.True(t, d.Left)
	f.advance(t, time.Minute)
	ended, _, err := f.Reap(t.Context())
	require.NoError(t, err)
	require.True(t, ended[0].Numbers[0].Retired, "its last record must say retired again")
	require.False(t, ended[0].Numbers[1].Retired)
}

func TestACatchUpReapEndsAtMostFiftyOrdersACall(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testkit.Redis(t).Client(t))
	f.refill(t, sim, vns(240)...)
	for i := range 120 {
		f.allocate(t, "o-"+string(rune('A'+i/26))+string(rune('a'+i%26)), customer, agent)
	}
	f.advance(t, ttl)
	sizes := []int{}
	for more := true; more; {
		ended, m, err := f.Reap(t.Context())
		require.NoError(t, err)
		sizes, more = append(sizes, len(ended)), m
	}
	require.Equal(t, []int{50, 50, 20}, sizes)
}

func testAColdPartitionNeitherAllocatesNorTakesNumbers(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(4)...)
	f.allocate(t, "known", customer, agent)
	require.NoError(t, f.client.HDel(t.Context(), metaKey(f.prefix), "ready").Err())
	ready, err := f.Ready(t.Context())
	require.NoError(t, err)
	require.False(t, ready)
	_, err = f.Allocate(t.Context(), request("o", customer, agent))
	require.ErrorIs(t, err, vn.ErrCold)
	_, err = f.Refill(t.Context(), pool, "sim", []Owned{{VN: 447700900100, Ref: "x"}})
	require.ErrorIs(t, err, vn.ErrCold)
	// An order that it does not know may be one that it has forgotten.
	_, err = f.Release(t.Context(), "o", vn.Completed)
	require.ErrorIs(t, err, vn.ErrCold)
	require.Zero(t, f.client.Exists(t.Context(), orderKey(f.prefix, "o")).Val(), "no tombstone was left")
	r, err := f.Release(t.Context(), "known", vn.Completed)
	require.NoError(t, err)
	require.True(t, r.Known)
}

func testRefillLeavesForeignNumbersAloneAndUndoesADrain(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	f.allocate(t, "o", customer, agent)
	d, err := f.Drain(t.Context(), pool, vns(1)[0])
	require.NoError(t, err)
	require.False(t, d.Left)
	require.Equal(t, 1, f.stockOf(t, sim).Draining)
	got, err := f.Refill(t.Context(), pool, "sim", []Owned{{VN: vns(1)[0], Ref: "x"}})
	require.NoError(t, err)
	require.Equal(t, Refilled{Present: 1}, got)
	require.Equal(t, 0, f.stockOf(t, sim).Draining)
	got, err = f.Refill(t.Context(), "bali", "sim", []Owned{{VN: vns(1)[0], Ref: "x"}})
	require.NoError(t, err)
	require.Equal(t, vns(1), got.Foreign)
	_, err = f.Drain(t.Context(), "bali", vns(1)[0])
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
	inv, err := f.Inventory(t.Context(), vns(1)[0])
	require.NoError(t, err)
	require.Equal(t, Inventory{Pool: pool, Carrier: "sim", Owned: Owned{VN: vns(1)[0], Ref: "PN1", Fence: 5}}, inv)
}

func TestTheIndexOfVNsFollowsTheInventory(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	f := newFixture(t, server.Client(t))
	other, err := New(Config{}, server.Client(t), f.keys)
	require.NoError(t, err)
	require.NoError(t, other.RefreshVNs(t.Context()))
	require.False(t, other.IsVN(vns(1)[0]))
	f.refill(t, sim, vns(2500)...)
	require.True(t, f.IsVN(vns(1)[0]), "who adds a number knows it at once")
	require.NoError(t, other.RefreshVNs(t.Context()))
	require.True(t, other.IsVN(vns(1)[0]))
	require.True(t, other.IsVN(vns(2500)[2499]))
	_, err = f.Drain(t.Context(), pool, vns(1)[0])
	require.NoError(t, err)
	require.NoError(t, other.RefreshVNs(t.Context()))
	require.False(t, other.IsVN(vns(1)[0]))
}

// TestAKeyRotationRefusesNoCall pins that bindings made under an older key connect,
// replay and compare through all of a rotation.
func TestAKeyRotationRefusesNoCall(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testkit.Redis(t).Client(t))
	f.refill(t, sim, vns(20)...)
	orders := map[string]Allocation{}
	check := func(id string) {
		t.Helper()
		orders[id] = f.allocate(t, id, customer, agent)
		for id, a := range orders {
			d := f.lookup(t, a.Numbers[1].VN, customer)
			require.Equal(t, vn.Connected, d.Reason, id)
			require.Equal(t, agent, d.Destination)
			again, err := f.Allocate(t.Context(), request(id, customer, agent))
			require.NoError(t, err)
			require.True(t, again.Replayed)
			_, err = f.Allocate(t.Context(), request(id, customer, merchant))
			require.ErrorIs(t, err, vn.ErrOrderConflict)
		}
	}
	check("primary")
	next := f.keys.Primary().ID()
	added, err := seal.Add(f.keyset)
	require.NoError(t, err)
	require.NotEqual(t, next, added)
	require.NoError(t, f.keys.Reload())
	check("next")
	require.NoError(t, seal.Promote(f.keyset))
	require.NoError(t, f.keys.Reload())
	require.Equal(t, added, f.keys.Primary().ID())
	check("promoted")
}

func testScriptsSurviveAScriptFlush(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	require.NoError(t, f.client.ScriptFlush(t.Context()).Err())
	f.allocate(t, "o", customer, agent)
}

func TestTheClockNeverGoesBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testkit.Redis(t).Client(t))
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "o", customer, agent)
	require.Equal(t, epoch.Add(ttl), a.Assignment.ExpiresAt, "the mark of 2100 rules over the server's clock")
}

func TestStartRefusesWhatCannotKeepThePromises(t *testing.T) {
	t.Parallel()
	keys := newFixture(t, testkit.Redis(t).Client(t)).keys
	evicting, err := New(Config{}, testkit.Redis(t, "--maxmemory-policy", "allkeys-lru").Client(t), keys)
	require.NoError(t, err)
	require.ErrorContains(t, evicting.Start(t.Context()), "maxmemory-policy")

	c := testkit.Redis(t).Client(t)
	require.NoError(t, c.HSet(t.Context(), layoutKey, "schema", "1", "partitions", "16").Err())
	other, err := New(Config{Partitions: 8}, c, keys)
	require.NoError(t, err)
	require.ErrorContains(t, other.Start(t.Context()), "partitions 16")
	adopts, err := New(Config{}, c, keys)
	require.NoError(t, err)
	require.NoError(t, adopts.Start(t.Context()))
	require.Equal(t, 16, adopts.Partitions())
	require.NoError(t, c.HSet(t.Context(), layoutKey, "partitions", "many").Err())
	require.ErrorContains(t, adopts.Start(t.Context()), `"many"`)

	_, err = New(Config{Tombstone: 24 * time.Hour}, c, keys)
	require.ErrorContains(t, err, "tombstone")
	_, err = New(Config{Partitions: 2000}, c, keys)
	require.ErrorContains(t, err, "partitions")
}

func TestAFrozenRedisIsUnavailableWithinTheDeadline(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	f := newFixture(t, server.Client(t))
	f.refill(t, sim, vns(2)...)
	server.Pause(t)
	defer server.Resume(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	var d vn.Decision
	_, err := f.Lookup(ctx, vns(1)[0], customer, &d)
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Equal(t, vn.Unavailable, d.Reason)
	_, err = f.Allocate(ctx, request("o", customer, agent))
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Less(t, time.Since(started), 5*time.Second)
}

func TestAFullRedisStillEndsOrders(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	f := newFixture(t, server.Client(t))
	f.refill(t, sim, vns(4)...)
	a := f.allocate(t, "o", customer, agent)
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "maxmemory", "1").Err())
	before := f.dump(t, &a)
	_, err := f.Allocate(t.Context(), request("p", customer, agent))
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.ErrorContains(t, err, "OOM")
	require.Equal(t, before, f.dump(t, &a), "refused whole")
	_, err = f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
}

// TestConnectedCallsCostOneCommand counts on the server.
func TestConnectedCallsCostOneCommand(t *testing.T) {
	t.Parallel()
	c := testkit.Redis(t).Client(t)
	f := newFixture(t, c)
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "o", customer, agent)
	require.NoError(t, c.ConfigResetStat(t.Context()).Err())
	const calls = 50
	for range calls {
		require.Equal(t, vn.Connected, f.lookup(t, a.Numbers[0].VN, agent).Reason)
	}
	stats, err := c.InfoMap(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	for command, stat := range stats["Commandstats"] {
		switch command {
		case "cmdstat_hget":
			require.Contains(t, stat, "calls=50,")
		case "cmdstat_config|resetstat", "cmdstat_info":
		default:
			t.Errorf("a connected call sent %s", command)
		}
	}
}

func testConcurrentAllocationsNeverShareAVN(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(400)...)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		taken = map[vn.Number]string{}
	)
	for worker := range 8 {
		wg.Go(func() {
			for i := range 40 {
				id := "order-" + string(rune('a'+i%26)) + string(rune('a'+(i+worker)/26))
				a, err := f.Allocate(t.Context(), request(id, customer, agent))
				if errors.Is(err, vn.ErrPoolExhausted) {
					continue
				}
				if err != nil {
					t.Errorf("allocate: %v", err)
					return
				}
				mu.Lock()
				for _, n := range a.Numbers {
					if other, ok := taken[n.VN]; ok && other != id {
						t.Errorf("%s and %s share a VN", id, other)
					}
					taken[n.VN] = id
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st := f.stockOf(t, sim)
	require.Equal(t, len(taken), st.Leased)
	require.Equal(t, 400, st.Free+st.Leased)
}
