package allocator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callmask/callmask/internal/tracing"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Config says which pools there are and how the work is bounded. A zero Workers,
// Timeout or ImportTimeout takes its default.
type Config struct {
	Pools    []Pool
	Carriers []scripts.Carrier // every configured carrier
	// Workers is how many order events are handled at the same time; default 32.
	Workers int
	// Timeout bounds the handling of one event and of one request; default 10s.
	Timeout time.Duration
	// Conflict, unless nil, is told of every VN that the ledger gave to somebody else than
	// Redis did. It must not block.
	Conflict func(vn.Number)
	// ImportTimeout bounds a request that imports numbers; default 60s.
	ImportTimeout time.Duration
	Tracer        *tracing.Tracer // nil: no spans of requests
}

// Pool is one pool as configured. All fields but Carriers and Destinations must be
// set; LowWater and Target may be 0.
type Pool struct {
	Name     string
	Region   string   // ISO 3166, the default region of national numbers
	Carriers []string // whose VNs are taken first; every other carrier's follow, by name
	LowWater int      // fewer free VNs than this are reported as pools.low
	Target   int
	Max      int
	Cooldown time.Duration // how long a VN rests after an order
	// TTLDefault is the lease of an order that names none, TTLMax the longest allowed.
	TTLDefault time.Duration
	TTLMax     time.Duration
	// AssignWait is how long an event may wait for free VNs.
	AssignWait time.Duration
	// Destinations are the regions a party's number may be in; default: Region.
	Destinations []string
}

// MinCooldown is the shortest cool-down: a call that is being set up when its order
// ends must not reach the next one.
const MinCooldown = time.Second

// pool is a checked Pool with what every order of it needs.
type pool struct {
	Pool

	carriers []scripts.Carrier
	low      limiter
}

func (c *Config) setDefaults() error {
	if c.Workers == 0 {
		c.Workers = 32
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.ImportTimeout == 0 {
		c.ImportTimeout = time.Minute
	}
	switch {
	case c.Workers < 1 || c.Workers > 1024:
		return fmt.Errorf("workers: %d is not between 1 and 1024", c.Workers)
	case c.Timeout < 100*time.Millisecond:
		return fmt.Errorf("timeout: %s is shorter than 100ms", c.Timeout)
	case c.ImportTimeout < c.Timeout:
		return fmt.Errorf("import_timeout: %s is shorter than timeout %s", c.ImportTimeout, c.Timeout)
	}
	return nil
}

// pools checks the carriers and pools. Every error begins with the setting.
func (c *Config) pools() (map[string]*pool, error) {
	if len(c.Carriers) == 0 {
		return nil, fmt.Errorf("carriers: none is configured; an order's numbers belong to one")
	}
	names, ids := make(map[string]scripts.Carrier), make(map[byte]string)
	for i, carrier := range c.Carriers {
		at := fmt.Sprintf("carriers[%d]", i)
		if err := vn.CheckName(at+".name", carrier.Name); err != nil {
			return nil, err
		}
		if _, twice := names[carrier.Name]; twice {
			return nil, fmt.Errorf("%s.name: %q is used twice", at, carrier.Name)
		}
		if other, twice := ids[carrier.ID]; twice {
			return nil, fmt.Errorf("%s.id: %d is that of %q as well; give one of them another id", at, carrier.ID, other)
		}
		names[carrier.Name], ids[carrier.ID] = carrier, carrier.Name
	}
	pools := make(map[string]*pool, len(c.Pools))
	for i, p := range c.Pools {
		at := fmt.Sprintf("pools[%d]", i)
		if err := p.check(at); err != nil {
			return nil, err
		}
		if _, twice := pools[p.Name]; twice {
			return nil, fmt.Errorf("%s.name: %q is used twice", at, p.Name)
		}
		carriers, err := carriersOf(at, p.Carriers, names)
		if err != nil {
			return nil, err
		}
		if len(p.Destinations) == 0 {
			p.Destinations = []string{p.Region}
		}
		pools[p.Name] = &pool{Pool: p, carriers: carriers}
	}
	return pools, nil
}

func (p *Pool) check(at string) error {
	if err := vn.CheckName(at+".name", p.Name); err != nil {
		return err
	}
	if err := numbering.CheckRegion(p.Region); err != nil {
		return fmt.Errorf("%s.region: %w", at, err)
	}
	for i, region := range p.Destinations {
		if err := numbering.CheckRegion(region); err != nil {
			return fmt.Errorf("%s.destinations[%d]: %w", at, i, err)
		}
	}
	switch {
	case p.LowWater < 0:
		return fmt.Errorf("%s.low_water: %d is negative", at, p.LowWater)
	case p.LowWater > p.Target:
		return fmt.Errorf("%s.low_water: %d is above target %d", at, p.LowWater, p.Target)
	case p.Target > p.Max:
		return fmt.Errorf("%s.target: %d is above max %d", at, p.Target, p.Max)
	case p.Cooldown < MinCooldown:
		return fmt.Errorf("%s.cooldown: %s is shorter than %s", at, p.Cooldown, MinCooldown)
	case p.TTLDefault < time.Millisecond:
		return fmt.Errorf("%s.ttl.default: %s is not a positive duration", at, p.TTLDefault)
	case p.TTLDefault > p.TTLMax:
		return fmt.Errorf("%s.ttl.default: %s is above ttl.max %s", at, p.TTLDefault, p.TTLMax)
	case p.AssignWait <= 0:
		return fmt.Errorf("%s.assign_wait: %s is not a positive duration", at, p.AssignWait)
	}
	return nil
}

// carriersOf puts the pool's own carriers first and every other after them, by name.
func carriersOf(at string, preferred []string, all map[string]scripts.Carrier) ([]scripts.Carrier, error) {
	list := make([]scripts.Carrier, 0, len(all))
	taken := make(map[string]bool, len(all))
	for i, name := range preferred {
		carrier, ok := all[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("%s.carriers[%d]: %q is not a configured carrier", at, i, name)
		case taken[name]:
			return nil, fmt.Errorf("%s.carriers[%d]: %q is named twice", at, i, name)
		}
		taken[name] = true
		list = append(list, carrier)
	}
	for name, carrier := range all {
		if !taken[name] {
			list = append(list, carrier)
		}
	}
	slices.SortFunc(list[len(preferred):], func(a, b scripts.Carrier) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
