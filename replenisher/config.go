package replenisher

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/internal/tracing"
	"github.com/callmask/callmask/vn"
)

// Config is what the replenisher is told. Durations that are 0 take their default.
type Config struct {
	Pools []Pool
	// Carriers holds, by name, the carriers that sell numbers. A carrier that a pool
	// names and that is not here (a softswitch sells none) is passed over.
	Carriers map[string]CarrierConfig
	// SealDead seals the payload of a dead letter; without it dead letters have none.
	SealDead func(payload []byte) ([]byte, error)

	Sweep        time.Duration // every pool is looked at this often, ±10 % (default 10s)
	Gap          time.Duration // least time between two looks at one pool (default 500ms)
	Timeout      time.Duration // deadline of each call to Redis and the ledger (default 5s)
	CarrierCall  time.Duration // deadline of each call to a carrier (default 30s)
	Lease        time.Duration // how long others wait for a process that died, before they buy in its place (default 15s)
	Grace        time.Duration // how long purchases under way may go on after Run was told to stop (default 5s)
	Parallel     int           // purchases under way at once for one pool (default 4)
	SettleAfter  time.Duration // an intent younger than this is never closed as not bought (default 2min)
	BackoffFirst time.Duration // how long a carrier is left alone after its first failure (default 1s)
	BackoffMost  time.Duration // the pause doubles with each further failure up to this (default 5min)

	Reconcile    time.Duration // each carrier's list is compared with the inventory this often, ±10 % (default 1h)
	ReconcileFor time.Duration // how long one such comparison may take (default 10min)
	GhostAfter   time.Duration // a number that the list lacks for so long, in two readings, is gone (default 10min)

	Tracer *tracing.Tracer // nil: no spans of what is bought, compared and given back
}

// Pool is the part of a pool's settings that buying needs.
type Pool struct {
	Name   string
	Region string // ISO 3166; where its numbers are bought
	// Carriers are asked to sell in this order. With none, nothing is ever bought.
	Carriers []string
	LowWater int // buying starts when fewer VNs are free
	Target   int // and goes on until as many are free
	Max      int // VNs that the pool may ever have, open intents included
	// Fixed keeps LowWater and Target as they are. Otherwise they are the least: both rise
	// up to Max with the demand during the time that the carriers take to sell.
	Fixed bool
	// MonthlyCap is what the pool may cost in a calendar month (UTC). Numbers are bought
	// only when their price is quoted in its currency and fits in. Zero: no cap.
	MonthlyCap carrier.Money
	// SurplusAfter is how long more VNs than are needed must have been free, without a
	// break, before those are given back (default 24h); a negative one means never.
	SurplusAfter time.Duration
}

// CarrierConfig is one carrier that sells numbers.
type CarrierConfig struct {
	Numbers    Numbers
	WebhookURL string // where the carrier announces calls to a number it sold us
}

// unknownPool is where intents of pools that are no longer configured are settled.
const unknownPool = ""

func (c *Config) complete() error {
	for _, d := range []struct {
		name      string
		value     *time.Duration
		otherwise time.Duration
	}{
		{"Sweep", &c.Sweep, 10 * time.Second},
		{"Gap", &c.Gap, 500 * time.Millisecond},
		{"Timeout", &c.Timeout, 5 * time.Second},
		{"CarrierCall", &c.CarrierCall, 30 * time.Second},
		{"Lease", &c.Lease, 15 * time.Second},
		{"Grace", &c.Grace, 5 * time.Second},
		{"SettleAfter", &c.SettleAfter, 2 * time.Minute},
		{"BackoffFirst", &c.BackoffFirst, time.Second},
		{"BackoffMost", &c.BackoffMost, 5 * time.Minute},
		{"Reconcile", &c.Reconcile, time.Hour},
		{"ReconcileFor", &c.ReconcileFor, 10 * time.Minute},
		{"GhostAfter", &c.GhostAfter, 10 * time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.otherwise
		}
		if *d.value < 0 {
			return fmt.Errorf("replenisher: %s must not be negative", d.name)
		}
	}
	if c.Parallel == 0 {
		c.Parallel = 4
	}
	if c.Parallel < 0 {
		return errors.New("replenisher: Parallel must not be negative")
	}
	if c.SettleAfter < 2*c.CarrierCall {
		return errors.New("replenisher: SettleAfter must be at least twice CarrierCall, or a purchase under way could be taken for one that failed")
	}
	if c.Lease < time.Second {
		return errors.New("replenisher: Lease must be at least 1s, or it would end between two renewals")
	}
	for name, k := range c.Carriers {
		if k.Numbers == nil {
			return fmt.Errorf("replenisher: carrier %q has no number client", name)
		}
	}
	c.Pools = slices.Clone(c.Pools)
	for i := range c.Pools {
		if c.Pools[i].SurplusAfter == 0 {
			c.Pools[i].SurplusAfter = 24 * time.Hour
		}
		if err := c.Pools[i].check(); err != nil {
			return err
		}
		if slices.ContainsFunc(c.Pools[:i], func(p Pool) bool { return p.Name == c.Pools[i].Name }) {
			return fmt.Errorf("replenisher: pool %q is there twice", c.Pools[i].Name)
		}
	}
	return nil
}

func (p *Pool) check() error {
	if err := vn.CheckName("name", p.Name); err != nil {
		return fmt.Errorf("replenisher: pool: %w", err)
	}
	switch {
	case p.LowWater < 0:
		return fmt.Errorf("replenisher: pool %q: low_water must not be negative", p.Name)
	case p.Target < p.LowWater:
		return fmt.Errorf("replenisher: pool %q: target must be at least low_water", p.Name)
	case len(p.Carriers) > 0 && p.Max < p.Target:
		return fmt.Errorf("replenisher: pool %q: max must be at least target", p.Name)
	case len(p.Carriers) > 0 && p.Region == "":
		return fmt.Errorf("replenisher: pool %q: region is missing: numbers are bought by region", p.Name)
	}
	return nil
}
