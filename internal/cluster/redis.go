package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RedisConfig says what Redis Cluster to start.
type RedisConfig struct {
	Masters  int // at least 1; a dead master is replaced only where there are 3
	Replicas int // of each master
	// NodeTimeout is how long a node may be silent before the others take it for dead;
	// 0 means 2 s.
	NodeTimeout time.Duration
	Dir         string   // each node has a folder in it
	Args        []string // further arguments of every redis-server, "--name", "value"
}

// Redis is a Redis Cluster.
type Redis struct {
	cfg  RedisConfig
	args []string

	mu    sync.Mutex
	next  int // number of the next node's folder
	nodes []*RedisNode
}

// StartRedis starts a Redis Cluster and returns when it is healthy. ctx bounds the
// start; Stop ends it.
func StartRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	if cfg.Masters < 1 || cfg.Replicas < 0 {
		return nil, fmt.Errorf("redis cluster: %d masters with %d replicas each are none", cfg.Masters, cfg.Replicas)
	}
	if cfg.NodeTimeout == 0 {
		cfg.NodeTimeout = 2 * time.Second
	}
	c := &Redis{cfg: cfg, args: clusterArgs(cfg)}
	err := c.build(ctx)
	if err == nil {
		return c, nil
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	_ = c.Stop(end) // why it did not start is the error to report
	return nil, err
}

func clusterArgs(cfg RedisConfig) []string {
	args := []string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", strconv.FormatInt(cfg.NodeTimeout.Milliseconds(), 10),
		// A part that is down must not take the rest with it, and a call is answered by
		// what is left of a minority: a binding that is still there has not ended.
		"--cluster-require-full-coverage", "no", "--cluster-allow-reads-when-down", "yes",
		"--replica-serve-stale-data", "yes",
	}
	if cfg.Replicas >= 2 { // with one, its death would end all writes
		args = append(args, "--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
	}
	return append(args, cfg.Args...)
}

// build starts the nodes, shares the slots out, lets the nodes meet and gives each
// master its replicas.
func (c *Redis) build(ctx context.Context) error {
	all := make([]struct{}, c.cfg.Masters*(1+c.cfg.Replicas))
	err := each(all, func(struct{}) error {
		_, err := c.spawn(ctx)
		return err
	})
	if err != nil {
		return err
	}
	nodes := c.Nodes()
	masters := nodes[:c.cfg.Masters]
	for i, m := range masters {
		first, last := i*slotCount/len(masters), (i+1)*slotCount/len(masters)-1
		if _, err := m.do(ctx, "cluster", "addslotsrange", first, last); err != nil {
			return err
		}
		// Different from the start, or the nodes need a while to settle on it.
		if _, err := m.do(ctx, "cluster", "set-config-epoch", i+1); err != nil {
			return err
		}
	}
	for _, n := range nodes[1:] {
		if err := nodes[0].meet(ctx, n); err != nil {
			return err
		}
	}
	for i, n := range nodes[len(masters):] {
		if err := n.follow(ctx, masters[i%len(masters)]); err != nil {
			return err
		}
	}
	return c.WaitHealthy(ctx)
}

// spawn starts one more redis-server, which knows no other yet.
func (c *Redis) spawn(ctx context.Context) (*RedisNode, error) {
	c.mu.Lock()
	dir := filepath.Join(c.cfg.Dir, "redis-"+strconv.Itoa(c.next))
	c.next++
	c.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("redis cluster: %w", err)
	}
	n, err := StartRedisNode(ctx, dir, c.args...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	id, err := n.do(ctx, "cluster", "myid")
	if err != nil {
		return nil, err
	}
	n.id, _ = id.(string)
	return n, nil
}

// meet makes two nodes, and with them all that either knows, members of one Cluster.
func (n *RedisNode) meet(ctx context.Context, other *RedisNode) error {
	host, port, err := net.SplitHostPort(other.Addr)
	if err != nil {
		return err
	}
	_, err = n.do(ctx, "cluster", "meet", host, port, other.bus)
	return err
}

// follow makes the node a replica of a master as soon as it knows it.
func (n *RedisNode) follow(ctx context.Context, master *RedisNode) error {
	return poll(ctx, func(ctx context.Context) error {
		_, err := n.do(ctx, "cluster", "replicate", master.id)
		return err
	})
}

// Nodes returns all nodes, alive or not.
func (c *Redis) Nodes() []*RedisNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

func (c *Redis) alive() []*RedisNode {
	return slices.DeleteFunc(c.Nodes(), func(n *RedisNode) bool { return !n.Alive() })
}

func (c *Redis) byID(id string) *RedisNode {
	for _, n := range c.Nodes() {
		if n.id == id {
			return n
		}
	}
	return nil
}

// Addrs returns host:port of every node.
func (c *Redis) Addrs() []string {
	nodes := c.Nodes()
	addrs := make([]string, len(nodes))
	for i, n := range nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// URL returns the Cluster as callmask's setting redis_url takes it: every node's URL,
// separated by commas.
func (c *Redis) URL() string {
	addrs := c.Addrs()
	addrs[0] += "?cluster=true"
	return "redis://" + strings.Join(addrs, ",redis://")
}

// Stop ends all nodes and waits for them; what has not ended with ctx is killed. The
// files stay.
func (c *Redis) Stop(ctx context.Context) error {
	return each(c.Nodes(), func(n *RedisNode) error { return n.close(ctx) })
}
