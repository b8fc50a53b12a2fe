package scripts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// clockTolerance is how far this process's clock may be ahead of Redis's before a
// binding that Redis still serves counts as lapsed.
const clockTolerance = 2 * time.Second

// Lookup decides who a call reaches: one plain HGET for a party of a live order
// (two in one round trip while a key rotation accepts two keys). Only on a miss a
// second round trip finds out why.
//
// It sets d.Reason to vn.Connected (with Destination, CallerID and OrderID),
// vn.OrderEnded (with OrderID), vn.CallerNotAllowed or vn.NumberNotAssigned; carrier
// is the VN's and means nothing for the last. On an error d.Reason is vn.Unavailable.
// The caller sets the deadline; without one Config.Timeout holds.
func (s *Store) Lookup(ctx context.Context, called, calling vn.Number, d *vn.Decision) (carrier byte, err error) {
	d.Reason, d.OrderID = vn.Unavailable, d.OrderID[:0]
	ctx, cancel := s.bound(ctx)
	defer cancel()
	p := s.layout.ofVN(called)
	name := vnKey(p, called)
	keys := s.keys.Accepted()
	tokens := make([]seal.Token, len(keys))
	for i, key := range keys {
		tokens[i] = key.Token(calling)
	}
	values, err := s.readFields(ctx, name, tokens)
	if err != nil {
		return 0, err
	}
	for i, value := range values {
		if value != "" {
			return s.connect(keys[i], tokens[i], []byte(value), d)
		}
	}
	return s.explainMiss(ctx, p, called, name, tokens, d)
}

// readFields reads one field per token of a hash in one round trip, "" for a missing one.
func (s *Store) readFields(ctx context.Context, name string, tokens []seal.Token) ([]string, error) {
	if len(tokens) == 1 {
		value, err := s.client.HGet(ctx, name, string(tokens[0][:])).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("look up: %w", unavailable(err))
		}
		return []string{value}, nil
	}
	reads := make([]*redis.StringCmd, len(tokens))
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range tokens {
			reads[i] = pipe.HGet(ctx, name, string(tokens[i][:]))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look up: %w", unavailable(err))
	}
	values := make([]string, len(reads))
	for i, r := range reads {
		if err := r.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("look up: %w", unavailable(err))
		}
		values[i] = r.Val()
	}
	return values, nil
}

func (s *Store) connect(key *seal.Key, token seal.Token, value []byte, d *vn.Decision) (carrier byte, err error) {
	b, err := viewBinding(value)
	if err != nil {
		return 0, fmt.Errorf("look up: %w", err)
	}
	if b.key() != key.ID() {
		return 0, fmt.Errorf("look up: %w", errBinding)
	}
	destination, err := key.Open(b.sealed(), b.orderID(), token, b.party())
	if err != nil {
		return 0, fmt.Errorf("look up: %w", err)
	}
	d.OrderID = append(d.OrderID[:0], b.orderID()...)
	if time.Since(b.leaseEnd()) > clockTolerance {
		s.lapsed.Add(1)
		d.Reason = vn.OrderEnded
		return b.carrier(), nil
	}
	d.Reason, d.Destination, d.CallerID = vn.Connected, destination, b.vn()
	return b.carrier(), nil
}

// explainMiss tells the former parties that their order ended, and an assigned number
// from one that is not, in one round trip.
func (s *Store) explainMiss(
	ctx context.Context, p string, called vn.Number, name string, tokens []seal.Token, d *vn.Decision,
) (carrier byte, err error) {
	var (
		ended  = make([]*redis.StringCmd, len(tokens))
		anyone *redis.KeyValueSliceCmd
	)
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		key := endedKey(p, called)
		for i := range tokens {
			ended[i] = pipe.HGet(ctx, key, string(tokens[i][:]))
		}
		anyone = pipe.HRandFieldWithValues(ctx, name, 1)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("look up why not: %w", unavailable(err))
	}
	for _, r := range ended {
		if err := r.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return 0, fmt.Errorf("look up why not: %w", unavailable(err))
		}
		if r.Val() == "" {
			continue
		}
		carrier, orderID, err := parseEnded(r.Val())
		if err != nil {
			return 0, fmt.Errorf("look up why not: %w", err)
		}
		d.Reason, d.OrderID = vn.OrderEnded, append(d.OrderID[:0], orderID...)
		return carrier, nil
	}
	if err := anyone.Err(); err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("look up why not: %w", unavailable(err))
	}
	if len(anyone.Val()) == 0 {
		d.Reason = vn.NumberNotAssigned
		return 0, nil
	}
	b, err := viewBinding([]byte(anyone.Val()[0].Value))
	if err != nil {
		return 0, fmt.Errorf("look up why not: %w", err)
	}
	d.Reason = vn.CallerNotAllowed
	return b.carrier(), nil
}
