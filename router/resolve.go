package router

import (
	"time"

	"github.com/callmask/callmask/vn"
)

// resolve decides s.call, which came at start, into s.decision: limit, withheld, one
// look-up.
//
// The limit on a called number is judged before the look-up on purpose. A caller
// number can be forged, so somebody who knows a VN could try the numbers it may
// belong to; once its refusals are used up even the right guess learns nothing.
// Refusals that reveal nothing (withheld, unavailable, limited) spend nothing.
func (r *Router) resolve(c *carrier, s *state, start time.Time, limit *limiter) {
	call, d := &s.call, &s.decision
	if !c.Any {
		switch limit.check(start, call.Calling, call.Called) {
		case byCaller:
			r.metrics.limitedCaller.Inc()
			d.Reason = vn.RateLimited
			return
		case byNumber:
			r.metrics.limitedNumber.Inc()
			d.Reason = vn.RateLimited
			return
		case notLimited:
		}
	}
	switch {
	case call.Calling == 0:
		d.Reason = vn.CallerWithheld
		return
	case call.Called == 0:
		d.Reason = vn.NumberNotAssigned
	default:
		r.look(c, s, start)
	}
	switch d.Reason {
	case vn.Connected:
		d.RingTimeout, d.MaxDuration = r.cfg.RingTimeout, r.cfg.MaxDuration
		return
	case vn.NumberNotAssigned, vn.CallerNotAllowed, vn.OrderEnded:
		if !c.Any {
			limit.refused(start, call.Calling, call.Called)
		}
	case vn.CallerWithheld, vn.RateLimited, vn.Unavailable:
	}
	d.Destination, d.CallerID = 0, 0 // a refusal carries no number
}

// look asks Lookup within the budget, a second time after an error that left half
// of it: a connection broken by a Redis restart says so at once and another works.
func (r *Router) look(c *carrier, s *state, start time.Time) {
	call, d := &s.call, &s.decision
	s.budget.start(start.Add(r.cfg.Budget))
	owner, err := r.lookup.Lookup(s.budget, call.Called, call.Calling, d)
	if err != nil && time.Until(s.budget.deadline) >= r.cfg.Budget/2 {
		r.metrics.lookupRetries.Inc()
		clearDecision(d)
		owner, err = r.lookup.Lookup(s.budget, call.Called, call.Calling, d)
	}
	if !s.budget.stop() {
		s.budget = newBudget()
	}
	switch {
	case err != nil:
		r.metrics.lookupErrors.Inc()
		r.sampled.Warn().Err(err).Str("carrier", c.Name).Msg("router: look-up failed; the call is refused as unavailable")
		clearDecision(d)
		d.Reason = vn.Unavailable
	case d.Reason == vn.NumberNotAssigned:
		clearDecision(d)
		d.Reason = vn.NumberNotAssigned
	case !c.Any && owner != c.ID:
		// Another carrier's number does not exist for this one.
		clearDecision(d)
		d.Reason = vn.NumberNotAssigned
	case d.Reason == vn.Connected && (!d.Destination.Valid() || !d.CallerID.Valid()):
		// Without a caller ID to show, the carrier would show the real number.
		r.metrics.lookupErrors.Inc()
		r.sampled.Error().Str("carrier", c.Name).Msg("router: look-up gave a connection without destination or caller ID; the call is refused")
		clearDecision(d)
		d.Reason = vn.Unavailable
	case d.Reason > vn.OrderEnded:
		clearDecision(d)
		d.Reason = vn.Unavailable
	}
}

func clearDecision(d *vn.Decision) { *d = vn.Decision{OrderID: d.OrderID[:0]} }
