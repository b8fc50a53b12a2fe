package replenisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// fate is what happens to one call of a process to the world.
type fate uint8

const (
	fine      fate = iota
	lost           // no effect, error
	unheard        // full effect, error
	crash          // no effect, and the process is dead
	crashLate      // full effect, and the process is dead
	// The rest happen to some calls only, elsewhere they are fine.
	refusal   // a carrier says no with HTTP 429
	sold      // Buy: not available
	breakdown // Buy: HTTP 502, and it takes effect all the same
	late      // Buy: no answer, and it takes effect some time later
	stale     // List: without what was bought lately; the next list is complete
	fates     = iota
)

var (
	errLost = errors.New("connection reset")
	errDead = errors.New("the process is dead")
)

const (
	webhook   = "https://calls.example.com/v1/carriers/x/voice"
	lateBy    = 90 * time.Second // how much later a late purchase takes effect
	staleSpan = 10 * time.Minute // what a stale list does not show
)

// world is Redis, the ledger and the carriers, outside of any process.
type world struct {
	mu        sync.Mutex
	now       time.Time
	cold      bool
	leased    map[vn.Number]bool // of the inventory; the others are free
	inventory map[vn.Number]scripts.Inventory
	intents   []events.PurchaseIntent // oldest first, one per pool and VN; closed ones included
	leases    map[string]record
	seq       uint64
	bought    []events.PoolBought
	capped    []events.PoolCapReached
	out       []events.PoolRunningOut
	shops     map[string]*shop
	pools     map[string]Pool
	paused    map[string]bool // carriers
	broken    []string        // promises found broken

	keeping // world_keep_test.go
}

// record is the last record of a lease.
type record struct {
	events.Lease

	seq uint64
}

// shop is a carrier: what it sells, and what our account holds.
type shop struct {
	forSale []vn.Number
	held    map[vn.Number]*sale
	bought  int
	price   string
	stale   bool // the last list was
}

type sale struct {
	carrier.Bought

	pool string
	from time.Time // when it takes effect
}

func newWorld(pools ...Pool) *world {
	w := &world{
		now:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		leased: map[vn.Number]bool{}, inventory: map[vn.Number]scripts.Inventory{},
		shops: map[string]*shop{}, pools: map[string]Pool{}, leases: map[string]record{}, paused: map[string]bool{},
		keeping: newKeeping(),
	}
	for _, p := range pools {
		w.pools[p.Name] = p
	}
	return w
}

// stockUp lets the carrier sell n numbers of its own range.
func (w *world) stockUp(name string, n int) {
	s := &shop{held: map[vn.Number]*sale{}, price: "1.00"}
	base := 447700900000 + vn.Number(len(w.shops))*100_000
	for i := range n {
		s.forSale = append(s.forSale, base+vn.Number(i))
	}
	w.shops[name] = s
}

