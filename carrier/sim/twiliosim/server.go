package twiliosim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/vn"
)

// The magic numbers of Twilio's test credentials. (Those but the first from memory,
// unverified.) https://www.twilio.com/docs/iam/test-credentials
const (
	Unavailable = vn.Number(15005550000) // cannot be bought: 21422
	Invalid     = vn.Number(15005550001) // is no number: 21421
	AlwaysSold  = vn.Number(15005550006) // can be bought though nobody offers it
)

// Config holds the settings of a Server.
type Config struct {
	// AccountSID is the account, "AC…", and AuthToken its secret.
	AccountSID, AuthToken string
	// Keys are API keys of the account: id and secret.
	Keys map[string]string
	// Stock is what is for sale; nil means sim.DefaultStock.
	Stock []sim.Stock
	// Bundles and Addresses are what the law asks for: by region, the id without which
	// no number of it is sold.
	Bundles, Addresses map[string]string
	// Prices are the monthly prices by region, in US dollars. What has none costs 1.15.
	Prices map[string]string
	// PageSize is how many numbers a page of the list holds at most; 0 means 1000.
	PageSize int
	// Latency is how long every request takes at least.
	Latency time.Duration
}

// Server is a simulated Twilio. It is an http.Handler; Listen and Run serve it on the
// loopback interface. It is safe for concurrent use.
type Server struct {
	*sim.Host
	*sim.Market

	cfg Config
	mux *http.ServeMux

	mu        sync.Mutex
	owned     []*owned // in the order of their ids
	purchases []sim.Purchase
	sequence  int
}

// owned is a number that the account has, in the fields of the API.
type owned struct {
	number vn.Number
	fields map[string]string
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.AccountSID == "" || cfg.AuthToken == "" {
		return nil, &vn.FieldError{Field: "account_sid", Problem: "and auth_token must be given"}
	}
	cfg.PageSize = cmp.Or(cfg.PageSize, mostPerPage)
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

// Field returns a field of a number that the account owns, such as voice_url; empty
// when it is not owned.
func (s *Server) Field(number vn.Number, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owned {
		if o.number == number {
			return o.fields[name]
		}
	}
	return ""
}

// SetField changes a field of a number that the account owns, as somebody in Twilio's
// console would.
func (s *Server) SetField(number vn.Number, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owned {
		if o.number == number {
			o.fields[name] = value
		}
	}
}

// Drop takes a number from the account, as somebody in Twilio's console would.
func (s *Server) Drop(number vn.Number) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = slices.DeleteFunc(s.owned, func(o *owned) bool { return o.number == number })
}

// authorised tells whether the request bears the account's token or one of its keys.
func (s *Server) authorised(r *http.Request) bool {
	user, secret, ok := r.BasicAuth()
	if !ok {
		return false
	}
	want := s.cfg.Keys[user]
	if user == s.cfg.AccountSID {
		want = s.cfg.AuthToken
	}
	given, wanted := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
	return want != "" && subtle.ConstantTimeCompare(given[:], wanted[:]) == 1
}

// refuse writes an error as Twilio does. Its message repeats what was asked, as
// Twilio's do: no client may show it.
func refuse(status, code int, message string) sim.Answer {
	return sim.Answer{Status: status, Body: map[string]any{
		"code": code, "message": message, "status": status, "more_info": "https://www.twilio.com/docs/errors/" + strconv.Itoa(code),
	}}
}

// failure is the answer to a request that meets a fault.
func failure(status int) sim.Answer {
	if status == http.StatusTooManyRequests {
		return refuse(status, 20429, "Too many requests")
	}
	return refuse(status, 20500, "An internal server error has occurred")
}
