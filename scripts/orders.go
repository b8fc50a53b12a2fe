package scripts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
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
	allocateForwarded = 6

	extendExtended  = 1
	extendUnknown   = 2
	extendEnded     = 3
	extendForwarded = 4

	releaseCold = 4

	settleBehind = 3

	refillDone = 1

	drainLeft     = 1
	drainDraining = 2
	drainUnknown  = 3
	drainBusy     = 4
)

// ErrBehind means that Redis has lost, by a failover, what the ledger has just accepted: it
// must be restored from there. It is a vn.ErrUnavailable.
var ErrBehind = fmt.Errorf("%w: Redis has lost a change that the ledger holds", vn.ErrUnavailable)

// SettleAssigned notes that the ledger holds the records of an assignment, one
// sequence per party, and that the apps were told. Where the order has moved on since
// (extended, ended) only the fences are kept, and what followed is settled on its own.
// ErrBehind: Redis has lost the assignment.
func (s *Store) SettleAssigned(ctx context.Context, a *Allocation, fences []uint64) error {
	numbers := make([]vn.Number, len(a.Numbers))
	for i, n := range a.Numbers {
		numbers[i] = n.VN
	}
	return s.settle(ctx, a.Partition, a.Assignment.OrderID, vn.Active, a.Assignment.ExpiresAt, numbers, fences)
}

// SettleReleased notes that the ledger holds the `released` (or `retired`) records of
// an ended order, one sequence per number: its VNs rest until its end + cool-down only.
// ErrBehind: Redis has lost the end, and routes for the order.
func (s *Store) SettleReleased(ctx context.Context, r *Release, fences []uint64) error {
	numbers := make([]vn.Number, len(r.Numbers))
	for i, n := range r.Numbers {
		numbers[i] = n.VN
	}
	if err := s.settle(ctx, r.Partition, r.OrderID, vn.Ended, r.EndedAt, numbers, fences); err != nil {
		return err
	}
	if home := s.layout.home(r.OrderID); home != r.Partition {
		return s.settle(ctx, home, r.OrderID, vn.Ended, r.EndedAt, nil, nil)
	}
	return nil
}

func (s *Store) settle(
	ctx context.Context, partition int, id string, state vn.State, end time.Time, numbers []vn.Number, fences []uint64,
) error {
	if len(numbers) != len(fences) {
		return fmt.Errorf("settle: %d fences for %d numbers", len(fences), len(numbers))
	}
	keys, args := settleArgs(s.layout.prefixes[partition], id, state, end, numbers, fences)
	answer, err := s.run(ctx, s.scripts.settle, keys, args)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if answer.int(0) == settleBehind {
		return fmt.Errorf("settle: %w", ErrBehind)
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
// `assigned` that comes late changes nothing; its Release is not Known. Where a partition
// has lost its data the order may be one that was forgotten, and lives in the ledger: that
// is vn.ErrCold, and nothing was done.
func (s *Store) Release(ctx context.Context, orderID string, reason vn.EndReason) (Release, error) {
	home := s.layout.home(orderID)
	rec, err := s.releaseIn(ctx, home, orderID, reason)
	if err != nil {
		return Release{}, err
	}
	if rec.forward == nil {
		return rec.release(orderID, home), nil
	}
	return s.releaseThere(ctx, orderID, rec)
}

// releaseThere ends an order in the partition that the mark in its tombstone points to.
func (s *Store) releaseThere(ctx context.Context, orderID string, tombstone *record) (Release, error) {
	rec, err := s.releaseIn(ctx, tombstone.forward.at, orderID, tombstone.reason)
	if err != nil {
		return Release{}, err
	}
	out := rec.release(orderID, tombstone.forward.at)
	if (out.Settled || !out.Known) && !tombstone.settled {
		// Nobody will settle it again, so the tombstone is settled here.
		err = s.settle(ctx, s.layout.home(orderID), orderID, vn.Ended, out.EndedAt, nil, nil)
	}
	return out, err
}

func (s *Store) releaseIn(ctx context.Context, partition int, orderID string, reason vn.EndReason) (*record, error) {
	keys, args := releaseArgs(s.layout.prefixes[partition], orderID, reason, s.config.Tombstone)
	answer, err := s.run(ctx, s.scripts.release, keys, args)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	if answer.int(0) == releaseCold {
		return nil, vn.ErrCold
	}
	rec, err := s.parseRecord(answer.hash(1))
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	return rec, nil
}

func releaseArgs(p, id string, reason vn.EndReason, tombstone time.Duration) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), orderKey(p, id)}, []any{id, string(reason), millis(tombstone)}
}

// Extend lets the lease of an active order end ttl from now, which may be sooner than
// before. The Allocation it returns is unsettled: the ledger must learn the new end.
// Errors: vn.ErrOrderUnknown, vn.ErrOrderEnded, vn.ErrUnavailable.
func (s *Store) Extend(ctx context.Context, orderID string, ttl time.Duration) (Allocation, error) {
	partition := s.layout.home(orderID)
	answer, err := s.extendIn(ctx, partition, orderID, ttl)
	if err == nil && answer.int(0) == extendForwarded {
		m, damaged := s.readMark(answer.string(1), answer.string(2))
		if damaged != nil {
			return Allocation{}, fmt.Errorf("extend: %w", damaged)
		}
		partition = m.at
		answer, err = s.extendIn(ctx, partition, orderID, ttl)
	}
	if err != nil {
		return Allocation{}, fmt.Errorf("extend: %w", err)
	}
	switch answer.int(0) {
	case extendExtended:
	case extendUnknown:
		return Allocation{}, vn.ErrOrderUnknown
	case extendEnded:
		return Allocation{}, vn.ErrOrderEnded
	default:
		return Allocation{}, fmt.Errorf("extend: %w", errReply)
	}
	rec, err := s.parseRecord(answer.hash(1))
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
	a := rec.allocation(orderID, sealed)
	a.Partition = partition
	return a, nil
}

