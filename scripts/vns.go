package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

const (
	vnScanCount = 1000
	vnScanEvery = time.Minute
)

// vnIndex is a copy of the inventory's VNs in this process. A party's real number must
// not travel to Redis in clear, not even as a question, so whether it is one of our own
// VNs is answered here.
type vnIndex struct {
	mu      sync.RWMutex
	vns     map[vn.Number]struct{}
	changes string    // of the inventory, when it was copied
	scanned time.Time // when it was copied
}

func (x *vnIndex) has(n vn.Number) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, ok := x.vns[n]
	return ok
}

func (x *vnIndex) add(numbers []Owned) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.vns == nil {
		x.vns = make(map[vn.Number]struct{}, len(numbers))
	}
	for _, n := range numbers {
		x.vns[n.VN] = struct{}{}
	}
}

// IsVN tells whether n is one of our VNs, as of the last RefreshVNs or Refill here.
func (s *Store) IsVN(n vn.Number) bool { return s.vns.has(n) }

// RefreshVNs brings the local copy of the inventory up to date. It costs one small
// read while the inventory is unchanged; call it every second or so.
func (s *Store) RefreshVNs(ctx context.Context) error {
	changes, err := s.inventoryChanges(ctx)
	if err != nil {
		return err
	}
	s.vns.mu.RLock()
	fresh := s.vns.vns != nil && s.vns.changes == changes && time.Since(s.vns.scanned) < vnScanEvery
	s.vns.mu.RUnlock()
	if fresh {
		return nil
	}
	started := time.Now()
	vns := make(map[vn.Number]struct{})
	for _, p := range s.layout.prefixes {
		if err := s.scanVNs(ctx, p, vns); err != nil {
			return err
		}
	}
	s.vns.mu.Lock()
	defer s.vns.mu.Unlock()
	s.vns.vns, s.vns.changes, s.vns.scanned = vns, changes, started
	return nil
}

func (s *Store) inventoryChanges(ctx context.Context) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	changes := make([]*redis.StringCmd, len(s.layout.prefixes))
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, p := range s.layout.prefixes {
			changes[i] = pipe.HGet(ctx, metaKey(p), "changes")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the inventory's changes: %w", unavailable(err))
	}
	var all strings.Builder
	for _, c := range changes {
		if err := c.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return "", fmt.Errorf("read the inventory's changes: %w", unavailable(err))
		}
		all.WriteString(c.Val() + " ")
	}
	return all.String(), nil
}

func (s *Store) scanVNs(ctx context.Context, p string, into map[vn.Number]struct{}) error {
	for cursor := uint64(0); ; {
		// Each page has a deadline of its own: a large inventory takes many.
		page, cancel := s.bound(ctx)
		fields, next, err := s.client.HScan(page, inventoryKey(p), cursor, "", vnScanCount).Result()
		cancel()
		if err != nil {
			return fmt.Errorf("scan the inventory: %w", unavailable(err))
		}
		for i := 0; i < len(fields); i += 2 {
			if n, ok := vn.ParseDigits(fields[i]); ok {
				into[n] = struct{}{}
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
