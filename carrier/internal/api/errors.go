package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/callmask/callmask/carrier"
)

// maxRetryAfter bounds how long a carrier can make us stay away.
const maxRetryAfter = time.Hour

// oursError is a request that we did not make, for a reason that says nothing about
// the carrier. It is a carrier.ErrNotSent.
type oursError struct{ err error }

func (e *oursError) Error() string   { return carrier.ErrNotSent.Error() + ": " + e.err.Error() }
func (e *oursError) Unwrap() []error { return []error{carrier.ErrNotSent, e.err} }

// isOurs tells whether a failure says nothing about the carrier: the request was not
// made, or its caller gave it up. That a deadline passed does count against it.
func isOurs(err error) bool {
	var ours *oursError
	return errors.As(err, &ours) || errors.Is(err, context.Canceled)
}

// isAlive tells whether the carrier did its work: also when that was to say no.
func isAlive(err error) bool {
	var refusal *carrier.APIError
	return err == nil || errors.As(err, &refusal) && saysNo(refusal.Status)
}

// saysNo tells whether a status is about the request, not about the carrier.
func saysNo(status int) bool {
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusRequestTimeout
}

// IsCurrency tells whether s can be an ISO 4217 code, such as USD.
func IsCurrency(s string) bool {
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return len(s) == 3
}

// refusal reads an answer from 400 on. A body that is not of the API's form (a
// proxy's page) has no code.
func (c *Client) refusal(resp *http.Response, body []byte) error {
	e := &carrier.APIError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	if c.cfg.Code != nil {
		if code := c.cfg.Code(body); isCode(code) {
			e.Code = code
		}
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (%w)", carrier.ErrCredentials, e)
	case http.StatusPaymentRequired:
		return fmt.Errorf("%w (%w)", carrier.ErrBalance, e)
	}
	return e
}

// isCode keeps sentences and phone numbers out of errors.
func isCode(s string) bool {
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '.':
		default:
			return false
		}
	}
	return len(s) <= 64 && digits < 7
}

// retryAfter reads the header Retry-After, seconds or a date (RFC 9110, 10.2.3). A
// date is held against the carrier's own clock where the answer tells it.
func retryAfter(h http.Header, now time.Time) time.Duration {
	given := h.Get("Retry-After")
	if given == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(given, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(given)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// Purchase says what the error of a request that buys means for the money: a refusal
// and carrier.ErrNotSent stay what they are, everything else is also a
// carrier.ErrUnknownOutcome.
func Purchase(err error) error {
	if err == nil || carrier.NothingBought(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", carrier.ErrUnknownOutcome, err)
}
