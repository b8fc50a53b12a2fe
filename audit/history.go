package audit

import "time"

// History holds events against the promises as they come. Events of one stream must come in
// its order, records before the intents of the same moment and announcements before the
// calls of the same moment; between streams a minute makes no difference (Terms.Late). It is
// not safe for concurrent use.
type History struct {
	terms      Terms
	book       *book
	stories    stories
	money      money
	waiting    []waiting
	violations []Violation
	unjudged   int
}

// NewHistory returns a History of nothing.
func NewHistory(terms Terms) *History {
	terms.complete()
	return &History{terms: terms, book: newBook(), stories: newStories(), money: newMoney()}
}

// See takes the next event.
func (h *History) See(e *Event) {
	switch e.Kind {
	case Owned, Assigned, Released, Retired:
		h.record(e)
	case Intended:
		h.money.intended(e)
	case Announced:
		h.announced(e)
	case Over:
		h.over(e)
	case Connected:
		h.connected(e)
	}
}

// Settle returns the violations found since the last Settle. now is the time up to which all
// events were given: what waits for an event that should have come by then waits no more.
func (h *History) Settle(now time.Time) []Violation {
	h.judgeWaiting(now)
	h.money.judge(h, now)
	h.stories.forget(&h.terms, now)
	found := h.violations
	h.violations = nil
	return found
}

// Check returns what is wrong with a whole history that is over: nothing comes after it.
func Check(terms Terms, events []Event) []Violation {
	h := NewHistory(terms)
	now := time.Time{}
	for i := range events {
		h.See(&events[i])
		if events[i].At.After(now) {
			now = events[i].At
		}
	}
	return append(h.Settle(now), h.Settle(now.Add(h.terms.Life))...)
}

// Unjudged counts the records that did not follow the one seen before of their VN: the ledger
// keeps the last record alone, so what came between was gone when it was read. Whoever reads
// often enough (events.Bus.RecordsFrom) sees nearly all.
func (h *History) Unjudged() int { return h.unjudged }

func (h *History) found(v Violation) { h.violations = append(h.violations, v) }
