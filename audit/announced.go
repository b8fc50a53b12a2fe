package audit

import (
	"slices"
	"time"

	"github.com/callmask/callmask/vn"
)

// story is what apps were told about an order.
type story struct {
	vns     []vn.Number
	until   time.Time // as told last: a lease may be cut short
	longest time.Time
	ended   time.Time // zero while it lives
}

// stories are the orders that live or have just ended, the last order of every VN, and of
// older ones that they have ended.
type stories struct {
	orders map[orderKey]*story
	last   map[vn.Number]orderKey
	over   map[orderKey]time.Time
	queue  []ended // of over, oldest first
}

type ended struct {
	order orderKey
	at    time.Time
}

func newStories() stories {
	return stories{orders: map[orderKey]*story{}, last: map[vn.Number]orderKey{}, over: map[orderKey]time.Time{}}
}

// announcementRule tells what is wrong with an announcement of an order, known as s before
// it (nil: not at all); empty when nothing is.
type announcementRule func(h *History, s *story, e *Event) (n vn.Number, detail string)

var announcementRules = []struct {
	invariant Invariant
	rule      announcementRule
}{
	{Terminal, announcedAfterEnd},
	{Idempotent, announcedOtherwise},
	{Exclusive, announcedTwice},
}

// announcedAfterEnd: an order that has ended gets no VNs. An announcement that was under way
// when it ended may come after.
func announcedAfterEnd(h *History, _ *story, e *Event) (vn.Number, string) {
	if at, over := h.stories.over[keyOf(e.OrderID)]; over && e.At.After(at.Add(h.terms.Late)) {
		return 0, "was announced again after it had ended"
	}
	return 0, ""
}

// announcedOtherwise: an order that is announced again has the VNs that it had.
func announcedOtherwise(_ *History, s *story, e *Event) (vn.Number, string) {
	if s != nil && !slices.Equal(s.vns, e.VNs) {
		return 0, "was announced again with other numbers"
	}
	return 0, ""
}

// announcedTwice: a VN that an order has is announced for no other one.
func announcedTwice(h *History, _ *story, e *Event) (vn.Number, string) {
	own := keyOf(e.OrderID)
	for _, n := range e.VNs {
		other := h.stories.last[n]
		if s := h.stories.orders[other]; other != own && s != nil && s.ended.IsZero() && e.At.Add(h.terms.Skew).Before(s.until) {
			return n, "was announced for a second order while the first one had it"
		}
	}
	return 0, ""
}

// announced holds a vn.assigned against the rules.
func (h *History) announced(e *Event) {
	key := keyOf(e.OrderID)
	s := h.stories.orders[key]
	for _, r := range announcementRules {
		if n, detail := r.rule(h, s, e); detail != "" {
			h.found(Violation{Invariant: r.invariant, VN: n, OrderID: e.OrderID, At: e.At, Detail: detail})
		}
	}
	if _, over := h.stories.over[key]; over {
		return
	}
	if s == nil {
		s = &story{}
		h.stories.orders[key] = s
	}
	s.vns, s.until = e.VNs, e.Until
	if e.Until.After(s.longest) {
		s.longest = e.Until
	}
	for _, n := range e.VNs {
		h.stories.last[n] = key
	}
}

// over notes that an order has ended.
func (h *History) over(e *Event) {
	key := keyOf(e.OrderID)
	if _, known := h.stories.over[key]; known {
		return
	}
	h.stories.over[key] = e.At
	h.stories.queue = append(h.stories.queue, ended{key, e.At})
	if s := h.stories.orders[key]; s != nil {
		s.ended = e.At
	}
}

// forget drops what no rule can ask for any more.
func (s *stories) forget(t *Terms, now time.Time) {
	for len(s.queue) > 0 && (len(s.queue) > t.Orders || now.Sub(s.queue[0].at) > t.Remember) {
		delete(s.over, s.queue[0].order)
		s.queue = s.queue[1:]
	}
	for key, o := range s.orders {
		gone := o.longest
		if !o.ended.IsZero() {
			gone = o.ended
		}
		if now.Sub(gone) < 10*t.Late {
			continue
		}
		delete(s.orders, key)
		for _, n := range o.vns {
			if s.last[n] == key {
				delete(s.last, n)
			}
		}
	}
}
