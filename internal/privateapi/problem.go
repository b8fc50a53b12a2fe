package privateapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/vn"
)

// What every part of the API refuses alike.
var (
	ErrUnauthorized = errors.New("the API token is missing or wrong; send it as Authorization: Bearer")
	ErrNotFound     = errors.New("there is nothing at this path")
	ErrMethod       = errors.New("this path does not have that method")
)

// Problem is an error as RFC 9457 describes it, with two members of our own: Code,
// which programs compare, and Field, which says where.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"`

	Retry int `json:"-"` // Retry-After in seconds; 0: none
}

// NewProblem returns a Problem with the title of its status.
func NewProblem(status int, code, detail string) Problem {
	return Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func (p *Problem) problem() *Problem { return p }

// Document is a *Problem, or a pointer to a struct that embeds one beside more members.
type Document interface{ problem() *Problem }

// Known is a table of errors and of what they are answered with.
type Known []struct {
	Err    error
	Status int
	Code   string
	Retry  int
}

// Common is what every part of the API can answer.
var Common = Known{
	{ErrUnauthorized, http.StatusUnauthorized, "unauthorized", 0},
	{ErrNotFound, http.StatusNotFound, "not_found", 0},
	{ErrMethod, http.StatusMethodNotAllowed, "method_not_allowed", 0},
	{vn.ErrPoolUnknown, http.StatusNotFound, "pool_unknown", 0},
	{vn.ErrNumberUnknown, http.StatusNotFound, "number_unknown", 0},
	{vn.ErrCold, http.StatusServiceUnavailable, "cold", 30},
	{vn.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", 1},
}

// Problem returns the Problem of a *vn.FieldError or of an error in the table; any
// other one is an internal one, which tells nothing of it.
func (k Known) Problem(err error) Problem {
	if field := (*vn.FieldError)(nil); errors.As(err, &field) {
		p := NewProblem(http.StatusBadRequest, "invalid", field.Error())
		if field.Forbidden {
			p = NewProblem(http.StatusUnprocessableEntity, "forbidden", field.Error())
		}
		p.Field = field.Field
		return p
	}
	for _, row := range k {
		if errors.Is(err, row.Err) {
			p := NewProblem(row.Status, row.Code, row.Err.Error())
			p.Retry = row.Retry
			return p
		}
	}
	return NewProblem(http.StatusInternalServerError, "internal", "the request failed; the log says why")
}

// Refuse answers with a problem document.
func Refuse(w http.ResponseWriter, log *zerolog.Logger, d Document) {
	p := d.problem()
	if p.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.Retry))
	}
	encode(w, log, p.Status, "application/problem+json", d)
}

// Answer answers with v as JSON.
func Answer(w http.ResponseWriter, log *zerolog.Logger, status int, v any) {
	encode(w, log, status, "application/json", v)
}

func encode(w http.ResponseWriter, log *zerolog.Logger, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		log.Error().Err(err).Msg("cannot encode an answer")
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	Write(w, log, status, contentType, append(body, '\n'))
}

// Write answers with body as it is.
func Write(w http.ResponseWriter, log *zerolog.Logger, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		log.Debug().Err(err).Msg("an answer was not taken")
	}
}
