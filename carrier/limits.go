package carrier

import (
	"cmp"
	"time"

	"github.com/callmask/callmask/vn"
)

// Limits says how a carrier's number API is treated. What is 0 takes the default of
// that carrier's client.
type Limits struct {
	Timeout    time.Duration // deadline of each request
	PerSecond  float64       // requests a second on average, of all that this process makes for the account
	Burst      int           // requests that may be made at once after a pause
	Concurrent int           // requests under way
	Failures   int           // in a row, until the carrier is left alone (ErrCircuitOpen)
	Rest       time.Duration // for so long; then one request tries whether it is well again
}

// Or fills in what is 0 from other.
func (l Limits) Or(other Limits) Limits {
	return Limits{
		Timeout:    cmp.Or(l.Timeout, other.Timeout),
		PerSecond:  cmp.Or(l.PerSecond, other.PerSecond),
		Burst:      cmp.Or(l.Burst, other.Burst),
		Concurrent: cmp.Or(l.Concurrent, other.Concurrent),
		Failures:   cmp.Or(l.Failures, other.Failures),
		Rest:       cmp.Or(l.Rest, other.Rest),
	}
}

// Check refuses negative limits.
func (l Limits) Check() error {
	if l.Timeout < 0 || l.PerSecond < 0 || l.Burst < 0 || l.Concurrent < 0 || l.Failures < 0 || l.Rest < 0 {
		return &vn.FieldError{Field: "limits", Problem: "must not be negative"}
	}
	return nil
}
