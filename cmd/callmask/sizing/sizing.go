// Package sizing says what servers a load needs: arithmetic on measured costs, for
// `callmask plan`. docs/sizing.md has the formulas and their limits.
//
//	Load, Costs ─▶ For ─▶ Plan: masters, routers, NATS, virtual numbers
package sizing

import (
	"math"
	"time"

	"github.com/callmask/callmask/replenisher/plan"
	"github.com/callmask/callmask/vn"
)

// Load is what has to be carried at the peak.
type Load struct {
	LiveOrders    float64       // at the same time
	NewOrders     float64       // a second; 0: as many as keep LiveOrders alive, each for Length
	CallsPerOrder float64       // in an order's life
	Calls         float64       // a second; 0: CallsPerOrder of each new order
	EventsPerCall float64       // calls.decided, and what the carrier tells of it
	Average       float64       // the rate of an average second ÷ that of the peak, 0 to 1: for what is kept for days
	Parties       int           // of an order
	IDLength      int           // characters of an order's id
	Length        time.Duration // of an order
	Cooldown      time.Duration // of a VN
	Tombstone     time.Duration // how long an ended order is remembered
	Replicas      int           // of each master
	MasterMemory  float64       // bytes that a master may use
	Pools         int           // that share the orders evenly; 0: as few as have a million VNs at most
	Headroom      float64       // how many times the measured need is planned for, at least 1
}

// Plan is what a load needs.
type Plan struct {
	OrdersPerSecond float64 `json:"orders_per_second"`
	CallsPerSecond  float64 `json:"calls_per_second"`
	VNs             int     `json:"virtual_numbers"`
	Pools           int     `json:"pools"`

	Memory       float64 `json:"redis_bytes"` // of all masters together, without headroom
	OfLive       float64 `json:"redis_bytes_of_live_orders"`
	OfEnded      float64 `json:"redis_bytes_of_ended_orders"`
	OfVNs        float64 `json:"redis_bytes_of_virtual_numbers"`
	RedisCores   float64 `json:"redis_cores"` // busy, without headroom
	Masters      int     `json:"masters"`
	RedisServers int     `json:"redis_servers"` // with replicas
	Partitions   int     `json:"partitions"`
	PerMaster    float64 `json:"bytes_per_master"` // of the fullest, with headroom

	RouterCores    float64 `json:"router_cores"`    // with headroom
	Routers        int     `json:"routers"`         // processes of RouterSize cores, one more than needed
	AllocatorCores float64 `json:"allocator_cores"` // with headroom; what NATS takes included

	Messages float64 `json:"nats_messages_per_second"`
	Orders   float64 `json:"nats_bytes_orders"` // of one server; each of three holds all
	VN       float64 `json:"nats_bytes_vn"`
	CallsLog float64 `json:"nats_bytes_calls"`
	Ledger   float64 `json:"nats_bytes_ledger"`
}

const (
	// RouterSize is how many cores a router process is given.
	RouterSize = 4
	poolSize   = 1_000_000
	day        = 24 * time.Hour
	// The ages at which package events lets messages go.
	ordersAge, vnAge, callsAge = day, 90 * day, 30 * day
	leastMasters               = 3 // of a Redis Cluster that survives a death
	mostMasters                = 1000
	blocking                   = 0.001 // share of orders that may find too few VNs
)

// For returns the plan of a load. Errors are *vn.FieldError.
func For(l Load, c Costs) (Plan, error) {
	if err := l.check(); err != nil {
		return Plan{}, err
	}
	p := Plan{OrdersPerSecond: l.NewOrders, CallsPerSecond: l.Calls, Pools: l.Pools}
	if p.OrdersPerSecond == 0 {
		p.OrdersPerSecond = l.LiveOrders / l.Length.Seconds()
	}
	if p.CallsPerSecond == 0 {
		p.CallsPerSecond = p.OrdersPerSecond * l.CallsPerOrder
	}
	if err := p.numbers(&l); err != nil {
		return Plan{}, err
	}
	if err := p.redis(&l, &c); err != nil {
		return Plan{}, err
	}
	p.RouterCores = p.CallsPerSecond * c.RouterCall.Value / 1e6 * l.Headroom
	p.Routers = int(math.Ceil(p.RouterCores/RouterSize)) + 1
	p.AllocatorCores = p.OrdersPerSecond * c.AllocatorOrder.Value / 1e6 * l.Headroom
	p.nats(&l, &c)
	return p, nil
}

// numbers plans the VNs: those of live orders and those that rest after them.
func (p *Plan) numbers(l *Load) error {
	held := l.LiveOrders + p.OrdersPerSecond*l.Cooldown.Seconds()
	if p.Pools == 0 {
		p.Pools = max(1, int(math.Ceil(held*float64(l.Parties)/poolSize)))
	}
	each, err := plan.For(plan.Load{
		OrdersPerHour: held / float64(p.Pools), Peak: 1, Parties: l.Parties, Length: time.Hour, Blocking: blocking,
	})
	if err != nil {
		return &vn.FieldError{Field: "pools", Problem: "are too few: a pool may have 10,000,000 numbers"}
	}
	p.VNs = each.VNs * p.Pools
	return nil
}

