package scripts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// Start checks that the servers can keep the promises (version, eviction policy), loads
// the scripts on every node, and writes the layout, unless Redis has one: then it must be
// ours. Replicas are checked too, as far as they answer: each may be the master
// tomorrow. The error says what to change.
func (s *Store) Start(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.eachNode(ctx, func(ctx context.Context, node *redis.Client) error {
		if err := checkNode(ctx, node); err != nil {
			return err
		}
		// A script that a node lacks is sent to it when it is run, which costs a round
		// trip more: after a failover this saves it.
		for _, script := range s.scripts.all {
			if err := script.Load(ctx, node).Err(); err != nil {
				return fmt.Errorf("redis %s: load the scripts: %w", node.Options().Addr, unavailable(err))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	partitions := s.config.Partitions
	if partitions == 0 {
		partitions = defaultPartitions(s.client)
	}
	if err := s.writeLayout(ctx, partitions); err != nil {
		return err
	}
	return s.readLayout(ctx)
}

// StartReading is Start for a process that only looks up and that Redis lets do no more:
// it runs and loads no script, and takes the layout that another one has written.
func (s *Store) StartReading(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.eachNode(ctx, checkNode); err != nil {
		return err
	}
	return s.readLayout(ctx)
}

// eachNode calls f for every master, and for every replica that answers.
func (s *Store) eachNode(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		if err := client.ForEachMaster(ctx, f); err != nil {
			return err
		}
		// A Cluster with a replica that is down works, and must not keep the rest waiting.
		ctx, cancel := context.WithTimeout(ctx, s.config.Timeout/4)
		defer cancel()
		return client.ForEachSlave(ctx, func(ctx context.Context, node *redis.Client) error {
			if err := f(ctx, node); !errors.Is(err, vn.ErrUnavailable) {
				return err
			}
			return nil
		})
	case *redis.Client:
		return f(ctx, client)
	default:
		return errors.New("start: a client of an unknown kind")
	}
}

func checkNode(ctx context.Context, node *redis.Client) error {
	at := node.Options().Addr
	info, err := node.Info(ctx, "server").Result()
	if err != nil {
		return fmt.Errorf("redis %s: %w", at, unavailable(err))
	}
	version := infoField(info, "redis_version")
	if major, _, _ := strings.Cut(version, "."); major == "" || len(major) == 1 && major < "7" {
		return fmt.Errorf("redis %s: version %s is too old, callmask needs 7.0 or newer", at, version)
	}
	if info, err = node.Info(ctx, "memory").Result(); err != nil {
		return fmt.Errorf("redis %s: %w", at, unavailable(err))
	}
	if policy := infoField(info, "maxmemory_policy"); policy != "noeviction" {
		return fmt.Errorf("redis %s: maxmemory-policy is %q, set it to noeviction: an evicted key is a lost order", at, policy)
	}
	return nil
}

func infoField(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r")
	return value
}

// writeLayout writes the layout, once for all processes and times.
func (s *Store) writeLayout(ctx context.Context, partitions int) error {
	for field, value := range map[string]int{"schema": Schema, "partitions": partitions} {
		if err := s.client.HSetNX(ctx, layoutKey, field, strconv.Itoa(value)).Err(); err != nil {
			return fmt.Errorf("write %s: %w", layoutKey, unavailable(err))
		}
	}
	return nil
}

// readLayout takes the layout from Redis, where it must be as this process is set.
func (s *Store) readLayout(ctx context.Context) error {
	have, err := s.client.HGetAll(ctx, layoutKey).Result()
	if err != nil {
		return fmt.Errorf("read %s: %w", layoutKey, unavailable(err))
	}
	if len(have) < 2 {
		return fmt.Errorf("redis holds no %s yet: an allocator or replenisher writes it when it starts", layoutKey)
	}
	want := map[string]string{"schema": strconv.Itoa(Schema), "partitions": strconv.Itoa(s.config.Partitions)}
	if s.config.Partitions == 0 {
		want["partitions"] = have["partitions"]
	}
	for field, value := range want {
		if have[field] != value {
			return fmt.Errorf("redis holds data with %s %s, this callmask is set to %s: use the setting that the data was made with",
				field, have[field], value)
		}
	}
	partitions, err := strconv.Atoi(want["partitions"])
	if err != nil || partitions < 1 || partitions > maxPartitions {
		return fmt.Errorf("redis holds data with a number of partitions that this callmask cannot have: %q", have["partitions"])
	}
	s.layout = newLayout(partitions)
	return nil
}
