package vn

import "errors"

// The errors that callers tell apart with errors.Is. None ever names a number.
var (
	ErrPoolExhausted = errors.New("pool_exhausted: the pool has too few free numbers for this order")
	ErrOrderConflict = errors.New("order_conflict: the order exists with other parties or another pool")
	ErrOrderEnded    = errors.New("order_ended: the order has ended")
	ErrOrderUnknown  = errors.New("order_unknown: no such order")
	ErrPoolUnknown   = errors.New("pool_unknown: no such pool")
	ErrNumberUnknown = errors.New("number_unknown: no such virtual number in this pool")
	// ErrForbidden means that a carrier's request bore no valid signature or secret.
	ErrForbidden = errors.New("forbidden: the signature or secret is missing or wrong")
	// ErrCold means that a partition is not marked ready: Redis may have lost its
	// data, so nothing is allocated or bought until it is rebuilt from the ledger.
	ErrCold = errors.New("cold: Redis is not marked ready; run `callmask rebuild`")
	// ErrUnavailable means that Redis or NATS did not answer in time: the outcome
	// is unknown and the same call may be made again.
	ErrUnavailable = errors.New("unavailable: Redis or NATS did not answer in time")
)

// FieldError says what is wrong with one field of a request or an event, without
// ever repeating a number.
type FieldError struct {
	Field   string // as the sender knows it, such as parties[0].number
	Problem string // reads on after the field: "is missing"
	// Forbidden marks a well-formed value that policy refuses (HTTP 422, not 400).
	Forbidden bool
}

func (e *FieldError) Error() string { return e.Field + " " + e.Problem }