// redis plans the masters: as many as hold the data and have the time for it.
func (p *Plan) redis(l *Load, c *Costs) error {
	// A party's VN holds a binding for each other party.
	pairs := float64(l.Parties*(l.Parties-1)) / 2
	perID := float64(max(0, l.IDLength-12)) * c.OrderIDByte.Value
	p.OfLive = l.LiveOrders * (c.OrderBytes.Value + perID) * pairs
	p.OfEnded = p.OrdersPerSecond * l.Average * l.Tombstone.Seconds() * (c.EndedBytes.Value + perID) * pairs
	free := max(0, float64(p.VNs)-l.LiveOrders*float64(l.Parties))
	p.OfVNs = float64(p.VNs)*c.VNBytes.Value + free*c.FreeVNBytes.Value
	p.Memory = p.OfLive + p.OfEnded + p.OfVNs
	p.RedisCores = (p.CallsPerSecond*c.RedisCall.Value + p.OrdersPerSecond*c.RedisOrder.Value) / 1e6
	for m := 1; m <= mostMasters; m++ {
		if m > 1 && m < leastMasters {
			continue
		}
		n := Partitions(m)
		fullest := Fullest(n, m) * l.Headroom
		if p.Memory*fullest <= l.MasterMemory && p.RedisCores*fullest <= 1 {
			p.Masters, p.Partitions, p.RedisServers, p.PerMaster = m, n, m*(1+l.Replicas), p.Memory*fullest
			return nil
		}
	}
	return &vn.FieldError{Field: "live orders", Problem: "need more than 1,000 masters: give each more memory, or split the orders over installations"}
}

// Partitions returns how many partitions suit so many masters: enough that no master has
// much more than another, and no more, as small partitions run out of VNs one by one.
func Partitions(masters int) int {
	switch {
	case masters == 1:
		return 1
	case masters <= 4:
		return 16
	case masters <= 16:
		return 64
	case masters <= 64:
		return 256
	}
	return 1024
}

// Fullest returns what share of everything the fullest master has. Slots of partitions are evenly
// spaced, so masters with equal stretches of slots differ by one partition at most.
func Fullest(partitions, masters int) float64 {
	return math.Ceil(float64(partitions)/float64(masters)) / float64(partitions)
}

func (p *Plan) nats(l *Load, c *Costs) {
	orders := p.OrdersPerSecond
	p.Messages = orders*(c.OrdersMessages.Value+c.VNMessages.Value+c.LedgerMessages.Value) + p.CallsPerSecond*l.EventsPerCall
	// What a party adds to an event is taken to be as much as half of an event of two. Each
	// message names the order once.
	parties, longer := float64(l.Parties)/2, float64(l.IDLength-12)
	p.Orders = orders * l.Average * ordersAge.Seconds() * (c.OrdersBytes.Value*parties + c.OrdersMessages.Value*longer)
	p.VN = orders * l.Average * vnAge.Seconds() * (c.VNEventBytes.Value*parties + c.VNMessages.Value*longer)
	p.CallsLog = p.CallsPerSecond * l.Average * callsAge.Seconds() * l.EventsPerCall * c.CallBytes.Value
	p.Ledger = float64(p.VNs) * c.LedgerBytes.Value * parties
}

func (l *Load) check() error {
	for _, c := range []struct {
		ok             bool
		field, problem string
	}{
		{positive(l.LiveOrders), "live orders", "must be more than 0"},
		{l.NewOrders == 0 || positive(l.NewOrders), "new orders", "must not be negative"},
		{l.CallsPerOrder == 0 || positive(l.CallsPerOrder), "calls per order", "must not be negative"},
		{l.Calls == 0 || positive(l.Calls), "calls", "must not be negative"},
		{l.EventsPerCall >= 1 && positive(l.EventsPerCall), "events per call", "must be at least 1: calls.decided"},
		{positive(l.Average) && l.Average <= 1, "average", "must be more than 0 and at most 1"},
		{l.Parties >= vn.MinParties && l.Parties <= vn.MaxParties, "parties", "must be 2 to 8"},
		{l.IDLength >= 1 && l.IDLength <= 64, "id length", "must be 1 to 64"},
		{l.Length > 0, "order length", "must be a positive duration"},
		{l.Cooldown >= time.Second, "cooldown", "must be at least 1s"},
		{l.Tombstone > ordersAge, "tombstone", "must be longer than the ORDERS stream keeps messages (24h)"},
		{l.Replicas >= 0 && l.Replicas <= 5, "replicas", "must be 0 to 5"},
		{positive(l.MasterMemory), "master memory", "must be more than 0"},
		{l.Pools >= 0, "pools", "must not be negative"},
		{l.Headroom >= 1 && positive(l.Headroom), "headroom", "must be at least 1"},
	} {
		if !c.ok {
			return &vn.FieldError{Field: c.field, Problem: c.problem}
		}
	}
	return nil
}

func positive(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
