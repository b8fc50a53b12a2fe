package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// ordersUnder counts the orders, active or ended, whose tokens were made under the key
// with this id. The keys' names are those of package scripts.
func ordersUnder(ctx context.Context, client redis.UniversalClient, id byte) (int, error) {
	var orders atomic.Int64
	want := strconv.Itoa(int(id))
	node := func(ctx context.Context, node *redis.Client) error {
		for cursor := uint64(0); ; {
			names, next, err := node.Scan(ctx, cursor, "cm1:{*}:order:*", 500).Result()
			if err != nil {
				return fmt.Errorf("scan the orders: %w", err)
			}
			n, err := countUnder(ctx, node, names, want)
			if err != nil {
				return err
			}
			orders.Add(int64(n))
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, node)
	case *redis.Client:
		err = node(ctx, c)
	default:
		err = errors.New("a client of an unknown kind")
	}
	return int(orders.Load()), err
}

func countUnder(ctx context.Context, node *redis.Client, names []string, want string) (n int, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	keys := make([]*redis.StringCmd, len(names))
	_, err = node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, name := range names {
			keys[i] = pipe.HGet(ctx, name, "key")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read the orders: %w", err)
	}
	for _, k := range keys {
		// redis.Nil: a tombstone of an order that never had numbers, or one gone since.
		if err := k.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return 0, fmt.Errorf("read the orders: %w", err)
		}
		if k.Val() == want {
			n++
		}
	}
	return n, nil
}
