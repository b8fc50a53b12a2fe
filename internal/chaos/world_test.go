package chaos

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/callmask/callmask/vn"
)

// pair is a number of each party of an order: the customer's, the agent's.
type pair [2]vn.Number

// told is one announcement of an order's VNs, as stream VN holds it: from then on the
// assignment is acknowledged.
type told struct {
	at    time.Time
	vns   pair
	until time.Time
}

// order is what the shop knows of an order. Times are zero until it happens.
type order struct {
	id      string
	numbers pair
	begun   time.Time // it is asked for
	stored  bool      // JetStream has its orders.assigned
	told    []told    // in the stream's order: the last one counts
	api     []pair    // VNs that the API has answered with
	ending  time.Time // its end is asked for
	over    time.Time // its end is acknowledged
	ended   bool      // vn.released has told of it
	failed  bool      // vn.failed
	brief   bool      // its lease is short, and runs out
}

// live tells whether the order has VNs that nobody has asked to end and no lease that ends.
func (o *order) live() bool { return len(o.told) > 0 && o.ending.IsZero() && !o.brief }

// renumbered tells whether the order was announced with other VNs than before: a Redis that
// had forgotten it gave it new ones when its event was delivered again.
func (o *order) renumbered() bool {
	return slices.ContainsFunc(o.told, func(t told) bool { return t.vns != o.told[0].vns })
}

// untold tells whether the end of an order that apps have heard of was acknowledged to whoever
// asked for it, and not announced.
func (o *order) untold() bool { return len(o.told) > 0 && !o.over.IsZero() && !o.ended }

// sharesNumber tells whether both were given one number, at whatever time.
func (o *order) sharesNumber(other *order) bool {
	return slices.ContainsFunc(o.told, func(t told) bool {
		return slices.ContainsFunc(other.told, func(u told) bool {
			return slices.ContainsFunc(u.vns[:], func(n vn.Number) bool { return slices.Contains(t.vns[:], n) })
		})
	})
}

// String tells its story, for people who look for what went wrong.
func (o *order) String() string {
	at := func(t time.Time) string { return t.Format("15:04:05.000") }
	s := fmt.Sprintf("(begun %s, ending %s, over %s, failed %t, brief %t", at(o.begun), at(o.ending), at(o.over), o.failed, o.brief)
	for _, t := range o.told {
		s += fmt.Sprintf(", told %s of %s and %s until %s", at(t.at), t.vns[0].E164(), t.vns[1].E164(), at(t.until))
	}
	return s + ")"
}

// vns returns the VNs announced last.
func (o *order) vns() pair { return o.told[len(o.told)-1].vns }

// call is one call and what its caller heard.
type call struct {
	began, ended    time.Time
	calling, called vn.Number
	order           string // whose VN was dialled; empty: whoever's
	connected       bool
	cause           string // of a refusal
	rang, shown     vn.Number
}

// span is a time in which Redis may be behind: from a fault until it must be repaired.
type span struct{ from, to time.Time }

// repaired is how long after a fault of Redis is over everything must be as the ledger says.
const repaired = 15 * time.Second

// world is what the load has done and heard.
type world struct {
	mu     sync.Mutex
	orders map[string]*order
	pairs  map[pair]*order // either way round: no two orders are of the same two
	list   []*order        // in the order of their beginning
	lives  []*order        // of which live is true, and perhaps no more
	former []*order        // ended lately
	calls  []call
	behind []span // the last one may be open: its to is zero
	wrong  []string

	refused, unreachable, strangers, stored, duplicated, late, early, extended int
}

func newWorld() *world { return &world{orders: map[string]*order{}, pairs: map[pair]*order{}} }

func (w *world) do(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
}

func (w *world) add(o *order) {
	w.orders[o.id] = o
	w.pairs[o.numbers] = o
	w.pairs[pair{o.numbers[1], o.numbers[0]}] = o
	w.list = append(w.list, o)
}

// lag tells whether Redis may be behind at some moment of a time.
func (w *world) lag(from, to time.Time) bool {
	for _, s := range w.behind {
		if s.from.Before(to) && (s.to.IsZero() || s.to.Add(repaired).After(from)) {
			return true
		}
	}
	return false
}

// between returns the order of two numbers, nil if there is none.
func (w *world) between(a, b vn.Number) *order { return w.pairs[pair{a, b}] }
