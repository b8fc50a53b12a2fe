package carrier

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
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
	Number vn.Number
	Ref    string // the carrier's id of the number, what Configure and Release act on
	Tag    string // the reference that the buyer gave at the purchase; empty when none
	// WebhookURL is where calls to the number are announced. It is empty until all of
	// the number's settings are as they should be: Configure then puts them right.
	WebhookURL string
	// CallsGoTo is what gets the calls to the number now, whatever else is set: an
	// address, or the carrier's own id or address of an application, trunk or flow. It is
	// empty when nothing does: then the number is attached to nobody.
	CallsGoTo string
	Price     string // monthly, a decimal such as "1.15"; empty when the carrier does not tell it here
	Currency  string // ISO 4217; empty with Price
}

// Reaches tells whether the calls to the number go to this address. What follows "#" in
// it only tells the carrier how to ask there.
func (b *Bought) Reaches(webhookURL string) bool {
	goes, _, _ := strings.Cut(b.CallsGoTo, "#")
	wanted, _, _ := strings.Cut(webhookURL, "#")
	return goes != "" && goes == wanted
}

// Elsewhere tells whether the number is attached to somebody else than this address: it
// may be in use there.
func (b *Bought) Elsewhere(webhookURL string) bool {
	return b.CallsGoTo != "" && !b.Reaches(webhookURL)
}

// What a failed request means, for errors.Is. Most come together with the *APIError
// that they were read from.
var (
	// ErrNotAvailable means that the number was sold to somebody else, or was never
	// for sale. Nothing was bought; another number may be.
	ErrNotAvailable = errors.New("number_not_available: the carrier does not sell this number")
	// ErrUnknownOutcome means that the carrier's answer was lost: the purchase may or
	// may not have happened. List tells; buying again could buy twice.
	ErrUnknownOutcome = errors.New("unknown_outcome: the carrier did not say what became of it; list the numbers before buying again")
	// ErrNotSent means that the request never reached the carrier: nothing was bought
	// and nothing changed.
	ErrNotSent = errors.New("not_sent: the request did not reach the carrier, nothing was changed")
	// ErrCircuitOpen means that the carrier failed several times in a row and is left
	// alone for a while. It comes with ErrNotSent.
	ErrCircuitOpen = errors.New("circuit_open: the carrier failed several times in a row and is left alone for a while")
	// ErrCredentials means that the carrier does not accept the account's id or key, or
	// that they may not do this. Somebody has to change the settings.
	ErrCredentials = errors.New("credentials: the carrier refuses the account's id or key, or they may not do this; check them in the settings and in the carrier's console")
	// ErrRequirementMissing means that the law asks for papers before the carrier may
	// sell such a number. The error it is wrapped in names the setting they go into.
	ErrRequirementMissing = errors.New("requirement_missing: the carrier may not sell this number without papers")
	// ErrBalance means that the account has not enough money with the carrier.
	ErrBalance = errors.New("balance: the account's balance or plan at the carrier does not allow it")
	// ErrNotOwned means that the account does not have the number (any more).
	ErrNotOwned = errors.New("not_owned: the account does not have this number")
	// ErrPending means that the carrier has accepted the request and not carried it out
	// yet. Repeating it does no harm.
	ErrPending = errors.New("pending: asked for, not done yet; ask again later")
)

// NothingBought tells whether a failed purchase says for certain that nothing was
// bought: it was not sent, the number is gone, or the carrier answered no. Everything
// else (no answer, half an answer, the carrier's own failure) leaves it open.
func NothingBought(err error) bool {
	if errors.Is(err, ErrUnknownOutcome) {
		return false
	}
	if errors.Is(err, ErrNotSent) || errors.Is(err, ErrNotAvailable) {
		return true
	}
	var refusal *APIError
	return errors.As(err, &refusal) && refusal.Refused()
}

// APIError is an answer that says no; whether the request had no effect tells Refused.
// It never holds the carrier's own words, which may repeat a number.
type APIError struct {
	Status     int           // HTTP status
	Code       string        // the carrier's own error code; empty when the answer is not of its API's form
	RetryAfter time.Duration // how long the carrier asks to wait; 0 when it does not say
}

// Refused tells whether the carrier itself said no, so that nothing was done: an answer
// from 400 to 499 with a code of its own. Any other may come from a carrier that failed
// half way, or from something in between that does not know what the carrier did.
func (e *APIError) Refused() bool {
	return e.Status >= http.StatusBadRequest && e.Status < http.StatusInternalServerError &&
		e.Status != http.StatusRequestTimeout && e.Code != ""
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
