package sim

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/callmask/callmask/vn"
)

// ServerConfig holds the settings of a Server.
type ServerConfig struct {
	// Tokens are what clients authenticate with: as a bearer token, or as the password
	// of basic authentication. At least one.
	Tokens []string
	// Stock is what is for sale; nil means DefaultStock.
	Stock []Stock
	// Price and Currency are those of every number; empty means 1.00 USD a month.
	Price, Currency string
	// PageSize is how many numbers one page of the list holds at most; 0 means 100.
	PageSize int
	// Latency is how long every request takes at least.
	Latency time.Duration
}

// Purchase is one number that was bought.
type Purchase struct {
	Number vn.Number
	ID     string // the number's id at the carrier
	Ref    string // the buyer's reference
	At     time.Time
}

// Server is the simulated carrier's number API, kept in memory. It is an
// http.Handler; Listen and Run serve it on the loopback interface. It is safe for
// concurrent use.
//
//	GET    /v1/available?region=ID&limit=30  {"numbers":[{"number","region","price","currency"}]}
//	POST   /v1/numbers {"number","ref"}      201 {"id","number","ref","webhook_url"} | 409 not_available
//	GET    /v1/numbers?after=<id>            {"numbers":[…],"next":"<id>"|""}
//	PATCH  /v1/numbers/{id} {"webhook_url"}  200, as for POST
//	DELETE /v1/numbers/{id}                  204
//
// Errors are {"error":{"code"}}. As with real carriers there is no idempotency key,
// a search reserves nothing, and a released number cannot be bought again.
type Server struct {
	*Host
	*Market

	cfg ServerConfig
	mux *http.ServeMux

	mu        sync.Mutex
	owned     []owned // in the order of their ids
	purchases []Purchase
	sequence  int
}

// owned is a number that the account has.
type owned struct {
	ID         string `json:"id"`
	Number     string `json:"number"`
	Ref        string `json:"ref"`
	WebhookURL string `json:"webhook_url"`
}

// NewServer checks the settings and returns a server that does not listen yet.
func NewServer(cfg ServerConfig) (*Server, error) {
	if len(cfg.Tokens) == 0 || slices.Contains(cfg.Tokens, "") {
		return nil, &vn.FieldError{Field: "tokens", Problem: "must hold at least one token and no empty one"}
	}
	cfg.Price, cfg.Currency = cmp.Or(cfg.Price, "1.00"), cmp.Or(cfg.Currency, "USD")
	cfg.PageSize = cmp.Or(cfg.PageSize, 100)
	if cfg.PageSize < 1 || cfg.PageSize > maxPage {
		return nil, &vn.FieldError{Field: "page_size", Problem: "must be 1 to 1000"}
	}
	market, err := NewMarket(cfg.Stock)
	if err != nil {
		return nil, err
	}
	s := &Server{Host: NewHost(cfg.Latency), Market: market, cfg: cfg}
	s.routes()
	return s, nil
}

// Purchases returns every purchase there was, in its order, those whose answer was
// lost and those released since among them.
func (s *Server) Purchases() []Purchase {
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

// WebhookURL returns where calls to a number that the account owns are announced;
// empty when it is not owned or not configured.
func (s *Server) WebhookURL(number vn.Number) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e164 := number.E164()
	for i := range s.owned {
		if s.owned[i].Number == e164 {
			return s.owned[i].WebhookURL
		}
	}
	return ""
}

// Run serves until ctx ends. It needs Listen before and can run once.
func (s *Server) Run(ctx context.Context) error { return s.Serve(ctx, s) }
