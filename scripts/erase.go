package scripts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Remains is what Redis holds of an order that has to do with people.
type Remains struct {
	Known   bool // there is a live order or a tombstone
	Live    bool // also when its lease has run out and nobody has ended it yet
	Settled bool // of an ended one: the ledger has its end
	// Callers counts the hashes of parties by which former callers are still told that it
	// has ended.
	Callers int

	fields map[string][]string // by key
}

// Remains looks for what Redis holds of an order. It changes nothing.
func (s *Store) Remains(ctx context.Context, orderID string) (Remains, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var out Remains
	at := s.layout.home(orderID)
	rec, _, err := s.orderIn(ctx, at, orderID)
	if err == nil && rec.forward != nil {
		out.Known, out.Settled = rec.state == vn.Ended, rec.settled
		at = rec.forward.at
		rec, _, err = s.orderIn(ctx, at, orderID)
	}
	if errors.Is(err, vn.ErrOrderUnknown) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Known, out.Live, out.Settled = true, rec.state == vn.Active, rec.settled
	if out.Live {
		return out, nil
	}
	out.fields = make(map[string][]string, len(rec.numbers))
	for _, n := range rec.numbers {
		key := endedKey(s.layout.prefixes[at], n)
		notes, err := s.client.HGetAll(ctx, key).Result()
		if err != nil {
			return out, fmt.Errorf("read who was a party: %w", unavailable(err))
		}
		for token, note := range notes {
			_, id, err := parseEnded(note)
			if err != nil {
				return out, err
			}
			if id == orderID {
				out.fields[key] = append(out.fields[key], token)
				out.Callers++
			}
		}
	}
	return out, nil
}

// Erase takes away what Remains has found of an ended order. Its tombstone stays, which
// holds nothing of people: an event that comes late still finds that the order has ended.
func (s *Store) Erase(ctx context.Context, r Remains) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for key, tokens := range r.fields {
		// A number that serves the same caller again and has ended that order too since the
		// look loses that note with it: the caller is then told less, never more.
		if err := s.client.HDel(ctx, key, tokens...).Err(); err != nil {
			return fmt.Errorf("erase who was a party: %w", unavailable(err))
		}
	}
	return nil
}

// OrdersOf returns the orders, live or remembered, that one of the tokens is a party of,
// sorted. It reads everything there is, of which there may be millions of keys.
func OrdersOf(ctx context.Context, client redis.UniversalClient, tokens []seal.Token) ([]string, error) {
	var (
		mu  sync.Mutex
		all = map[string]struct{}{}
	)
	look := func(ctx context.Context, node *redis.Client) error {
		for pattern, orderOf := range map[string]func(string) (string, error){"cm1:{*}:vn:*": orderOfBinding, "cm1:{*}:ended:*": orderOfNote} {
			err := eachKey(ctx, node, pattern, func(names []string) error {
				values, err := valuesOf(ctx, node, names, tokens)
				for _, v := range values {
					id, damaged := orderOf(v)
					if damaged != nil {
						return damaged
					}
					mu.Lock()
					all[id] = struct{}{}
					mu.Unlock()
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, c)
	default:
		err = errors.New("read the orders: a client of an unknown kind")
	}
	return slices.Sorted(maps.Keys(all)), err
}

func orderOfNote(note string) (string, error) {
	_, id, err := parseEnded(note)
	return id, err
}

func orderOfBinding(packed string) (string, error) {
	b, err := viewBinding([]byte(packed))
	if err != nil {
		return "", err
	}
	return string(b.orderID()), nil
}

// eachKey calls f with the names that a node has under a pattern, some at a time.
func eachKey(ctx context.Context, node *redis.Client, pattern string, f func(names []string) error) error {
	for cursor := uint64(0); ; {
		names, next, err := node.Scan(ctx, cursor, pattern, 500).Result()
		if err != nil {
			return fmt.Errorf("scan the orders: %w", unavailable(err))
		}
		if len(names) > 0 {
			if err := f(names); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// valuesOf reads the fields of the tokens in each hash.
func valuesOf(ctx context.Context, node *redis.Client, names []string, tokens []seal.Token) ([]string, error) {
	reads := make([]*redis.StringCmd, 0, len(names)*len(tokens))
	_, err := node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, name := range names {
			for i := range tokens {
				reads = append(reads, pipe.HGet(ctx, name, string(tokens[i][:])))
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the orders: %w", unavailable(err))
	}
	var values []string
	for _, r := range reads {
		if v := r.Val(); v != "" {
			values = append(values, v)
		}
	}
	return values, nil
}
