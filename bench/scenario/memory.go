package scenario

import (
	"context"
	"fmt"

	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// memoryOrders is enough for the steps in which Redis's hash tables grow not to
// decide the figure.
const memoryOrders = 100_000

// memory asks Redis what an order, a VN and the remains of an order take.
func memory(ctx context.Context, e *Env) error {
	orders := memoryOrders
	if e.Short {
		orders = 2000
	}
	e.Progress.More(2)
	for _, ids := range []world.IDs{world.Short, world.UUID} {
		if err := e.memoryOf(ctx, ids, orders); err != nil {
			return err
		}
		e.Progress.Step()
	}
	return nil
}

func (e *Env) memoryOf(ctx context.Context, ids world.IDs, orders int) error {
	e.Progress.Doing(fmt.Sprintf("memory: %d orders with %s ids", orders, ids))
	redis, err := e.Rig.Redis(ctx, false)
	if err != nil {
		return err
	}
	defer redis.Stop()
	if err := redis.Store.Start(ctx); err != nil {
		return err
	}
	used := func(into *int64) {
		if err == nil {
			*into, err = redis.Memory(ctx)
		}
	}
	var empty, filled, live, ended int64
	used(&empty)
	if err != nil {
		return err
	}
	if err := world.Fill(ctx, redis.Store, 2*orders, loaders, func(int) {}); err != nil {
		return err
	}
	used(&filled)
	if err := each(ctx, 0, orders, func(ctx context.Context, order int) error {
		a, err := redis.Store.Allocate(ctx, world.Request(ids, order))
		if err != nil {
			return err
		}
		fences := make([]uint64, len(a.Numbers)) // as long as those of a ledger in use
		for i := range fences {
			fences[i] = uint64(1_000_000 + 2*order + i)
		}
		return redis.Store.SettleAssigned(ctx, &a, fences)
	}); err != nil {
		return err
	}
	used(&live)
	if err != nil {
		return err
	}
	// Every VN is leased now, so all but the inventory belongs to the orders.
	keys, err := redis.Client.Keys(ctx, "cm1:{*}:inventory").Result()
	if err != nil || len(keys) != 1 {
		return fmt.Errorf("find the inventory: %d keys: %w", len(keys), err)
	}
	inventory, err := redis.Client.MemoryUsage(ctx, keys[0], 0).Result()
	if err != nil {
		return err
	}
	if err := each(ctx, 0, orders, func(ctx context.Context, order int) error {
		r, err := redis.Store.Release(ctx, ids.OrderID(order), vn.Completed)
		if err == nil {
			err = redis.Store.SettleReleased(ctx, &r, make([]uint64, len(r.Numbers)))
		}
		return err
	}); err != nil {
		return err
	}
	if err := wait(ctx, world.Cooldown); err != nil {
		return err
	}
	if err := drainReaper(ctx, redis.Store); err != nil {
		return err
	}
	used(&ended)
	if err != nil {
		return err
	}
	point := report.ShortIDs
	if ids == world.UUID {
		point = report.UUIDs
	}
	add := func(point string, bytes int64, things int) {
		e.Report.Add(report.Sample{
			Scenario: "memory", Variant: report.Callmask, Point: point,
			Values: map[report.Metric]float64{report.Bytes: float64(bytes) / float64(things)},
		})
	}
	add(point, live-empty-inventory, orders)
	add(report.Ended+", "+point, ended-filled, orders)
	if ids == world.Short {
		add(report.Inventory, inventory, 2*orders)
		add(report.FreeVN, filled-empty-inventory, 2*orders)
	}
	return nil
}

// drainReaper brings every VN that has rested back to the free ones.
func drainReaper(ctx context.Context, s *scripts.Store) error {
	for more := true; more; {
		var err error
		if _, more, err = s.Reap(ctx); err != nil {
			return err
		}
	}
	return nil
}
