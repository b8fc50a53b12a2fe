package carrier

import (
	"errors"
	"strconv"
	"time"

	"github.com/callmask/callmask/vn"
)

// Offer is a number that a carrier has for sale at this moment. Nothing is reserved:
// somebody else may buy it before we do.
type Offer struct {
	Number   vn.Number
	Region   string // ISO 3166, such as "ID"
	Price    string // monthly, a decimal such as "1.15"; empty when the carrier names none
	Currency string // ISO 4217; empty with Price
}

// Bought is a number that the account owns.
type Bought struct {
	Number     vn.Number
	Ref        string // the carrier's id of the number, what Configure and Release act on
	Tag        string // the reference that the buyer gave at the purchase; empty when none
	WebhookURL string // where calls to the number are announced; empty until configured
}

var (
	// ErrNotAvailable means that the number was sold to somebody else, or was never
	// for sale. Nothing was bought.
	ErrNotAvailable = errors.New("number_not_available: the carrier no longer sells this number")
	// ErrUnknownOutcome means that the carrier's answer was lost: the purchase may or
	// may not have happened. List tells; buying again could buy twice.
	ErrUnknownOutcome = errors.New("unknown_outcome: the carrier did not answer; list the numbers before buying again")
)

// APIError is a carrier's answer that says no. The request had no effect, unless the
// error is ErrUnknownOutcome as well (a purchase answered with HTTP 5xx). It never
// holds the carrier's own words, which may repeat a number.
type APIError struct {
	Status     int           // HTTP status
	Code       string        // the carrier's own error code; empty when it gave none
	RetryAfter time.Duration // how long the carrier asks to wait; 0 when it does not say
}

// Error implements error.
func (e *APIError) Error() string {
	s := "carrier API: HTTP " + strconv.Itoa(e.Status)
	if e.Code != "" {
		s += ", code " + e.Code
	}
	if e.RetryAfter > 0 {
		s += ", retry after " + e.RetryAfter.String()
	}
	return s
}
