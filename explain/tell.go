package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// telling makes an Explanation of the facts.
type telling struct {
	config          *Config
	ask             *Ask
	called, calling vn.Number
	facts           *scripts.Facts
	now             time.Time

	out Explanation
	// over is set once a step has decided: what follows is only noted.
	over bool
}

func (t *telling) tell() *Explanation {
	t.subject()
	t.callerStep()
	t.numberStep()
	t.carrierStep()
	t.placeStep()
	t.keyStep()
	t.bindingStep()
	t.leaseStep()
	t.decide()
	return &t.out
}

// step adds a step; a refusal after the first one decides nothing any more.
func (t *telling) step(name, result, format string, args ...any) {
	if t.over && (result == Refused || result == Passed) {
		result = Skipped
	}
	t.over = t.over || result == Refused
	t.out.Steps = append(t.out.Steps, Step{Name: name, Result: result, Detail: fmt.Sprintf(format, args...)})
}

// person is a number that may be somebody's.
func (t *telling) person(n vn.Number) string {
	if t.ask.Reveal && n != 0 {
		return n.E164()
	}
	return n.String()
}

// dialled is the number called, in clear only when it is ours.
func (t *telling) dialled() string {
	if t.facts.Inventory != nil || t.facts.Callers > 0 {
		return t.called.E164()
	}
	return t.person(t.called)
}

func (t *telling) subject() {
	f, o := t.facts, &t.out
	o.Called, o.Calling, o.Revealed = t.dialled(), t.person(t.calling), t.ask.Reveal
	o.State, o.Partition, o.Node = string(f.State), f.Partition, f.Node
	if f.Inventory != nil {
		o.Pool, o.Carrier = f.Inventory.Pool, f.Inventory.Carrier
	}
}

func (t *telling) callerStep() {
	if t.calling == 0 {
		t.step("caller", Refused, "the caller withholds its number (or it is none), so nobody can tell whether it may call")
		return
	}
	t.step("caller", Passed, "the caller is read as %s", t.person(t.calling))
}

func (t *telling) numberStep() {
	f := t.facts
	if f.Inventory == nil {
		switch {
		case f.Callers > 0:
			t.step("number", Noted, "%s routes calls and is not in the inventory; run callmask check", t.dialled())
		case f.Ended != nil:
			t.step("number", Noted, "%s was ours and has left its pool", t.dialled())
		default:
			t.step("number", Refused, "%s is not one of our virtual numbers: it was never bought or imported, or has left its pool", t.dialled())
		}
		return
	}
	where := fmt.Sprintf("%s is in pool %s, of carrier %s, and %s", t.dialled(), f.Inventory.Pool, f.Inventory.Carrier, f.State)
	switch {
	case f.State == scripts.StateFree:
		t.step("number", Noted, "%s: no order holds it now", where)
	case f.State == scripts.StateCooling:
		t.step("number", Noted, "%s until %s: its last order has ended", where, stamp(f.ReusableAt))
	case f.Callers == 0:
		t.step("number", Noted, "%s, but routes nobody: the lease of its order has run out and is about to be cleared away", where)
	case f.State == scripts.StateDraining:
		t.step("number", Passed, "%s: it serves its order and leaves the pool when that ends", where)
	default:
		t.step("number", Passed, "%s: an order holds it", where)
	}
}

// carrierStep says who may ask for this number.
func (t *telling) carrierStep() {
	inv := t.facts.Inventory
	switch {
	case inv == nil:
		t.step("carrier", Skipped, "nothing is known of its carrier")
	case t.ask.Carrier == "":
		t.step("carrier", Passed, "assumed is a call that %s announces; one that any other carrier announces is refused as number_not_assigned", inv.Carrier)
	case t.ask.Carrier != inv.Carrier:
		t.step("carrier", Refused, "the number is of carrier %s, so a call that %s announces is refused: for %s it does not exist",
			inv.Carrier, t.ask.Carrier, t.ask.Carrier)
	default:
		t.step("carrier", Passed, "the number is of carrier %s, which announces the call", inv.Carrier)
	}
}

func (t *telling) placeStep() {
	f := t.facts
	ready := ""
	if !f.Ready {
		ready = "; the partition is not marked ready, so nothing is allocated there (callmask rebuild)"
	}
	t.step("partition", Noted, "the number is in partition %d of %d, on Redis %s%s", f.Partition, f.Partitions, f.Node, ready)
}

