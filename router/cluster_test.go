//go:build faults

package router

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// replicaClient returns a client that reads from the replicas of a Cluster, set as
// package app sets it.
func replicaClient(tb testing.TB, nodes *cluster.Redis) *redis.ClusterClient {
	tb.Helper()
	return clientOf(tb, nodes, func(o *redis.ClusterOptions) { o.ReadOnly = true })
}

func clientOf(tb testing.TB, nodes *cluster.Redis, edit func(*redis.ClusterOptions)) *redis.ClusterClient {
	tb.Helper()
	o := &redis.ClusterOptions{
		Addrs: nodes.Addrs(), ClusterStateReloadInterval: time.Second, MaxRedirects: 4, DialerRetries: 1, Protocol: 2,
		ReadTimeout: 100 * time.Millisecond, DialTimeout: time.Second, PoolSize: 128,
		ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	edit(o)
	client := redis.NewClusterClient(o)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// keyOn returns a hash's key that the master with this address serves, and writes its
// field f.
func keyOn(tb testing.TB, client *redis.ClusterClient, addr string) string {
	tb.Helper()
	for i := range 1000 {
		key := "h" + strconv.Itoa(i)
		node, err := client.MasterForKey(tb.Context(), key)
		require.NoError(tb, err)
		if node.Options().Addr == addr {
			require.NoError(tb, client.HSet(tb.Context(), key, "f", "value of "+key).Err())
			return key
		}
	}
	tb.Fatal("no key for " + addr)
	return ""
}

func (c *Coalescer) laneAt(addr string) *lane {
	for _, l := range *c.masters.lanes.Load() {
		if l.addr == addr {
			return l
		}
	}
	return nil
}

// TestAFrozenMasterDelaysOnlyItsOwnCalls freezes one of three masters under load: reads of
// the others' keys take no longer than they take anyway, and those of its own are refused
// in time, also beyond its queue.
func TestAFrozenMasterDelaysOnlyItsOwnCalls(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, NodeTimeout: time.Minute})
	const flushTimeout = time.Second
	client := clientOf(t, nodes, func(o *redis.ClusterOptions) { o.ReadTimeout = flushTimeout })
	masters, err := nodes.Masters(t.Context())
	require.NoError(t, err)
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: flushTimeout, MaxQueue: 8})
	var keys []string
	for _, m := range masters {
		key := keyOn(t, client, m.Addr)
		keys = append(keys, key)
		value, err := readOne(t, c, key, "f")
		require.NoError(t, err)
		require.Equal(t, "value of "+key, value)
	}

	require.NoError(t, masters[0].Freeze())
	began := time.Now()
	var own sync.WaitGroup
	for range 40 {
		own.Go(func() {
			_, err := readOne(t, c, keys[0], "f")
			require.ErrorIs(t, err, vn.ErrUnavailable)
		})
	}
	require.Eventually(t, func() bool { return c.laneAt(masters[0].Addr).waiting() == 8 }, flushTimeout, time.Millisecond)
	for i := range 100 {
		key := keys[1+i%2]
		value, err := readOne(t, c, key, "f")
		require.NoError(t, err)
		require.Equal(t, "value of "+key, value)
	}
	require.Less(t, time.Since(began), flushTimeout, "the others' calls wait for nothing of the frozen one")
	require.Positive(t, c.laneAt(masters[0].Addr).waiting(), "which is still being waited for")
	own.Wait()
	require.Less(t, time.Since(began), 2*flushTimeout+patience/2)
	require.Positive(t, testutil.ToFloat64(c.metrics.refused), "the queue of one node is bounded")

	require.NoError(t, masters[0].Thaw())
	require.Eventually(t, func() bool {
		value, err := readOne(t, c, keys[0], "f")
		return err == nil && value == "value of "+keys[0]
	}, patience, 5*time.Millisecond)
}

