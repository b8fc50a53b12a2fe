package settings

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// scalars lists the single-valued settings in the order in which they are read,
// checked and printed. The key is the name in the file; flag and variable follow
// from it.
var scalars = []scalar{
	{key: "http_addr", def: ":8080", set: addr(func(s *Settings) *string { return &s.HTTPAddr })},
	{key: "admin_addr", def: "127.0.0.1:9090", set: addr(func(s *Settings) *string { return &s.AdminAddr })},
	{key: "data_dir", def: "data", set: text(func(s *Settings) *string { return &s.DataDir })},
	{key: "redis_url", secret: urlSecret, set: redisURL},
	{key: "redis_ca_file", set: text(func(s *Settings) *string { return &s.RedisTLS.CAFile })},
	{key: "redis_cert_file", set: text(func(s *Settings) *string { return &s.RedisTLS.CertFile })},
	{key: "redis_key_file", set: text(func(s *Settings) *string { return &s.RedisTLS.KeyFile })},
	{key: "redis_server_name", set: text(func(s *Settings) *string { return &s.RedisTLS.ServerName })},
	{key: "partitions", def: "0", set: integer(func(s *Settings) *int { return &s.Partitions }, 0, 1024)},
	{key: "nats_url", secret: urlSecret, set: natsURL},
	{key: "nats_token", secret: allSecret, set: text(func(s *Settings) *string { return &s.NATSToken })},
	{key: "nats_creds", set: text(func(s *Settings) *string { return &s.NATSCreds })},
	{key: "nats_ca", set: text(func(s *Settings) *string { return &s.NATSCA })},
	{key: "nats_cert", set: text(func(s *Settings) *string { return &s.NATSCert })},
	{key: "nats_key", set: text(func(s *Settings) *string { return &s.NATSKey })},
	{key: "nats_replicas", def: "auto", set: replicas},
	{key: "orders_stream", def: "ORDERS", set: subject(func(s *Settings) *string { return &s.OrdersStream }, false)},
	{key: "orders_prefix", def: "orders", set: subject(func(s *Settings) *string { return &s.OrdersPrefix }, true)},
	{key: "api_token", secret: allSecret, set: apiToken},
	{key: "read_token", secret: allSecret, set: readToken},
	{key: "keyset", set: text(func(s *Settings) *string { return &s.Keyset })},
	{key: "log_level", def: "info", set: logLevel},
	{key: "log_format", def: "auto", set: logFormat},
	{key: "embedded_redis_addr", def: "127.0.0.1:6390", set: addr(func(s *Settings) *string { return &s.EmbeddedRedisAddr })},
	{key: "embedded_redis_password", secret: allSecret, set: text(func(s *Settings) *string { return &s.EmbeddedRedisPassword })},
	{key: "embedded_nats_addr", def: "127.0.0.1:4222", set: addr(func(s *Settings) *string { return &s.EmbeddedNATSAddr })},
	{key: "embedded_nats_token", secret: allSecret, set: text(func(s *Settings) *string { return &s.EmbeddedNATSToken })},
	{key: "tombstone", def: "25h", set: duration(func(s *Settings) *time.Duration { return &s.Tombstone }, minTombstone, year)},
	{key: "resolve_timeout", def: "250ms", set: duration(func(s *Settings) *time.Duration { return &s.ResolveTimeout }, 5*time.Millisecond, 10*time.Second)},
	{key: "coalesce", def: "true", set: boolean(func(s *Settings) *bool { return &s.Coalesce })},
	{key: "auto_rebuild", def: "true", set: boolean(func(s *Settings) *bool { return &s.AutoRebuild })},
	{key: "record_calls", def: "true", set: boolean(func(s *Settings) *bool { return &s.RecordCalls })},
	{key: "redact_numbers", def: "false", set: boolean(func(s *Settings) *bool { return &s.RedactNumbers })},
	{key: "ring_timeout", def: "30s", set: duration(func(s *Settings) *time.Duration { return &s.RingTimeout }, 5*time.Second, 10*time.Minute)},
	{key: "max_call_duration", def: "1h", set: duration(func(s *Settings) *time.Duration { return &s.MaxDuration }, time.Minute, 24*time.Hour)},
	{key: "refusals_per_minute", def: "60", set: integer(func(s *Settings) *int { return &s.RefusalsPerMinute }, 1, 1_000_000)},
	{key: "messages_per_minute", def: "20", set: integer(func(s *Settings) *int { return &s.MessagesPerMinute }, 1, 1_000_000)},
	{key: "audit_every", def: "10m", set: auditEvery},
	{key: "audit_rate", def: "50000", set: integer(func(s *Settings) *int { return &s.AuditRate }, 1000, 10_000_000)},
	{key: "drain_delay", def: "0s", set: duration(func(s *Settings) *time.Duration { return &s.DrainDelay }, 0, 10*time.Minute)},
	{key: "shutdown_timeout", def: "15s", set: duration(func(s *Settings) *time.Duration { return &s.ShutdownTimeout }, time.Second, 10*time.Minute)},
}

