package vn

import (
	"strconv"
	"time"
)

// MinParties and MaxParties bound the number of parties of an order.
const (
	MinParties = 2
	MaxParties = 8
)

// Party is one side of an order.
type Party struct {
	Role   string // 1 to 32 of a-z 0-9 _ -, unique within the order
	Number Number // the party's real number, unique within the order
}

// Order is the transaction that a set of bindings lives for.
type Order struct {
	ID      string // 1 to 64 of A-Z a-z 0-9 . _ : -, never used for another transaction
	Pool    string
	TTL     time.Duration // how long the lease lasts from now
	Parties []Party
}

// State is the state of an order.
type State string

// The states of an order. An order whose lease has run out is Ended, whether it
// was reaped yet or not.
const (
	Active State = "active"
	Ended  State = "ended"
)

// EndReason says why an order ended.
type EndReason string

// The reasons for which an order ends.
const (
	Completed EndReason = "completed"
	Cancelled EndReason = "cancelled"
	Expired   EndReason = "expired"
)

// AssignedParty is a party's share of an assignment: the VN that every other
// party dials to reach it.
type AssignedParty struct {
	Role string
	VN   Number
}

// Assignment is what an order got: one VN per party until ExpiresAt. Of an ended
// order only OrderID, State, EndReason and (if it was ever assigned) Pool are set.
type Assignment struct {
	OrderID   string
	Pool      string
	State     State
	EndReason EndReason
	ExpiresAt time.Time
	Parties   []AssignedParty
}

// CheckOrderID returns a *FieldError unless id is a valid order id.
func CheckOrderID[T ~string | ~[]byte](id T) error {
	const field = "order_id"
	switch {
	case len(id) == 0:
		return &FieldError{Field: field, Problem: "is missing"}
	case len(id) > 64:
		return &FieldError{Field: field, Problem: "is longer than 64 characters"}
	case string(id) == "." || string(id) == "..":
		return &FieldError{Field: field, Problem: "must not be . or .."}
	}
	for i := range len(id) {
		c := id[i]
		if !isLetter(c) && !isDigit(c) && c != '.' && c != '_' && c != ':' && c != '-' {
			return &FieldError{Field: field, Problem: "may hold only A-Z a-z 0-9 . _ : -"}
		}
	}
	return nil
}

// CheckRole returns a *FieldError for the named field unless role is a valid role.
func CheckRole(field, role string) error { return checkName(field, role, 32) }

// CheckName returns a *FieldError for the named field unless name can name a pool
// or a carrier: 1 to 64 of a-z 0-9 _ -.
func CheckName(field, name string) error { return checkName(field, name, 64) }

func checkName(field, s string, most int) error {
	if s == "" {
		return &FieldError{Field: field, Problem: "is missing"}
	}
	if len(s) > most {
		return &FieldError{Field: field, Problem: "is longer than " + strconv.Itoa(most) + " characters"}
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && !isDigit(c) && c != '_' && c != '-' {
			return &FieldError{Field: field, Problem: "may hold only a-z 0-9 _ -"}
		}
	}
	return nil
}

// Check returns a *FieldError for the first thing that is wrong with the order's
// id, parties, roles and numbers. Pool and TTL are the allocator's to judge.
func (o *Order) Check() error {
	if err := CheckOrderID(o.ID); err != nil {
		return err
	}
	if len(o.Parties) < MinParties || len(o.Parties) > MaxParties {
		return &FieldError{Field: "parties", Problem: "must be 2 to 8 parties"}
	}
	for i, p := range o.Parties {
		at := "parties[" + strconv.Itoa(i) + "]"
		if err := CheckRole(at+".role", p.Role); err != nil {
			return err
		}
		if !p.Number.Valid() {
			return &FieldError{Field: at + ".number", Problem: "is not a telephone number"}
		}
		for _, q := range o.Parties[:i] {
			if q.Role == p.Role {
				return &FieldError{Field: at + ".role", Problem: "is used twice"}
			}
			if q.Number == p.Number {
				return &FieldError{Field: at + ".number", Problem: "is used twice"}
			}
		}
	}
	return nil
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
