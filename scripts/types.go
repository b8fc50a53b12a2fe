package scripts

import (
	"time"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Carrier names a carrier and the byte that stands for it in a packed binding.
type Carrier struct {
	Name string
	ID   byte
}

// AllocateRequest asks for the VNs of one order.
type AllocateRequest struct {
	Order    vn.Order
	Cooldown time.Duration // the pool's; kept with the order
	Carriers []Carrier     // whose VNs may be used, the preferred first; never empty

	// Lost and Won tell of a race lost in the ledger. If the order still holds one of
	// the Lost, it forgets that assignment, which nobody has heard of, and takes other
	// VNs. Those Won, whose `released` is in the ledger, rest for the cool-down, the Lost
	// until their lease would have ended.
	Lost []vn.Number
	Won  []Fenced
}

// Fenced is a VN with the sequence of its last ledger record.
type Fenced struct {
	VN    vn.Number
	Fence uint64
}

// Allocation is an order's assignment together with what the ledger must record.
type Allocation struct {
	Assignment vn.Assignment
	Carrier    string
	Cooldown   time.Duration
	KeyID      byte           // the key that made the tokens and sealed the numbers
	Tokens     []seal.Token   // by party: its token as a caller
	Numbers    []LeasedNumber // by party: the VN that the others dial to reach it
	Replayed   bool           // the order had this assignment before the call
	Settled    bool           // the ledger and the apps know it already
	Free       int            // VNs of the pool left after this call, guessed from those of this partition
	Partition  int            // where its VNs and its hash are
}

// LeasedNumber is one VN of an Allocation.
type LeasedNumber struct {
	VN    vn.Number
	Fence uint64 // sequence of the last ledger record known of the VN
	// Ref is the carrier's id of the number. Only a first Allocate knows it; after a
	// replay or Extend it is empty and in the inventory.
	Ref string
	// Sealed holds, by calling party, the real number that a call to VN is
	// connected to; the entry of the VN's own party is unused.
	Sealed []seal.Sealed
}

// Release is what ending an order did, or had done before.
type Release struct {
	OrderID   string
	Known     bool // false: the order never had an assignment; only a tombstone was left
	Pool      string
	Carrier   string
	Reason    vn.EndReason
	EndedAt   time.Time
	Numbers   []ReleasedNumber
	Cooldown  time.Duration
	Settled   bool // the ledger and the apps know it already; nothing is left to do
	Partition int  // where its VNs are
}

// ReleasedNumber is one VN of an ended order.
type ReleasedNumber struct {
	VN      vn.Number
	Fence   uint64
	Retired bool // the VN was draining and left the pool with this order
}

// Owned is a VN that enters a pool.
type Owned struct {
	VN    vn.Number
	Ref   string // the carrier's id of the number; the number's digits where it has none
	Fence uint64 // sequence of its ledger record `owned`
}

// Inventory is what the inventory holds of one VN.
type Inventory struct {
	Owned

	Pool    string
	Carrier string
}

// Refilled tells what became of the numbers given to Refill.
type Refilled struct {
	Added   int
	Present int         // already in this pool and of this carrier; a drain of it is undone
	Foreign []vn.Number // left alone: they belong to another pool or carrier
}

// Drained tells what Drain did.
type Drained struct {
	Inventory

	Left bool // true: it left the pool at once; false: it leaves when its order ends
}

// Stock counts the VNs of one pool and carrier at one moment. Each VN counts
// once: Total = Free + Leased + Cooling + Draining.
type Stock struct {
	Pool, Carrier string
	Free          int // cooling VNs that have matured included
	Leased        int
	Cooling       int
	Draining      int
	Total         int
}

func (s *Stock) add(o *Stock) {
	s.Free += o.Free
	s.Leased += o.Leased
	s.Cooling += o.Cooling
	s.Draining += o.Draining
	s.Total += o.Total
}
