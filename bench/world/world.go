// Package world makes the orders of a benchmark and remembers what the right answer
// to every call is.
//
//	Load ─▶ scripts.Store (Refill, Allocate) ─▶ Redis
//	  └───▶ Table: who may call what, and what must be answered
//
// Everything is made by rule. The numbers lie in area codes of the North American
// plan that can belong to nobody: their middle digit 9 is kept for an expansion
// of the plan (NANPA, area codes N9X).
package world

import (
	"fmt"

	"github.com/callmask/callmask/vn"
)

// The names and secrets that the harness gives its carrier and callers.
const (
	Pool        = "bench"
	Carrier     = "twilio"
	CarrierID   = 77
	AccountSID  = "ACbe7c4000000000000000000000000000"
	AuthToken   = "auth-token-of-the-benchmark" //nolint:gosec // G101: it opens nothing
	PublicURL   = "https://calls.example.com"
	VoicePath   = "/v1/carriers/" + Carrier + "/voice"
	ResolvePath = "/v1/resolve"
	APIToken    = "api-token-of-the-benchmark"
	RingTimeout = 30   // seconds, the router's default
	MaxDuration = 3600 // seconds, the router's default
)

const (
	firstParty    vn.Number = 12_900_000_000
	firstVN       vn.Number = 16_900_000_000
	firstStranger vn.Number = 18_900_000_000
	strangers               = 90_000_000
)

// Party returns the real number of a party, 0 or 1, of an order.
func Party(order, party int) vn.Number { return firstParty + vn.Number(2*order+party) }

// VN returns the i-th virtual number of the pool.
func VN(i int) vn.Number { return firstVN + vn.Number(i) }

// Stranger returns the number of somebody who is a party of no order.
func Stranger(r uint64) vn.Number { return firstStranger + vn.Number(r%strangers) }

// IDs says what order ids look like.
type IDs string

// The forms of an order id.
const (
	Short IDs = "short" // 12 characters
	UUID  IDs = "uuid"  // 36 characters
)

// OrderID returns the id of an order.
func (ids IDs) OrderID(order int) string {
	if ids == UUID {
		h := uint64(order)*0x9e3779b97f4a7c15 + 0x1234567
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(h>>32), h>>16&0xffff, h&0xfff, h>>20&0xfff, order)
	}
	return fmt.Sprintf("o%011d", order)
}

// Roles are those of the two parties of every order.
var Roles = [2]string{"customer", "agent"}

// Binding is one call that must be connected.
type Binding struct {
	Called      vn.Number // the VN dialled
	Calling     vn.Number // who dials
	Destination vn.Number // whom it must reach
	CallerID    vn.Number // the VN it must show
	Order       uint64
}
