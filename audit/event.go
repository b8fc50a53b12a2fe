package audit

import (
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// Kind says what an Event tells.
type Kind uint8

// The kinds. The first four are ledger records of one VN, in the order of their sequences.
const (
	Owned     Kind = iota + 1 // the VN is ours
	Assigned                  // OrderID has it until Until
	Released                  // OrderID has had it until Ended; it rests for Cooldown
	Retired                   // it is in no pool any more
	Intended                  // it was to be bought, from At on
	Announced                 // vn.assigned: OrderID has VNs until Until
	Over                      // vn.released: OrderID has ended
	Connected                 // a call to VN was put through by OrderID at At
)

// Event is one thing that happened, in the words that the rules need.
type Event struct {
	Kind     Kind
	At       time.Time // when the stream stored it; of Connected when it was decided, of Intended its own
	VN       vn.Number
	VNs      []vn.Number // of Announced
	OrderID  string
	Seq      uint64 // of a record: its sequence
	After    uint64 // of a record: the sequence of the VN's record that it follows
	Until    time.Time
	Ended    time.Time
	Cooldown time.Duration
	Reason   string // of Released
	Bought   bool   // of a record: the carrier has an id for the VN, so callmask bought it
	Adopted  bool   // of Intended: it was noted of a number that was paid for already
	Where    string // of a record: pool:carrier
}

// OfRecord returns the event of a ledger record; false when its kind is unknown.
func OfRecord(r *events.Record, seq uint64, stored time.Time) (Event, bool) {
	kinds := map[string]Kind{
		events.KindOwned: Owned, events.KindAssigned: Assigned, events.KindReleased: Released, events.KindRetired: Retired,
	}
	n, ok := vn.ParseDigits(r.VN)
	return Event{
		Kind: kinds[r.Kind], At: stored, VN: n, OrderID: r.OrderID, Seq: seq, After: r.After, Until: r.ExpiresAt, Ended: r.EndedAt,
		Cooldown: r.Cooldown, Reason: r.Reason, Bought: r.Ref != "" && r.Ref != r.VN, Where: r.Pool + ":" + r.Carrier,
	}, ok && kinds[r.Kind] != 0
}

// OfIntent returns the event of a purchase intent.
func OfIntent(in *events.PurchaseIntent) (Event, bool) {
	n, ok := vn.ParseDigits(in.VN)
	adopted := in.Outcome == events.OutcomeBought && in.ClosedAt.Sub(in.At) < time.Second
	return Event{Kind: Intended, At: in.At, VN: n, Adopted: adopted}, ok
}

// OfAnnouncement returns the event of a vn.assigned or vn.released; false for what tells of no
// assignment.
func OfAnnouncement(a *events.Announcement) (Event, bool) {
	switch {
	case a.Assigned != nil:
		e := Event{Kind: Announced, At: a.Stored, OrderID: a.Assigned.OrderID, Until: a.Assigned.ExpiresAt}
		for _, p := range a.Assigned.Parties {
			n, ok := vn.ParseE164(p.VN)
			if !ok {
				return Event{}, false
			}
			e.VNs = append(e.VNs, n)
		}
		return e, true
	case a.Released != nil:
		return Event{Kind: Over, At: a.Stored, OrderID: a.Released.OrderID}, true
	}
	return Event{}, false
}

// OfCall returns the event of a call; false for one that was not connected.
func OfCall(c *events.CallDecided) (Event, bool) {
	n, _ := vn.ParseE164(c.VN)
	return Event{Kind: Connected, At: c.At, VN: n, OrderID: c.OrderID}, c.Reason == vn.Connected.String()
}
