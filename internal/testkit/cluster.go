package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/internal/cluster"
)

// clusterTimeout bounds how long the nodes of a cluster may take to find each other on
// a loaded machine.
const clusterTimeout = time.Minute

// RedisCluster starts three masters that share the slots and returns a client,
// closed with the test.
func RedisCluster(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	// Nothing dies here: a loaded machine must not look like a dead node.
	return ClusterClient(tb, RedisNodes(tb, cluster.RedisConfig{Masters: 3, NodeTimeout: 5 * time.Second}))
}

// RedisNodes starts a Redis Cluster whose nodes the test can kill, freeze, move slots
// between and so on, in a folder of the test's unless cfg names one, and ends it with
// the test.
func RedisNodes(tb testing.TB, cfg cluster.RedisConfig) *cluster.Redis {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	ctx, cancel := context.WithTimeout(tb.Context(), clusterTimeout)
	defer cancel()
	c, err := cluster.StartRedis(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, c.Stop) })
	return c
}

// ClusterClient returns a client of the Cluster that hears of a failover or a move within
// a second, closed with the test.
func ClusterClient(tb testing.TB, c *cluster.Redis) *redis.ClusterClient {
	tb.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), ClusterStateReloadInterval: time.Second, DialerRetries: 1,
		ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: quiet(),
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// NATSNodes starts a cluster of JetStream servers, child processes that the test can
// kill and freeze, and ends it with the test. The package's TestMain begins with
// cluster.RunNode.
func NATSNodes(tb testing.TB, nodes int) *cluster.NATS {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), clusterTimeout)
	defer cancel()
	c, err := cluster.StartNATS(ctx, cluster.NATSConfig{Nodes: nodes, Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, c.Stop) })
	return c
}

func stop(tb testing.TB, stop func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), startTimeout)
	defer cancel()
	if err := stop(ctx); err != nil {
		tb.Error(err)
	}
}
