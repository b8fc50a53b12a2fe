package replenisher

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

var (
	errUnauthorised = errors.New("the API token is missing or wrong; send it as Authorization: Bearer")
	errNotFound     = errors.New("there is nothing at this path")
	errMethod       = errors.New("this path does not have that method")
	errTooLarge     = errors.New("the body is longer than 64 KiB")
)

// problem is an error as RFC 9457 describes it, with members of our own: code, which
// programs compare, field, which says where, and diff, what was found all the same.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"`
	Diff   *Diff  `json:"diff,omitempty"`

	retry int // Retry-After in seconds; 0: none
}

// The codes of problems.
var known = []struct {
	err    error
	status int
	code   string
	retry  int
}{
	{errUnauthorised, http.StatusUnauthorized, "unauthorized", 0},
	{errNotFound, http.StatusNotFound, "not_found", 0},
	{errMethod, http.StatusMethodNotAllowed, "method_not_allowed", 0},
	{errTooLarge, http.StatusRequestEntityTooLarge, "too_large", 0},
	{ErrNoSeller, http.StatusNotFound, "carrier_unknown", 0},
	{vn.ErrPoolUnknown, http.StatusNotFound, "pool_unknown", 0},
	{vn.ErrNumberUnknown, http.StatusNotFound, "number_unknown", 0},
	{ErrImported, http.StatusConflict, "number_imported", 0},
	{ErrUnsettled, http.StatusConflict, "number_unsettled", 60},
	{ErrRunning, http.StatusConflict, "reconcile_running", 60},
	{events.ErrOvertaken, http.StatusConflict, "intent_overtaken", 1},
	{vn.ErrCold, http.StatusServiceUnavailable, "cold", 30},
	{vn.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", 1},
}

// describe turns an error into a problem. What the carrier did is told as it is: its
// clients' errors repeat nothing of its answers.
func (s *api) describe(err error) problem {
	p := problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "the request failed; the log says why"}
	var (
		field  *vn.FieldError
		brake  *BrakeError
		theirs *fault
	)
	switch {
	case errors.As(err, &field):
		p = problem{Status: http.StatusBadRequest, Code: "invalid", Detail: field.Error(), Field: field.Field}
	case errors.As(err, &brake):
		p = problem{Status: http.StatusConflict, Code: "too_many_missing", Detail: brake.Error(), Diff: &brake.Diff}
	default:
		for _, k := range known {
			if errors.Is(err, k.err) {
				p = problem{Status: k.status, Code: k.code, Detail: k.err.Error(), retry: k.retry}
				break
			}
		}
		switch {
		case p.Code != "internal":
		case errors.Is(err, errNoList), errors.As(err, &theirs) && !theirs.ours:
			p = problem{Status: http.StatusBadGateway, Code: "carrier_failed", Detail: "the carrier failed: " + err.Error(), retry: 60}
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			p = problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: vn.ErrUnavailable.Error(), retry: 1}
		}
	}
	if p.Status == http.StatusInternalServerError {
		s.log.Error().Err(err).Msg("request failed")
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// refuse answers with a problem.
func (s *api) refuse(w http.ResponseWriter, err error) {
	p := s.describe(err)
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retry))
	}
	s.answer(w, p.Status, "application/problem+json", p)
}
