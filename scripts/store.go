package scripts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Config holds what Store needs to know. The zero value of a field is its default.
type Config struct {
	// Partitions is the number of hash tags that the keys are spread over, 1 to 1024. It
	// is written to Redis once and cannot be changed afterwards. 0 means what Redis holds;
	// where it holds nothing yet, 1 on a single Redis and 16 on a Cluster.
	Partitions int
	// Tombstone is how long an ended order is remembered. It must be longer than a
	// message can wait in the ORDERS stream, or a late event would bring an order
	// back. Default 25h.
	Tombstone time.Duration
	// Timeout bounds every call that comes without an earlier deadline. Default 2s.
	Timeout time.Duration
	// Reader reads for Lookup; nil means a round trip for each call.
	Reader Reader
	// OrdersMaxAge is how long the ORDERS stream keeps a message. Default 24h.
	OrdersMaxAge time.Duration
}

// reapLimit is the most orders that one call of the reap script ends: about half a
// millisecond in which Redis answers nobody else.
const reapLimit = 50

// unsettledAgain is after how long Reap returns an ended order again that nobody has
// settled: whoever got it first has long given up or died by then.
const unsettledAgain = 30 * time.Second

// Store is the Redis side of callmask. It is safe for concurrent use.
type Store struct {
	config  Config
	client  redis.UniversalClient
	keys    *seal.Keyset
	scripts *registry
	layout  *layout
	reader  Reader
	sweeps  sweeps
	lookups sync.Pool // of *lookup
	vns     vnIndex
	// lapsed counts bindings that Redis still served after their lease end.
	lapsed atomic.Uint64
}

// New returns a Store on client, which stays the caller's to close.
func New(config Config, client redis.UniversalClient, keys *seal.Keyset) (*Store, error) {
	if config.Tombstone == 0 {
		config.Tombstone = 25 * time.Hour
	}
	if config.Timeout == 0 {
		config.Timeout = 2 * time.Second
	}
	if config.OrdersMaxAge == 0 {
		config.OrdersMaxAge = 24 * time.Hour
	}
	if config.Partitions < 0 || config.Partitions > maxPartitions {
		return nil, fmt.Errorf("partitions: is %d; use 1 to %d", config.Partitions, maxPartitions)
	}
	if config.Tombstone <= config.OrdersMaxAge {
		return nil, fmt.Errorf("tombstone: %s must be longer than the ORDERS stream keeps messages (%s)",
			config.Tombstone, config.OrdersMaxAge)
	}
	scripts, err := newRegistry()
	if err != nil {
		return nil, err
	}
	s := &Store{
		config: config, client: client, keys: keys, scripts: scripts,
		reader: config.Reader, sweeps: sweeps{turn: make(chan struct{}, 1)},
	}
	s.layout = newLayout(max(1, config.Partitions)) // Start may learn another number
	s.lookups.New = newLookup
	if s.reader == nil {
		s.reader = plainReader{s}
	}
	return s, nil
}

// Ping tells whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping: %w", unavailable(err))
	}
	return nil
}

// Ready tells whether every partition is marked ready. One that is not is COLD:
// Redis is new, or has lost its data.
func (s *Store) Ready(ctx context.Context) (bool, error) {
	var cold atomic.Bool
	err := s.eachPartition(ctx, func(ctx context.Context, i int) error {
		ready, err := s.client.HGet(ctx, metaKey(s.layout.prefixes[i]), "ready").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read whether it is ready: %w", unavailable(err))
		}
		if ready != "1" {
			cold.Store(true)
		}
		return nil
	})
	return err == nil && !cold.Load(), err
}

// MarkReady marks the given partitions ready, every one if none is given. Only two may
// do that: who has seen that the LEDGER stream never held a record, and who has restored
// all that it holds.
func (s *Store) MarkReady(ctx context.Context, partitions ...int) error {
	if err := s.writeLayout(ctx, len(s.layout.prefixes)); err != nil { // it may have been lost too
		return err
	}
	return s.eachPartition(ctx, func(ctx context.Context, i int) error {
		if len(partitions) > 0 && !slices.Contains(partitions, i) {
			return nil
		}
		if err := s.client.HSet(ctx, metaKey(s.layout.prefixes[i]), "ready", "1").Err(); err != nil {
			return fmt.Errorf("mark it ready: %w", unavailable(err))
		}
		return nil
	})
}

// Partitions returns the number of partitions; Start must have returned.
func (s *Store) Partitions() int { return len(s.layout.prefixes) }

// LapsedBindings returns how many calls were refused because Redis still served a
// binding whose lease had ended by this process's clock.
func (s *Store) LapsedBindings() uint64 { return s.lapsed.Load() }

// bound gives ctx the deadline of Config.Timeout unless it has an earlier one.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if by, ok := ctx.Deadline(); ok && time.Until(by) < s.config.Timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.config.Timeout)
}

// run runs a script and returns its reply, an array whose first element is the
// status.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args []any) (reply, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	values, err := script.Run(ctx, s.client, keys, args...).Slice()
	if err != nil {
		return nil, unavailable(err)
	}
	return values, nil
}

// unavailable marks the errors after which the same call may be made again: no
// answer in time, and the answers of a server that cannot serve now.
func unavailable(err error) error {
	var network net.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return err
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed):
		return fmt.Errorf("%w (%w)", vn.ErrUnavailable, err)
	}
	text := err.Error()
	for _, prefix := range []string{
		"MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS", "OOM ", "BUSY ",
		"MISCONF", "EOF", "redis: ",
	} {
		if strings.HasPrefix(text, prefix) {
			return fmt.Errorf("%w (%w)", vn.ErrUnavailable, err)
		}
	}
	return err
}

// reply reads the parts of a script's answer. Parts that are missing or of another
// type give zero values; the scripts' tests hold the shapes.
type reply []any

func (r reply) int(i int) int {
	n, _ := r.at(i).(int64)
	return int(n)
}

func (r reply) string(i int) string {
	s, _ := r.at(i).(string)
	return s
}

func (r reply) list(i int) reply {
	l, _ := r.at(i).([]any)
	return l
}

func (r reply) strings(i int) []string {
	list := r.list(i)
	out := make([]string, len(list))
	for j := range list {
		out[j] = list.string(j)
	}
	return out
}

// hash reads a flat list of fields and values.
func (r reply) hash(i int) map[string]string {
	list := r.list(i)
	h := make(map[string]string, len(list)/2)
	for j := 0; j+1 < len(list); j += 2 {
		h[list.string(j)] = list.string(j + 1)
	}
	return h
}

func (r reply) at(i int) any {
	if i >= len(r) {
		return nil
	}
	return r[i]
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func parseMillis(s string) (time.Time, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("a time in Redis is damaged: %w", err)
	}
	return time.UnixMilli(ms).UTC(), nil
}
