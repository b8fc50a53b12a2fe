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

// answer is what a request is answered with.
type answer struct {
	status int
	body   any // nil sends none
}

func refuse(status int, code string) answer {
	return answer{status: status, body: map[string]any{"error": map[string]string{"code": code}}}
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
		work func(r *http.Request, f Fault) answer
	}{
		"GET /v1/available":       {OpSearch, s.search},
		"POST /v1/numbers":        {OpBuy, s.buy},
		"GET /v1/numbers":         {OpList, s.list},
		"PATCH /v1/numbers/{id}":  {OpConfigure, s.configure},
		"DELETE /v1/numbers/{id}": {OpRelease, s.release},
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.handle(w, r, h.op, h.work) })
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// handle authenticates a request, lets it take its time, does its work under the
// fault it meets, and answers.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, op Op, work func(*http.Request, Fault) answer) {
	if !s.authorised(r) {
		write(w, refuse(http.StatusUnauthorized, codeUnauthorised))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	s.mu.Lock()
	fault, latency := s.takeFault(op), s.latency
	s.mu.Unlock()
	if latency > 0 && !s.wait(r, latency) {
		panic(http.ErrAbortHandler) // the client or the server has gone: there is nobody to answer
	}
	switch fault.Kind {
	case Fail:
		write(w, refuse(fault.Status, codeFailed))
		return
	case Throttle:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.FormatInt(int64((fault.RetryAfter+time.Second-1)/time.Second), 10))
		}
		write(w, refuse(http.StatusTooManyRequests, codeThrottled))
		return
	}
	result := work(r, fault)
	switch fault.Kind {
	case HangUp:
		panic(http.ErrAbortHandler) // net/http's way to drop the connection
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.stopping:
		}
		panic(http.ErrAbortHandler)
	case Garble:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body>We'll be right back.</body></html>") // the client may be gone
		return
	}
	write(w, result)
}

// wait lets d pass; false when the client or the server went meanwhile.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
	case <-s.stopping:
	}
	return false
}

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

func write(w http.ResponseWriter, a answer) {
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	body, err := json.Marshal(a.body)
	if err != nil {
		http.Error(w, "cannot write the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // the client may be gone
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

func (s *Server) search(r *http.Request, _ Fault) answer {
	limit := 30
	if given := r.URL.Query().Get("limit"); given != "" {
		var err error
		if limit, err = strconv.Atoi(given); err != nil || limit < 1 || limit > maxPage {
			return refuse(http.StatusBadRequest, codeInvalid)
		}
	}
	region := r.URL.Query().Get("region")
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]offer, 0, limit)
	if sh := s.shelves[region]; sh != nil {
		for i := sh.next; i < len(sh.numbers) && len(found) < limit; i++ {
			if _, free := s.forSale[sh.numbers[i]]; free {
				found = append(found, offer{sh.numbers[i].E164(), region, s.cfg.Price, s.cfg.Currency})
			} else if i == sh.next {
				sh.next++
			}
		}
	}
	return answer{http.StatusOK, map[string]any{"numbers": found}}
}

func (s *Server) buy(r *http.Request, f Fault) answer {
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
	_, free := s.forSale[number]
	delete(s.forSale, number)
	if !free || f.Kind == Snatch {
		return refuse(http.StatusConflict, codeNotAvailable)
	}
	s.sequence++
	bought := owned{ID: fmt.Sprintf("SN%010d", s.sequence), Number: req.Number, Ref: req.Ref}
	s.owned = append(s.owned, bought)
	s.purchases = append(s.purchases, Purchase{Number: number, ID: bought.ID, Ref: bought.Ref, At: time.Now()})
	return answer{http.StatusCreated, bought}
}

func (s *Server) list(r *http.Request, _ Fault) answer {
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
	return answer{http.StatusOK, map[string]any{"numbers": append(page, s.owned[from:to]...), "next": next}}
}

// find returns where the number with the id is, or would be. mu is held.
func (s *Server) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.owned, id, func(o owned, id string) int { return strings.Compare(o.ID, id) })
}

func (s *Server) configure(r *http.Request, _ Fault) answer {
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
	return answer{http.StatusOK, s.owned[i]}
}

func (s *Server) release(r *http.Request, _ Fault) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.find(r.PathValue("id"))
	if !found {
		return refuse(http.StatusNotFound, codeNotFound)
	}
	s.owned = slices.Delete(s.owned, i, i+1)
	return answer{status: http.StatusNoContent}
}
