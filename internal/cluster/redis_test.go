package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
)

// within bounds what takes a loaded machine the longest: a failover.
const within = 30 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	return ctx
}

// failedOver waits until another node owns the key.
func failedOver(t *testing.T, c *cluster.Redis, key string, old *cluster.RedisNode) *cluster.RedisNode {
	t.Helper()
	var now *cluster.RedisNode
	require.Eventually(t, func() bool {
		var err error
		now, _, err = c.Owner(t.Context(), key)
		return err == nil && now != old
	}, within, 20*time.Millisecond)
	return now
}

func TestAMasterThatDiesIsReplacedAndComesBackAsAReplica(t *testing.T) {
	t.Parallel()
	c := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: time.Second})
	client := testkit.ClusterClient(t, c)
	require.NoError(t, client.Set(t.Context(), "k", "kept", 0).Err())
	master, replicas, err := c.Owner(t.Context(), "k")
	require.NoError(t, err)
	require.Len(t, replicas, 1)
	require.NoError(t, master.Client().Wait(t.Context(), 1, time.Second).Err())

	master.Kill()
	require.ErrorIs(t, syscall.Kill(master.Pid(), 0), syscall.ESRCH)
	now := failedOver(t, c, "k", master)
	require.Equal(t, replicas[0], now)
	require.NoError(t, master.Restart(bounded(t)))
	require.NoError(t, c.WaitHealthy(bounded(t)))
	_, replicas, err = c.Owner(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, []*cluster.RedisNode{master}, replicas)
	require.Equal(t, "kept", now.Client().Get(t.Context(), "k").Val())

	// Frozen, it loses its place just the same; what it acknowledged behind a cut link
	// is lost with it.
	require.NoError(t, now.CutReplication(t.Context()))
	require.NoError(t, now.Client().Set(t.Context(), "k", "lost", 0).Err())
	require.NoError(t, now.Freeze())
	require.Equal(t, master, failedOver(t, c, "k", now))
	require.Equal(t, "kept", master.Client().Get(t.Context(), "k").Val())
	require.NoError(t, now.Thaw())
	require.NoError(t, now.RestoreReplication(bounded(t)))
	require.NoError(t, c.WaitHealthy(bounded(t)))

	// In order nobody has to die for it.
	require.NoError(t, c.HandOver(bounded(t), master))
	require.Equal(t, now, failedOver(t, c, "k", master))
}

func TestSlotsMoveAndNodesComeAndGoWithAllTheirKeys(t *testing.T) {
	t.Parallel()
	c := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, NodeTimeout: 5 * time.Second})
	const keys = 300
	_, err := testkit.ClusterClient(t, c).Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range keys {
			p.Set(t.Context(), fmt.Sprintf("{tag}%d", i), i, 0)
			p.Set(t.Context(), fmt.Sprintf("%d", i), i, 0)
		}
		return nil
	})
	require.NoError(t, err)
	all := func() {
		t.Helper()
		client := testkit.ClusterClient(t, c) // a new one knows the Cluster as it is now
		for i := range keys {
			for _, key := range []string{fmt.Sprintf("{tag}%d", i), fmt.Sprintf("%d", i)} {
				require.Equal(t, fmt.Sprint(i), client.Get(t.Context(), key).Val(), key)
			}
		}
	}

	from, _, err := c.Owner(t.Context(), "{tag}")
	require.NoError(t, err)
	added, err := c.AddNode(bounded(t), nil)
	require.NoError(t, err)
	slot, err := c.Slot(t.Context(), "{tag}")
	require.NoError(t, err)
	var last cluster.Progress
	require.NoError(t, c.MoveSlot(bounded(t), slot, added, func(p cluster.Progress) { last = p }))
	require.Equal(t, cluster.Progress{Slots: 1, AllSlots: 1, Keys: keys}, last)
	owner, _, err := c.Owner(t.Context(), "{tag}")
	require.NoError(t, err)
	require.Equal(t, added, owner)
	all()

	require.NoError(t, c.Reshard(bounded(t), from, added, 50, nil))
	require.NoError(t, c.WaitHealthy(bounded(t)))
	all()
	_, err = c.AddNode(bounded(t), added)
	require.NoError(t, err)
	require.NoError(t, c.RemoveNode(bounded(t), added, nil))
	require.False(t, added.Alive())
	masters, err := c.Masters(t.Context())
	require.NoError(t, err)
	require.Len(t, masters, 3)
	require.False(t, slices.Contains(c.Nodes(), added))
	all()
}

func TestAClusterThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := cluster.StartRedis(t.Context(), cluster.RedisConfig{Masters: 1, Dir: t.TempDir(), Args: []string{"--no-such-setting", "1"}})
	require.ErrorContains(t, err, "Bad directive", "the output of redis-server is shown")
}
