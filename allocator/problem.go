package allocator

import (
	"errors"
	"net/http"
	"slices"

	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/vn"
)

var (
	errTooLarge  = errors.New("the body is longer than 1 MiB")
	errMediaType = errors.New("send the body as Content-Type: application/json in UTF-8")
)

// problem is what an error is answered with.
type problem struct {
	privateapi.Problem

	Errors []problemField `json:"errors,omitempty"` // every field at fault, where there can be several
}

type problemField struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

var known = slices.Concat(privateapi.Common, privateapi.Known{
	{errTooLarge, http.StatusRequestEntityTooLarge, "too_large", 0},
	{errMediaType, http.StatusUnsupportedMediaType, "unsupported_media_type", 0},
	{vn.ErrOrderUnknown, http.StatusNotFound, "order_unknown", 0},
	{vn.ErrOrderConflict, http.StatusConflict, "order_conflict", 0},
	{vn.ErrOrderEnded, http.StatusConflict, "order_ended", 0},
	{vn.ErrPoolExhausted, http.StatusServiceUnavailable, "pool_exhausted", 5},
})

func describe(err error) problem {
	var list *numbersError
	switch {
	case errors.As(err, &list):
		status, code := http.StatusBadRequest, "invalid"
		if list.conflict {
			status, code = http.StatusConflict, "number_conflict"
		}
		p := problem{Problem: privateapi.NewProblem(status, code, list.Error())}
		p.Field = list.problems[0].Field
		for _, f := range list.problems {
			p.Errors = append(p.Errors, problemField{Field: f.Field, Detail: f.Problem})
		}
		return p
	case away(err):
		err = vn.ErrUnavailable
	}
	return problem{Problem: known.Problem(err)}
}

// answerError answers with a problem. What is our own fault is logged with its cause.
func (s *api) answerError(w http.ResponseWriter, r *http.Request, err error) {
	p := describe(err)
	if p.Status >= http.StatusInternalServerError && p.Code != "pool_exhausted" {
		s.sampled.Error().Err(err).Str("method", r.Method).Str("code", p.Code).Msg("request failed")
	}
	privateapi.Refuse(w, &s.log, &p)
}