func (s *Store) extendIn(ctx context.Context, partition int, orderID string, ttl time.Duration) (reply, error) {
	keys, args := extendArgs(s.layout.prefixes[partition], orderID, ttl, s.config.Tombstone)
	return s.run(ctx, s.scripts.extend, keys, args)
}

func extendArgs(p, id string, ttl, tombstone time.Duration) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), orderKey(p, id), leasesKey(p)}, []any{id, millis(ttl), millis(tombstone)}
}

// Order returns an order, an ended one until its tombstone goes. An order whose lease
// has run out is ended as expired, reaped or not. Error: vn.ErrOrderUnknown.
func (s *Store) Order(ctx context.Context, orderID string) (vn.Assignment, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rec, now, err := s.orderIn(ctx, s.layout.home(orderID), orderID)
	if err != nil {
		return vn.Assignment{}, err
	}
	if rec.forward == nil {
		return rec.assignment(orderID, now), nil
	}
	there, now, err := s.orderIn(ctx, rec.forward.at, orderID)
	switch {
	case errors.Is(err, vn.ErrOrderUnknown) && rec.state == vn.Ended, err == nil && rec.state == vn.Ended && there.state == vn.Active:
		// Its end has not come there yet, but nobody may take it for a live one.
		return rec.assignment(orderID, now), nil
	case err != nil:
		return vn.Assignment{}, err
	}
	return there.assignment(orderID, now), nil
}

// orderIn reads an order's hash in one partition, and the time there. One that only
// points elsewhere has neither an active nor an ended state, one that was refused
// there is unknown.
func (s *Store) orderIn(ctx context.Context, partition int, orderID string) (*record, time.Time, error) {
	p := s.layout.prefixes[partition]
	var (
		hash  *redis.MapStringStringCmd
		clock *redis.StringCmd
	)
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		hash = pipe.HGetAll(ctx, orderKey(p, orderID))
		clock = pipe.HGet(ctx, metaKey(p), "clock")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, time.Time{}, fmt.Errorf("read the order: %w", unavailable(err))
	}
	if len(hash.Val()) == 0 || hash.Val()["state"] == stateRefused {
		return nil, time.Time{}, vn.ErrOrderUnknown
	}
	rec, err := s.parseRecord(hash.Val())
	if err != nil {
		return nil, time.Time{}, err
	}
	now, err := s.timeAt(ctx, p, clock.Val())
	return rec, now, err
}

// timeAt returns the time that the scripts of a partition go by: its master's, or the
// high-water mark if that is later.
func (s *Store) timeAt(ctx context.Context, p, highWater string) (time.Time, error) {
	// A command without a key would go to any node of a Cluster, also to one that is away.
	node, err := s.masterOf(ctx, metaKey(p))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time: %w", unavailable(err))
	}
	now, err := node.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time: %w", unavailable(err))
	}
	if mark, err := parseMillis(highWater); err == nil && mark.After(now) {
		now = mark
	}
	return now, nil
}

// Reap ends the orders whose lease has run out and moves the VNs that have rested to
// the free ones, at most 50 orders of each partition a call; more tells that more is due
// at once. ended holds every order whose release the ledger must learn now: those that
// ran out, and those that were ended at least 30 s ago and never settled. What is
// returned beside an error was done all the same.
func (s *Store) Reap(ctx context.Context) (ended []Release, more bool, err error) {
	var mu sync.Mutex
	err = s.eachPartition(ctx, func(ctx context.Context, i int) error {
		recs, m, err := s.reapPartition(ctx, s.layout.prefixes[i], unsettledAgain)
		for id, rec := range recs {
			r := rec.release(id, i)
			if rec.forward != nil {
				there, e := s.releaseThere(ctx, id, rec)
				if err = errors.Join(err, e); e != nil || there.Settled || !there.Known {
					continue
				}
				r = there
			}
			mu.Lock()
			ended = append(ended, r)
			mu.Unlock()
		}
		mu.Lock()
		defer mu.Unlock()
		more = more || m
		return err
	})
	return ended, more, err
}

func (s *Store) reapPartition(ctx context.Context, p string, again time.Duration) (ended map[string]*record, more bool, err error) {
	keys, args := reapArgs(p, s.config.Tombstone, again)
	answer, err := s.run(ctx, s.scripts.reap, keys, args)
	if err != nil {
		return nil, false, fmt.Errorf("reap: %w", err)
	}
	orders := answer.list(1)
	ended = make(map[string]*record, len(orders)/2)
	for i := 0; i+1 < len(orders); i += 2 {
		rec, e := s.parseRecord(orders.hash(i + 1))
		if e != nil {
			err = errors.Join(err, fmt.Errorf("reap: %w", e))
			continue
		}
		ended[orders.string(i)] = rec
	}
	return ended, answer.int(0) == 1, err
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
