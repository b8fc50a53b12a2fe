package settings

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Settings is everything a callmask process is told, checked and with its
// defaults filled in.
type Settings struct {
	Config       string // the settings file read, empty when there is none
	HTTPAddr     string // the listener for carriers
	AdminAddr    string // the private listener
	DataDir      string
	RedisURL     string // empty: `all` runs its own
	RedisTLS     RedisTLS
	Partitions   int    // 0: what Redis holds, or the default of its kind
	NATSURL      string // empty: `all` runs its own
	NATSToken    string
	NATSCreds    string // path of a NATS credentials file
	NATSCA       string // path of the PEM file of who may have signed the server's certificate
	NATSCert     string // paths of this client's certificate and key
	NATSKey      string
	NATSReplicas int // 0: by what NATS is
	OrdersStream string
	OrdersPrefix string
	APIToken     string // empty: `all` creates one in the data dir
	ReadToken    string // of people who may only look; empty: there are none
	Keyset       string // path; empty: `all` creates one in the data dir
	LogLevel     zerolog.Level
	LogFormat    string // json, console or auto (console on a terminal)

	EmbeddedRedisAddr     string
	EmbeddedRedisPassword string
	EmbeddedNATSAddr      string
	EmbeddedNATSToken     string

	Tombstone         time.Duration
	ResolveTimeout    time.Duration // how long a call may wait for Redis
	Coalesce          bool          // calls at the same time share a round trip
	RecordCalls       bool          // each decision is published as calls.decided
	AutoRebuild       bool          // a Redis that has lost everything is restored from the ledger
	RedactNumbers     bool          // what could be a number is taken out of relayed messages
	RingTimeout       time.Duration
	MaxDuration       time.Duration
	RefusalsPerMinute int
	MessagesPerMinute int           // messages relayed of one caller to one VN
	AuditEvery        time.Duration // 0: never
	AuditRate         int           // keys of Redis read a second
	DrainDelay        time.Duration // between "not ready" and closing the listeners
	ShutdownTimeout   time.Duration

	Pools    []Pool
	Carriers []Carrier

	raw     map[string]string // scalar key → its value as given
	origins map[string]string // scalar key → where its value came from
}

// Input is where Load looks for settings.
type Input struct {
	// Flags holds the flags given on the command line by name, such as http-addr.
	Flags map[string]string
	// Env looks a variable up; nil means os.LookupEnv. An empty variable counts as
	// not set.
	Env func(string) (string, bool)
	// Demo reads the built-in demo settings when no file is named.
	Demo bool
	// Lenient leaves pools and carriers out and takes a missing ${VAR} for empty: for
	// commands that only want to know where a running system is.
	Lenient bool
}

// missing stands in for the value of a variable that a lenient reader does without.
const missing = "missing-variable"

// Load finds every setting, highest precedence first in flags, environment, file
// and defaults, and checks each one by itself. What a role needs is Check's to say.
func Load(in Input) (*Settings, error) {
	if in.Env == nil {
		in.Env = os.LookupEnv
	}
	v := &values{in: in}
	path, _ := v.above("config")
	var name string
	var text []byte
	switch {
	case path != "":
		var err error
		if text, err = os.ReadFile(path); err != nil {
			var pe *os.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return nil, fmt.Errorf("%s: cannot read %s: %w", v.origin("config"), path, err)
		}
		name = path
	case in.Demo:
		name, text = demoName, demoFile
	}
	env := in.Env
	if in.Lenient {
		env = func(name string) (string, bool) {
			if value, ok := in.Env(name); ok && value != "" {
				return value, true
			}
			return missing, true
		}
	}
	f, err := parse(name, text, env)
	if err != nil {
		return nil, err
	}
	v.file = f
	s := &Settings{Config: path, raw: map[string]string{}, origins: map[string]string{}}
	if err := s.readScalars(v); err != nil {
		return nil, err
	}
	if in.Lenient {
		return s, nil
	}
	if s.Carriers, err = f.carriers(); err != nil {
		return nil, err
	}
	if s.Pools, err = f.pools(s.Carriers); err != nil {
		return nil, err
	}
	return s, s.cross(v)
}

// Origin tells where the setting with this file key (such as http_addr) came from:
// a flag, a variable, a place in the file, or "default".
func (s *Settings) Origin(key string) string { return s.origins[key] }

