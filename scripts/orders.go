package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// The statuses of the scripts, as their contracts name them.
const (
	allocateAllocated = 1
	allocateReplayed  = 2
	allocateEnded     = 3
	allocateExhausted = 4
	allocateCold      = 5

	extendExtended = 1
	extendUnknown  = 2

	refillDone = 1

	drainLeft     = 1
	drainDraining = 2
	drainUnknown  = 3
	drainBusy     = 4
)

// Allocate gives the order one VN per party of its pool, all of one carrier, or
// none. The same order again gives the same assignment, Replayed. Where the pool has
// too few VNs it reaps once and tries again, so that a pool recovers with no reaper
// alive. The order must have passed vn.Order.Check.
//
// Errors: vn.ErrPoolExhausted, vn.ErrOrderConflict (the order exists with other
// parties or another pool), vn.ErrOrderEnded, vn.ErrCold, vn.ErrUnavailable (outcome
// unknown: call again).
func (s *Store) Allocate(ctx context.Context, r AllocateRequest) (Allocation, error) {
	a, err := s.allocate(ctx, &r)
	if !errors.Is(err, vn.ErrPoolExhausted) {
		return a, err
	}
	p := s.layout.ofOrder(r.Order.ID)
	// What ends here is not ours to publish: the reaper finds it due in a moment.
	if _, _, err := s.reapPartition(ctx, p, time.Second); err != nil {
		return Allocation{}, err
	}
	return s.allocate(ctx, &r)
}

func (s *Store) allocate(ctx context.Context, r *AllocateRequest) (Allocation, error) {
	key := s.keys.Primary()
	roles, tokens := joinParties(r.Order.Parties, key)
	sealed, err := sealParties(r.Order.ID, r.Order.Parties, key, tokens)
	if err != nil {
		return Allocation{}, err
	}
	keys, args := allocateArgs(s.layout.ofOrder(r.Order.ID), r, key.ID(), roles, tokens, sealed)
	answer, err := s.run(ctx, s.scripts.allocate, keys, args)
	if err != nil {
		return Allocation{}, fmt.Errorf("allocate: %w", err)
	}
	switch answer.int(0) {
	case allocateAllocated:
		return allocated(r, key.ID(), tokens, sealed, answer)
	case allocateReplayed:
		return s.replayed(r, answer)
	case allocateEnded:
		return Allocation{}, vn.ErrOrderEnded
	case allocateExhausted:
		return Allocation{}, vn.ErrPoolExhausted
	case allocateCold:
		return Allocation{}, vn.ErrCold
	}
	return Allocation{}, fmt.Errorf("allocate: %w", errReply)
}

var errReply = errors.New("the script answered a status of another version")

// allocateArgs builds KEYS and ARGV of allocate.
func allocateArgs(
	p string, r *AllocateRequest, keyID byte, roles string, tokens []seal.Token, sealed [][]seal.Sealed,
) (keys []string, args []any) {
	keys = append(make([]string, 0, 5+2*len(r.Carriers)),
		guardKey(p), metaKey(p), orderKey(p, r.Order.ID), leasesKey(p), inventoryKey(p))
	joined := make([]byte, 0, len(tokens)*len(seal.Token{}))
	for _, t := range tokens {
		joined = append(joined, t[:]...)
	}
	args = []any{
		r.Order.ID, r.Order.Pool, millis(r.Order.TTL), millis(r.Cooldown),
		strconv.Itoa(int(keyID)), roles, joined,
	}
	for _, c := range r.Carriers {
		keys = append(keys, freeKey(p, r.Order.Pool, c.Name), coolingKey(p, r.Order.Pool, c.Name))
		args = append(args, c.Name, strconv.Itoa(int(c.ID)))
	}
	for called := range sealed {
		for calling := range sealed[called] {
			if calling != called {
				args = append(args, packBinding(keyID, called, sealed[called][calling], r.Order.ID))
			}
		}
	}
	return keys, args
}

func allocated(
	r *AllocateRequest, keyID byte, tokens []seal.Token, sealed [][]seal.Sealed, answer reply,
) (Allocation, error) {
	end, err := parseMillis(answer.string(1))
	if err != nil {
		return Allocation{}, err
	}
	numbers, err := parseNumbers(answer.strings(4))
	if err != nil {
		return Allocation{}, err
	}
	entries := answer.strings(5)
	if len(numbers) != len(r.Order.Parties) || len(entries) != len(numbers) {
		return Allocation{}, fmt.Errorf("allocate: %w", errReply)
	}
	fences, refs := make([]uint64, len(numbers)), make([]string, len(numbers))
	for i, n := range numbers {
		// The VN is taken by now, so a damaged entry is left to `check`: without fence
		// and ref the ledger finds them in its own record.
		if inv, err := parseInventory(n, entries[i]); err == nil {
			fences[i], refs[i] = inv.Fence, inv.Ref
		}
	}
	rec := &record{
		active: true, pool: r.Order.Pool, carrier: answer.string(2), keyID: keyID, tokens: tokens,
		numbers: numbers, fences: fences, end: end, cooldown: r.Cooldown,
	}
	for _, p := range r.Order.Parties {
		rec.roles = append(rec.roles, p.Role)
	}
	a := rec.allocation(r.Order.ID, sealed)
	a.Free = answer.int(3)
	for i := range a.Numbers {
		a.Numbers[i].Ref = refs[i]
	}
	return a, nil
}

