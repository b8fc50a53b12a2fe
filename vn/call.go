package vn

import "time"

// Call is an incoming call as a carrier's webhook describes it.
type Call struct {
	// ID is the carrier's id of the call, empty when it sent none. It may point into
	// the request's buffer: whoever keeps it beyond the request copies it.
	ID []byte
	// Called is the VN dialled; 0 when what was dialled is not a number.
	Called Number
	// Calling is the number that dials; 0 when it was withheld (or is no number
	// at all, such as a SIP address).
	Calling Number
}

// Decision is the answer to a Call: connect when Reason is Connected, else refuse.
type Decision struct {
	Reason      Reason
	Destination Number // the real number to dial
	CallerID    Number // the VN to show
	// OrderID is set for Connected and OrderEnded. It belongs to the Decision: who
	// fills one in appends to OrderID[:0], so that a reused Decision reuses it.
	OrderID     []byte
	RingTimeout time.Duration
	MaxDuration time.Duration
}

// Reason says why a call was decided the way it was.
type Reason uint8

// The reasons of a decision. Their order is fixed: metrics are arrays over it.
const (
	Connected         Reason = iota // a live binding exists for exactly (calling, called)
	NumberNotAssigned               // no live order holds the VN, or it is another carrier's
	CallerNotAllowed                // the VN is leased, but the caller is no party of that order
	OrderEnded                      // the caller was a party of the VN's last order
	CallerWithheld                  // the caller's number is withheld or no number
	RateLimited                     // too many refused calls by this caller or to this VN
	Unavailable                     // Redis did not answer in time
	Reasons           = iota
)

var reasons = [Reasons]struct {
	name      string
	sipCode   int
	sipReason string
}{
	Connected:         {"connected", 200, "OK"},
	NumberNotAssigned: {"number_not_assigned", 404, "Not Found"},
	CallerNotAllowed:  {"caller_not_allowed", 404, "Not Found"},
	OrderEnded:        {"order_ended", 410, "Gone"},
	CallerWithheld:    {"caller_withheld", 433, "Anonymity Disallowed"},
	RateLimited:       {"rate_limited", 603, "Decline"},
	Unavailable:       {"unavailable", 503, "Service Unavailable"},
}

// String returns the reason's name in answers, events and metrics.
func (r Reason) String() string { return reasons[r].name }

// SIP returns the SIP status code and reason phrase of a refusal (RFC 3261 section
// 21; 433 is RFC 5079). An unassigned number and a caller who is not allowed give
// the same one, so that nobody learns which numbers are in use.
func (r Reason) SIP() (code int, phrase string) { return reasons[r].sipCode, reasons[r].sipReason }
