package scripts

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

func (f *fixture) audit(t *testing.T) Audit {
	t.Helper()
	a, err := f.Audit(t.Context(), nil)
	require.NoError(t, err)
	return a
}

func testAuditCountsEveryVNOfAHealthyRedis(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(10)...)
	f.refill(t, twilio, vn.Number(447700901000))
	f.allocate(t, "live", customer, agent)
	f.allocate(t, "over", customer, merchant)
	a := f.allocate(t, "leaving", merchant, agent)
	_, err := f.Drain(t.Context(), pool, a.Numbers[0].VN)
	require.NoError(t, err)
	_, err = f.Release(t.Context(), "over", vn.Completed)
	require.NoError(t, err)
	_, err = f.Release(t.Context(), "never", vn.Completed)
	require.NoError(t, err)
	got := f.audit(t)
	require.Empty(t, got.Problems)
	require.Equal(t, 11, got.VNs)
	require.Equal(t, 2, got.Orders)
	require.Equal(t, []Stock{
		{Pool: pool, Carrier: "sim", Free: 4, Leased: 3, Cooling: 2, Draining: 1, Total: 10},
		{Pool: pool, Carrier: "twilio", Free: 1, Total: 1},
	}, got.Stock)
	f.advance(t, ttl)
	require.Empty(t, f.audit(t).Problems, "a lapsed order that nobody has reaped is no mismatch")
	for more := true; more; {
		_, more, err = f.Reap(t.Context())
		require.NoError(t, err)
	}
	require.Empty(t, f.audit(t).Problems)
}

// TestAuditFindsEveryPlantedMismatch breaks one thing at a time behind the Store's back.
func TestAuditFindsEveryPlantedMismatch(t *testing.T) {
	t.Parallel()
	c := testkit.Redis(t).Client(t)
	plant := func(kind ProblemKind, name string, damage func(f *fixture, a Allocation) error) {
		t.Helper()
		require.NoError(t, c.FlushAll(t.Context()).Err())
		f := newFixture(t, c)
		f.refill(t, sim, vns(6)...)
		a := f.allocate(t, "live", customer, agent)
		_, err := f.Release(t.Context(), f.allocate(t, "over", customer, merchant).Assignment.OrderID, vn.Completed)
		require.NoError(t, err)
		require.Empty(t, f.audit(t).Problems)
		require.NoError(t, damage(f, a), name)
		got := f.audit(t)
		require.True(t, slices.ContainsFunc(got.Problems, func(p Problem) bool { return p.Kind == kind }),
			"%s: found %v", name, got.Problems)
	}
	leased := func(a Allocation) string { return a.Numbers[0].VN.Digits() }
	free := func(f *fixture) string { return c.SRandMember(t.Context(), freeKey(f.prefix, pool, "sim")).Val() }

	plant(ProblemLeaked, "a free VN vanishes", func(f *fixture, _ Allocation) error {
		return c.SPop(t.Context(), freeKey(f.prefix, pool, "sim")).Err()
	})
	plant(ProblemLeaked, "an order vanishes", func(f *fixture, _ Allocation) error {
		return c.Del(t.Context(), orderKey(f.prefix, "live")).Err()
	})
	plant(ProblemStates, "a leased VN is free as well", func(f *fixture, a Allocation) error {
		return c.SAdd(t.Context(), freeKey(f.prefix, pool, "sim"), leased(a)).Err()
	})
	plant(ProblemStates, "a free VN is cooling as well", func(f *fixture, _ Allocation) error {
		return c.ZAdd(t.Context(), coolingKey(f.prefix, pool, "sim"), redis.Z{Member: free(f), Score: 1}).Err()
	})
	plant(ProblemStates, "a free VN is draining", func(f *fixture, _ Allocation) error {
		return c.SMove(t.Context(), freeKey(f.prefix, pool, "sim"), drainingKey(f.prefix, pool, "sim"), free(f)).Err()
	})
	plant(ProblemStates, "a VN lies in another carrier's set", func(f *fixture, _ Allocation) error {
		require.NoError(t, c.HSet(t.Context(), totalKey(f.prefix), pool+":twilio", 0).Err())
		return c.SMove(t.Context(), freeKey(f.prefix, pool, "sim"), freeKey(f.prefix, pool, "twilio"), free(f)).Err()
	})
	plant(ProblemUnlisted, "a set that total does not list", func(f *fixture, _ Allocation) error {
		return c.SAdd(t.Context(), freeKey(f.prefix, "bali", "sim"), "447700909999").Err()
	})
	plant(ProblemUnowned, "a free VN nobody owns", func(f *fixture, _ Allocation) error {
		return c.SAdd(t.Context(), freeKey(f.prefix, pool, "sim"), "447700909999").Err()
	})
	plant(ProblemShared, "two orders hold a VN", func(f *fixture, _ Allocation) error {
		return c.Copy(t.Context(), orderKey(f.prefix, "live"), orderKey(f.prefix, "twin"), 0, false).Err()
	})
	plant(ProblemBinding, "the bindings of a live order vanish", func(f *fixture, a Allocation) error {
		return c.Del(t.Context(), vnKey(f.prefix, a.Numbers[0].VN)).Err()
	})
	plant(ProblemBinding, "a free VN routes", func(f *fixture, a Allocation) error {
		n, _ := vn.ParseDigits(free(f))
		return c.Copy(t.Context(), vnKey(f.prefix, a.Numbers[0].VN), vnKey(f.prefix, n), 0, false).Err()
	})
	plant(ProblemBinding, "a VN has the bindings of its neighbour", func(f *fixture, a Allocation) error {
		return c.Copy(t.Context(), vnKey(f.prefix, a.Numbers[0].VN),
			vnKey(f.prefix, a.Numbers[1].VN), 0, true).Err()
	})
	plant(ProblemBinding, "a lease end moves", func(f *fixture, _ Allocation) error {
		end := strconv.FormatInt(epoch.Add(5*time.Hour).UnixMilli(), 10)
		require.NoError(t, c.ZAdd(t.Context(), leasesKey(f.prefix), redis.Z{Member: "live", Score: float64(epoch.Add(5 * time.Hour).UnixMilli())}).Err())
		return c.HSet(t.Context(), orderKey(f.prefix, "live"), "end", end).Err()
	})
	plant(ProblemDamaged, "a binding is cut", func(f *fixture, a Allocation) error {
		return c.HSet(t.Context(), vnKey(f.prefix, a.Numbers[0].VN), string(a.Tokens[1][:]), "short").Err()
	})
	plant(ProblemDamaged, "an inventory entry is cut", func(f *fixture, _ Allocation) error {
		return c.HSet(t.Context(), inventoryKey(f.prefix), free(f), "jakarta").Err()
	})
	plant(ProblemLease, "nothing would end a live order", func(f *fixture, _ Allocation) error {
		return c.ZRem(t.Context(), leasesKey(f.prefix), "live").Err()
	})
	plant(ProblemLease, "nothing would publish an end", func(f *fixture, _ Allocation) error {
		return c.ZRem(t.Context(), leasesKey(f.prefix), "over").Err()
	})
	plant(ProblemTotal, "a counter is off", func(f *fixture, _ Allocation) error {
		return c.HIncrBy(t.Context(), totalKey(f.prefix), pool+":sim", 1).Err()
	})
	require.NoError(t, c.FlushAll(t.Context()).Err())
	f := newFixture(t, c)
	f.refill(t, sim, vns(6)...)
	require.NoError(t, c.HIncrBy(t.Context(), totalKey(f.prefix), pool+":sim", 3).Err())
	got := f.audit(t)
	require.Len(t, got.Problems, 1)
	_, err := f.Drain(t.Context(), pool, vns(1)[0]) // somebody changes it meanwhile
	require.NoError(t, err)
	require.NoError(t, f.CorrectTotal(t.Context(), &got.Problems[0]))
	require.Empty(t, f.audit(t).Problems)
	require.Equal(t, "5", c.HGet(t.Context(), totalKey(f.prefix), pool+":sim").Val())

	plant(ProblemCold, "the ready mark is gone", func(f *fixture, _ Allocation) error {
		return c.HDel(t.Context(), metaKey(f.prefix), "ready").Err()
	})
	plant(ProblemLayout, "another layout", func(*fixture, Allocation) error {
		return c.HSet(t.Context(), layoutKey, "partitions", 4).Err()
	})
}

