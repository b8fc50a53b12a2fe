package allocator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const (
	maxImport   = 10_000 // numbers in one Import
	importReads = 64     // inventory reads in flight while Import looks at its numbers
)

// PoolStock counts the VNs of one pool over all carriers. Free counts a cooling VN
// that has matured; Total = Free + Leased + Cooling + Draining.
type PoolStock struct {
	Name     string `json:"name"`
	Free     int    `json:"free"`
	Leased   int    `json:"leased"`
	Cooling  int    `json:"cooling"`
	Draining int    `json:"draining"`
	Total    int    `json:"total"`
}

// Pools counts every configured pool, in the order of the configuration, and after
// them, by name, pools that still have numbers but are not configured any more.
func (a *Allocator) Pools(ctx context.Context) ([]PoolStock, error) {
	stock, err := a.store.Stock(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]PoolStock, len(a.config.Pools), len(a.config.Pools)+len(stock))
	at := make(map[string]int, len(rows))
	for i, p := range a.config.Pools {
		rows[i].Name, at[p.Name] = p.Name, i
	}
	for _, s := range stock {
		i, ok := at[s.Pool]
		if !ok {
			i, at[s.Pool] = len(rows), len(rows)
			rows = append(rows, PoolStock{Name: s.Pool})
		}
		rows[i].Free += s.Free
		rows[i].Leased += s.Leased
		rows[i].Cooling += s.Cooling
		rows[i].Draining += s.Draining
		rows[i].Total += s.Total
	}
	slices.SortFunc(rows[len(a.config.Pools):], func(x, y PoolStock) int { return strings.Compare(x.Name, y.Name) })
	return rows, nil
}

// Imported tells what Import did.
type Imported struct {
	Added   int `json:"added"`
	Present int `json:"present"` // were in this pool and of this carrier before
}

// numbersError names every number of a list that is refused, by index.
type numbersError struct {
	problems []vn.FieldError // ascending by index, never empty
	conflict bool            // well-formed numbers that belong elsewhere
}

func (e *numbersError) Error() string {
	return strconv.Itoa(len(e.problems)) + " of the numbers are refused, the first is " + e.problems[0].Error()
}

func (e *numbersError) add(i int, problem string) {
	e.problems = append(e.problems, vn.FieldError{Field: "numbers[" + strconv.Itoa(i) + "]", Problem: problem})
}

// Import brings numbers that the operator owns into a pool: at most 10,000, in E.164
// or national to the pool's region, of one configured carrier. One number refused
// (its index is in the error, never the number) refuses them all. It may be repeated.
//
// Errors: vn.ErrPoolUnknown, vn.ErrCold, vn.ErrUnavailable (a part may be imported:
// call again), *vn.FieldError, or one that lists the numbers refused.
func (a *Allocator) Import(ctx context.Context, poolName, carrier string, numbers []string) (done Imported, err error) {
	defer a.metrics.imports.observe(time.Now(), &err)
	p, ok := a.pools[poolName]
	if !ok {
		return Imported{}, vn.ErrPoolUnknown
	}
	if !slices.ContainsFunc(a.config.Carriers, func(c scripts.Carrier) bool { return c.Name == carrier }) {
		return Imported{}, &vn.FieldError{Field: "carrier", Problem: "is not a configured carrier"}
	}
	if len(numbers) == 0 || len(numbers) > maxImport {
		return Imported{}, &vn.FieldError{Field: "numbers", Problem: fmt.Sprintf("must be 1 to %d numbers", maxImport)}
	}
	owned, err := parseNumbers(numbers, p.Region)
	if err != nil {
		return Imported{}, err
	}
	ready, err := a.store.Ready(ctx)
	if err != nil {
		return Imported{}, err
	}
	if !ready {
		return Imported{}, vn.ErrCold
	}
	if err := a.foreign(ctx, poolName, carrier, owned); err != nil {
		return Imported{}, err
	}
	filled, err := a.ledger.Own(ctx, poolName, carrier, owned)
	var held *ledger.HeldError
	if errors.As(err, &held) {
		refused := &numbersError{conflict: true}
		for _, i := range held.Indexes {
			refused.add(i, "is held by an order that Redis does not know; run `callmask rebuild`")
		}
		return Imported{}, refused
	}
	if err != nil {
		return Imported{}, err
	}
	if len(filled.Foreign) > 0 {
		return Imported{}, fmt.Errorf("%w: another import took some of the numbers meanwhile", vn.ErrUnavailable)
	}
	return Imported{Added: filled.Added, Present: filled.Present}, nil
}

func parseNumbers(numbers []string, region string) ([]scripts.Owned, error) {
	var refused numbersError
	owned := make([]scripts.Owned, len(numbers))
	first := make(map[vn.Number]int, len(numbers))
	for i, s := range numbers {
		n, err := numbering.Parse(s, region)
		if err != nil {
			refused.add(i, err.Error())
			continue
		}
		if j, twice := first[n]; twice {
			refused.add(i, "is the same as numbers["+strconv.Itoa(j)+"]")
			continue
		}
		first[n] = i
		owned[i] = scripts.Owned{VN: n, Ref: n.Digits()}
	}
	if len(refused.problems) > 0 {
		return nil, &refused
	}
	return owned, nil
}

// foreign refuses numbers that are in another pool or of another carrier.
func (a *Allocator) foreign(ctx context.Context, poolName, carrier string, numbers []scripts.Owned) error {
	elsewhere := make([]bool, len(numbers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(importReads)
	for i, n := range numbers {
		g.Go(func() error {
			inv, err := a.store.Inventory(gctx, n.VN)
			if errors.Is(err, vn.ErrNumberUnknown) {
				return nil
			}
			elsewhere[i] = err == nil && (inv.Pool != poolName || inv.Carrier != carrier)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	refused := &numbersError{conflict: true}
	for i, yes := range elsewhere {
		if yes {
			refused.add(i, "belongs to another pool or carrier")
		}
	}
	if len(refused.problems) > 0 {
		return refused
	}
	return nil
}

// Remove takes a number (E.164, or national to the pool's region) out of a pool: at
// once when it is free or cooling (left is true), else when its order ends.
// Errors: *vn.FieldError, vn.ErrPoolUnknown, vn.ErrNumberUnknown, vn.ErrUnavailable.
func (a *Allocator) Remove(ctx context.Context, poolName, number string) (left bool, err error) {
	defer a.metrics.remove.observe(time.Now(), &err)
	// A pool that is not configured any more may still have numbers to be rid of.
	p, configured := a.pools[poolName]
	region := ""
	if configured {
		region = p.Region
	} else if err := vn.CheckName("name", poolName); err != nil {
		return false, err
	}
	n, err := numbering.Parse(number, region)
	if err != nil {
		return false, &vn.FieldError{Field: "vn", Problem: err.Error()}
	}
	d, err := a.ledger.Retire(ctx, poolName, n)
	if errors.Is(err, vn.ErrNumberUnknown) && !configured {
		err = vn.ErrPoolUnknown
	}
	return d.Left, err
}
