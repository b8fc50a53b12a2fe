package allocator

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Assign gives the order one VN per party, records and announces it; created is
// false when the order had its assignment before. A TTL of 0 is the pool's default;
// an existing order keeps its own lease whatever the TTL.
//
// Errors: *vn.FieldError, vn.ErrPoolUnknown, vn.ErrPoolExhausted,
// vn.ErrOrderConflict, vn.ErrOrderEnded, vn.ErrCold; vn.ErrUnavailable leaves the
// outcome unknown and the same call may be made again.
func (a *Allocator) Assign(ctx context.Context, o vn.Order) (assignment vn.Assignment, created bool, err error) {
	defer a.metrics.assign.observe(time.Now(), &err)
	if err := a.usable(); err != nil {
		return vn.Assignment{}, false, err
	}
	p, err := a.check(&o)
	if err != nil {
		return vn.Assignment{}, false, err
	}
	done, err := a.orders.hold(ctx, o.ID)
	if err != nil {
		return vn.Assignment{}, false, err
	}
	defer done()
	al, err := a.assign(ctx, scripts.AllocateRequest{Order: o, Cooldown: p.Cooldown, Carriers: p.carriers})
	if err != nil {
		if errors.Is(err, vn.ErrPoolExhausted) {
			a.low(ctx, p, math.MaxInt) // the order needs more, however many there are
		}
		return vn.Assignment{}, false, err
	}
	if !al.Replayed && al.Free < p.LowWater {
		a.low(ctx, p, p.LowWater)
	}
	return al.Assignment, !al.Replayed, nil
}

// lostRaces is how often an order that loses VNs to others in the ledger may take new ones
// at once. Redis has lost much then, and time is better spent on its repair.
const lostRaces = 3

// assign allocates and makes the assignment known; VNs that another order has in the ledger
// are replaced by others.
func (a *Allocator) assign(ctx context.Context, r scripts.AllocateRequest) (scripts.Allocation, error) {
	for tries := 1; ; tries++ {
		al, err := a.store.Allocate(ctx, r)
		if err != nil {
			return scripts.Allocation{}, err
		}
		err = a.ledger.Assign(ctx, &al)
		var race *ledger.LostError
		if !errors.As(err, &race) {
			return al, err
		}
		a.metrics.lostRaces.Inc()
		if r.Lost, r.Won = race.Lost, race.Won; tries == lostRaces {
			return scripts.Allocation{}, err
		}
	}
}

// check holds an order against the rules of its pool and fills in the default TTL.
func (a *Allocator) check(o *vn.Order) (*pool, error) {
	if err := vn.CheckOrderID(o.ID); err != nil {
		return nil, err
	}
	p, ok := a.pools[o.Pool]
	if !ok {
		return nil, vn.ErrPoolUnknown
	}
	if o.TTL == 0 {
		o.TTL = p.TTLDefault
	}
	if err := p.checkTTL(o.TTL); err != nil {
		return nil, err
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	for i, party := range o.Parties {
		field := "parties[" + strconv.Itoa(i) + "].number"
		if !slices.Contains(p.Destinations, numbering.Region(party.Number)) {
			return nil, &vn.FieldError{Field: field, Problem: "is in a region that the pool's destinations do not allow", Forbidden: true}
		}
		if a.store.IsVN(party.Number) {
			return nil, &vn.FieldError{Field: field, Problem: "is one of our own virtual numbers", Forbidden: true}
		}
	}
	return p, nil
}

// checkTTL refuses what a lease cannot be; Redis counts in whole milliseconds.
func (p *pool) checkTTL(ttl time.Duration) error {
	switch {
	case ttl < time.Millisecond:
		return &vn.FieldError{Field: "ttl", Problem: "must be a positive duration"}
	case ttl > p.TTLMax:
		return &vn.FieldError{Field: "ttl", Problem: "is longer than the pool allows (" + p.TTLMax.String() + ")"}
	}
	return nil
}

// End ends the order for the reason vn.Completed or vn.Cancelled, records and
// announces it. A repeat changes nothing; an unknown order leaves a tombstone, so
// that an `assigned` that comes late changes nothing either.
//
// Errors: *vn.FieldError; vn.ErrCold while Redis may have forgotten the order;
// vn.ErrUnavailable leaves the outcome unknown and the same call may be made again.
func (a *Allocator) End(ctx context.Context, orderID string, reason vn.EndReason) (err error) {
	defer a.metrics.end.observe(time.Now(), &err)
	if err := vn.CheckOrderID(orderID); err != nil {
		return err
	}
	if reason != vn.Completed && reason != vn.Cancelled {
		return &vn.FieldError{Field: "reason", Problem: "must be completed or cancelled"}
	}
	done, err := a.orders.hold(ctx, orderID)
	if err != nil {
		return err
	}
	defer done()
	r, err := a.store.Release(ctx, orderID, reason)
	if err != nil {
		return err
	}
	return a.ledger.End(ctx, &r)
}

// Extend lets the order's lease end ttl from now, sooner or later than before,
// records and announces it.
//
// Errors: *vn.FieldError, vn.ErrOrderUnknown, vn.ErrOrderEnded, vn.ErrPoolUnknown
// (its pool is not configured any more); vn.ErrUnavailable leaves the outcome
// unknown and the same call may be made again.
func (a *Allocator) Extend(ctx context.Context, orderID string, ttl time.Duration) (assignment vn.Assignment, err error) {
	defer a.metrics.extend.observe(time.Now(), &err)
	if ttl < time.Millisecond {
		return vn.Assignment{}, &vn.FieldError{Field: "ttl", Problem: "must be a positive duration"}
	}
	o, err := a.Order(ctx, orderID)
	if err != nil {
		return vn.Assignment{}, err
	}
	if o.State == vn.Ended {
		return vn.Assignment{}, vn.ErrOrderEnded
	}
	p, ok := a.pools[o.Pool]
	if !ok {
		return vn.Assignment{}, vn.ErrPoolUnknown
	}
	if err := p.checkTTL(ttl); err != nil {
		return vn.Assignment{}, err
	}
	done, err := a.orders.hold(ctx, orderID)
	if err != nil {
		return vn.Assignment{}, err
	}
	defer done()
	al, err := a.store.Extend(ctx, orderID, ttl)
	if err != nil {
		return vn.Assignment{}, err
	}
	if err := a.ledger.Assign(ctx, &al); err != nil {
		return vn.Assignment{}, err
	}
	return al.Assignment, nil
}

// Order returns an order, an ended one until its tombstone goes.
// Errors: *vn.FieldError, vn.ErrOrderUnknown, vn.ErrUnavailable; vn.ErrCold while Redis may
// have forgotten the order.
func (a *Allocator) Order(ctx context.Context, orderID string) (vn.Assignment, error) {
	if err := vn.CheckOrderID(orderID); err != nil {
		return vn.Assignment{}, err
	}
	o, err := a.store.Order(ctx, orderID)
	if errors.Is(err, vn.ErrOrderUnknown) {
		if ready, e := a.store.Ready(ctx); e != nil {
			return vn.Assignment{}, e
		} else if !ready {
			return vn.Assignment{}, vn.ErrCold
		}
	}
	return o, err
}