// replayed compares the order asked for with the one that exists, under the key that
// the existing one was made with.
func (s *Store) replayed(r *AllocateRequest, answer reply) (Allocation, error) {
	rec, err := parseRecord(answer.hash(1))
	if err != nil {
		return Allocation{}, fmt.Errorf("allocate: %w", err)
	}
	key, ok := s.keys.ByID(rec.keyID)
	if !ok {
		return Allocation{}, fmt.Errorf("allocate: the keyset lacks key %d, which a live order uses", rec.keyID)
	}
	_, tokens := joinParties(r.Order.Parties, key)
	if rec.pool != r.Order.Pool || len(tokens) != len(rec.tokens) {
		return Allocation{}, vn.ErrOrderConflict
	}
	// The same parties in another order are the same order: find each in the record.
	parties := make([]vn.Party, len(tokens))
	for i, t := range tokens {
		at := slices.Index(rec.tokens, t)
		if at < 0 || rec.roles[at] != r.Order.Parties[i].Role {
			return Allocation{}, vn.ErrOrderConflict
		}
		parties[at] = r.Order.Parties[i]
	}
	sealed, err := sealParties(r.Order.ID, parties, key, rec.tokens)
	if err != nil {
		return Allocation{}, err
	}
	a := rec.allocation(r.Order.ID, sealed)
	a.Replayed = true
	return a, nil
}

// SettleAssigned notes that the ledger holds the records of an assignment, one
// sequence per party, and that the apps were told. Where the order has moved on since
// (extended, ended) only the fences are kept, and what followed is settled on its own.
func (s *Store) SettleAssigned(ctx context.Context, a *Allocation, fences []uint64) error {
	numbers := make([]vn.Number, len(a.Numbers))
	for i, n := range a.Numbers {
		numbers[i] = n.VN
	}
	return s.settle(ctx, a.Assignment.OrderID, vn.Active, a.Assignment.ExpiresAt, numbers, fences)
}

// SettleReleased notes that the ledger holds the `released` (or `retired`) records of
// an ended order, one sequence per number: its VNs rest until its end + cool-down only.
func (s *Store) SettleReleased(ctx context.Context, r *Release, fences []uint64) error {
	numbers := make([]vn.Number, len(r.Numbers))
	for i, n := range r.Numbers {
		numbers[i] = n.VN
	}
	return s.settle(ctx, r.OrderID, vn.Ended, r.EndedAt, numbers, fences)
}

func (s *Store) settle(
	ctx context.Context, id string, state vn.State, end time.Time, numbers []vn.Number, fences []uint64,
) error {
	if len(numbers) != len(fences) {
		return fmt.Errorf("settle: %d fences for %d numbers", len(fences), len(numbers))
	}
	keys, args := settleArgs(s.layout.ofOrder(id), id, state, end, numbers, fences)
	if _, err := s.run(ctx, s.scripts.settle, keys, args); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

func settleArgs(
	p, id string, state vn.State, end time.Time, numbers []vn.Number, fences []uint64,
) (keys []string, args []any) {
	args = append(make([]any, 0, 3+2*len(fences)), id, string(state), strconv.FormatInt(end.UnixMilli(), 10))
	for i, f := range fences {
		args = append(args, numbers[i].Digits(), strconv.FormatUint(f, 10))
	}
	return []string{guardKey(p), metaKey(p), orderKey(p, id), leasesKey(p), inventoryKey(p)}, args
}

// Release ends the order for the given reason (vn.Completed or vn.Cancelled), or as
// expired when its lease has run out already. It stops routing at once. The same again
// gives the same Release. An order that is unknown leaves a tombstone, so that an
// `assigned` that comes late changes nothing; its Release is not Known.
func (s *Store) Release(ctx context.Context, orderID string, reason vn.EndReason) (Release, error) {
	keys, args := releaseArgs(s.layout.ofOrder(orderID), orderID, reason, s.config.Tombstone)
	answer, err := s.run(ctx, s.scripts.release, keys, args)
	if err != nil {
		return Release{}, fmt.Errorf("release: %w", err)
	}
	rec, err := parseRecord(answer.hash(1))
	if err != nil {
		return Release{}, fmt.Errorf("release: %w", err)
	}
	return rec.release(orderID), nil
}

func releaseArgs(p, id string, reason vn.EndReason, tombstone time.Duration) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), orderKey(p, id)}, []any{id, string(reason), millis(tombstone)}
}

