package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// refillBatch is the most VNs that one call of the refill script adds.
const refillBatch = 500

// Refill adds VNs to a pool. The same again changes nothing: what is there counts as
// Present. Each VN must have its `owned` record in the ledger already. Errors:
// vn.ErrCold, vn.ErrUnavailable; numbers of batches done before the error stay added.
func (s *Store) Refill(ctx context.Context, pool, carrier string, numbers []Owned) (Refilled, error) {
	var out Refilled
	batches := make(map[string][]Owned)
	for _, n := range numbers {
		p := s.layout.ofVN(n.VN)
		batches[p] = append(batches[p], n)
	}
	for p, rest := range batches {
		for len(rest) > 0 {
			batch := rest[:min(refillBatch, len(rest))]
			rest = rest[len(batch):]
			keys, args := refillArgs(p, pool, carrier, batch)
			answer, err := s.run(ctx, s.scripts.refill, keys, args)
			if err != nil {
				return out, fmt.Errorf("refill: %w", err)
			}
			if answer.int(0) != refillDone {
				return out, vn.ErrCold
			}
			foreign, err := parseNumbers(answer.strings(3))
			if err != nil {
				return out, fmt.Errorf("refill: %w", err)
			}
			out.Added += answer.int(1)
			out.Present += answer.int(2)
			out.Foreign = append(out.Foreign, foreign...)
			s.vns.add(batch)
		}
	}
	return out, nil
}

func refillArgs(p, pool, carrier string, numbers []Owned) (keys []string, args []any) {
	args = append(make([]any, 0, 2+3*len(numbers)), pool, carrier)
	for _, n := range numbers {
		digits, ref := n.VN.Digits(), n.Ref
		if ref == digits {
			ref = "" // parseInventory knows
		}
		args = append(args, digits, strconv.FormatUint(n.Fence, 10), ref)
	}
	return []string{
		guardKey(p), metaKey(p), inventoryKey(p), totalKey(p),
		freeKey(p, pool, carrier), drainingKey(p, pool, carrier),
	}, args
}

// Inventory returns the inventory's entry of a VN. Error: vn.ErrNumberUnknown.
func (s *Store) Inventory(ctx context.Context, number vn.Number) (Inventory, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	entry, err := s.client.HGet(ctx, inventoryKey(s.layout.ofVN(number)), number.Digits()).Result()
	if errors.Is(err, redis.Nil) {
		return Inventory{}, vn.ErrNumberUnknown
	}
	if err != nil {
		return Inventory{}, fmt.Errorf("read the inventory: %w", unavailable(err))
	}
	return parseInventory(number, entry)
}

// parseInventory reads "<pool> <carrier> <fence> <carrier's id>"; the last is empty
// where the carrier has no id for the number but its digits.
func parseInventory(number vn.Number, entry string) (Inventory, error) {
	parts := strings.SplitN(entry, " ", 4)
	if len(parts) != 4 {
		return Inventory{}, errInventory
	}
	fence, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return Inventory{}, errInventory
	}
	if parts[3] == "" {
		parts[3] = number.Digits()
	}
	return Inventory{
		Pool: parts[0], Carrier: parts[1],
		Owned: Owned{VN: number, Fence: fence, Ref: parts[3]},
	}, nil
}

var errInventory = errors.New("an entry of the inventory is damaged; run `callmask check`")

// Drain takes a VN out of its pool: at once when it is free or cooling, else when its
// order ends. Error: vn.ErrNumberUnknown, also when the VN is in another pool.
func (s *Store) Drain(ctx context.Context, pool string, number vn.Number) (Drained, error) {
	return s.drain(ctx, pool, number, onlyAny)
}

// DrainFree takes a VN out of its pool if it is free, and else leaves it as it is. A
// cooling VN that has rested counts as free only once somebody has reaped it.
// Errors: ErrBusy, vn.ErrNumberUnknown as for Drain.
func (s *Store) DrainFree(ctx context.Context, pool string, number vn.Number) (Drained, error) {
	return s.drain(ctx, pool, number, onlyFree)
}

// ErrBusy means that a VN is not free: an order holds it, or it rests.
var ErrBusy = errors.New("number_busy: the number is not free")

// What drain may take, besides free VNs.
const (
	onlyAny  = "any"
	onlyFree = "free"
)

func (s *Store) drain(ctx context.Context, pool string, number vn.Number, only string) (Drained, error) {
	keys, args := drainArgs(s.layout.ofVN(number), pool, number, only)
	answer, err := s.run(ctx, s.scripts.drain, keys, args)
	if err != nil {
		return Drained{}, fmt.Errorf("drain: %w", err)
	}
	status := answer.int(0)
	switch status {
	case drainLeft, drainDraining:
	case drainUnknown:
		return Drained{}, vn.ErrNumberUnknown
	case drainBusy:
		return Drained{}, ErrBusy
	default:
		return Drained{}, fmt.Errorf("drain: %w", errReply)
	}
	entry, err := parseInventory(number, answer.string(1))
	if err != nil {
		return Drained{}, err
	}
	return Drained{Inventory: entry, Left: status == drainLeft}, nil
}

func drainArgs(p, pool string, number vn.Number, only string) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), inventoryKey(p), totalKey(p)}, []any{number.Digits(), pool, only}
}

// Stock counts the VNs of all partitions, a row for each pool and carrier that ever had
// one. Each partition is counted at one moment, the partitions one after the other. Rows
// come in no order.
func (s *Store) Stock(ctx context.Context) ([]Stock, error) {
	rows := make([][]Stock, len(s.layout.prefixes))
	err := s.eachPartition(ctx, func(ctx context.Context, i int) (err error) {
		rows[i], err = s.stockOf(ctx, s.layout.prefixes[i])
		return err
	})
	return sumStock(slices.Concat(rows...)), err
}

// sumStock adds the rows of the same pool and carrier up.
func sumStock(rows []Stock) []Stock {
	at := make(map[[2]string]int, len(rows))
	var out []Stock
	for _, row := range rows {
		i, ok := at[[2]string{row.Pool, row.Carrier}]
		if !ok {
			i = len(out)
			at[[2]string{row.Pool, row.Carrier}] = i
			out = append(out, Stock{Pool: row.Pool, Carrier: row.Carrier})
		}
		out[i].add(&row)
	}
	return out
}

func (s *Store) stockOf(ctx context.Context, p string) ([]Stock, error) {
	answer, err := s.run(ctx, s.scripts.stock, stockKeys(p), nil)
	if err != nil {
		return nil, fmt.Errorf("stock: %w", err)
	}
	rows := make([]Stock, 0, len(answer))
	for i := range answer {
		row := answer.list(i)
		pool, carrier, _ := strings.Cut(row.string(0), ":")
		st := Stock{
			Pool: pool, Carrier: carrier, Total: row.int(1), Free: row.int(2),
			Cooling: row.int(3), Draining: row.int(4),
		}
		st.Leased = st.Total - st.Free - st.Cooling - st.Draining
		rows = append(rows, st)
	}
	return rows, nil
}

func stockKeys(p string) []string { return []string{guardKey(p), metaKey(p), totalKey(p)} }