// TestAReplicaAnswersForAFrozenMaster pins that after the first flush nobody waits for a
// master that is known to be away, that a miss is explained all the same, and that the
// master is asked again once it is back.
func TestAReplicaAnswersForAFrozenMaster(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: time.Minute})
	const flushTimeout = 500 * time.Millisecond
	client := clientOf(t, nodes, func(o *redis.ClusterOptions) { o.ReadTimeout = flushTimeout })
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: flushTimeout, Replicas: replicaClient(t, nodes)})
	store := stockedStore(t, client, c, 64)
	_, ofAgent := placeOrder(t, store)
	called := numberOf(t, ofAgent)
	look := func(calling vn.Number) (vn.Reason, error) {
		d := vn.Decision{}
		ctx, cancel := context.WithTimeout(t.Context(), 4*flushTimeout)
		defer cancel()
		_, err := store.Lookup(ctx, called, calling, &d)
		if d.Reason == vn.Connected {
			require.Equal(t, agent, d.Destination)
		}
		return d.Reason, err
	}
	reason, err := look(customer)
	require.NoError(t, err)
	require.Equal(t, vn.Connected, reason)
	require.Zero(t, testutil.ToFloat64(c.metrics.replica), "the master answers")

	key := vnKey(t, client, called)
	master, _, err := nodes.Owner(t.Context(), key)
	require.NoError(t, err)
	replicated(t, master, key)
	require.NoError(t, c.Check(t.Context()))
	require.NoError(t, master.Freeze())
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			calling, want := customer, vn.Connected
			if i%2 == 1 {
				calling, want = stranger, vn.CallerNotAllowed
			}
			reason, err := look(calling)
			require.NoError(t, err)
			require.Equal(t, want, reason)
		})
	}
	wg.Wait()
	t.Logf("200 calls at once took %s, flush timeout %s", time.Since(began), flushTimeout)
	require.ErrorContains(t, c.Check(t.Context()), master.Addr, "/readyz names it")
	began = time.Now()
	for range 100 {
		reason, err := look(customer)
		require.NoError(t, err)
		require.Equal(t, vn.Connected, reason)
		_, err = look(stranger)
		require.NoError(t, err)
	}
	t.Logf("200 calls one by one took %s", time.Since(began))
	require.Less(t, time.Since(began), 10*flushTimeout, "not each waits for the master first")
	require.Greater(t, testutil.ToFloat64(c.metrics.replica), 300.0)

	require.NoError(t, master.Thaw())
	require.Eventually(t, func() bool {
		before := testutil.ToFloat64(c.metrics.replica)
		reason, err := look(customer)
		return err == nil && reason == vn.Connected && testutil.ToFloat64(c.metrics.replica) == before
	}, patience, 5*time.Millisecond, "the master answers again")
}

// replicated waits until a replica of the master has everything written until now. key is
// one of the master's.
func replicated(tb testing.TB, master *cluster.RedisNode, key string) {
	tb.Helper()
	pipe := master.Client().Pipeline() // WAIT is for the writes of its own connection
	pipe.Set(tb.Context(), key+"-written", "", time.Minute)
	copies := pipe.Do(tb.Context(), "wait", 1, patience.Milliseconds())
	_, err := pipe.Exec(tb.Context())
	require.NoError(tb, err)
	require.Positive(tb, copies.Val().(int64))
}

// vnKey finds the key of a VN, whose partition only package scripts knows.
func vnKey(tb testing.TB, client *redis.ClusterClient, number vn.Number) string {
	tb.Helper()
	var mu sync.Mutex
	var found string
	require.NoError(tb, client.ForEachMaster(tb.Context(), func(ctx context.Context, node *redis.Client) error {
		keys, err := node.Keys(ctx, "cm1:*:vn:"+number.Digits()).Result()
		mu.Lock()
		defer mu.Unlock()
		if len(keys) > 0 {
			found = keys[0]
		}
		return err
	}))
	require.NotEmpty(tb, found)
	return found
}

