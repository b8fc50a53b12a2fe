package events

import (
	"fmt"
	"time"
)

// The subjects callmask publishes to. The subjects of incoming orders depend on
// Config.OrdersPrefix: see Bus.OrderSubject.
const (
	SubjectAssigned = "vn.assigned"
	SubjectReleased = "vn.released"
	SubjectFailed   = "vn.failed"
	SubjectDecided  = "calls.decided"
	SubjectStatus   = "calls.status"
	SubjectMessage  = "calls.message"

	SubjectPoolLow        = "pools.low"
	SubjectPoolBought     = "pools.bought"
	SubjectPoolCapReached = "pools.cap_reached"
	SubjectPoolRunningOut = "pools.running_out"

	// SubjectTopUp captures what is asked for by hand for all pools, in stream StreamPools.
	SubjectTopUp = "pools.top_up.*"
	// SubjectLease captures the leases of all pools, in stream StreamLedger.
	SubjectLease = "ledger.lease.*"

	subjectLedgerVN     = "ledger.vn."
	subjectLedgerIntent = "ledger.intent."
	subjectLedgerLease  = "ledger.lease."
	subjectLedgerPause  = "ledger.pause."
	subjectTopUp        = "pools.top_up."
	subjectDead         = "dead."
	subjectAudit        = "audit."
)

// The last token of the subjects of stream ORDERS: what happened to the order.
const (
	EventPlaced    = "placed"
	EventAssigned  = "assigned"
	EventCompleted = "completed"
	EventCancelled = "cancelled"
)

// OrderPlaced is the payload of orders.placed: a demand signal.
type OrderPlaced struct {
	OrderID string `json:"order_id"`
	Pool    string `json:"pool"`
}

// OrderAssigned is the payload of orders.assigned: the only message anywhere that
// holds real numbers. TTL is a Go duration string, empty for the pool's default.
type OrderAssigned struct {
	OrderID string       `json:"order_id"`
	Pool    string       `json:"pool"`
	TTL     string       `json:"ttl,omitempty"`
	Parties []OrderParty `json:"parties"`
}

// OrderParty is one party of an OrderAssigned: its role and its real number, as
// the sender wrote it (E.164, or national in the pool's region).
type OrderParty struct {
	Role   string `json:"role"`
	Number string `json:"number"`
}

// Format implements fmt.Formatter so that no verb prints the real number.
func (p OrderParty) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "{%s •••}", p.Role) }

// OrderEnded is the payload of orders.completed and orders.cancelled.
type OrderEnded struct {
	OrderID string `json:"order_id"`
}

// VNAssigned is the payload of vn.assigned.
type VNAssigned struct {
	OrderID   string    `json:"order_id"`
	Pool      string    `json:"pool"`
	Parties   []VNParty `json:"parties"`
	ExpiresAt time.Time `json:"expires_at"` // published in UTC
}

// VNParty is one party's share of a VNAssigned: VN (E.164 with its plus sign) is
// what every other party dials to reach it.
type VNParty struct {
	Role string `json:"role"`
	VN   string `json:"vn"`
}

// VNReleased is the payload of vn.released. Reason is completed, cancelled or
// expired (vn.EndReason).
type VNReleased struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

// The reasons of a VNFailed.
const (
	FailedPoolExhausted = "pool_exhausted"
	FailedOrderConflict = "order_conflict"
	FailedInvalid       = "invalid"
)

// VNFailed is the payload of vn.failed. A live assignment of the same order is
// left alone.
type VNFailed struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

// PoolLow is the payload of pools.low: the pool has fewer free VNs than its low
// water. The numbers are those of the moment; the replenisher reads the stock anew.
type PoolLow struct {
	Pool   string `json:"pool"`
	Free   int    `json:"free"`
	Target int    `json:"target"`
}

// The reasons of a PoolBought.
const (
	ReasonLowWater = "low_water" // fewer VNs were free than the settings ask for
	ReasonForecast = "forecast"  // they would have been, before a carrier could have sold more
	ReasonOperator = "operator"  // somebody asked for more by hand
	ReasonAdopted  = "adopted"   // the carrier's list had it after a purchase whose outcome was not known
)

// PoolBought is the payload of pools.bought: a number was bought for the pool and is
// in it now. Price is the monthly price that the carrier offered it for.
type PoolBought struct {
	Pool     string    `json:"pool"`
	VN       string    `json:"vn"` // E.164
	Carrier  string    `json:"carrier"`
	Price    string    `json:"price,omitempty"`
	Currency string    `json:"currency,omitempty"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// PoolCapReached is the payload of pools.cap_reached: the pool needs Missing more
// numbers, and none is offered for what is left of its monthly cap. It comes once,
// until the pool could buy again.
type PoolCapReached struct {
	Pool      string `json:"pool"`
	Cap       string `json:"cap"`       // a month, such as "500.00"
	Committed string `json:"committed"` // what this calendar month costs already
	Currency  string `json:"currency"`
	Missing   int    `json:"missing"`
}

// PoolRunningOut is the payload of pools.running_out: at the present rate the last
// free VN is leased before a carrier has sold another one. It comes once, until that
// is over.
type PoolRunningOut struct {
	Pool    string  `json:"pool"`
	Minutes float64 `json:"minutes"` // until then, to a tenth
}

// CallDecided is the payload of calls.decided: what was answered to one call. It
// holds no real number: neither who called nor who was dialled.
type CallDecided struct {
	Carrier string    `json:"carrier"`
	CallID  string    `json:"call_id,omitempty"` // the carrier's; empty when it sent none
	VN      string    `json:"vn,omitempty"`      // the VN dialled, E.164; only when it is known to be ours
	OrderID string    `json:"order_id,omitempty"`
	Reason  string    `json:"reason"` // vn.Reason's name; connected when it was put through
	At      time.Time `json:"at"`
	TookUS  int64     `json:"took_us"` // time to the decision, microseconds
}
