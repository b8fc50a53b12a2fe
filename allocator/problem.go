package allocator

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/callmask/callmask/vn"
)

var (
	errUnauthorized = errors.New("the API token is missing or wrong; send it as Authorization: Bearer")
	errNotFound     = errors.New("there is nothing at this path")
	errMethod       = errors.New("this path does not have that method")
	errTooLarge     = errors.New("the body is longer than 1 MiB")
	errMediaType    = errors.New("send the body as Content-Type: application/json in UTF-8")
)

// problem is an error as RFC 9457 describes it, with two members of our own: code,
// which programs compare, and field, which says where.
type problem struct {
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail"`
	Code   string         `json:"code"`
	Field  string         `json:"field,omitempty"`
	Errors []problemField `json:"errors,omitempty"` // every field at fault, where there can be several
}

type problemField struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// The codes of problems.
var known = []struct {
	err    error
	status int
	code   string
	retry  int // Retry-After in seconds; 0: none
}{
	{errUnauthorized, http.StatusUnauthorized, "unauthorized", 0},
	{errNotFound, http.StatusNotFound, "not_found", 0},
	{errMethod, http.StatusMethodNotAllowed, "method_not_allowed", 0},
	{errTooLarge, http.StatusRequestEntityTooLarge, "too_large", 0},
	{errMediaType, http.StatusUnsupportedMediaType, "unsupported_media_type", 0},
	{vn.ErrPoolUnknown, http.StatusNotFound, "pool_unknown", 0},
	{vn.ErrOrderUnknown, http.StatusNotFound, "order_unknown", 0},
	{vn.ErrNumberUnknown, http.StatusNotFound, "number_unknown", 0},
	{vn.ErrOrderConflict, http.StatusConflict, "order_conflict", 0},
	{vn.ErrOrderEnded, http.StatusConflict, "order_ended", 0},
	{vn.ErrPoolExhausted, http.StatusServiceUnavailable, "pool_exhausted", 5},
	{vn.ErrCold, http.StatusServiceUnavailable, "cold", 30},
}

// describe turns an error into a problem and its Retry-After, 0 for none.
func describe(err error) (p problem, retry int) {
	var field *vn.FieldError
	var list *numbersError
	switch {
	case errors.As(err, &field):
		p = problem{Status: http.StatusBadRequest, Code: "invalid", Detail: field.Error(), Field: field.Field}
		if field.Forbidden {
			p.Status, p.Code = http.StatusUnprocessableEntity, "forbidden"
		}
	case errors.As(err, &list):
		p = problem{Status: http.StatusBadRequest, Code: "invalid", Detail: list.Error(), Field: list.problems[0].Field}
		if list.conflict {
			p.Status, p.Code = http.StatusConflict, "number_conflict"
		}
		for _, f := range list.problems {
			p.Errors = append(p.Errors, problemField{Field: f.Field, Detail: f.Problem})
		}
	case away(err):
		p = problem{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: vn.ErrUnavailable.Error()}
		retry = 1
	default:
		p = problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "the request failed; the log says why"}
		for _, k := range known {
			if errors.Is(err, k.err) {
				p = problem{Status: k.status, Code: k.code, Detail: k.err.Error()}
				retry = k.retry
				break
			}
		}
	}
	p.Title = http.StatusText(p.Status)
	return p, retry
}

// answerError answers with a problem. What is our own fault is logged with its cause.
func (s *api) answerError(w http.ResponseWriter, r *http.Request, err error) {
	p, retry := describe(err)
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retry))
	}
	if p.Status >= http.StatusInternalServerError && p.Code != "pool_exhausted" {
		s.sampled.Error().Err(err).Str("method", r.Method).Str("code", p.Code).Msg("request failed")
	}
	s.answer(w, p.Status, "application/problem+json", p)
}