// TestWithMasterAndReplicaAwayACallIsRefusedInTime pins that the fallback has no end
// without an answer.
func TestWithMasterAndReplicaAwayACallIsRefusedInTime(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 1, Replicas: 1, NodeTimeout: time.Minute})
	client := clientOf(t, nodes, func(*redis.ClusterOptions) {})
	c := newTestCoalescer(t, client, CoalescerConfig{Replicas: replicaClient(t, nodes)})
	require.NoError(t, client.HSet(t.Context(), "h", "f", "v").Err())
	value, err := readOne(t, c, "h", "f")
	require.NoError(t, err)
	require.Equal(t, "v", value)
	for _, n := range nodes.Nodes() {
		require.NoError(t, n.Freeze())
	}
	began := time.Now()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		values := [][]byte{nil}
		require.ErrorIs(t, c.Read(ctx, []byte("h"), [][]byte{[]byte("f")}, values), vn.ErrUnavailable)
		cancel()
	}
	require.Less(t, time.Since(began), patience/2, "0.12 s each, and what a loaded machine adds")
	for _, n := range nodes.Nodes() {
		require.NoError(t, n.Thaw())
	}
	require.Eventually(t, func() bool {
		value, err := readOne(t, c, "h", "f")
		return err == nil && value == "v"
	}, patience, 5*time.Millisecond)
}

// TestAReadFollowsItsSlot moves a slot to another node, first its key (ASK), then itself
// (MOVED). The client's own look at the topology is far away: who is sent elsewhere asks
// for it.
func TestAReadFollowsItsSlot(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: time.Minute})
	rarely := func(o *redis.ClusterOptions) { o.ClusterStateReloadInterval = time.Hour }
	client := clientOf(t, nodes, rarely)
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 2 * time.Second, Replicas: replicaClient(t, nodes)})
	masters, err := nodes.Masters(t.Context())
	require.NoError(t, err)
	key := keyOn(t, client, masters[0].Addr)
	slot, err := nodes.Slot(t.Context(), key)
	require.NoError(t, err)
	read := func() {
		t.Helper()
		values := [][]byte{nil, nil}
		require.NoError(t, c.Read(t.Context(), []byte(key), [][]byte{[]byte("f"), []byte("none")}, values))
		require.Equal(t, []string{"value of " + key, ""}, []string{string(values[0]), string(values[1])})
		require.NoError(t, c.Pipelined(t.Context(), key, func(pipe redis.Pipeliner) { pipe.HGet(t.Context(), key, "f") }))
	}
	redirected := func() float64 { return testutil.ToFloat64(c.metrics.redirected) }
	read()
	require.Zero(t, redirected())

	from, to := masters[0].Client(), masters[1].Client()
	id := func(n *redis.Client) string { return n.Do(t.Context(), "cluster", "myid").Val().(string) }
	require.NoError(t, to.Do(t.Context(), "cluster", "setslot", slot, "importing", id(from)).Err())
	require.NoError(t, from.Do(t.Context(), "cluster", "setslot", slot, "migrating", id(to)).Err())
	read() // the key is still there
	require.Zero(t, redirected())
	port := masters[1].Addr[strings.LastIndex(masters[1].Addr, ":")+1:]
	require.NoError(t, from.Do(t.Context(), "migrate", "127.0.0.1", port, key, 0, 5000).Err())
	read() // and now it is not: ASK
	require.InDelta(t, 2, redirected(), 0)

	for _, n := range []*redis.Client{to, from} {
		require.NoError(t, n.Do(t.Context(), "cluster", "setslot", slot, "node", id(to)).Err())
	}
	read() // MOVED, unless the topology asked for above is there already
	require.Eventually(t, func() bool {
		before := redirected()
		read()
		return redirected() == before
	}, patience, 10*time.Millisecond, "the topology was asked for")
	require.Zero(t, testutil.ToFloat64(c.metrics.replica))
}

