package audit

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

const (
	vnA vn.Number = 447700900001
	vnB vn.Number = 447700900002
	vnC vn.Number = 447700900003

	completed = string(vn.Completed)
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func at(minutes float64) time.Time { return noon.Add(time.Duration(minutes * float64(time.Minute))) }

// tape makes histories; the sequences of records are those in which they are made.
type tape struct {
	events []Event
	last   map[vn.Number]uint64
	seq    uint64
}

func (p *tape) add(e Event) *tape {
	p.events = append(p.events, e)
	return p
}

func (p *tape) record(e Event) *tape {
	if p.last == nil {
		p.last = map[vn.Number]uint64{}
	}
	p.seq++
	e.Seq, e.After = p.seq, p.last[e.VN]
	p.last[e.VN] = p.seq
	return p.add(e)
}

func (p *tape) owned(t float64, n vn.Number) *tape {
	return p.record(Event{Kind: Owned, At: at(t), VN: n, Bought: true})
}

func (p *tape) assigned(t float64, id string, n vn.Number, until float64) *tape {
	return p.record(Event{Kind: Assigned, At: at(t), VN: n, OrderID: id, Until: at(until), Cooldown: 10 * time.Minute, Bought: true})
}

func (p *tape) released(t float64, id string, n vn.Number, reason string) *tape {
	return p.record(Event{Kind: Released, At: at(t), VN: n, OrderID: id, Ended: at(t), Cooldown: 10 * time.Minute, Reason: reason, Bought: true})
}

func (p *tape) intended(t float64, n vn.Number) *tape {
	return p.add(Event{Kind: Intended, At: at(t), VN: n})
}

func (p *tape) announced(t float64, id string, until float64, numbers ...vn.Number) *tape {
	return p.add(Event{Kind: Announced, At: at(t), OrderID: id, VNs: numbers, Until: at(until)})
}

func (p *tape) over(t float64, id string) *tape {
	return p.add(Event{Kind: Over, At: at(t), OrderID: id})
}

func (p *tape) connected(t float64, id string, n vn.Number) *tape {
	return p.add(Event{Kind: Connected, At: at(t), VN: n, OrderID: id})
}

// sound is a history in which every promise is kept, by a hair's breadth where there is one.
func sound() *tape {
	p := &tape{}
	p.intended(0, vnA).intended(0, vnB).owned(0.1, vnA).owned(0.1, vnB)
	p.assigned(1, "o-1", vnA, 61).assigned(1, "o-1", vnB, 61).announced(1, "o-1", 61, vnA, vnB)
	p.connected(2, "o-1", vnA)
	p.assigned(30, "o-1", vnA, 190).assigned(30, "o-1", vnB, 190).connected(80, "o-1", vnB).announced(30, "o-1", 190, vnA, vnB) // extended, told late
	p.released(85, "o-1", vnA, completed).released(85, "o-1", vnB, completed).over(85, "o-1").connected(85.05, "o-1", vnA)
	p.announced(85.5, "o-1", 190, vnA, vnB)                                                                               // was under way when the order ended
	p.assigned(95, "o-2", vnA, 155).assigned(95, "o-2", vnB, 155).announced(95, "o-2", 155, vnA, vnB)                     // rested for ten minutes
	p.assigned(165, "o-3", vnA, 200).announced(165, "o-3", 200, vnA, vnC).released(166, "o-3", vnA, events.ReasonGivenUp) // o-2 ran out, and o-3 lost a race
	p.assigned(176, "o-3", vnA, 200)                                                                                      // after a rest it may have it again
	return p
}

func TestASoundHistoryIsLeftAlone(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check(Terms{}, sound().events))
}

