package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/callmask/callmask/vn"
)

// The limits and times that a zero field of Config stands for.
const (
	DefaultAddr              = ":8080"
	DefaultMaxBody           = 64 << 10
	DefaultHeaderBuffer      = 8 << 10
	DefaultReadTimeout       = 2 * time.Second
	DefaultWriteTimeout      = 2 * time.Second
	DefaultIdleTimeout       = 30 * time.Second
	DefaultMaxConns          = 10_000
	DefaultDrainTimeout      = 10 * time.Second
	DefaultRingTimeout       = 30 * time.Second
	DefaultMaxDuration       = time.Hour
	DefaultBudget            = 250 * time.Millisecond
	DefaultRefusalsPerMinute = 60
	DefaultMessagesPerMinute = 20
)

// Config holds the router's settings. A zero number or duration means its default.
type Config struct {
	// Addr is the address that Run listens on, host:port; port 0 takes any free one.
	Addr string

	MaxBody      int           // bytes of a request's body; beyond it 413
	HeaderBuffer int           // bytes of a request's line and headers; beyond it 431
	ReadTimeout  time.Duration // for a whole request, from its first byte
	WriteTimeout time.Duration // for a whole answer
	IdleTimeout  time.Duration // between two requests of a connection
	MaxConns     int           // connections at a time; beyond it 503
	// MaxConnsPerIP bounds the connections of one address; 0 means no bound, for
	// behind a proxy all carriers share one address.
	MaxConnsPerIP int
	// DrainDelay is how long the listener goes on accepting after Draining turned
	// true, so that a load balancer can look elsewhere first; 0 means not at all.
	DrainDelay time.Duration
	// DrainTimeout bounds the wait for requests in flight; then they are cut.
	DrainTimeout time.Duration

	RingTimeout time.Duration // how long a connected call may ring
	MaxDuration time.Duration // how long a connected call may last
	// Budget is the deadline of a decision: without an answer of Lookup within it
	// the call is refused as unavailable.
	Budget time.Duration
	// RefusalsPerMinute is how many calls of one caller, or to one number, may be
	// refused in a minute before the next are refused unseen (token bucket).
	// Negative switches the limit off.
	RefusalsPerMinute int
	// MessagesPerMinute is how many messages one caller may send to one VN in a minute
	// (token bucket); what is more is dropped. Negative switches the limit off.
	MessagesPerMinute int
	// RedactNumbers takes what could be a telephone number out of relayed messages.
	RedactNumbers bool

	// Carriers are served below /v1/carriers/{name}. Names are unique.
	Carriers []Carrier
	// Resolvers may ask /v1/resolve; each one's Codec is tried in turn until one
	// accepts the request's credentials.
	Resolvers []Carrier
}

// withDefaults returns the configuration with its zero fields filled in.
func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = DefaultAddr
	}
	number := func(n *int, otherwise int) {
		if *n == 0 {
			*n = otherwise
		}
	}
	number(&c.MaxBody, DefaultMaxBody)
	number(&c.HeaderBuffer, DefaultHeaderBuffer)
	number(&c.MaxConns, DefaultMaxConns)
	number(&c.RefusalsPerMinute, DefaultRefusalsPerMinute)
	number(&c.MessagesPerMinute, DefaultMessagesPerMinute)
	duration := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	duration(&c.ReadTimeout, DefaultReadTimeout)
	duration(&c.WriteTimeout, DefaultWriteTimeout)
	duration(&c.IdleTimeout, DefaultIdleTimeout)
	duration(&c.DrainTimeout, DefaultDrainTimeout)
	duration(&c.RingTimeout, DefaultRingTimeout)
	duration(&c.MaxDuration, DefaultMaxDuration)
	duration(&c.Budget, DefaultBudget)
	return c
}

// check names the first setting that cannot work.
func (c *Config) check() error {
	for _, s := range []struct {
		name string
		bad  bool
		want string
	}{
		{"MaxBody", c.MaxBody < 0, "positive"},
		{"HeaderBuffer", c.HeaderBuffer < 1<<10, "at least 1024 bytes"},
		{"MaxConns", c.MaxConns < 0, "positive"},
		{"MaxConnsPerIP", c.MaxConnsPerIP < 0, "positive, or 0 for no bound"},
		{"ReadTimeout", c.ReadTimeout < 0, "positive"},
		{"WriteTimeout", c.WriteTimeout < 0, "positive"},
		{"IdleTimeout", c.IdleTimeout < 0, "positive"},
		{"DrainDelay", c.DrainDelay < 0, "positive, or 0 for none"},
		{"DrainTimeout", c.DrainTimeout < 0, "positive"},
		{"RingTimeout", c.RingTimeout < time.Second, "at least 1s"},
		{"MaxDuration", c.MaxDuration < time.Second, "at least 1s"},
		{"Budget", c.Budget < time.Millisecond, "at least 1ms"},
		{"RefusalsPerMinute", c.RefusalsPerMinute > 1_000_000, "at most 1000000; negative switches the limit off"},
		{"MessagesPerMinute", c.MessagesPerMinute > 1_000_000, "at most 1000000; negative switches the limit off"},
	} {
		if s.bad {
			return fmt.Errorf("router: %s must be %s", s.name, s.want)
		}
	}
	if err := checkCarriers("Carriers", c.Carriers); err != nil {
		return err
	}
	return checkCarriers("Resolvers", c.Resolvers)
}

func checkCarriers(setting string, carriers []Carrier) error {
	seen := make(map[string]bool, len(carriers))
	for i, c := range carriers {
		field := fmt.Sprintf("%s[%d]", setting, i)
		if err := vn.CheckName(field+".Name", c.Name); err != nil {
			return fmt.Errorf("router: %w", err)
		}
		if c.Codec == nil {
			return errors.New("router: " + field + ".Codec is missing")
		}
		if seen[c.Name] {
			return errors.New("router: " + field + ".Name is used twice; carriers need different names")
		}
		seen[c.Name] = true
	}
	return nil
}
