package scripts

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// TestStartReachesEveryNodeOfACluster pins that replicas are checked and get the scripts
// like masters, that a node without them is sent what it lacks, and that a replica which
// does not answer stops nobody.
func TestStartReachesEveryNodeOfACluster(t *testing.T) {
	t.Parallel()
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: time.Minute})
	client := testkit.ClusterClient(t, nodes)
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset"))
	require.NoError(t, err)
	s, err := New(Config{Partitions: 16, Timeout: 8 * time.Second}, client, keys)
	require.NoError(t, err)

	_, replicas, err := nodes.Owner(t.Context(), "any")
	require.NoError(t, err)
	replica := replicas[0]
	require.ErrorContains(t, s.StartReading(t.Context()), "redis holds no cm1:layout yet: an allocator or replenisher writes it")
	require.NoError(t, replica.Client().ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	require.ErrorContains(t, s.Start(t.Context()), "redis "+replica.Addr+`: maxmemory-policy is "allkeys-lru"`)
	require.NoError(t, replica.Client().ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())

	require.NoError(t, s.Start(t.Context()))
	hashes := make([]string, len(s.scripts.all))
	for i, script := range s.scripts.all {
		hashes[i] = script.Hash()
	}
	for _, n := range nodes.Nodes() {
		require.NotContains(t, n.Client().ScriptExists(t.Context(), hashes...).Val(), false, n.Addr)
	}

	// A node that joined or restarted has no scripts.
	masters, err := nodes.Masters(t.Context())
	require.NoError(t, err)
	require.NoError(t, masters[1].Client().ScriptFlush(t.Context()).Err())
	require.NoError(t, s.MarkReady(t.Context()))
	owned := make([]Owned, 320)
	for i := range owned {
		owned[i] = Owned{VN: 447700900001 + vn.Number(i), Fence: uint64(i + 1)}
	}
	added, err := s.Refill(t.Context(), pool, sim.Name, owned)
	require.NoError(t, err)
	require.Equal(t, len(owned), added.Added)
	at := map[int]bool{}
	for i := range 64 {
		a, err := s.Allocate(t.Context(), request(fmt.Sprintf("order-%06d", i), customer, agent))
		require.NoError(t, err)
		at[a.Partition] = true
	}
	require.Greater(t, len(at), 8, "orders of partitions on every node")
	healed := func(n *redis.Client) bool { return n.ScriptExists(t.Context(), s.scripts.allocate.Hash()).Val()[0] }
	require.True(t, healed(masters[1].Client()), "it was sent what it lacked")

	require.NoError(t, replica.Freeze())
	require.NoError(t, s.Start(t.Context()), "the rest works without a replica")
	require.NoError(t, s.StartReading(t.Context()))
	require.NoError(t, replica.Thaw())
}
