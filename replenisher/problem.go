package replenisher

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/vn"
)

var errTooLarge = errors.New("the body is longer than 64 KiB")

// problem is what an error is answered with.
type problem struct {
	privateapi.Problem

	Diff *Diff `json:"diff,omitempty"` // what was found all the same
}

var known = slices.Concat(privateapi.Common, privateapi.Known{
	{errTooLarge, http.StatusRequestEntityTooLarge, "too_large", 0},
	{ErrNoSeller, http.StatusNotFound, "carrier_unknown", 0},
	{ErrImported, http.StatusConflict, "number_imported", 0},
	{ErrUnsettled, http.StatusConflict, "number_unsettled", 60},
	{ErrRunning, http.StatusConflict, "reconcile_running", 60},
	{events.ErrOvertaken, http.StatusConflict, "intent_overtaken", 1},
})

// describe turns an error into a problem. What the carrier did is told as it is: its
// clients' errors repeat nothing of its answers.
func (s *api) describe(err error) problem {
	var brake *BrakeError
	if errors.As(err, &brake) {
		return problem{Problem: privateapi.NewProblem(http.StatusConflict, "too_many_missing", brake.Error()), Diff: &brake.Diff}
	}
	p, theirs := known.Problem(err), (*fault)(nil)
	switch {
	case p.Code != "internal":
	case errors.Is(err, errNoList), errors.As(err, &theirs) && !theirs.ours:
		p = privateapi.NewProblem(http.StatusBadGateway, "carrier_failed", "the carrier failed: "+err.Error())
		p.Retry = 60
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p = known.Problem(vn.ErrUnavailable)
	default:
		s.log.Error().Err(err).Msg("request failed")
	}
	return problem{Problem: p}
}

// refuse answers with a problem.
func (s *api) refuse(w http.ResponseWriter, err error) {
	p := s.describe(err)
	privateapi.Refuse(w, &s.log, &p)
}
