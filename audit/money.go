package audit

import (
	"time"

	"github.com/callmask/callmask/vn"
)

// money knows what was to be bought, and what is paid for and waits for its intent: intents
// are read after records.
type money struct {
	intents map[vn.Number]intent
	paid    map[vn.Number]paid
}

type intent struct {
	at      time.Time
	adopted bool
}

type paid struct {
	owned time.Time // when it was recorded as ours; zero when that is not known any more
	seen  time.Time
}

func newMoney() money {
	return money{intents: map[vn.Number]intent{}, paid: map[vn.Number]paid{}}
}

// intended notes an intent, and of several for one VN the first.
func (m *money) intended(e *Event) {
	if known, ok := m.intents[e.VN]; !ok || e.At.Before(known.at) {
		m.intents[e.VN] = intent{e.At, e.Adopted}
	}
}

// record notes a VN that callmask bought, once.
func (m *money) record(h *History, e *Event) {
	known := h.book.entries[e.VN]
	if !e.Bought || e.Kind == Retired || known.bought && known.kind != Retired {
		return
	}
	p := paid{seen: e.At}
	if e.Kind == Owned {
		p.owned = e.At
	}
	m.paid[e.VN] = p
}

// judge holds what was bought against the intents, those apart whose intent may be under way.
func (m *money) judge(h *History, now time.Time) {
	for n, p := range m.paid {
		in, ok := m.intents[n]
		if !ok && now.Sub(p.seen) < 10*h.terms.Late {
			continue // a number that is adopted gets its intent in a moment
		}
		delete(m.paid, n)
		if detail := unintended(&h.terms, p, in, ok); detail != "" {
			h.found(Violation{Invariant: Money, VN: n, At: p.seen, Detail: detail})
		}
	}
}

// unintended: what is bought has an intent, which was written first.
func unintended(t *Terms, p paid, in intent, known bool) string {
	switch {
	case !known:
		return "was bought without an intent"
	case !p.owned.IsZero() && !in.adopted && in.at.After(p.owned.Add(t.Skew)):
		return "was ours before the intent to buy it"
	}
	return ""
}
