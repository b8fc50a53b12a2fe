package rig

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/scripts"
)

// RedisCluster is a Redis Cluster of masters alone.
type RedisCluster struct {
	Store *scripts.Store

	nodes *cluster.Redis
	stop  func() error
}

// RedisCluster starts a Redis Cluster without replicas and without an AOF, the servers set as
// those of Redis are, and a Store on it with so many partitions.
func (r *Rig) RedisCluster(ctx context.Context, masters, partitions int) (*RedisCluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	nodes, err := cluster.StartRedis(ctx, cluster.RedisConfig{
		Masters: masters, Dir: filepath.Join(r.Dir, r.name("redis-cluster")),
		// Nothing dies here: a busy machine must not look like a dead node.
		NodeTimeout: 15 * time.Second, Args: []string{"--appendonly", "no"},
	})
	if err != nil {
		return nil, err
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: nodes.Addrs(), PoolSize: 64, ContextTimeoutEnabled: true, DisableIdentity: true,
		ReadTimeout: loadTimeout, WriteTimeout: loadTimeout, PoolTimeout: loadTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c := &RedisCluster{nodes: nodes, stop: sync.OnceValue(func() error {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
		defer cancel()
		return errors.Join(client.Close(), nodes.Stop(end))
	})}
	r.clients = append(r.clients, c)
	c.Store, err = scripts.New(scripts.Config{Timeout: loadTimeout, Partitions: partitions}, client, r.Keys)
	return c, err
}

// Close ends all nodes. A second call does nothing.
func (c *RedisCluster) Close() error { return c.stop() }

// URL returns the addresses as callmask's setting takes them.
func (c *RedisCluster) URL() string {
	return "redis://" + strings.Join(c.nodes.Addrs(), ",") + "?cluster=true"
}

// Use returns what each node has done.
func (c *RedisCluster) Use(ctx context.Context) ([]Use, error) {
	nodes := c.nodes.Nodes()
	all := make([]Use, len(nodes))
	for i, n := range nodes {
		var err error
		if all[i], err = use(ctx, n.Client()); err != nil {
			return nil, err
		}
	}
	return all, nil
}