// Extend lets the lease of an active order end ttl from now, which may be sooner than
// before. The Allocation it returns is unsettled: the ledger must learn the new end.
// Errors: vn.ErrOrderUnknown, vn.ErrOrderEnded, vn.ErrUnavailable.
func (s *Store) Extend(ctx context.Context, orderID string, ttl time.Duration) (Allocation, error) {
	keys, args := extendArgs(s.layout.ofOrder(orderID), orderID, ttl)
	answer, err := s.run(ctx, s.scripts.extend, keys, args)
	if err != nil {
		return Allocation{}, fmt.Errorf("extend: %w", err)
	}
	switch answer.int(0) {
	case extendExtended:
	case extendUnknown:
		return Allocation{}, vn.ErrOrderUnknown
	default:
		return Allocation{}, vn.ErrOrderEnded
	}
	rec, err := parseRecord(answer.hash(1))
	if err != nil {
		return Allocation{}, fmt.Errorf("extend: %w", err)
	}
	sealed := make([][]seal.Sealed, len(rec.numbers))
	for called := range rec.numbers {
		sealed[called] = make([]seal.Sealed, len(rec.numbers))
		bindings := answer.list(2).hash(called)
		for calling, t := range rec.tokens {
			if calling == called {
				continue
			}
			b, err := viewBinding([]byte(bindings[string(t[:])]))
			if err != nil {
				return Allocation{}, fmt.Errorf("extend: %w", err)
			}
			sealed[called][calling] = seal.Sealed(b.sealed())
		}
	}
	return rec.allocation(orderID, sealed), nil
}

func extendArgs(p, id string, ttl time.Duration) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), orderKey(p, id), leasesKey(p)}, []any{id, millis(ttl)}
}

// Order returns an order, an ended one until its tombstone goes. An order whose lease
// has run out is ended as expired, reaped or not. Error: vn.ErrOrderUnknown.
func (s *Store) Order(ctx context.Context, orderID string) (vn.Assignment, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	p := s.layout.ofOrder(orderID)
	var (
		hash  *redis.MapStringStringCmd
		clock *redis.StringCmd
		now   *redis.TimeCmd
	)
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		hash = pipe.HGetAll(ctx, orderKey(p, orderID))
		clock = pipe.HGet(ctx, metaKey(p), "clock")
		now = pipe.Time(ctx)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return vn.Assignment{}, fmt.Errorf("read the order: %w", unavailable(err))
	}
	if len(hash.Val()) == 0 {
		return vn.Assignment{}, vn.ErrOrderUnknown
	}
	rec, err := parseRecord(hash.Val())
	if err != nil {
		return vn.Assignment{}, err
	}
	at := now.Val()
	if mark, err := parseMillis(clock.Val()); err == nil && mark.After(at) {
		at = mark
	}
	return rec.assignment(orderID, rec.active && !rec.end.After(at)), nil
}

// Reap ends the orders whose lease has run out and moves the VNs that have rested to
// the free ones, at most 50 orders a call; more tells that more is due at once. ended
// holds every order whose release the ledger must learn now: those that ran out, and
// those that were ended at least 30 s ago and never settled.
func (s *Store) Reap(ctx context.Context) (ended []Release, more bool, err error) {
	for _, p := range s.layout.prefixes {
		e, m, err := s.reapPartition(ctx, p, unsettledAgain)
		ended, more = append(ended, e...), more || m
		if err != nil {
			return ended, more, err
		}
	}
	return ended, more, nil
}

func (s *Store) reapPartition(ctx context.Context, p string, again time.Duration) (ended []Release, more bool, err error) {
	keys, args := reapArgs(p, s.config.Tombstone, again)
	answer, err := s.run(ctx, s.scripts.reap, keys, args)
	if err != nil {
		return nil, false, fmt.Errorf("reap: %w", err)
	}
	orders := answer.list(1)
	for i := 0; i+1 < len(orders); i += 2 {
		rec, err := parseRecord(orders.hash(i + 1))
		if err != nil {
			return ended, false, fmt.Errorf("reap: %w", err)
		}
		ended = append(ended, rec.release(orders.string(i)))
	}
	return ended, answer.int(0) == 1, nil
}

func reapArgs(p string, tombstone, again time.Duration) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), leasesKey(p), totalKey(p)},
		[]any{strconv.Itoa(reapLimit), millis(tombstone), millis(again)}
}

// parseEnded reads a value of ended:<VN>.
func parseEnded(note string) (carrier byte, orderID string, err error) {
	parts := strings.SplitN(note, " ", 4)
	if len(parts) != 4 {
		return 0, "", errRecord
	}
	c, err := strconv.ParseUint(parts[2], 10, 8)
	if err != nil {
		return 0, "", errRecord
	}
	return byte(c), parts[3], nil
}
