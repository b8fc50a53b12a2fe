package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Node is what a Redis server tells of itself.
type Node struct {
	Addr       string
	Master     bool
	Version    string
	Policy     string // what it does when its memory is full
	AOF        bool   // it keeps an append-only file
	WriteFails bool   // its last write to the disk failed
	Used, Most int64  // memory in bytes; Most is 0 without a limit
	Ahead      time.Duration
}

// Old tells whether the server's version is one that callmask cannot use.
func (n *Node) Old() bool {
	major, _, _ := strings.Cut(n.Version, ".")
	return major == "" || len(major) == 1 && major < "7"
}

// Survey is the state of a Redis as an operator wants to know it. Nothing is judged.
type Survey struct {
	Nodes      []Node // masters, and replicas as far as they answer; by address
	Cluster    bool
	Schema     string // of the keys; empty when nothing was ever written
	Partitions int
	Cold       int // partitions that are not marked ready
}

// Look makes a Survey. It writes nothing.
func Look(ctx context.Context, client redis.UniversalClient) (Survey, error) {
	var (
		out Survey
		mu  sync.Mutex
	)
	look := func(ctx context.Context, node *redis.Client) error {
		n, err := lookAt(ctx, node)
		if err != nil {
			return fmt.Errorf("redis %s: %w", node.Options().Addr, unavailable(err))
		}
		mu.Lock()
		defer mu.Unlock()
		out.Nodes = append(out.Nodes, n)
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		out.Cluster = true
		if err = c.ForEachMaster(ctx, look); err == nil {
			_ = c.ForEachSlave(ctx, look) // one that does not answer is missing in the list
		}
	case *redis.Client:
		err = look(ctx, c)
	default:
		err = errors.New("look: a client of an unknown kind")
	}
	if err != nil {
		return out, err
	}
	slices.SortFunc(out.Nodes, func(a, b Node) int { return strings.Compare(a.Addr, b.Addr) })
	return out, out.lookAtLayout(ctx, client)
}

func lookAt(ctx context.Context, node *redis.Client) (Node, error) {
	n := Node{Addr: node.Options().Addr}
	began := time.Now()
	now, err := node.Time(ctx).Result()
	if err != nil {
		return n, err
	}
	n.Ahead = now.Sub(began.Add(time.Since(began) / 2))
	var info strings.Builder
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		text, err := node.Info(ctx, section).Result()
		if err != nil {
			return n, err
		}
		info.WriteString(text)
	}
	field := func(name string) string { return infoField(info.String(), "\n"+name) }
	n.Version, n.Policy, n.Master = field("redis_version"), field("maxmemory_policy"), field("role") == "master"
	n.AOF = field("aof_enabled") == "1"
	n.WriteFails = n.AOF && field("aof_last_write_status") != "ok" || field("rdb_last_bgsave_status") == "err"
	n.Used, _ = strconv.ParseInt(field("used_memory"), 10, 64) // 0 is "not told"
	n.Most, _ = strconv.ParseInt(field("maxmemory"), 10, 64)
	return n, nil
}

func (s *Survey) lookAtLayout(ctx context.Context, client redis.UniversalClient) error {
	have, err := client.HGetAll(ctx, layoutKey).Result()
	if err != nil {
		return fmt.Errorf("read %s: %w", layoutKey, unavailable(err))
	}
	s.Schema = have["schema"]
	if len(have) == 0 {
		return nil
	}
	if s.Partitions, err = strconv.Atoi(have["partitions"]); err != nil || s.Partitions < 1 || s.Partitions > maxPartitions {
		return fmt.Errorf("%s holds a number of partitions that cannot be: %q", layoutKey, have["partitions"])
	}
	for _, p := range newLayout(s.Partitions).prefixes {
		ready, err := client.HGet(ctx, metaKey(p), "ready").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read whether it is ready: %w", unavailable(err))
		}
		if ready != "1" {
			s.Cold++
		}
	}
	return nil
}