// TestEveryRuleCatchesItsPlant forges a history for each rule: were the rule missing, nothing
// else would notice.
func TestEveryRuleCatchesItsPlant(t *testing.T) {
	t.Parallel()
	f := func(name string, invariant Invariant, n vn.Number, id string, forged *tape) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := Check(Terms{}, forged.events)
			require.Len(t, found, 1, "%v", found)
			require.Equal(t, invariant, found[0].Invariant)
			require.Equal(t, n, found[0].VN)
			require.Equal(t, id, found[0].OrderID)
			require.NotContains(t, found[0].Detail, "447700")
		})
	}
	fresh := func() *tape {
		p := &tape{}
		return p.intended(0, vnA).intended(0, vnB).owned(0.1, vnA).owned(0.1, vnB)
	}
	f("a record takes a VN from a live order", Exclusive, vnA, "o-2",
		fresh().assigned(1, "o-1", vnA, 61).assigned(2, "o-2", vnA, 62))
	f("a late end frees a live order's VN", Exclusive, vnA, "o-1",
		fresh().assigned(1, "o-2", vnA, 61).released(2, "o-1", vnA, completed))
	f("an end takes a live order's VN out of its pool", Exclusive, vnA, "o-1",
		fresh().assigned(1, "o-2", vnA, 61).record(Event{Kind: Retired, At: at(2), VN: vnA, OrderID: "o-1", Ended: at(2)}))
	f("two live orders are told the same VN", Exclusive, vnB, "o-2",
		fresh().announced(1, "o-1", 61, vnA, vnB).announced(2, "o-2", 62, vnB, vnC))
	f("a record brings an ended order back", Terminal, vnA, "o-1",
		fresh().assigned(1, "o-1", vnA, 61).released(2, "o-1", vnA, completed).assigned(20, "o-1", vnA, 80))
	f("an ended order is announced", Terminal, 0, "o-1",
		fresh().announced(1, "o-1", 61, vnA, vnB).over(2, "o-1").announced(3.5, "o-1", 70, vnA, vnB))
	f("a repeat is given other VNs", Idempotent, 0, "o-1",
		fresh().announced(1, "o-1", 61, vnA, vnB).announced(2, "o-1", 61, vnA, vnC))
	f("a released VN does not rest", CoolDown, vnA, "o-2",
		fresh().assigned(1, "o-1", vnA, 61).released(2, "o-1", vnA, completed).assigned(11.8, "o-2", vnA, 80))
	f("a VN whose lease ran out does not rest", CoolDown, vnA, "o-2",
		fresh().assigned(1, "o-1", vnA, 61).assigned(70, "o-2", vnA, 130))
	f("a number is bought without an intent", Money, vnC, "",
		fresh().owned(1, vnC))
	f("a number is bought before its intent", Money, vnC, "",
		fresh().owned(1, vnC).intended(1.2, vnC))
	f("a call rests on nothing", FailClosed, vnA, "",
		fresh().connected(1, "", vnA))
	f("a call is connected by an order that nobody heard of", NoMisroute, vnA, "o-9",
		fresh().announced(1, "o-1", 61, vnA, vnB).connected(2, "o-9", vnA))
	f("a call is connected through another order's VN", NoMisroute, vnC, "o-1",
		fresh().announced(1, "o-1", 61, vnA, vnB).connected(2, "o-1", vnC))
	f("a call is connected after the end", NoMisroute, vnA, "o-1",
		fresh().announced(1, "o-1", 61, vnA, vnB).over(2, "o-1").connected(2.2, "o-1", vnA))
	f("a call is connected after the lease", NoMisroute, vnA, "o-1",
		fresh().announced(1, "o-1", 61, vnA, vnB).connected(61.2, "o-1", vnA))
}

// TestARuleLooksNoFurtherThanItKnows pins what is left unjudged: a gap between two records,
// of which the stream keeps the last alone, and calls of orders older than what was read.
func TestARuleLooksNoFurtherThanItKnows(t *testing.T) {
	t.Parallel()
	p := (&tape{}).intended(0, vnA).assigned(1, "o-1", vnA, 61).released(2, "o-1", vnA, completed).assigned(30, "o-2", vnA, 90)
	gone := slices.DeleteFunc(slices.Clone(p.events), func(e Event) bool { return e.Kind == Released })
	require.Empty(t, Check(Terms{}, gone))

	old := (&tape{}).connected(5, "o-1", vnA).events
	require.Empty(t, Check(Terms{Since: at(0)}, old))
	require.Len(t, Check(Terms{Since: at(-24*60 - 1)}, old), 1)

	adopted := (&tape{}).owned(1, vnC).add(Event{Kind: Intended, At: at(3), VN: vnC, Adopted: true})
	require.Empty(t, Check(Terms{}, adopted.events), "an adopted number was paid for before anybody noted it")
}

// TestAHistoryForgets pins that what is over takes no memory for ever, and that what is
// forgotten is not judged.
func TestAHistoryForgets(t *testing.T) {
	t.Parallel()
	h := NewHistory(Terms{Orders: 2})
	for i, id := range []string{"o-1", "o-2", "o-3"} {
		p := (&tape{}).announced(float64(i), id, float64(i)+1, vnA, vnB).over(float64(i)+0.5, id)
		for j := range p.events {
			h.See(&p.events[j])
		}
	}
	require.Empty(t, h.Settle(at(5)))
	require.Len(t, h.stories.over, 2)
	require.Empty(t, h.Settle(at(60)))
	require.Empty(t, h.stories.orders)
	require.Empty(t, h.stories.last)
	require.Empty(t, h.Settle(at(26*60)))
	require.Empty(t, h.stories.over)
}

// TestACallWaitsForItsAssignment pins that a call is judged only when the announcement that
// it rests on should have come, whatever the order in which the streams were read.
func TestACallWaitsForItsAssignment(t *testing.T) {
	t.Parallel()
	h := NewHistory(Terms{})
	call := Event{Kind: Connected, At: at(0), VN: vnA, OrderID: "o-1"}
	h.See(&call)
	require.Empty(t, h.Settle(at(30)), "seen only now")
	p := (&tape{}).announced(30.5, "o-1", 90, vnA, vnB)
	h.See(&p.events[0])
	require.Empty(t, h.Settle(at(60)))
	require.Empty(t, h.waiting)
}