func (w *world) breaks(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// level counts a pool as it really is: free VNs, all VNs, and numbers paid for (or
// about to be) that are not in the inventory yet.
func (w *world) level(pool string) (free, total, between int) {
	for n, inv := range w.inventory {
		if inv.Pool == pool {
			total++
			if !w.leased[n] {
				free++
			}
		}
	}
	for _, s := range w.shops {
		for n, b := range s.held {
			if _, in := w.inventory[n]; !in && b.pool == pool && !w.retired[n] {
				between++
			}
		}
	}
	return free, total, between
}

func (w *world) openIntents() []events.PurchaseIntent {
	return slices.DeleteFunc(slices.Clone(w.intents), func(in events.PurchaseIntent) bool { return !in.ClosedAt.IsZero() })
}

// put makes in the last record of its pool and VN.
func (w *world) put(in events.PurchaseIntent) {
	in.Fence = 0
	w.intents = slices.DeleteFunc(w.intents, func(old events.PurchaseIntent) bool { return old.VN == in.VN && old.Pool == in.Pool })
	w.intents = append(w.intents, in)
	w.seq++
	w.seqs[in.Pool+in.VN] = w.seq
}

// lease makes l the last record of the pool's lease.
func (w *world) lease(pool string, l events.Lease) uint64 {
	w.seq++
	w.leases[pool] = record{l, w.seq}
	return w.seq
}

// paid is what the pool's numbers cost a month.
func (w *world) paid(pool string) (sum carrier.Money) {
	for _, s := range w.shops {
		for _, b := range s.held {
			if price, err := carrier.ParsePrice(s.price, "USD"); err == nil && b.pool == pool {
				sum = price.Plus(sum)
			}
		}
	}
	return sum
}

// process is one process's view of the world: its Store, Bus and Ledger. next
// decides, and may block, before each call; nil lets everything succeed.
type process struct {
	w    *world
	r    *Replenisher
	next func(step string) fate
	dead bool // owned by the goroutine that runs the process
	mu   sync.Mutex
}

// do lets one call happen: effect changes the world, under its lock.
func (p *process) do(ctx context.Context, step string, effect func(f fate) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	dead := p.dead
	p.mu.Unlock()
	if dead {
		return errDead
	}
	f := fine
	if p.next != nil {
		f = p.next(step)
	}
	if f == crash || f == crashLate {
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()
	}
	switch f {
	case lost:
		return errLost
	case crash:
		return errDead
	}
	p.w.mu.Lock()
	err := effect(f)
	p.w.mu.Unlock()
	switch f {
	case unheard:
		return errLost
	case crashLate:
		return errDead
	}
	return err
}

func (p *process) Ready(ctx context.Context) (ready bool, err error) {
	err = p.do(ctx, "ready", func(fate) error { ready = !p.w.cold; return nil })
	return ready, err
}

func (p *process) Stock(ctx context.Context) (rows []scripts.Stock, err error) {
	err = p.do(ctx, "stock", func(fate) error {
		for pool := range p.w.pools {
			for name := range p.w.shops {
				row := scripts.Stock{Pool: pool, Carrier: name}
				for n, inv := range p.w.inventory {
					if inv.Pool == pool && inv.Carrier == name {
						row.Total++
						if p.w.leased[n] {
							row.Leased++
						} else {
							row.Free++
						}
					}
				}
				rows = append(rows, row)
			}
		}
		return nil
	})
	return rows, err
}

func (p *process) Inventory(ctx context.Context, number vn.Number) (inv scripts.Inventory, err error) {
	err = p.do(ctx, "inventory", func(fate) error {
		var ok bool
		if inv, ok = p.w.inventory[number]; !ok {
			return vn.ErrNumberUnknown
		}
		return nil
	})
	return inv, err
}

func (p *process) Own(ctx context.Context, pool, by string, numbers []scripts.Owned) (done scripts.Refilled, err error) {
	err = p.do(ctx, "own", func(fate) error {
		for _, n := range numbers {
			if b, ok := p.w.shops[by].held[n.VN]; !ok || b.WebhookURL != webhook || b.Ref != n.Ref {
				p.w.breaks("a number came into a pool that is not bought and configured")
			}
			if inv, ok := p.w.inventory[n.VN]; ok {
				if inv.Pool != pool {
					done.Foreign = append(done.Foreign, n.VN)
					continue
				}
				delete(p.w.draining, n.VN)
				done.Present++
				continue
			}
			delete(p.w.retired, n.VN)
			p.w.inventory[n.VN] = scripts.Inventory{Owned: n, Pool: pool, Carrier: by}
			done.Added++
		}
		return nil
	})
	return done, err
}

// fenced tells whether the stream takes an intent of the process.
func (w *world) fenced(in *events.PurchaseIntent) error {
	if in.Fence != w.leases[in.Pool].seq {
		return fmt.Errorf("refused: %w", events.ErrFenced)
	}
	return nil
}

func (p *process) Intent(ctx context.Context, in events.PurchaseIntent) error {
	return p.do(ctx, "intent", func(fate) error {
		if err := p.w.fenced(&in); err != nil {
			return err
		}
		for _, other := range p.w.openIntents() {
			if other.VN == in.VN && other.Pool == in.Pool && !other.At.Equal(in.At) {
				p.w.breaks("pool %s: an open intent was replaced", in.Pool)
			}
		}
		p.w.put(in)
		return nil
	})
}

func (p *process) CloseIntent(ctx context.Context, in events.PurchaseIntent, outcome string) error {
	return p.do(ctx, "close", func(fate) error {
		if err := p.w.fenced(&in); err != nil {
			return err
		}
		in.Outcome, in.ClosedAt = outcome, p.w.now
		p.w.put(in)
		return nil
	})
}

func (p *process) Intents(ctx context.Context, each func(events.PurchaseIntent, uint64) error) error {
	var all []events.PurchaseIntent
	var seqs map[string]uint64
	err := p.do(ctx, "intents", func(fate) error { all, seqs = slices.Clone(p.w.intents), maps.Clone(p.w.seqs); return nil })
	if err != nil {
		return err
	}
	for _, in := range all {
		if err := each(in, seqs[in.Pool+in.VN]); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) Lease(ctx context.Context, pool string) (l events.Lease, seq uint64, err error) {
	err = p.do(ctx, "lease", func(fate) error { l, seq = p.w.leases[pool].Lease, p.w.leases[pool].seq; return nil })
	return l, seq, err
}

func (p *process) PutLease(ctx context.Context, pool string, l events.Lease, last uint64) (seq uint64, err error) {
	err = p.do(ctx, "hold", func(fate) error {
		if last != p.w.leases[pool].seq {
			return events.ErrFenced
		}
		seq = p.w.lease(pool, l)
		return nil
	})
	return seq, err
}

func (p *process) PoolBought(ctx context.Context, e events.PoolBought, _ time.Time) error {
	return p.do(ctx, "announce", func(fate) error { p.w.bought = append(p.w.bought, e); return nil })
}

func (p *process) PoolCapReached(ctx context.Context, e events.PoolCapReached) error {
	return p.do(ctx, "cap", func(fate) error { p.w.capped = append(p.w.capped, e); return nil })
}

func (p *process) PoolRunningOut(ctx context.Context, e events.PoolRunningOut) error {
	return p.do(ctx, "out", func(fate) error { p.w.out = append(p.w.out, e); return nil })
}

func (p *process) Consume(ctx context.Context, _ events.Consumer, _ func(context.Context, events.Message) events.Result) error {
	<-ctx.Done()
	return nil
}

func (*process) OrdersStream() string             { return "ORDERS" }
func (*process) OrderSubject(event string) string { return "orders." + event }

// numbers is a process's client of one carrier.
type numbers struct {
	*process

	name string
}

var errBusy = &carrier.APIError{Status: http.StatusTooManyRequests, Code: "20429", RetryAfter: 20 * time.Second}

func (c numbers) Search(ctx context.Context, _ string, n int) (offers []carrier.Offer, err error) {
	err = c.do(ctx, "search", func(f fate) error {
		if f == refusal {
			return errBusy
		}
		for _, number := range c.w.shops[c.name].forSale {
			if len(offers) < n {
				offers = append(offers, c.w.shops[c.name].offer(number))
			}
		}
		return nil
	})
	return offers, err
}

func (c numbers) Buy(ctx context.Context, number vn.Number, ref string) (b carrier.Bought, err error) {
	err = c.do(ctx, "buy", func(f fate) error {
		s := c.w.shops[c.name]
		i := slices.Index(s.forSale, number)
		switch {
		case f == refusal:
			return errBusy
		case f == sold && i >= 0:
			s.forSale = slices.Delete(s.forSale, i, i+1)
			return carrier.ErrNotAvailable
		case i < 0:
			return carrier.ErrNotAvailable
		}
		at := slices.IndexFunc(c.w.openIntents(), func(in events.PurchaseIntent) bool { return tag(in) == ref })
		if at < 0 {
			c.w.breaks("a number was bought without an open intent")
			return errLost
		}
		in := c.w.openIntents()[at]
		b = carrier.Bought{Number: number, Ref: "PN" + number.Digits(), Tag: ref}
		bought := &sale{Bought: b, pool: in.Pool, from: c.w.now}
		s.forSale = slices.Delete(s.forSale, i, i+1)
		s.held[number] = bought
		s.bought++
		c.w.judge(in.Pool, c.r.workers[in.Pool].plan.Target)
		if f == breakdown {
			return &carrier.APIError{Status: http.StatusBadGateway}
		}
		if f == late {
			bought.from = c.w.now.Add(lateBy)
			return carrier.ErrUnknownOutcome
		}
		return nil
	})
	return b, err
}

func (s *shop) offer(number vn.Number) carrier.Offer {
	if s.price == "" {
		return carrier.Offer{Number: number}
	}
	return carrier.Offer{Number: number, Price: s.price, Currency: "USD"}
}

// judge checks after a purchase that it was needed, for the target that was planned,
// and allowed.
func (w *world) judge(pool string, target int) {
	p := w.pools[pool]
	free, total, between := w.level(pool)
	if free+between > target {
		w.breaks("pool %s: bought beyond its need: %d free and %d on the way, target %d", pool, free, between, target)
	}
	if limit := p.MonthlyCap; !limit.IsZero() && w.paid(pool).Exceeds(limit) {
		w.breaks("pool %s: bought beyond its cap: %s of %s", pool, w.paid(pool), limit)
	}
	if total+between > p.Max {
		w.breaks("pool %s: bought beyond its maximum: %d and %d on the way, max %d", pool, total, between, p.Max)
	}
	if len(p.Carriers) == 0 {
		w.breaks("pool %s: bought for a pool without carriers", pool)
	}
	if w.cold {
		w.breaks("pool %s: bought while Redis is not ready", pool)
	}
}

func (c numbers) Configure(ctx context.Context, b carrier.Bought, url string) error {
	return c.do(ctx, "configure", func(f fate) error {
		if f == refusal {
			return errBusy
		}
		s, ok := c.w.shops[c.name].held[b.Number]
		if !ok && c.w.returned[b.Number] {
			return &carrier.APIError{Status: http.StatusNotFound, Code: "20404"}
		}
		if !ok || s.Ref != b.Ref {
			c.w.breaks("a number was configured that is not held")
			return errLost
		}
		s.WebhookURL = url
		return nil
	})
}

func (c numbers) List(ctx context.Context) (all []carrier.Bought, err error) {
	err = c.do(ctx, "list", func(f fate) error {
		if f == refusal {
			return errBusy
		}
		shows, held := c.w.now, c.w.shops[c.name].held
		c.w.shops[c.name].stale = f == stale && !c.w.shops[c.name].stale
		if c.w.shops[c.name].stale {
			shows = shows.Add(-staleSpan)
		}
		for _, n := range slices.Sorted(maps.Keys(held)) {
			if !held[n].from.After(shows) {
				b := held[n].Bought
				b.CallsGoTo = cmp.Or(b.CallsGoTo, b.WebhookURL)
				all = append(all, b)
			}
		}
		return nil
	})
	return all, err
}
