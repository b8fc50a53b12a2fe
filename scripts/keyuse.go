package scripts

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// OrdersUnder counts the orders, active or ended, whose tokens were made under the key
// with this id. It reads every order, of which there may be millions.
func OrdersUnder(ctx context.Context, client redis.UniversalClient, id byte) (int, error) {
	var orders atomic.Int64
	node := func(ctx context.Context, node *redis.Client) error {
		for cursor := uint64(0); ; {
			names, next, err := node.Scan(ctx, cursor, "cm1:{*}:order:*", 500).Result()
			if err != nil {
				return fmt.Errorf("scan the orders: %w", err)
			}
			n, err := countUnder(ctx, node, names, id)
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
		err = errors.New("read the orders: a client of an unknown kind")
	}
	return int(orders.Load()), err
}

func countUnder(ctx context.Context, node *redis.Client, names []string, id byte) (n int, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	terms := make([]*redis.StringCmd, len(names))
	_, err = node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, name := range names {
			terms[i] = pipe.HGet(ctx, name, "terms")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read the orders: %w", err)
	}
	for i, t := range terms {
		switch err := t.Err(); {
		case errors.Is(err, redis.Nil):
			continue // a tombstone of an order that never had numbers, or one gone since
		case err != nil:
			return 0, fmt.Errorf("read the orders: %w", err)
		}
		var r record
		if err := r.parseTerms(t.Val()); err != nil {
			return 0, fmt.Errorf("%s: %w", names[i], err)
		}
		if r.keyID == id {
			n++
		}
	}
	return n, nil
}
