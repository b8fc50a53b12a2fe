package settings

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// Pool is one pool of callmask.yaml with its defaults filled in.
type Pool struct {
	Name         string
	Region       string
	Carriers     []string // order of preference; empty: nothing is bought
	LowWater     int
	Target       int
	Max          int
	Cooldown     time.Duration
	TTLDefault   time.Duration
	TTLMax       time.Duration
	AssignWait   time.Duration
	Destinations []string
	Forecast     bool          // low water and target rise with the demand
	MonthlyCap   carrier.Money // what the pool may cost in a calendar month; zero: no cap
	SurplusAfter time.Duration // how long a number must be more than is needed before it is given back; negative: never
}

const (
	defaultLowWater   = 200
	defaultCooldown   = 10 * time.Minute
	defaultTTL        = 2 * time.Hour
	defaultTTLMax     = 24 * time.Hour
	defaultAssignWait = time.Minute
	defaultSurplus    = 24 * time.Hour
	most              = 10_000_000 // numbers in one pool
)

func (f *file) pools(carriers []Carrier) ([]Pool, error) {
	pools := make([]Pool, 0, len(f.doc.Pools))
	for i := range f.doc.Pools {
		p, err := f.pool(fmt.Sprintf("pools[%d]", i), &f.doc.Pools[i], carriers)
		if err != nil {
			return nil, err
		}
		for j := range pools {
			if pools[j].Name == p.Name {
				return nil, f.errorf(fmt.Sprintf("pools[%d].name", i), "%q is also the name of pools[%d]", p.Name, j)
			}
		}
		pools = append(pools, p)
	}
	return pools, nil
}

func (f *file) pool(at string, in *filePool, carriers []Carrier) (Pool, error) {
	p := Pool{Name: in.Name, Region: in.Region, Carriers: in.Carriers, Destinations: in.Destination}
	p.Forecast = in.Forecast == nil || *in.Forecast
	if err := f.checkName(at, in.Name); err != nil {
		return p, err
	}
	if err := f.region(at+".region", in.Region); err != nil {
		return p, err
	}
	for i, c := range in.Carriers {
		name := fmt.Sprintf("%s.carriers[%d]", at, i)
		if !slices.ContainsFunc(carriers, func(x Carrier) bool { return x.Name == c }) {
			return p, f.errorf(name, "%q is not the name of a carrier in carriers:", printable(c))
		}
		if slices.Contains(in.Carriers[:i], c) {
			return p, f.errorf(name, "%q is listed twice", c)
		}
	}
	for i, r := range in.Destination {
		name := fmt.Sprintf("%s.destinations[%d]", at, i)
		if err := f.region(name, r); err != nil {
			return p, err
		}
		if slices.Contains(in.Destination[:i], r) {
			return p, f.errorf(name, "%q is listed twice", r)
		}
	}
	if len(p.Destinations) == 0 {
		p.Destinations = []string{in.Region}
	}
	if err := f.floors(at, in, &p); err != nil {
		return p, err
	}
	if err := f.money(at, in, &p); err != nil {
		return p, err
	}
	return p, f.times(at, in, &p)
}

// money reads what a pool may cost and when what it has too many of is given back.
func (f *file) money(at string, in *filePool, p *Pool) error {
	if in.MonthlyCap != nil {
		var err error
		if p.MonthlyCap, err = carrier.ParseMoney(*in.MonthlyCap); err != nil {
			return f.errorf(at+".monthly_cap", "%w", err)
		}
	}
	p.SurplusAfter = defaultSurplus
	switch {
	case in.Surplus == nil:
	case *in.Surplus == "never":
		p.SurplusAfter = -1
	default:
		d, err := parseDuration(*in.Surplus, time.Hour, year)
		if err != nil {
			return f.errorf(at+".surplus_after", "%w, or never", err)
		}
		p.SurplusAfter = d
	}
	return nil
}

// floors reads low_water ≤ target ≤ max. Without a carrier nothing is bought, so
// the floors are then 0 unless they are given.
func (f *file) floors(at string, in *filePool, p *Pool) error {
	if len(in.Carriers) > 0 {
		p.LowWater = defaultLowWater
		if in.Target != nil {
			p.LowWater = min(defaultLowWater, max(0, *in.Target/2))
		}
	}
	if in.LowWater != nil {
		p.LowWater = *in.LowWater
	}
	if p.Target = 2 * p.LowWater; in.Target != nil {
		p.Target = *in.Target
	}
	if p.Max = max(2000, 5*p.Target); in.Max != nil {
		p.Max = *in.Max
		if in.Target == nil {
			p.Target = min(p.Target, p.Max)
		}
		if in.LowWater == nil {
			p.LowWater = min(p.LowWater, p.Target)
		}
	}
	switch {
	case p.LowWater < 0 || p.LowWater > most:
		return f.errorf(at+".low_water", "must be between 0 and %d", most)
	case p.Target < 0 || p.Target > most:
		return f.errorf(at+".target", "must be between 0 and %d", most)
	case p.Max < 1 || p.Max > most:
		return f.errorf(at+".max", "must be between 1 and %d", most)
	case p.LowWater > p.Target:
		return f.errorf(at+".low_water", "is %d, above target (%d)", p.LowWater, p.Target)
	case p.Target > p.Max:
		return f.errorf(at+".target", "is %d, above max (%d)", p.Target, p.Max)
	}
	return nil
}

func (f *file) times(at string, in *filePool, p *Pool) error {
	for _, t := range []struct {
		key         string
		in          *string
		out         *time.Duration
		def         time.Duration
		least, most time.Duration
	}{
		{"cooldown", in.Cooldown, &p.Cooldown, defaultCooldown, time.Second, year},
		{"ttl.max", in.TTL.Max, &p.TTLMax, defaultTTLMax, time.Second, year},
		{"ttl.default", in.TTL.Default, &p.TTLDefault, defaultTTL, time.Second, year},
		{"assign_wait", in.AssignWait, &p.AssignWait, defaultAssignWait, time.Millisecond, 12 * time.Hour},
	} {
		*t.out = t.def
		if t.in == nil {
			continue
		}
		d, err := parseDuration(*t.in, t.least, t.most)
		if err != nil {
			return f.errorf(at+"."+t.key, "%w", err)
		}
		*t.out = d
	}
	if in.TTL.Default == nil {
		p.TTLDefault = min(p.TTLDefault, p.TTLMax)
	}
	if p.TTLDefault > p.TTLMax {
		return f.errorf(at+".ttl.default", "is %s, above ttl.max (%s)", short(p.TTLDefault), short(p.TTLMax))
	}
	return nil
}

func (f *file) checkName(at, name string) error {
	if name == "" {
		return f.errorf(at+".name", "is missing")
	}
	return f.problem(at+".name", vn.CheckName("name", name))
}

func (f *file) region(at, region string) error {
	if region == "" {
		return f.errorf(at, "is missing (a region such as ID or GB)")
	}
	return f.problem(at, numbering.CheckRegion(region))
}

// problem puts the name of the setting in the place of the field.
func (f *file) problem(at string, err error) error {
	var fe *vn.FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fe):
		return f.errorf(at, "%s", fe.Problem)
	}
	return f.errorf(at, "%w", err)
}
