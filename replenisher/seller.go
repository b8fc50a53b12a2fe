package replenisher

import (
	"errors"
	"sync"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/replenisher/forecast"
)

// seller is a carrier that sells numbers, shared by all pools, with its back-off.
type seller struct {
	CarrierConfig

	name        string
	first, most time.Duration

	mu       sync.Mutex
	failures int       // in a row
	until    time.Time // left alone until then
	lead     forecast.LeadTime
}

// open tells whether the carrier may be asked now.
func (s *seller) open(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !now.Before(s.until)
}

// failed leaves the carrier alone for a time that doubles with each failure in a
// row, and for at least as long as it asked for. It returns that time.
func (s *seller) failed(now time.Time, errs ...error) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := s.most
	if s.failures < 32 { // beyond, the shift would overflow
		pause = min(s.most, s.first<<s.failures)
	}
	s.failures++
	for _, err := range errs {
		if api := (*carrier.APIError)(nil); errors.As(err, &api) {
			pause = max(pause, api.RetryAfter)
		}
	}
	if until := now.Add(pause); until.After(s.until) {
		s.until = until
	}
	return pause
}

// succeeded ends the back-off: the carrier sold a number and configured it.
func (s *seller) succeeded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures, s.until = 0, time.Time{}
}

// sold takes in how long a purchase took, and returns the mean of all.
func (s *seller) sold(took time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lead.Observe(took)
	return s.lead.Mean()
}

func (s *seller) leadTime() forecast.LeadTime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lead
}
