package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// The kinds of a ledger record: the state that it leaves its VN in.
const (
	KindOwned    = "owned"
	KindAssigned = "assigned"
	KindReleased = "released"
	KindRetired  = "retired"
)

// ReasonGivenUp is the reason of a released record whose order goes on with other VNs.
const ReasonGivenUp = "given_up"

// Record is a VN's entry in the ledger: all that is needed to rebuild its
// inventory entry, its binding key and its order. The stream keeps the last record
// of each VN only, so an ended order's sealed numbers go with its end. It holds no
// real number in clear.
type Record struct {
	Kind      string        `json:"kind"`
	VN        string        `json:"vn"` // digits, no plus sign
	Pool      string        `json:"pool"`
	Carrier   string        `json:"carrier"`
	Ref       string        `json:"ref,omitempty"`      // the carrier's id of the number
	OrderID   string        `json:"order_id,omitempty"` // assigned, released; retired when an order's end retired it
	Reason    string        `json:"reason,omitempty"`   // released: completed, cancelled, expired, given_up
	ExpiresAt time.Time     `json:"expires_at,omitzero"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
	Cooldown  time.Duration `json:"-"` // assigned, released; in JSON "cooldown", a Go duration string
	After     uint64        `json:"-"` // sequence of the VN's record that this one follows; 0 for its first

	// What follows is set for assigned only. KeyID names the key of Tokens and
	// Sealed; Party is the index of the party that VN belongs to.
	KeyID  byte     `json:"key_id,omitempty"`
	Party  int      `json:"party,omitempty"`
	Roles  []string `json:"roles,omitempty"`  // by party
	VNs    []string `json:"vns,omitempty"`    // by party: digits of the VN that reaches it
	Tokens [][]byte `json:"tokens,omitempty"` // by party: its token as a caller
	Sealed [][]byte `json:"sealed,omitempty"` // by calling party: the number that a call to VN is connected to; empty at Party
}

type recordFields Record

type recordJSON struct {
	recordFields

	Cooldown string `json:"cooldown,omitempty"`
}

// MarshalJSON writes times in UTC and the cool-down as a Go duration string.
func (r Record) MarshalJSON() ([]byte, error) {
	w := recordJSON{recordFields: recordFields(r)}
	w.ExpiresAt, w.EndedAt = r.ExpiresAt.UTC(), r.EndedAt.UTC()
	if r.Cooldown != 0 {
		w.Cooldown = r.Cooldown.String()
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Record) UnmarshalJSON(data []byte) error {
	var w recordJSON
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*r = Record(w.recordFields)
	if w.Cooldown != "" {
		d, err := time.ParseDuration(w.Cooldown)
		if err != nil {
			return fmt.Errorf("cooldown is not a duration: %w", err)
		}
		r.Cooldown = d
	}
	return nil
}
