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

// Reader makes the reads of a Lookup. The router's Coalescer is one. It may read from a
// replica that is behind its master: what the replica has not heard of is refused, and
// a binding whose end it has not heard of is served until its lease ends, no longer.
type Reader interface {
	// Read reads fields of the hash key in one round trip: values[i] becomes
	// values[i][:0] with the value of fields[i] appended, empty for a missing field.
	Read(ctx context.Context, key []byte, fields, values [][]byte) error
	// Pipelined makes the reads that queue puts into a pipeline, in one round trip. All
	// their keys lie in the Cluster's slot of key. queue may be called again for another
	// attempt; the commands of the last one hold the answers.
	Pipelined(ctx context.Context, key string, queue func(redis.Pipeliner)) error
}

// maxKeys is how many keys a rotation lets a keyset accept at a time without Lookup
// having to grow its scratch.
const maxKeys = 2

// lookup is what one Lookup needs; lookups are pooled, so that a connected call
// allocates nothing here.
type lookup struct {
	key    []byte
	tokens []seal.Token
	fields [][]byte // the tokens' bytes
	values [][]byte
}

func newLookup() any {
	l := &lookup{key: make([]byte, 0, 48)}
	l.grow(maxKeys)
	return l
}

func (l *lookup) grow(n int) {
	for len(l.values) < n {
		l.values = append(l.values, make([]byte, 0, 128))
	}
	l.tokens, l.fields = make([]seal.Token, 0, n), make([][]byte, 0, n)
}

// prepare fills in the key of the VN and the caller's token under every key accepted.
func (l *lookup) prepare(p string, called, calling vn.Number, keys []*seal.Key) {
	if cap(l.tokens) < len(keys) {
		l.grow(len(keys))
	}
	l.key = appendVNKey(l.key[:0], p, called)
	l.tokens = l.tokens[:len(keys)]
	l.fields = l.fields[:len(keys)]
	for i, key := range keys {
		l.tokens[i] = key.Token(calling)
		l.fields[i] = l.tokens[i][:]
	}
}

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
	p := s.layout.ofVN(called)
	keys := s.keys.Accepted()
	l := s.lookups.Get().(*lookup) //nolint:errcheck // the pool makes nothing else
	defer s.lookups.Put(l)
	l.prepare(p, called, calling, keys)
	values := l.values[:len(keys)]
	if err := s.reader.Read(ctx, l.key, l.fields, values); err != nil {
		return 0, fmt.Errorf("look up: %w", unavailable(err))
	}
	for i, value := range values {
		if len(value) > 0 {
			return s.connect(keys[i], l.tokens[i], value, d)
		}
	}
	return s.explainMiss(ctx, p, called, l.tokens, d)
}

// plainReader makes a round trip of its own for every Read.
type plainReader struct{ store *Store }

// Read implements Reader.
func (r plainReader) Read(ctx context.Context, key []byte, fields, values [][]byte) error {
	ctx, cancel := r.store.bound(ctx)
	defer cancel()
	read := func(i int, cmd *redis.StringCmd) error {
		value, err := cmd.Bytes()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		values[i] = append(values[i][:0], value...)
		return nil
	}
	name := string(key)
	if len(fields) == 1 {
		return read(0, r.store.client.HGet(ctx, name, string(fields[0])))
	}
	cmds := make([]*redis.StringCmd, len(fields))
	if _, err := r.store.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range fields {
			cmds[i] = pipe.HGet(ctx, name, string(fields[i]))
		}
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for i, cmd := range cmds {
		if err := read(i, cmd); err != nil {
			return err
		}
	}
	return nil
}

// Pipelined implements Reader.
func (r plainReader) Pipelined(ctx context.Context, _ string, queue func(redis.Pipeliner)) error {
	ctx, cancel := r.store.bound(ctx)
	defer cancel()
	_, err := r.store.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		queue(pipe)
		return nil
	})
	return err
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
// from one that is not, in one round trip. On a miss at a replica whose master is away it
// says what the replica knows: whatever it says is a refusal.
func (s *Store) explainMiss(
	ctx context.Context, p string, called vn.Number, tokens []seal.Token, d *vn.Decision,
) (carrier byte, err error) {
	var (
		ended  = make([]*redis.StringCmd, len(tokens))
		anyone *redis.KeyValueSliceCmd
	)
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := endedKey(p, called)
	err = s.reader.Pipelined(ctx, key, func(pipe redis.Pipeliner) {
		for i := range tokens {
			ended[i] = pipe.HGet(ctx, key, string(tokens[i][:]))
		}
		anyone = pipe.HRandFieldWithValues(ctx, vnKey(p, called), 1)
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
