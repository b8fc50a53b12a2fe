package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// noted writes into the audit what somebody is about to do with this command; unless it
// returns nil, nothing may be done.
func (p *Process) noted(ctx context.Context, bus *events.Bus, e events.AuditEntry) error {
	user, _ := p.Env("USER")
	host, err := os.Hostname()
	if err != nil {
		host = "" // the entry is worth more than this field
	}
	e.ID, e.Role, e.From = cmp.Or(e.ID, events.NewAuditID()), "cli", host
	e.Who = cmp.Or(user, fmt.Sprintf("user %d", os.Getuid()))
	if err := bus.Audit(ctx, e); err != nil {
		return fmt.Errorf("the audit (stream AUDIT) does not take the entry: %w", err)
	}
	return nil
}

// people opens the real numbers of an order's parties as far as the ledger still has them,
// by role. Only the record of a live order has its numbers.
func people(ctx context.Context, bus *events.Bus, keys *seal.Keyset, h *events.Holding) (map[string]vn.Number, error) {
	numbers := map[string]vn.Number{}
	for _, p := range h.Parties {
		number, ok := vn.ParseE164(p.VN)
		if !ok {
			return nil, fmt.Errorf("order %s: a party's virtual number cannot be read", h.OrderID)
		}
		rec, ok, err := bus.AssignedRecord(ctx, number, h.OrderID)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if numbers[p.Role], err = openRecord(keys, &rec); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

// openRecord returns the real number of the party that a record's VN reaches.
func openRecord(keys *seal.Keyset, rec *events.Record) (vn.Number, error) {
	key, ok := keys.ByID(rec.KeyID)
	if !ok {
		return 0, fmt.Errorf("order %s: %w (key %d)", rec.OrderID, seal.ErrKeyUnknown, rec.KeyID)
	}
	for i, sealed := range rec.Sealed {
		if len(sealed) == 0 || i >= len(rec.Tokens) || len(rec.Tokens[i]) != len(seal.Token{}) {
			continue
		}
		n, err := key.Open(sealed, []byte(rec.OrderID), seal.Token(rec.Tokens[i]), byte(rec.Party))
		if err != nil {
			return 0, fmt.Errorf("order %s: %w", rec.OrderID, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("order %s: its record in the ledger holds no sealed number", rec.OrderID)
}
