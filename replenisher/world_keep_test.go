package replenisher

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// keeping is what giving back and comparing need of the world.
type keeping struct {
	seqs      map[string]uint64  // pool and VN → sequence of its intent
	retired   map[vn.Number]bool // by the ledger
	draining  map[vn.Number]bool
	announced []events.PoolReleased
	returned  map[vn.Number]bool // given back
}

func newKeeping() keeping {
	return keeping{seqs: map[string]uint64{}, retired: map[vn.Number]bool{}, draining: map[vn.Number]bool{}, returned: map[vn.Number]bool{}}
}

func (p *process) InventoryOf(ctx context.Context, carrier string) (all map[vn.Number]scripts.Inventory, err error) {
	err = p.do(ctx, "inventory of", func(fate) error {
		all = maps.Clone(p.w.inventory)
		maps.DeleteFunc(all, func(_ vn.Number, inv scripts.Inventory) bool { return inv.Carrier != carrier })
		return nil
	})
	return all, err
}

func (p *process) SomeFree(ctx context.Context, pool, carrier string, n int) (some []vn.Number, err error) {
	err = p.do(ctx, "free", func(fate) error {
		for _, number := range slices.Sorted(maps.Keys(p.w.inventory)) {
			inv := p.w.inventory[number]
			if len(some) < n && inv.Pool == pool && inv.Carrier == carrier && !p.w.leased[number] {
				some = append(some, number)
			}
		}
		return nil
	})
	return some, err
}

func (p *process) LastIntent(ctx context.Context, pool string, number vn.Number) (in events.PurchaseIntent, seq uint64, err error) {
	err = p.do(ctx, "last intent", func(fate) error {
		in, seq = p.w.lastIntent(pool, number)
		return nil
	})
	return in, seq, err
}

func (w *world) lastIntent(pool string, number vn.Number) (events.PurchaseIntent, uint64) {
	for _, in := range w.intents {
		if in.VN == number.Digits() && in.Pool == pool {
			return in, w.seqs[in.Pool+in.VN]
		}
	}
	return events.PurchaseIntent{}, 0
}

func (p *process) MarkIntent(ctx context.Context, in events.PurchaseIntent, seq uint64) (next uint64, err error) {
	err = p.do(ctx, "mark", func(fate) error {
		if p.w.seqs[in.Pool+in.VN] != seq {
			return events.ErrOvertaken
		}
		p.w.put(in)
		next = p.w.seqs[in.Pool+in.VN]
		return nil
	})
	return next, err
}

func (p *process) LastRecord(ctx context.Context, number vn.Number) (rec events.Record, seq uint64, err error) {
	err = p.do(ctx, "record", func(fate) error {
		inv, known := p.w.inventory[number]
		switch {
		case known:
			rec, seq = events.Record{Kind: events.KindOwned, Pool: inv.Pool, Carrier: inv.Carrier}, 1
		case p.w.retired[number]:
			rec, seq = events.Record{Kind: events.KindRetired}, 1
		}
		return nil
	})
	return rec, seq, err
}

func (p *process) PoolReleased(ctx context.Context, e events.PoolReleased, _ time.Time) error {
	return p.do(ctx, "announce", func(fate) error {
		p.w.announced = append(p.w.announced, e)
		return nil
	})
}

func (p *process) Retire(ctx context.Context, pool string, number vn.Number) (d scripts.Drained, err error) {
	return p.retire(ctx, pool, number, false)
}

func (p *process) RetireFree(ctx context.Context, pool string, number vn.Number) (d scripts.Drained, err error) {
	return p.retire(ctx, pool, number, true)
}

func (p *process) retire(ctx context.Context, pool string, number vn.Number, free bool) (d scripts.Drained, err error) {
	err = p.do(ctx, "retire", func(fate) error {
		inv, ok := p.w.inventory[number]
		switch {
		case !ok || inv.Pool != pool:
			return vn.ErrNumberUnknown
		case free && p.w.leased[number]:
			return scripts.ErrBusy
		}
		d = scripts.Drained{Inventory: inv, Left: !p.w.leased[number]}
		if p.w.leased[number] {
			p.w.draining[number] = true
			return nil
		}
		p.w.leaves(number)
		return nil
	})
	return d, err
}

// leaves takes a number out of its pool, as the end of its order does with a draining one.
func (w *world) leaves(n vn.Number) {
	delete(w.inventory, n)
	delete(w.leased, n)
	delete(w.draining, n)
	w.retired[n] = true
}

func (c numbers) Release(ctx context.Context, ref string) error {
	return c.do(ctx, "give", func(f fate) error {
		if f == refusal {
			return errBusy
		}
		held := c.w.shops[c.name].held
		for n, s := range held {
			if s.Ref != ref {
				continue
			}
			if _, in := c.w.inventory[n]; in {
				c.w.breaks("a number was given back that is in a pool")
			}
			if in, _ := c.w.lastIntent(s.pool, n); in.Outcome != events.OutcomeReleasing && in.Outcome != events.OutcomeReleased {
				c.w.breaks("a number was given back without a note of it")
			}
			delete(held, n)
			c.w.shops[c.name].bought--
			c.w.returned[n] = true
		}
		return nil
	})
}

// addsUp checks that what is paid for is what the pools have, attached to us, that each
// pool's intents say so, and that nothing is left half done.
func (w *world) addsUp(tb require.TestingT) {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(tb, w.broken)
	held := 0
	for name, s := range w.shops {
		for n, b := range s.held {
			held++
			inv, ok := w.inventory[n]
			require.True(tb, ok, "carrier %s: a number is paid for and in no pool", name)
			require.Equal(tb, fmt.Sprint(b.pool, name, b.Ref), fmt.Sprint(inv.Pool, inv.Carrier, inv.Ref))
			require.Equal(tb, webhook, b.WebhookURL)
		}
	}
	require.Len(tb, w.inventory, held)
	bills := 0
	for _, in := range w.intents {
		require.False(tb, in.ClosedAt.IsZero(), "an intent was left open")
		switch in.Outcome {
		case events.OutcomeBought:
			bills++
			n, _ := vn.ParseDigits(in.VN)
			require.Equal(tb, in.Pool, w.inventory[n].Pool, "a pool pays for a number that it has not")
		case events.OutcomeReleased, events.OutcomeNotBought:
		default:
			require.Fail(tb, "an intent was left half done", in.Outcome)
		}
	}
	require.Equal(tb, held, bills, "each number is billed once")
	announced := map[string]bool{}
	for _, e := range w.announced {
		announced[e.VN] = true
	}
	for n := range w.returned {
		require.True(tb, announced[n.E164()], "a number was given back and nobody told")
	}
}

func (p *process) CarrierPause(ctx context.Context, carrier string) (l events.Pause, seq uint64, err error) {
	err = p.do(ctx, "paused", func(fate) error { l = events.Pause{Carrier: carrier, Paused: p.w.paused[carrier]}; return nil })
	return l, 0, err
}