// failoverProbes tells how many calls the test of a master's death makes and what time
// each has: the product's own in the long form, and otherwise what a machine busy with
// other tests keeps.
func failoverProbes(t *testing.T) (probes int, budget time.Duration) {
	t.Helper()
	text := os.Getenv("CALLMASK_FAILOVER_PROBES")
	if text == "" {
		return 800, 20 * DefaultBudget
	}
	probes, err := strconv.Atoi(text)
	require.NoError(t, err)
	return probes, DefaultBudget
}

// TestCallsAreAnsweredWhileAMasterDiesOrFreezes probes the whole router, strangers among
// the callers, while a master is frozen beyond its failover and then another one is
// killed. CALLMASK_FAILOVER_PROBES sets how many calls are made in each (200 a second),
// with the product's own time-outs.
func TestCallsAreAnsweredWhileAMasterDiesOrFreezes(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: 2 * time.Second})
	client := clientOf(t, nodes, func(*redis.ClusterOptions) {})
	probes, budget := failoverProbes(t)
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: budget * 2 / 5, Replicas: replicaClient(t, nodes)})
	store := stockedStore(t, client, c, 200)
	f := build(t, store.Lookup, nil, func(cfg *Config) {
		cfg.Budget, cfg.RefusalsPerMinute = budget, -1
		cfg.Carriers = []Carrier{{Name: "tel", ID: 9, Codec: testCodec{token: testToken}}}
	})
	f.run(t)
	var called []string
	for i := range 40 {
		_, ofAgent := placeOrderNamed(t, store, fmt.Sprintf("order-%d", i))
		called = append(called, ofAgent)
		f.call(t, ofAgent, customer.E164())
	}
	key := vnKey(t, client, numberOf(t, called[0]))
	for _, harm := range []struct {
		name     string
		do, undo func(*cluster.RedisNode) error
	}{
		{"frozen", (*cluster.RedisNode).Freeze, (*cluster.RedisNode).Thaw},
		{
			"killed", func(n *cluster.RedisNode) error { n.Kill(); return nil },
			func(n *cluster.RedisNode) error { return n.Restart(t.Context()) },
		},
	} {
		name := harm.name
		victim, _, err := nodes.Owner(t.Context(), key)
		require.NoError(t, err)
		replicated(t, victim, key)
		before := testutil.ToFloat64(c.metrics.replica)
		wrong, slowest := f.probe(t, called, probes, probes/8, func() { require.NoError(t, harm.do(victim)) })
		t.Logf("%s: %d of %d calls not answered rightly, the slowest took %s, %.0f reads of a replica",
			name, wrong, probes, slowest, testutil.ToFloat64(c.metrics.replica)-before)
		require.LessOrEqual(t, wrong, probes/1000+1, name)
		require.Eventually(t, func() bool {
			now, _, err := nodes.Owner(t.Context(), key)
			return err == nil && now != victim
		}, 3*patience, 20*time.Millisecond, "another node takes over")
		require.NoError(t, harm.undo(victim))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		require.NoError(t, nodes.WaitHealthy(ctx))
		cancel()
	}
}

func numberOf(tb testing.TB, e164 string) vn.Number {
	tb.Helper()
	n, ok := vn.ParseE164([]byte(e164))
	require.True(tb, ok)
	return n
}

// probe places calls, 200 a second, every third one a stranger's, and does the harm after
// some. It returns how many were not answered as they should be.
func (f *fixture) probe(t *testing.T, called []string, calls, harmAfter int, harm func()) (wrong int, slowest time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := range calls {
		<-tick.C
		if i == harmAfter {
			harm()
		}
		wg.Go(func() {
			calling, want := customer, "connected "+agent.E164()
			if i%3 == 0 {
				calling, want = stranger, "caller_not_allowed +0 +0"
			}
			began := time.Now()
			a := f.call(t, called[i%len(called)], calling.E164())
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
			if !strings.HasPrefix(a.body, want) {
				wrong++
				require.Contains(t, a.body, "unavailable", "a call may be refused, never answered wrongly")
			}
		})
	}
	wg.Wait()
	return wrong, slowest
}
