package settings

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Redis is a parsed CALLMASK_REDIS_URL.
type Redis struct {
	Options *redis.UniversalOptions // addresses, credentials, TLS, database
	Cluster bool
}

// ParseRedis reads redis:// and rediss:// addresses separated by commas. Several of
// them, or ?cluster=true on the first, mean a Redis Cluster. Credentials and TLS of
// all must agree. Errors never repeat the URL: it may hold a password.
func ParseRedis(s string) (*Redis, error) {
	r := &Redis{Options: &redis.UniversalOptions{}}
	for i, part := range strings.Split(s, ",") {
		which := ""
		if i > 0 {
			which = fmt.Sprintf(" (address %d)", i+1)
		}
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
			return nil, fmt.Errorf("is not a URL such as redis://127.0.0.1:6379 or rediss://…%s", which)
		}
		q := u.Query()
		cluster := q.Get("cluster")
		if cluster != "" && cluster != "true" && cluster != "false" {
			return nil, errors.New("has ?cluster= with another value than true or false")
		}
		q.Del("cluster")
		u.RawQuery = q.Encode()
		o, err := redis.ParseURL(u.String())
		if err != nil {
			return nil, fmt.Errorf("is not understood: only a user, a password, a database and go-redis's own parameters may be given%s", which)
		}
		if i == 0 {
			r.Cluster = cluster == "true"
			r.Options.Username, r.Options.Password, r.Options.DB, r.Options.TLSConfig = o.Username, o.Password, o.DB, o.TLSConfig
		} else {
			r.Cluster = true
			if o.Username != r.Options.Username || o.Password != r.Options.Password || (o.TLSConfig == nil) != (r.Options.TLSConfig == nil) {
				return nil, errors.New("has addresses whose user, password or scheme differ")
			}
		}
		r.Options.Addrs = append(r.Options.Addrs, o.Addr)
	}
	if r.Cluster && r.Options.DB != 0 {
		return nil, errors.New("names a database, but a Redis Cluster has only database 0")
	}
	return r, nil
}

func redisURL(s *Settings, value string) error {
	s.RedisURL = value
	if value == "" {
		return nil
	}
	_, err := ParseRedis(value)
	return err
}

func natsURL(s *Settings, value string) error {
	s.NATSURL = value
	if value == "" {
		return nil
	}
	for part := range strings.SplitSeq(value, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" {
			return errors.New("is not a URL such as nats://127.0.0.1:4222")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return errors.New("must start with nats://, tls://, ws:// or wss://")
		}
	}
	return nil
}

// Redact hides the user and password of each of the comma-separated URLs in s.
func Redact(s string) string {
	parts := strings.Split(s, ",")
	for i, p := range parts {
		u, err := url.Parse(strings.TrimSpace(p))
		if err != nil {
			parts[i] = hidden
			continue
		}
		if u.User != nil {
			u.User = url.User(hidden)
			parts[i] = strings.Replace(u.String(), url.PathEscape(hidden), hidden, 1)
		}
		if u.RawQuery != "" {
			q := u.Query()
			if q.Has("password") {
				u.RawQuery = "…"
				parts[i] = u.String()
			}
		}
	}
	return strings.Join(parts, ",")
}
