package chaos

import (
	"fmt"
	"slices"
	"time"
)

const (
	// skew is how far the clocks of servers and tests, and an expiry in Redis, may be off.
	skew = 2 * time.Second
	// underWay is how long an announcement may be on its way while its order ends.
	underWay = 5 * time.Second
)

// verdicts is what the judges found out about a run.
type verdicts struct {
	wrong      []string
	connected  int
	lagging    int           // calls refused to a party while Redis may have been behind
	lateCalls  int           // connected after their order's end, while Redis may have been behind
	latest     time.Duration // the longest after it
	renumbered int           // orders that were announced with other VNs, while Redis may have been behind
	returned   int           // orders announced after their end, while Redis may have been behind
}

func (v *verdicts) complain(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// judge holds everything that was heard against what was promised.
func (w *world) judge() *verdicts {
	v := &verdicts{wrong: slices.Clone(w.wrong)}
	for _, o := range w.list {
		w.judgeOrder(v, o)
	}
	for i := range w.calls {
		c := &w.calls[i]
		if !c.connected {
			w.judgeRefusal(v, c)
			continue
		}
		v.connected++
		w.judgeConnection(v, c)
	}
	return v
}

// judgeOrder: an order has one assignment, and none after its end. A process of Redis that
// has forgotten either may make it otherwise, until it is repaired.
func (w *world) judgeOrder(v *verdicts, o *order) {
	if o.renumbered() {
		v.renumbered++
	}
	for i, t := range o.told {
		if i > 0 && t.vns != o.told[i-1].vns && !w.lag(o.told[i-1].at, t.at) {
			v.complain("order %s was announced again with other VNs while Redis was sound", o.id)
		}
		if !o.over.IsZero() && t.at.After(o.over.Add(underWay)) {
			v.returned++
			if !w.lag(o.over, t.at) {
				v.complain("order %s came back %s after its end", o.id, t.at.Sub(o.over).Round(time.Millisecond))
			}
		}
	}
	for _, answer := range o.api {
		if !slices.ContainsFunc(o.told, func(t told) bool { return t.vns == answer }) {
			v.complain("order %s: the API answered with VNs that were never announced", o.id)
		}
	}
}

// judgeRefusal: a party of an acknowledged order that nobody ends is put through, unless
// Redis may be behind.
func (w *world) judgeRefusal(v *verdicts, c *call) {
	o := w.orders[c.order]
	if o == nil || len(o.told) == 0 || o.brief {
		return
	}
	calling := slices.Index(o.numbers[:], c.calling)
	if calling < 0 || c.called != o.vns()[1-calling] { // a stranger, or one who dials his own VN
		return
	}
	if last := o.told[len(o.told)-1].at; c.began.Before(last) || !o.ending.IsZero() && c.ended.After(o.ending) {
		return
	}
	if v.lagging++; !w.lag(c.began, c.ended) {
		v.complain("a party of order %s was refused (%s) while Redis was sound, at %s, %s after it was announced",
			o.id, c.cause, c.began.Format(time.RFC3339Nano), c.began.Sub(o.told[0].at).Round(time.Millisecond))
	}
}

// judgeConnection: a call is put through by an order of exactly the two who talk, dialled
// at the VN of the one who is called, showing the VN of the one who calls, while it lives.
func (w *world) judgeConnection(v *verdicts, c *call) {
	o := w.between(c.calling, c.rang)
	if o == nil {
		v.complain("STRANGERS: a call at %s connected two who have no order together", c.began.Format(time.RFC3339Nano))
		return
	}
	called := slices.Index(o.numbers[:], c.rang)
	own := slices.ContainsFunc(o.told, func(t told) bool { return t.vns[called] == c.called && t.vns[1-called] == c.shown })
	after := c.began.Sub(o.over)
	switch {
	case !own:
		v.complain("a call of order %s was put through by a VN that the order never had, or showed one", o.id)
	case c.began.After(o.told[len(o.told)-1].until.Add(skew)):
		v.complain("a call of order %s was put through after its lease", o.id)
	case o.over.IsZero() || after <= 0 || o.told[len(o.told)-1].at.After(o.over):
	case w.lag(o.over, c.began) && after < repaired:
		v.lateCalls++
		v.latest = max(v.latest, after)
	default:
		v.complain("a call of order %s was put through %s after its end", o.id, after.Round(time.Millisecond))
	}
}
