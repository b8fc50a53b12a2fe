package explain

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/vn"
)

// Path is where the API is.
const Path = "/v1/explain"

const (
	maxBody = 1 << 12
	timeout = 10 * time.Second
)

// known are the errors of this part of the API.
var known = append(privateapi.Known{{Err: errNotNoted, Status: http.StatusServiceUnavailable, Code: "unavailable", Retry: 1}}, privateapi.Common...)

// API returns the handler of
//
//	POST /v1/explain {"called","calling","carrier"?,"reveal"?}  200 an Explanation
//
// The numbers are in the body alone, so that no log of requests holds them. Errors are problem documents. Every
// request needs token as its bearer token.
func (e *Explainer) API(token string, log zerolog.Logger) http.Handler {
	accepted := privateapi.NewToken(token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		answer, err := e.serve(w, r, accepted)
		if err != nil {
			p := known.Problem(err)
			if p.Status == http.StatusInternalServerError {
				log.Error().Err(err).Msg("a decision could not be explained")
			}
			privateapi.Refuse(w, &log, &p)
			return
		}
		privateapi.Answer(w, &log, http.StatusOK, answer)
	})
}

func (e *Explainer) serve(w http.ResponseWriter, r *http.Request, token privateapi.Token) (*Explanation, error) {
	switch {
	case !token.Accepts(r):
		w.Header().Set("WWW-Authenticate", privateapi.Challenge)
		return nil, privateapi.ErrUnauthorized
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return nil, privateapi.ErrMethod
	}
	var body struct {
		Called  string `json:"called"`
		Calling string `json:"calling"`
		Carrier string `json:"carrier"`
		Reveal  bool   `json:"reveal"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil { // which would repeat what it read
		return nil, &vn.FieldError{Field: "body", Problem: "is not a JSON object with called, calling, carrier and reveal"}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &vn.FieldError{Field: "body", Problem: "goes on after its JSON object"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = ""
	}
	ask := Ask{Called: body.Called, Calling: body.Calling, Carrier: body.Carrier, Reveal: body.Reveal}
	return e.Explain(ctx, ask, Person{Role: "api", From: from})
}
