package report

import "fmt"

// The variants that are callmask itself.
const (
	Callmask  = "callmask"
	Recording = "callmask+recorder" // publishing calls.decided
	Versus    = "callmask, other build"
	Single    = "callmask, coalesce off" // a round trip to Redis for each call
	OneProc   = "callmask, GOMAXPROCS=1" // one thread runs Go code
)

// Saturation is the point of the closed loop: as much as goes.
const Saturation = "saturation"

// RatePoint names the point of a fixed rate.
func RatePoint(rate float64) string { return fmt.Sprintf("%.0f/s", rate) }

// MixedPoint names the point of calls at a rate, alone or beside orders.
func MixedPoint(rate float64, beside string) string {
	if rate == 0 {
		return Saturation + ", " + beside
	}
	return RatePoint(rate) + ", " + beside
}

// OrdersPoint names the point of a number of active orders.
func OrdersPoint(orders int) string { return short(orders) + " orders" }

// VNsPoint names the point of a pool's size.
func VNsPoint(vns int) string { return short(vns) + " VNs" }

func short(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

// ClusterOf names the variant of a Redis Cluster.
func ClusterOf(masters int) string {
	if masters == 1 {
		return "Cluster of 1 master"
	}
	return fmt.Sprintf("Cluster of %d masters", masters)
}

// NodeOf names one master of a variant, counted from 1.
func NodeOf(variant string, node int) string { return fmt.Sprintf("%s, node %d", variant, node) }

// RoutersPoint names the point of calls at a rate, 0 for saturation, that so many routers share.
func RoutersPoint(rate float64, routers int) string {
	point := Saturation
	if rate > 0 {
		point = RatePoint(rate)
	}
	if routers == 1 {
		return point + ", 1 router"
	}
	return fmt.Sprintf("%s, %d routers", point, routers)
}

// StreamPoint names the point of what one order, and in the stream CALLS one call, leaves in a stream.
func StreamPoint(stream string) string {
	if stream == "CALLS" {
		return "a call in " + stream
	}
	return "an order in " + stream
}

// PartitionsPoint names the point of the load of all masters over all rounds.
func PartitionsPoint(partitions int) string {
	return fmt.Sprintf("%d partitions, all rounds", partitions)
}

// The points of the scenarios that are not a rate or a size.
const (
	NoAOF       = "no AOF"
	WithAOF     = "AOF everysec"
	Replay      = "replay"
	Events      = "events, 500 orders/s"
	Alone       = "alone"
	Beside      = "beside 1000 allocations and releases/s"
	CapacityAt  = "capacity"
	Overloaded  = "3x capacity"
	Recovered   = "half capacity, afterwards"
	ShortIDs    = "12-character ids"
	UUIDs       = "UUIDs"
	Inventory   = "a VN in the inventory"
	FreeVN      = "a VN while it is free"
	Ended       = "an ended order's remains"
	SoakFirst   = "first minute"
	SoakLast    = "last minute"
	Scripts     = "script" // the variant that calls the scripts directly
	ThroughNATS = "callmask all"
	InMemory    = "callmask all, files in memory" // what the disk costs is left out
	LeasedVN    = "a leased VN in LEDGER"
	SingleRedis = "single Redis"
	Sync        = "one fsync of a file, nothing else"
)
