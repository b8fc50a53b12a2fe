package exotelsim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/vn"
)

// Config holds the settings of a Server.
type Config struct {
	// AccountSID is the account; APIKey and APIToken authenticate its requests.
	AccountSID, APIKey, APIToken string
	// Stock is what is for sale; nil means 1,000 landlines of India.
	Stock []sim.Stock
	// Price is what every number costs a month; empty means 499.000000 (INR).
	Price string
	// PageSize is how many numbers a page of the list holds at most; 0 means 50.
	PageSize int
	// ReleaseAfter is for how many looks at a number it is still there after it was
	// released.
	ReleaseAfter int
	// Latency is how long every request takes at least.
	Latency time.Duration
}

// Server is a simulated Exotel. It is an http.Handler; Listen and Run serve it on the
// loopback interface. It is safe for concurrent use.
type Server struct {
	*sim.Host
	*sim.Market

	cfg Config
	mux *http.ServeMux

	mu        sync.Mutex
	owned     []*owned // in the order of their purchase
	purchases []sim.Purchase
	sequence  int
}

// owned is a number that the account has.
type owned struct {
	number   vn.Number
	sid      string
	name     string
	voiceURL string
	smsURL   string
	leaving  bool
	looks    int // how often it will still be seen, once it is leaving
}

// Stock returns what is for sale unless Config says otherwise: India sets no numbers
// aside for fiction, and no landline has one of these.
func Stock() []sim.Stock {
	return []sim.Stock{{Region: "IN", Prefixes: []string{"+918055550"}, Digits: 3}}
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.AccountSID == "" || cfg.APIKey == "" || cfg.APIToken == "" {
		return nil, &vn.FieldError{Field: "account_sid", Problem: "api_key and api_token must be given"}
	}
	if cfg.Stock == nil {
		cfg.Stock = Stock()
	}
	cfg.Price, cfg.PageSize = cmp.Or(cfg.Price, "499.000000"), cmp.Or(cfg.PageSize, 50)
	market, err := sim.NewMarket(cfg.Stock)
	if err != nil {
		return nil, err
	}
	s := &Server{Host: sim.NewHost(cfg.Latency), Market: market, cfg: cfg}
	s.routes()
	return s, nil
}

// Run serves until ctx ends. It needs Listen before and can run once.
func (s *Server) Run(ctx context.Context) error { return s.Serve(ctx, s) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Purchases returns every purchase there was, in its order, those whose answer was
// lost and those released since among them.
func (s *Server) Purchases() []sim.Purchase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.purchases)
}

// Owned returns how many numbers the account has now.
func (s *Server) Owned() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owned)
}

// VoiceURL returns what a number that the account owns is attached to; empty when it
// is not owned or not attached.
func (s *Server) VoiceURL(number vn.Number) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owned {
		if o.number == number {
			return o.voiceURL
		}
	}
	return ""
}

// Drop takes a number from the account, as somebody in Exotel's dashboard would.
func (s *Server) Drop(number vn.Number) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = slices.DeleteFunc(s.owned, func(o *owned) bool { return o.number == number })
}

func (s *Server) authorised(r *http.Request) bool {
	key, token, ok := r.BasicAuth()
	given, want := sha256.Sum256([]byte(key+":"+token)), sha256.Sum256([]byte(s.cfg.APIKey+":"+s.cfg.APIToken))
	return ok && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// refuse writes an error as Exotel does.
func refuse(status int, code any, message string) sim.Answer {
	return sim.Answer{Status: status, Body: map[string]any{
		"RestException": map[string]any{"Status": status, "Code": code, "Message": message},
	}}
}

// failure is the answer to a request that meets a fault.
func failure(status int) sim.Answer {
	if status == http.StatusTooManyRequests {
		return refuse(status, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded.")
	}
	return refuse(status, status, http.StatusText(status))
}
