package audit

import (
	"slices"
	"time"
)

// waiting is a call whose assignment may be told yet.
type waiting struct {
	Event

	since time.Time // when it was first judged
}

// connected holds a call that was put through against the assignment that it names. What
// cannot be told yet waits: its assignment, or the extension of its lease, may be told later.
func (h *History) connected(e *Event) {
	if e.VN == 0 || e.OrderID == "" {
		h.found(Violation{Invariant: FailClosed, VN: e.VN, OrderID: e.OrderID, At: e.At, Detail: "was connected without an order and a number to rest on"})
		return
	}
	if detail, sure := h.misroute(e); detail != "" && sure {
		h.found(Violation{Invariant: NoMisroute, VN: e.VN, OrderID: e.OrderID, At: e.At, Detail: detail})
	} else if detail != "" {
		h.waiting = append(h.waiting, waiting{Event: *e})
	}
}

// misroute tells why a call should not have been connected, and whether no event to come can
// show that it was right after all.
func (h *History) misroute(e *Event) (detail string, sure bool) {
	s := h.stories.orders[keyOf(e.OrderID)]
	switch {
	case s == nil:
		return "was connected by an order that was never announced", false
	case !slices.Contains(s.vns, e.VN):
		return "was connected through a number that its order did not have", true
	case !s.ended.IsZero() && e.At.After(s.ended.Add(h.terms.Skew)):
		return "was connected after its order had ended", true
	case e.At.After(s.longest.Add(h.terms.Skew)):
		return "was connected after its lease had run out", false
	}
	return "", false
}

// judgeWaiting holds the calls that waited against what came since, and gives up waiting for
// those that have waited long enough.
func (h *History) judgeWaiting(now time.Time) {
	for i := range h.waiting {
		if h.waiting[i].since.IsZero() {
			h.waiting[i].since = now
		}
	}
	h.waiting = slices.DeleteFunc(h.waiting, func(e waiting) bool {
		detail, sure := h.misroute(&e.Event)
		switch {
		case detail == "":
			return true
		case !sure && now.Sub(e.since) < h.terms.Late:
			return false
		case !h.judgeable(&e.Event):
			return true
		}
		h.found(Violation{Invariant: NoMisroute, VN: e.VN, OrderID: e.OrderID, At: e.At, Detail: detail})
		return true
	})
}

// judgeable tells whether an order that a call names would be known had it been announced.
func (h *History) judgeable(e *Event) bool {
	return h.stories.orders[keyOf(e.OrderID)] != nil || h.terms.Since.IsZero() || e.At.Sub(h.terms.Since) > h.terms.Life
}