// TestAuditIsQuietBesideTraffic pins that changes in flight are no mismatches.
func TestAuditIsQuietBesideTraffic(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testkit.Redis(t).Client(t))
	f.refill(t, sim, vns(300)...)
	var (
		stop    atomic.Bool
		traffic sync.WaitGroup
	)
	for worker := range 4 {
		traffic.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := "order-" + strconv.Itoa(worker) + "-" + strconv.Itoa(i)
				r := request(id, customer, agent)
				r.Cooldown = time.Millisecond
				if a, err := f.Allocate(t.Context(), r); err == nil {
					if _, err := f.Extend(t.Context(), id, time.Hour); err != nil {
						t.Errorf("extend: %v", err)
					}
					if released, err := f.Release(t.Context(), id, vn.Completed); err != nil {
						t.Errorf("release: %v", err)
					} else if err := f.SettleReleased(t.Context(), &released, []uint64{1, 2}); err != nil {
						t.Errorf("settle: %v", err)
					}
					if _, err := f.Drain(t.Context(), pool, a.Numbers[0].VN); err != nil {
						t.Errorf("drain: %v", err)
					}
					if _, err := f.Refill(t.Context(), pool, sim.Name, []Owned{{VN: a.Numbers[0].VN, Ref: "x"}}); err != nil {
						t.Errorf("refill: %v", err)
					}
				}
			}
		})
	}
	cleared := 0
	for range 15 {
		got := f.audit(t)
		require.Empty(t, got.Problems)
		cleared += got.Cleared
	}
	stop.Store(true)
	traffic.Wait()
	require.Positive(t, cleared, "there were changes in flight")
	got := f.audit(t)
	require.Empty(t, got.Problems)
	require.Equal(t, 300, got.VNs)
}
