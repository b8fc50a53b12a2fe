package sim

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/vn"
)

const (
	maxPage    = 1000
	maxRequest = 64 << 10
)

// The error codes of the number API.
const (
	codeNotAvailable = "not_available"
	codeNotFound     = "not_found"
	codeInvalid      = "invalid"
	codeUnauthorised = "unauthorised"
	codeThrottled    = "throttled"
	codeFailed       = "failed"
)

func refuse(status int, code string) Answer {
	return Answer{Status: status, Body: map[string]any{"error": map[string]string{"code": code}}}
}

// offer is a number for sale, as the API writes it.
type offer struct {
	Number   string `json:"number"`
	Region   string `json:"region"`
	Price    string `json:"price"`
	Currency string `json:"currency"`
}

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	for pattern, h := range map[string]struct {
		op   Op
		work func(r *http.Request, f Fault) Answer
	}{
		"GET /v1/available":       {OpSearch, s.search},
		"POST /v1/numbers":        {OpBuy, s.buy},
		"GET /v1/numbers":         {OpList, s.list},
		"PATCH /v1/numbers/{id}":  {OpConfigure, s.configure},
		"DELETE /v1/numbers/{id}": {OpRelease, s.release},
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !s.authorised(r) {
				refuse(http.StatusUnauthorized, codeUnauthorised).Write(w)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			s.Handle(w, r, h.op, failure, func(f Fault) Answer { return h.work(r, f) })
		})
	}
}

// failure is the answer to a request that meets a fault.
func failure(status int) Answer {
	if status == http.StatusTooManyRequests {
		return refuse(status, codeThrottled)
	}
	return refuse(status, codeFailed)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// authorised tells whether the request bears one of the tokens.
func (s *Server) authorised(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		if _, given, ok = r.BasicAuth(); !ok {
			return false
		}
	}
	sum, found := sha256.Sum256([]byte(given)), 0
	for _, token := range s.cfg.Tokens {
		want := sha256.Sum256([]byte(token))
		found |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return found == 1
}

// read decodes a request's body.
func read(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("sim: read the request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("sim: read the request: more follows the object")
	}
	return nil
}

func (s *Server) search(r *http.Request, _ Fault) Answer {
	limit := 30
	if given := r.URL.Query().Get("limit"); given != "" {
		var err error
		if limit, err = strconv.Atoi(given); err != nil || limit < 1 || limit > maxPage {
			return refuse(http.StatusBadRequest, codeInvalid)
		}
	}
	region := r.URL.Query().Get("region")
	found := make([]offer, 0, limit)
	for _, n := range s.Offer(region, limit) {
		found = append(found, offer{n.E164(), region, s.cfg.Price, s.cfg.Currency})
	}
	return Answer{http.StatusOK, map[string]any{"numbers": found}}
}

func (s *Server) buy(r *http.Request, f Fault) Answer {
	var req struct {
		Number string `json:"number"`
		Ref    string `json:"ref"`
	}
	if err := read(r, &req); err != nil {
		return refuse(http.StatusBadRequest, codeInvalid)
	}
	number, ok := vn.ParseE164(req.Number)
	if !ok || len(req.Ref) > 64 {
		return refuse(http.StatusBadRequest, codeInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Sell(number) || f.Kind == Snatch {
		return refuse(http.StatusConflict, codeNotAvailable)
	}
	s.sequence++
	bought := owned{ID: fmt.Sprintf("SN%010d", s.sequence), Number: req.Number, Ref: req.Ref}
	s.owned = append(s.owned, bought)
	s.purchases = append(s.purchases, Purchase{Number: number, ID: bought.ID, Ref: bought.Ref, At: time.Now()})
	if f.Kind == Partial {
		s.owned[len(s.owned)-1].Ref, bought.ID = "", ""
	}
	return Answer{http.StatusCreated, bought}
}

func (s *Server) list(r *http.Request, _ Fault) Answer {
	after := r.URL.Query().Get("after")
	s.mu.Lock()
	defer s.mu.Unlock()
	from, found := s.find(after)
	if found {
		from++
	}
	to := min(from+s.cfg.PageSize, len(s.owned))
	next := ""
	if to < len(s.owned) {
		next = s.owned[to-1].ID
	}
	page := make([]owned, 0, to-from)
	return Answer{http.StatusOK, map[string]any{"numbers": append(page, s.owned[from:to]...), "next": next}}
}

// find returns where the number with the id is, or would be. mu is held.
func (s *Server) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.owned, id, func(o owned, id string) int { return strings.Compare(o.ID, id) })
}

func (s *Server) configure(r *http.Request, _ Fault) Answer {
	var req struct {
		WebhookURL string `json:"webhook_url"`
	}
	if err := read(r, &req); err != nil || checkURL("webhook_url", req.WebhookURL) != nil {
		return refuse(http.StatusBadRequest, codeInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.find(r.PathValue("id"))
	if !found {
		return refuse(http.StatusNotFound, codeNotFound)
	}
	s.owned[i].WebhookURL = req.WebhookURL
	return Answer{http.StatusOK, s.owned[i]}
}

func (s *Server) release(r *http.Request, _ Fault) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.find(r.PathValue("id"))
	if !found {
		return refuse(http.StatusNotFound, codeNotFound)
	}
	s.owned = slices.Delete(s.owned, i, i+1)
	return Answer{Status: http.StatusNoContent}
}