const (
	year = 366 * 24 * time.Hour
	// minTombstone is what the stream ORDERS keeps messages for: a tombstone that
	// went earlier would let a repeated `assigned` bring an ended order back.
	minTombstone = 24*time.Hour + time.Minute
)

type scalar struct {
	key, def string
	secret   secrecy
	set      func(s *Settings, value string) error // the error reads on after the setting's name
}

// secrecy says how much of a value may be printed.
type secrecy int

const (
	public secrecy = iota
	urlSecret
	allSecret
)

// values finds a scalar's value and knows where it came from.
type values struct {
	in   Input
	file *file
}

// above looks only above the file: in flags and environment.
func (v *values) above(key string) (value, origin string) {
	if s, ok := v.in.Flags[flagName(key)]; ok {
		return s, "--" + flagName(key)
	}
	if s, ok := v.in.Env(envName(key)); ok && s != "" {
		return s, envName(key)
	}
	return "", ""
}

func (v *values) find(c *scalar) (value, origin string) {
	if s, from := v.above(c.key); from != "" {
		return s, from
	}
	if v.file != nil {
		if s, ok := v.file.doc.scalar(c.key); ok {
			return s, v.file.at(c.key)
		}
	}
	return c.def, "default"
}

// origin names a setting in an error: the way it was given, else its variable.
func (v *values) origin(key string) string {
	for i := range scalars {
		if scalars[i].key == key {
			if _, from := v.find(&scalars[i]); from != "default" {
				return from
			}
		}
	}
	if _, from := v.above(key); from != "" {
		return from
	}
	return envName(key)
}

func (s *Settings) readScalars(v *values) error {
	for i := range scalars {
		c := &scalars[i]
		value, from := v.find(c)
		s.raw[c.key], s.origins[c.key] = value, from
		if err := c.set(s, value); err != nil {
			return fmt.Errorf("%s: %w", v.origin(c.key), err)
		}
	}
	return nil
}

type field[T any] func(*Settings) *T

func text(f field[string]) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		*f(s) = value
		return nil
	}
}

func addr(f field[string]) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		host, port, err := net.SplitHostPort(value)
		if err != nil {
			return fmt.Errorf("%q is not an address such as 127.0.0.1:8080 or :8080", value)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
			return fmt.Errorf("%q has no port between 0 (any free one) and 65535", value)
		}
		if strings.ContainsAny(host, " \t/") {
			return fmt.Errorf("%q has no valid host", value)
		}
		*f(s) = value
		return nil
	}
}

func integer(f field[int], least, most int) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a whole number between %d and %d", value, least, most)
		}
		*f(s) = n
		return nil
	}
}

func auditEvery(s *Settings, value string) error {
	if value == "0" || value == "0s" {
		s.AuditEvery = 0
		return nil
	}
	return duration(func(s *Settings) *time.Duration { return &s.AuditEvery }, 10*time.Second, 24*time.Hour)(s, value)
}

func replicas(s *Settings, value string) error {
	switch value {
	case "auto":
		s.NATSReplicas = 0
	case "1", "3", "5":
		s.NATSReplicas = int(value[0] - '0')
	default:
		return fmt.Errorf("%q is not one of auto, 1, 3, 5", value)
	}
	return nil
}

func boolean(f field[bool]) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		*f(s) = value == "true"
		return nil
	}
}

func duration(f field[time.Duration], least, most time.Duration) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		d, err := parseDuration(value, least, most)
		*f(s) = d
		return err
	}
}

func parseDuration(value string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 10m or 2h", value)
	}
	if d < least || d > most {
		return 0, fmt.Errorf("%s is not between %s and %s", short(d), short(least), short(most))
	}
	return d, nil
}

// short prints a duration without zero units: 2h, not 2h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func subject(f field[string], dots bool) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		if value == "" || strings.ContainsAny(value, " \t*>$/\\") || !dots && strings.Contains(value, ".") ||
			strings.HasPrefix(value, ".") || strings.HasSuffix(value, ".") || strings.Contains(value, "..") {
			return fmt.Errorf("%q is not a valid NATS name", value)
		}
		*f(s) = value
		return nil
	}
}

func apiToken(s *Settings, value string) error {
	if err := checkSecret(value); value != "" && err != nil {
		return err
	}
	s.APIToken = value
	return nil
}

func readToken(s *Settings, value string) error {
	if err := checkSecret(value); value != "" && err != nil {
		return err
	}
	s.ReadToken = value
	return nil
}

func logLevel(s *Settings, value string) error {
	switch value {
	case "trace", "debug", "info", "warn", "error":
		var err error
		s.LogLevel, err = zerolog.ParseLevel(value)
		return err
	}
	return fmt.Errorf("%q is not one of trace, debug, info, warn, error", value)
}

func logFormat(s *Settings, value string) error {
	switch value {
	case "auto", "json", "console":
		s.LogFormat = value
		return nil
	}
	return fmt.Errorf("%q is not one of auto, json, console", value)
}

// isLoopback tells whether only this machine can reach a listener on addr.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
