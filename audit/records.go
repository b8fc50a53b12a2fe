package audit

import (
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// entry is a VN's last ledger record in a few words: there may be millions.
type entry struct {
	seq    uint64
	order  orderKey
	until  int64 // of Assigned: lease end; of Released: end; unix ms
	rest   int64 // cool-down after that, ms
	where  uint16
	kind   Kind
	bought bool
	undone bool // of Released: its order goes on with other VNs
	moved  bool // since the round began
	seen   bool // by the round, in Redis
}

func (e *entry) end() time.Time           { return time.UnixMilli(e.until) }
func (e *entry) cooldown() time.Duration  { return time.Duration(e.rest) * time.Millisecond }
func (e *entry) lives(at time.Time) bool  { return e.kind == Assigned && at.Before(e.end()) }
func (e *entry) rested() time.Time        { return e.end().Add(e.cooldown()) }
func (e *entry) holds(id string) bool     { return e.order == keyOf(id) }
func (e *entry) inPool() bool             { return e.kind != 0 && e.kind != Retired }
func (e *entry) follows(next *Event) bool { return e.seq == next.After }

// book is the last record of every VN.
type book struct {
	entries map[vn.Number]entry
	wheres  []string // of entry.where
	index   map[string]uint16
}

func newBook() *book { return &book{entries: map[vn.Number]entry{}, index: map[string]uint16{}} }

// put makes a record the last one of its VN and returns the one before.
func (b *book) put(e *Event) (last entry) {
	last = b.entries[e.VN]
	b.entries[e.VN] = b.entryOf(e)
	return last
}

func (b *book) entryOf(e *Event) entry {
	next := entry{seq: e.Seq, order: keyOf(e.OrderID), kind: e.Kind, bought: e.Bought, where: b.where(e.Where), rest: e.Cooldown.Milliseconds()}
	next.undone = e.Kind == Released && e.Reason == events.ReasonGivenUp
	switch e.Kind {
	case Assigned:
		next.until = e.Until.UnixMilli()
	case Released, Retired:
		next.until = e.Ended.UnixMilli()
	}
	return next
}

func (b *book) where(name string) uint16 {
	i, ok := b.index[name]
	if !ok {
		b.wheres = append(b.wheres, name)
		i = uint16(len(b.wheres) - 1)
		b.index[name] = i
	}
	return i
}

// recordRule tells what is wrong with a record that follows another one of its VN directly;
// empty when nothing is.
type recordRule func(t *Terms, last *entry, e *Event) string

// recordRules are the rules of the ledger's own history. That a record was refused when it
// followed another one than its writer knew is the stream's part; that each was right to
// follow the one it did is looked at here.
var recordRules = []struct {
	invariant Invariant
	rule      recordRule
}{
	{Exclusive, recordTakes},
	{Exclusive, recordFrees},
	{Terminal, recordRevives},
	{CoolDown, recordRests},
}

// recordTakes: no order takes a VN that another one has.
func recordTakes(t *Terms, last *entry, e *Event) string {
	if e.Kind == Assigned && !last.holds(e.OrderID) && last.lives(e.At.Add(t.Skew)) {
		return "was assigned to a second order while the first one had it"
	}
	return ""
}

// recordFrees: no order's end frees a VN that another one has.
func recordFrees(t *Terms, last *entry, e *Event) string {
	if (e.Kind == Released || e.Kind == Retired && e.OrderID != "") && !last.holds(e.OrderID) && last.lives(e.At.Add(t.Skew)) {
		return "was released by an order that did not have it, while another one had"
	}
	return ""
}

// recordRevives: an order that has given a VN up by its end does not get it back. One that has
// lost others in a race gives this one up too, and lives on.
func recordRevives(_ *Terms, last *entry, e *Event) string {
	if e.Kind == Assigned && (last.kind == Released && !last.undone || last.kind == Retired) && last.order != 0 && last.holds(e.OrderID) {
		return "was assigned to an order that had ended"
	}
	return ""
}

// recordRests: a VN rests for the cool-down that it was released with.
func recordRests(t *Terms, last *entry, e *Event) string {
	if e.Kind != Assigned || last.holds(e.OrderID) || last.lives(e.At.Add(t.Skew)) {
		return ""
	}
	if (last.kind == Released || last.kind == Assigned) && e.At.Add(t.Skew).Before(last.rested()) {
		return "was assigned again before it had rested"
	}
	return ""
}

// record holds a ledger record against the rules.
func (h *History) record(e *Event) {
	h.money.record(h, e)
	last := h.book.put(e)
	if last.kind == 0 {
		return
	}
	if !last.follows(e) {
		h.unjudged++
		return
	}
	for _, r := range recordRules {
		if detail := r.rule(&h.terms, &last, e); detail != "" {
			h.found(Violation{Invariant: r.invariant, VN: e.VN, OrderID: e.OrderID, At: e.At, Detail: detail})
		}
	}
}