// Pool returns the settings of the named pool.
func (s *Settings) Pool(name string) (Pool, bool) {
	for i := range s.Pools {
		if s.Pools[i].Name == name {
			return s.Pools[i], true
		}
	}
	return Pool{}, false
}

// Role is what a callmask process runs.
type Role string

// The roles of a process. All runs the three others and what servers they lack.
const (
	All         Role = "all"
	Router      Role = "router"
	Allocator   Role = "allocator"
	Replenisher Role = "replenisher"
)

// Has tells whether a process of role r does the work of other.
func (r Role) Has(other Role) bool { return r == other || r == All }

// Check returns an error that names the first setting which role cannot do
// without.
func (s *Settings) Check(role Role) error {
	need := func(value, key, what string) error {
		if value != "" {
			return nil
		}
		return fmt.Errorf("%s: is not set; `callmask %s` needs %s", envName(key), role, what)
	}
	if role == All {
		if err := need(s.DataDir, "data_dir", "a directory for its data"); err != nil {
			return err
		}
	} else {
		for _, n := range []struct{ value, key, what string }{
			{s.RedisURL, "redis_url", "the address of Redis"},
			{s.NATSURL, "nats_url", "the address of NATS"},
			{s.Keyset, "keyset", "the path of the keyset file (`callmask keys add` makes one)"},
			{s.APIToken, "api_token", "the token of its private listener"},
		} {
			if err := need(n.value, n.key, n.what); err != nil {
				return err
			}
		}
	}
	if role != Router && len(s.Pools) == 0 {
		return fmt.Errorf("pools: there is none; name a settings file in CALLMASK_CONFIG (or try `callmask all --demo`)")
	}
	return nil
}

// cross checks what only several settings together can get wrong.
func (s *Settings) cross(v *values) error {
	if err := s.RedisTLS.check(strings.HasPrefix(strings.TrimSpace(s.RedisURL), "rediss://")); err != nil {
		return err
	}
	if s.RedisURL == "" {
		if err := checkEmbedded(v, "embedded_redis_addr", s.EmbeddedRedisAddr, "embedded_redis_password", s.EmbeddedRedisPassword); err != nil {
			return err
		}
	}
	if s.NATSURL == "" {
		if err := checkEmbedded(v, "embedded_nats_addr", s.EmbeddedNATSAddr, "embedded_nats_token", s.EmbeddedNATSToken); err != nil {
			return err
		}
	}
	if s.ReadToken != "" && s.ReadToken == s.APIToken {
		return fmt.Errorf("%s: must not be the API token (CALLMASK_API_TOKEN), or everybody who may look may change everything", v.origin("read_token"))
	}
	for i := range s.Carriers {
		for _, t := range s.Carriers[i].Tokens {
			if t == s.APIToken {
				return v.file.errorf(fmt.Sprintf("carriers[%d].tokens", i), "must not hold the API token (CALLMASK_API_TOKEN)")
			}
		}
	}
	return nil
}

// RedisAt returns the Redis that a command which starts nothing talks to: redis_url, or
// the one that `all` runs on this machine.
func (s *Settings) RedisAt() RedisAt {
	if s.RedisURL != "" {
		return RedisAt{URL: s.RedisURL, TLS: s.RedisTLS}
	}
	u := url.URL{Scheme: "redis", Host: s.EmbeddedRedisAddr}
	if s.EmbeddedRedisPassword != "" {
		u.User = url.UserPassword("", s.EmbeddedRedisPassword)
	}
	return RedisAt{URL: u.String()}
}

// NATSAddress returns the URL and token of the NATS that a command which starts nothing
// talks to: nats_url, or the address of the one that `all` runs on this machine.
func (s *Settings) NATSAddress() (address, token string) {
	if s.NATSURL != "" {
		return s.NATSURL, s.NATSToken
	}
	return "nats://" + s.EmbeddedNATSAddr, s.EmbeddedNATSToken
}

func checkEmbedded(v *values, addrKey, addr, secretKey, secret string) error {
	if isLoopback(addr) || secret != "" {
		return nil
	}
	return fmt.Errorf("%s: %s is reachable from other machines, so %s must be set", v.origin(addrKey), addr, envName(secretKey))
}

func envName(key string) string  { return "CALLMASK_" + strings.ToUpper(key) }
func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// Named puts the variable of the setting with this file key before an error that
// came up when the setting was used.
func Named(key string, err error) error { return fmt.Errorf("%s: %w", envName(key), err) }