func (t *telling) keyStep() {
	if t.calling == 0 {
		t.step("key", Skipped, "a caller without a number has no token")
		return
	}
	ids := make([]string, len(t.facts.Keys))
	for i, id := range t.facts.Keys {
		ids[i] = fmt.Sprint(id)
	}
	plural := "key " + ids[0] + ", the primary one"
	if len(ids) > 1 {
		plural = "keys " + strings.Join(ids, ", ") + " (a rotation is under way)"
	}
	t.step("key", Noted, "the caller is looked for by its token under %s", plural)
}

// bindingStep says whether there is a permission for exactly this pair, or why there is none.
func (t *telling) bindingStep() {
	f := t.facts
	switch {
	case t.calling == 0:
		t.step("binding", Skipped, "there is no caller to look for")
	case f.Binding != nil:
		key := f.Binding.KeyID
		t.out.KeyID, t.out.OrderID = &key, string(f.Decision.OrderID)
		t.step("binding", Passed, "order %s lets this caller reach %s by this number (key %d)", t.out.OrderID, t.reached(), key)
	case f.Ended != nil:
		t.out.OrderID = f.Ended.OrderID
		t.step("binding", Refused, "the caller was a party of order %s, which ended at %s (%s)", f.Ended.OrderID, stamp(f.Ended.At), f.Ended.Reason)
	case f.Callers == 0:
		t.step("binding", Refused, "no live order holds the number, and the caller was no party of its last one")
	case f.Order == nil:
		t.step("binding", Refused, "the number serves callers of an order, but not this one")
	case f.Order.Caller == f.Order.Own:
		t.out.OrderID = f.Order.ID
		t.step("binding", Refused, "this is the number by which others reach the caller itself (%s of order %s)", t.role(f.Order.Own), f.Order.ID)
		t.out.Advice = t.otherNumbers()
	default:
		t.out.OrderID = f.Order.ID
		t.step("binding", Refused, "the number serves order %s, of which the caller is no party", f.Order.ID)
		t.out.Advice = "If this is a party of the order, it calls from another telephone than the order names."
	}
}

func (t *telling) role(party int) string {
	if t.facts.Order == nil || party < 0 || party >= len(t.facts.Order.Parties) {
		return "a party"
	}
	return t.facts.Order.Parties[party].Role
}

func (t *telling) reached() string {
	if t.facts.Order == nil {
		return "the other party"
	}
	return t.role(t.facts.Order.Own)
}

// otherNumbers names what the caller should have dialled.
func (t *telling) otherNumbers() string {
	var others []string
	for i, p := range t.facts.Order.Parties {
		if i != t.facts.Order.Own {
			others = append(others, fmt.Sprintf("%s to reach %s", p.VN.E164(), p.Role))
		}
	}
	return "It should dial " + strings.Join(others, ", or ") + "."
}

func (t *telling) leaseStep() {
	f := t.facts
	if f.Binding == nil {
		if f.Order != nil {
			t.step("lease", Skipped, "that of order %s ends at %s", f.Order.ID, stamp(f.Order.LeaseEnd))
			return
		}
		t.step("lease", Skipped, "there is none")
		return
	}
	end := f.Binding.LeaseEnd
	t.out.LeaseEnd = &end
	if f.Decision.Reason == vn.OrderEnded {
		t.step("lease", Refused, "it ended at %s by this machine's clock (%s), which is ahead of that of Redis (%s)", stamp(end), stamp(t.now), stamp(f.Clock))
		t.out.Advice = "Set the clocks: this machine's and that of Redis differ by " + t.now.Sub(f.Clock).Round(time.Second).String() + "."
		return
	}
	t.step("lease", Passed, "it ends at %s, in %s", stamp(end), end.Sub(f.Clock).Round(time.Second))
}

// decide ends with what Lookup decided, unless the carrier's step has refused.
func (t *telling) decide() {
	d, o := &t.facts.Decision, &t.out
	reason := d.Reason
	if t.ask.Carrier != "" && t.config.Carriers[t.ask.Carrier] != t.facts.Carrier && reason != vn.CallerWithheld {
		reason = vn.NumberNotAssigned // as the router has it: another carrier's number does not exist
	}
	o.Reason = reason.String()
	var phrase string
	o.SIPCode, phrase = reason.SIP()
	if reason == vn.Connected {
		o.Action, o.Destination, o.CallerID = "connect", t.person(d.Destination), d.CallerID.E164()
		o.Steps = append(o.Steps, Step{"decision", Passed, fmt.Sprintf("connect to %s and show %s", o.Destination, o.CallerID)})
		return
	}
	o.Action = "reject"
	o.Steps = append(o.Steps, Step{"decision", Refused, fmt.Sprintf("refuse: %s (SIP %d %s)", o.Reason, o.SIPCode, phrase)})
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }
