package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/callmask/callmask/vn"
)

// Holding is what Redis says of a VN, to be held against its last ledger record.
type Holding struct {
	VN            vn.Number
	Pool, Carrier string // of its entry in the inventory; empty when it has none
	Fence         uint64 // of that entry
	OrderID       string // the live order that holds it; empty when none does
	// Bound tells whether it has bindings: calls to it are put through.
	Bound bool
	// Unsettled tells that the ledger may not know yet what an order did to it.
	Unsettled bool
}

// tell calls SurveyOptions.Each for a VN of a census.
func (a *auditor) tell(c *census, n vn.Number, v face) {
	if a.options.Each == nil {
		return
	}
	h := Holding{VN: n, Fence: v.fence, Bound: v.marks&faceBound != 0, Unsettled: v.marks&faceUnsettled != 0}
	h.Pool, h.Carrier, _ = strings.Cut(a.sets.name(v.where), ":")
	if v.holder != 0 {
		h.OrderID = c.orders[v.holder-1].id
	}
	a.options.Each(&h)
}

// ErrRestless means that a VN changed hands each time that it was looked at.
var ErrRestless = errors.New("the number changes hands all the time")

// Holding reads what Redis says of a VN at one moment. orders are those that may hold it or
// have held it last, as far as known: a live order whose bindings have run out, and an end
// that the ledger does not know yet, are seen of these alone. Error: ErrRestless.
func (s *Store) Holding(ctx context.Context, number vn.Number, orders ...string) (Holding, error) {
	v, err := s.sightStill(ctx, s.layout.ofVN(number), number, orders, nil)
	if err != nil {
		return Holding{}, err
	}
	if v == nil {
		return Holding{}, ErrRestless
	}
	h := Holding{VN: number, Bound: len(v.bindings) > 0, Unsettled: v.unsettled}
	if inv, err := parseInventory(number, v.entry); err == nil {
		h.Pool, h.Carrier, h.Fence = inv.Pool, inv.Carrier, inv.Fence
	}
	for id := range v.holders {
		h.OrderID = max(h.OrderID, id) // two are a mismatch of Redis alone
	}
	return h, nil
}

// CorrectTotal puts a counter right that an Audit found wrong. The error is added to it, so
// that VNs which come and go meanwhile are counted too; it must not be made twice.
func (s *Store) CorrectTotal(ctx context.Context, p *Problem) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.client.HIncrBy(ctx, totalKey(p.total.partition), p.total.where, int64(p.total.off)).Err(); err != nil {
		return fmt.Errorf("correct a counter: %w", unavailable(err))
	}
	return nil
}
