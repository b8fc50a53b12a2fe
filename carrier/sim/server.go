package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
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
	cfg      ServerConfig
	mux      *http.ServeMux
	stopping chan struct{}
	stop     sync.Once
	listener net.Listener

	mu        sync.Mutex
	shelves   map[string]*shelf    // by region
	forSale   map[vn.Number]string // number → region, while nobody has it
	owned     []owned              // in the order of their ids
	purchases []Purchase
	sequence  int
	faults    []Fault
	latency   time.Duration
}

// shelf is one region's stock in the order in which it is offered.
type shelf struct {
	numbers []vn.Number
	next    int // everything before it is sold
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
	if cfg.Stock == nil {
		cfg.Stock = DefaultStock()
	}
	cfg.Price, cfg.Currency = cmp.Or(cfg.Price, "1.00"), cmp.Or(cfg.Currency, "USD")
	cfg.PageSize = cmp.Or(cfg.PageSize, 100)
	if cfg.PageSize < 1 || cfg.PageSize > maxPage {
		return nil, &vn.FieldError{Field: "page_size", Problem: "must be 1 to 1000"}
	}
	s := &Server{
		cfg: cfg, stopping: make(chan struct{}), latency: cfg.Latency,
		shelves: make(map[string]*shelf), forSale: make(map[vn.Number]string),
	}
	for i := range cfg.Stock {
		if err := s.addStock(&cfg.Stock[i]); err != nil {
			return nil, err
		}
	}
	s.routes()
	return s, nil
}

// AddStock puts more numbers up for sale. Those already known are left as they are.
func (s *Server) AddStock(stock Stock) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addStock(&stock)
}

func (s *Server) addStock(stock *Stock) error {
	numbers, err := stock.numbers()
	if err != nil {
		return err
	}
	sh := s.shelves[stock.Region]
	if sh == nil {
		sh = &shelf{}
		s.shelves[stock.Region] = sh
	}
	known := make(map[vn.Number]bool, len(sh.numbers))
	for _, n := range sh.numbers {
		known[n] = true
	}
	for _, n := range numbers {
		if !known[n] {
			sh.numbers = append(sh.numbers, n)
			s.forSale[n] = stock.Region
		}
	}
	return nil
}

// SellOut leaves at most n numbers for sale in the region.
func (s *Server) SellOut(region string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelves[region]
	if sh == nil {
		return
	}
	for _, number := range sh.numbers {
		if _, free := s.forSale[number]; !free {
			continue
		}
		if n--; n < 0 {
			delete(s.forSale, number)
		}
	}
}

// Sell sells one number to somebody else; false when it is not for sale.
func (s *Server) Sell(number vn.Number) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, free := s.forSale[number]
	delete(s.forSale, number)
	return free
}

// Available returns how many numbers are for sale in the region.
func (s *Server) Available(region string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.forSale {
		if r == region {
			n++
		}
	}
	return n
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

// Listen opens the address, such as 127.0.0.1:0 for any free port. Other than
// loopback addresses are refused: the numbers and the token are play money. It is
// called once, before Run and URL.
func (s *Server) Listen(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("sim: listen: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return errors.Join(errors.New("sim: listen: the simulated carrier serves loopback addresses only, such as 127.0.0.1:0"), l.Close())
	}
	s.listener = l
	return nil
}

// URL returns the address of the API, what Config.APIURL of Numbers takes; empty
// before Listen.
func (s *Server) URL() string {
	if s.listener == nil {
		return ""
	}
	return "http://" + s.listener.Addr().String()
}

// Run serves until ctx ends, finishes the requests in flight (5 s at most) and
// returns nil. It needs Listen before and can run once.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		return errors.New("sim: run: call Listen first")
	}
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("sim: serve: %w", err)
	case <-ctx.Done():
	}
	s.stop.Do(func() { close(s.stopping) })
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = fmt.Errorf("sim: stop: %w", errors.Join(err, srv.Close()))
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("sim: serve: %w", ended))
	}
	return err
}
