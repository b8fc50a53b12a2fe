package allocator

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/vn"
)

// MaxBody is the longest request body that the API reads, in bytes.
const MaxBody = 1 << 20

// route is one row of the API. statuses are all that it can answer, besides
// anyStatuses; privateapi.OpenAPI lists the same.
type route struct {
	method, path string
	statuses     []int
	timeout      time.Duration // 0: Config.Timeout
	handle       func(*api, http.ResponseWriter, *http.Request) error
}

// anyStatuses are what every route can answer.
var anyStatuses = []int{http.StatusUnauthorized, http.StatusMethodNotAllowed, http.StatusInternalServerError}

type api struct {
	*Allocator

	token privateapi.Token
	mux   *http.ServeMux
	// sampled logs failures a few times a second: with Redis away every request fails.
	sampled zerolog.Logger
}

// API returns the private orders and pools API of DESIGN section 5, and
// /openapi.json that describes the whole private API. Every request needs token as its bearer token;
// an empty token lets nobody in. Time-outs on reading headers are the server's.
func (a *Allocator) API(token string) http.Handler {
	s := &api{
		Allocator: a, token: privateapi.NewToken(token), mux: http.NewServeMux(),
		sampled: a.log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second}),
	}
	allow := make(map[string][]string)
	for _, r := range routes(a.config) {
		s.mux.Handle(r.method+" "+r.path, s.serve(r))
		allow[r.path] = append(allow[r.path], r.method)
	}
	for path, methods := range allow {
		slices.Sort(methods)
		s.mux.Handle(path, s.refuse(path, methods))
	}
	s.mux.Handle("/", s.refuse("none", nil))
	return s
}

func routes(c Config) []route {
	return []route{
		{http.MethodPut, "/v1/orders/{id}", []int{200, 201, 400, 404, 409, 413, 415, 422, 503}, 0, (*api).putOrder},
		{http.MethodGet, "/v1/orders/{id}", []int{200, 400, 404, 503}, 0, (*api).getOrder},
		{http.MethodPatch, "/v1/orders/{id}", []int{200, 400, 404, 409, 413, 415, 503}, 0, (*api).patchOrder},
		{http.MethodDelete, "/v1/orders/{id}", []int{204, 400, 503}, 0, (*api).deleteOrder},
		{http.MethodGet, "/v1/pools", []int{200, 503}, 0, (*api).getPools},
		{http.MethodPost, "/v1/pools/{name}/numbers", []int{200, 400, 404, 409, 413, 415, 503}, c.ImportTimeout, (*api).postNumbers},
		{http.MethodDelete, "/v1/pools/{name}/numbers/{vn}", []int{202, 400, 404, 503}, 0, (*api).deleteNumber},
		{http.MethodGet, "/openapi.json", []int{200}, 0, (*api).getOpenAPI},
	}
}

// ServeHTTP authenticates before anything else is looked at.
func (s *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !s.token.Accepts(r) {
		w.Header().Set("WWW-Authenticate", privateapi.Challenge)
		s.answerError(w, r, privateapi.ErrUnauthorized)
		s.count("none", http.StatusUnauthorized)
		return
	}
	// The mux would redirect a path with . or .. or an empty segment. Nothing has such
	// a path, and an order cannot have such an id.
	escaped := r.URL.EscapedPath()
	if escaped == "/" || path.Clean(escaped) == escaped {
		s.mux.ServeHTTP(w, r)
		return
	}
	err, status := privateapi.ErrNotFound, http.StatusNotFound
	if strings.HasPrefix(escaped, "/v1/orders/") {
		err, status = &vn.FieldError{Field: "order_id", Problem: "is missing, or is . or .."}, http.StatusBadRequest
	}
	s.answerError(w, r, err)
	s.count("none", status)
}

// serve runs a route with its deadline. The work goes on when the client goes away:
// an order half assigned helps nobody.
func (s *api) serve(rt route) http.Handler {
	timeout := rt.timeout
	if timeout == 0 {
		timeout = s.config.Timeout
	}
	counters := make(map[int]prometheus.Counter)
	for _, status := range slices.Concat(rt.statuses, anyStatuses) {
		counters[status] = s.counter(rt.method+" "+rt.path, status)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), timeout)
		defer cancel()
		// A slow body must not hold the handler; servers that cannot set a deadline
		// (those of tests) say so.
		err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.log.Debug().Err(err).Msg("cannot bound the reading of a request")
		}
		ctx, end := s.config.Tracer.Serve(ctx, rt.method+" "+rt.path, r.Header)
		seen := &statusWriter{ResponseWriter: w}
		if err := rt.handle(s, seen, r.WithContext(ctx)); err != nil {
			s.answerError(seen, r, err)
		}
		end(seen.status)
		if c, ok := counters[seen.status]; ok {
			c.Inc()
		}
	})
}

// refuse answers a path that exists with the methods it has (405), any other 404.
func (s *api) refuse(route string, methods []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err, status := privateapi.ErrNotFound, http.StatusNotFound
		if methods != nil {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			err, status = privateapi.ErrMethod, http.StatusMethodNotAllowed
		}
		s.answerError(w, r, err)
		s.count(route, status)
	})
}

func (s *api) counter(route string, status int) prometheus.Counter {
	return s.metrics.requests.WithLabelValues(route, strconv.Itoa(status))
}

func (s *api) count(route string, status int) { s.counter(route, status).Inc() }

type statusWriter struct {
	http.ResponseWriter

	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
