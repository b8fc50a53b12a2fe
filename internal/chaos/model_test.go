package chaos

import (
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/callmask/callmask/vn"
)

// A VN is a register that holds an order: taken, given back, and read by calls. The model
// says what one at a time it may do; porcupine looks for an order of everything that was
// seen, with its times, in which it did so.

type verb uint8

const (
	takes   verb = iota // by an order, acknowledged
	returns             // by an order; when nobody knows whether it did, it may happen at any later time
	routes              // a call, by an order
)

type deed struct {
	verb  verb
	order string
	lag   bool // of routes: Redis may have been behind
}

// register is the state of a VN: who has it, and who had it last.
type register struct{ holder, last string }

var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		s, d := state.(register), input.(deed)
		switch d.verb {
		case takes:
			return s.holder == "" || s.holder == d.order, register{holder: d.order, last: d.order}
		case returns:
			if s.holder == d.order {
				s.holder = ""
			}
			return true, s
		default:
			// A Redis that is behind may still route for the order that has just ended. As
			// soon as another one has the VN that is over.
			return s.holder == d.order || d.lag && s.holder == "" && s.last == d.order, s
		}
	},
}

const forever = math.MaxInt64

// stories returns what was seen of every VN.
func (w *world) stories() map[vn.Number][]porcupine.Operation {
	ops := map[vn.Number][]porcupine.Operation{}
	add := func(n vn.Number, from time.Time, to int64, d deed) {
		ops[n] = append(ops[n], porcupine.Operation{ClientId: len(ops[n]), Input: d, Call: from.UnixNano(), Return: to})
	}
	for _, o := range w.list {
		held := map[vn.Number]bool{}
		for i, t := range o.told {
			for _, n := range t.vns {
				if !held[n] {
					add(n, o.begun, t.at.UnixNano(), deed{verb: takes, order: o.id})
				}
				held[n] = true
				if i+1 < len(o.told) && !slices.Contains(o.told[i+1].vns[:], n) {
					add(n, t.at, forever, deed{verb: returns, order: o.id})
				}
			}
		}
		if len(o.told) == 0 {
			continue
		}
		from, to := o.returns()
		for n := range held {
			add(n, from, to, deed{verb: returns, order: o.id})
		}
	}
	for i := range w.calls {
		c := &w.calls[i]
		if o := w.between(c.calling, c.rang); c.connected && o != nil {
			behind := !o.over.IsZero() && w.lag(o.over, c.began)
			add(c.called, c.began, c.ended.UnixNano(), deed{verb: routes, order: o.id, lag: behind})
		}
	}
	return ops
}

// returns tells when the order's VNs went back; until forever when that is not known.
func (o *order) returns() (from time.Time, to int64) {
	last := o.told[len(o.told)-1]
	from, to = last.until.Add(-skew), forever
	if !o.ending.IsZero() && o.ending.Before(from) {
		from = o.ending
	}
	if !o.over.IsZero() && last.at.Before(o.over) {
		to = o.over.UnixNano()
	}
	return from, to
}

// judgeRegisters holds the life of every VN against the model.
func (w *world) judgeRegisters(v *verdicts, limit time.Duration) (deeds int) {
	end := time.Now().Add(limit)
	for n, ops := range w.stories() {
		deeds += len(ops)
		switch porcupine.CheckOperationsTimeout(model, ops, max(time.Millisecond, time.Until(end))) {
		case porcupine.Illegal:
			v.complain("NOT LINEARIZABLE: what was seen of %s has no order in which one order at a time had it", n.E164())
		case porcupine.Unknown:
			v.complain("the life of %s could not be judged within %s", n.E164(), limit)
		}
	}
	return deeds
}
