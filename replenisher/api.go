package replenisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

const (
	typeLines = "application/x-ndjson"
	// maxBody is the longest request body that is read, in bytes.
	maxBody = 1 << 16
	// progressEvery is how often a comparison says how far it is.
	progressEvery = 250 * time.Millisecond
)

type api struct {
	*Replenisher

	token privateapi.Token
	mux   *http.ServeMux
}

// routes are what is served, all by POST.
var routes = map[string]func(*api, http.ResponseWriter, *http.Request){
	"/v1/carriers/{name}/reconcile":         (*api).postReconcile,
	"/v1/pools/{name}/numbers/{vn}/release": (*api).postRelease,
}

// API returns the stock-keeper's part of the private API:
//
//	POST /v1/carriers/{name}/reconcile {"dry_run","pool","force"}  200 a Diff
//	POST /v1/pools/{name}/numbers/{vn}/release                     202 {"state":"released"|"draining"|"kept"}
//
// With Accept: application/x-ndjson a comparison answers line by line: {"done","of"}
// while it goes on, and last {"diff"} or {"problem"}. Errors are problem documents
// (RFC 9457) with a code, and with the Diff where there is one. Every request needs
// token as its bearer token; an empty token lets nobody in. What a client that goes
// away leaves undone is done by the next comparison.
func (r *Replenisher) API(token string) http.Handler {
	s := &api{Replenisher: r, token: privateapi.NewToken(token), mux: http.NewServeMux()}
	for path, handle := range routes {
		s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { handle(s, w, r) })
		s.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", http.MethodPost)
			s.refuse(w, privateapi.ErrMethod)
		})
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { s.refuse(w, privateapi.ErrNotFound) })
	return s
}

// ServeHTTP authenticates before anything else is looked at.
func (s *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !s.token.Accepts(r) {
		w.Header().Set("WWW-Authenticate", privateapi.Challenge)
		s.refuse(w, privateapi.ErrUnauthorized)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *api) postReconcile(w http.ResponseWriter, r *http.Request) {
	s.allow(w, s.cfg.ReconcileFor+time.Minute)
	var ask struct {
		DryRun bool   `json:"dry_run"`
		Force  bool   `json:"force"`
		Pool   string `json:"pool"`
	}
	if err := readBody(w, r, &ask); err != nil {
		s.refuse(w, err)
		return
	}
	opt := ReconcileOptions{DryRun: ask.DryRun, Force: ask.Force, Pool: ask.Pool}
	name := r.PathValue("name")
	if r.Header.Get("Accept") != typeLines {
		diff, err := s.Reconcile(r.Context(), name, opt)
		if err != nil {
			s.refuse(w, err)
			return
		}
		privateapi.Answer(w, &s.log, http.StatusOK, diff)
		return
	}
	w.Header().Set("Content-Type", typeLines)
	lines := &lineWriter{out: w, flush: http.NewResponseController(w).Flush}
	opt.Progress = lines.progress
	lines.progress(0, 0)
	diff, err := s.Reconcile(r.Context(), name, opt)
	if err != nil {
		lines.write(map[string]any{"problem": s.describe(err)})
		return
	}
	lines.write(map[string]any{"diff": diff})
}

// lineWriter writes a JSON document a line.
type lineWriter struct {
	out   io.Writer
	flush func() error

	mu   sync.Mutex
	last time.Time
}

func (l *lineWriter) progress(done, of int) {
	l.mu.Lock()
	due := done == of || time.Since(l.last) >= progressEvery
	if due {
		l.last = time.Now()
	}
	l.mu.Unlock()
	if due {
		l.write(map[string]int{"done": done, "of": of})
	}
}

func (l *lineWriter) write(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if json.NewEncoder(l.out).Encode(v) == nil { // a reader that has gone needs no answer
		_ = l.flush()
	}
}

func (s *api) postRelease(w http.ResponseWriter, r *http.Request) {
	s.allow(w, s.cfg.CarrierCall+time.Minute)
	if err := readBody(w, r, &struct{}{}); err != nil {
		s.refuse(w, err)
		return
	}
	pool := r.PathValue("name")
	if err := vn.CheckName("name", pool); err != nil {
		s.refuse(w, err)
		return
	}
	region := "" // a pool that is not configured any more may still have numbers to be rid of
	if p, ok := s.workers[pool]; ok {
		region = p.pool.Region
	}
	number, err := numbering.Parse(r.PathValue("vn"), region)
	if err != nil {
		s.refuse(w, &vn.FieldError{Field: "vn", Problem: err.Error()})
		return
	}
	how, err := s.Release(r.Context(), pool, number)
	if err != nil {
		s.refuse(w, err)
		return
	}
	privateapi.Answer(w, &s.log, http.StatusAccepted, map[string]Giving{"state": how})
}

// allow lets a request take longer than the server otherwise permits.
func (s *api) allow(w http.ResponseWriter, most time.Duration) {
	err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(most))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.log.Debug().Err(err).Msg("cannot extend the time of a request")
	}
}

// readBody reads a JSON object, or nothing, without unknown fields. Its errors repeat
// nothing of the body.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return &vn.FieldError{Field: "body", Problem: "could not be read"}
	case len(bytes.TrimSpace(data)) == 0:
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &vn.FieldError{Field: "body", Problem: "is not a JSON object of the fields that this request has"}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &vn.FieldError{Field: "body", Problem: "goes on after its JSON object"}
	}
	return nil
}
