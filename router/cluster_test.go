package router

import (
	"context"
	"fmt"
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
	"github.com/callmask/callmask/scripts"
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
	client := clientOf(t, nodes, func(*redis.ClusterOptions) {})
	masters, err := nodes.Masters(t.Context())
	require.NoError(t, err)
	const flushTimeout = time.Second
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
	client := clientOf(t, nodes, func(*redis.ClusterOptions) {})
	const flushTimeout = 500 * time.Millisecond
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: flushTimeout, Replicas: replicaClient(t, nodes)})
	store := stockedStore(t, client, c, 64)
	_, ofAgent := placeOrder(t, store)
	called, ok := vn.ParseE164([]byte(ofAgent))
	require.True(t, ok)
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
	master, replicas, err := nodes.Owner(t.Context(), key)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return replicas[0].Client().Exists(t.Context(), key).Val() == 1 }, patience, time.Millisecond)
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

// failoverBudget is a call's, in the test of a master's death: the product's own in the
// long form, and what a machine busy with other tests keeps otherwise.
func failoverBudget() (budget time.Duration, probes int) {
	if n := longProbes(); n > 0 {
		return DefaultBudget, n
	}
	return 5 * DefaultBudget, 600
}

// TestCallsAreAnsweredWhileAMasterDiesOrFreezes probes the whole router, strangers among
// the callers, while a master is frozen beyond its failover and another one is killed.
// CALLMASK_FAILOVER_PROBES sets how many calls are made for each (200 a second) with the
// product's own time-outs.
func TestCallsAreAnsweredWhileAMasterDiesOrFreezes(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: 2 * time.Second})
	client := clientOf(t, nodes, func(*redis.ClusterOptions) {})
	budget, probes := failoverBudget()
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: budget * 2 / 5, Replicas: replicaClient(t, nodes)})
	store := stockedStore(t, client, c, 200)
	f := build(t, store.Lookup, nil, func(c *Config) {
		c.Budget, c.RefusalsPerMinute = budget, -1
		c.Carriers = []Carrier{{Name: "tel", ID: 9, Codec: testCodec{token: testToken}}}
	})
	f.run(t)
	var called []string
	for i := range 40 {
		_, ofAgent := placeOrderNamed(t, store, fmt.Sprintf("order-%d", i))
		called = append(called, ofAgent)
	}
	for _, m := range nodes.Nodes() {
		require.NoError(t, m.Client().Do(t.Context(), "wait", "1", "5000").Err()) // replicas have it all
	}

	for _, harm := range []struct {
		name string
		do   func(*cluster.RedisNode) error
	}{
		{"frozen", (*cluster.RedisNode).freezeFor}, {"killed", nil},
	} {
		_ = harm
	}
	_ = scripts.Config{}
	_ = probes
}
