package world

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Lease is how long the orders of a benchmark live.
const Lease = 24 * time.Hour

// Cooldown is how long a VN rests after its order: the shortest that a pool may have.
const Cooldown = time.Second

// refillShare is how many VNs one worker brings in at a time.
const refillShare = 5000

// Options says what to load.
type Options struct {
	Orders  int
	Spare   int // VNs that stay free
	IDs     IDs
	Workers int
	// Done is told the part that is done, from 0 to 1. nil: nobody is.
	Done func(part float64)
}

// Fill marks an empty Redis ready and gives the pool its first numbers.
func Fill(ctx context.Context, s *scripts.Store, numbers, workers int, done func(int)) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	if err := s.MarkReady(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for from := 0; from < numbers; from += refillShare {
		g.Go(func() error {
			owned := make([]scripts.Owned, 0, refillShare)
			for i := from; i < min(from+refillShare, numbers); i++ {
				owned = append(owned, scripts.Owned{VN: VN(i), Ref: fmt.Sprintf("PN%032x", i), Fence: uint64(i) + 1})
			}
			added, err := s.Refill(ctx, Pool, Carrier, owned)
			if err != nil {
				return err
			}
			if added.Added != len(owned) {
				return fmt.Errorf("fill the pool: %d of %d numbers were there already", len(owned)-added.Added, len(owned))
			}
			done(len(owned))
			return nil
		})
	}
	return g.Wait()
}

// Request returns the request for the VNs of an order.
func Request(ids IDs, order int) scripts.AllocateRequest {
	r := scripts.AllocateRequest{
		Order:    vn.Order{ID: ids.OrderID(order), Pool: Pool, TTL: Lease, Parties: make([]vn.Party, len(Roles))},
		Cooldown: Cooldown, Carriers: []scripts.Carrier{{Name: Carrier, ID: CarrierID}},
	}
	for p := range r.Order.Parties {
		r.Order.Parties[p] = vn.Party{Role: Roles[p], Number: Party(order, p)}
	}
	return r
}

// Load fills an empty Redis through the product's own scripts and returns the table
// of the calls that must be connected from then on.
func Load(ctx context.Context, s *scripts.Store, o Options) (*Table, error) {
	var steps atomic.Int64
	numbers := 2*o.Orders + o.Spare
	step := func(n int) {
		if now := steps.Add(int64(n)); o.Done != nil {
			o.Done(float64(now) / float64(numbers+10*o.Orders)) // an order costs about ten times a number
		}
	}
	if err := Fill(ctx, s, numbers, o.Workers, step); err != nil {
		return nil, err
	}
	t := &Table{IDs: o.IDs, Bindings: make([]Binding, 2*o.Orders)}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range o.Workers {
		g.Go(func() error {
			for {
				order := int(next.Add(1)) - 1
				if order >= o.Orders {
					return nil
				}
				a, err := s.Allocate(ctx, Request(o.IDs, order))
				if err != nil {
					return fmt.Errorf("load orders: %w", err)
				}
				t.Set(order, &a)
				if order%100 == 99 {
					step(1000)
				}
			}
		})
	}
	return t, g.Wait()
}

// Set notes what an order got.
func (t *Table) Set(order int, a *scripts.Allocation) {
	for calling := range 2 {
		called := 1 - calling
		t.Bindings[2*order+calling] = Binding{
			Called: a.Numbers[called].VN, Calling: Party(order, calling),
			Destination: Party(order, called), CallerID: a.Numbers[calling].VN, Order: uint64(order),
		}
	}
}
