package settings

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// RedisAt says where Redis is and how its servers prove who they are.
type RedisAt struct {
	URL string // as in CALLMASK_REDIS_URL: it may hold a password
	TLS RedisTLS
}

// Redis is a parsed RedisAt.
type Redis struct {
	// Options holds addresses, credentials, database, TLS, and the Sentinels' master.
	Options  *redis.UniversalOptions
	Cluster  bool
	Sentinel bool // the addresses are Sentinels'
}

// ParseRedis reads redis:// and rediss:// addresses separated by commas; those after the
// first may leave out what they share with it, scheme and credentials. ?master_name= means
// that they are Sentinels; else several of them, or ?cluster=true, mean a Redis Cluster.
// The parameters are those of go-redis (ParseFailoverURL, ParseClusterURL), as far as
// they say where the servers are: time-outs are callmask's own.
//
// Errors never repeat the URL: it may hold a password.
func ParseRedis(at RedisAt) (*Redis, error) {
	r, err := parseRedisURL(at.URL)
	if err != nil {
		return nil, Named("redis_url", err)
	}
	r.Options.TLSConfig, err = at.TLS.config(r)
	return r, err
}

// redisParameters are what a URL may say after its question mark.
type redisParameters struct {
	cluster, masterName, sentinelUser, sentinelPassword string

	addrs []string
}

func parseRedisURL(s string) (*Redis, error) {
	r := &Redis{Options: &redis.UniversalOptions{}}
	var first *url.URL
	var params redisParameters
	for i, part := range strings.Split(s, ",") {
		which := ""
		if i > 0 {
			which = fmt.Sprintf(" (address %d)", i+1)
		}
		part = strings.TrimSpace(part)
		bare := i > 0 && !strings.Contains(part, "://")
		if bare {
			part = first.Scheme + "://" + part
		}
		u, err := url.Parse(part)
		if err != nil || u.Hostname() == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
			return nil, fmt.Errorf("is not a URL such as redis://127.0.0.1:6379 or rediss://…; a comma or @ of a password is written %%2C or %%40%s", which)
		}
		if err := params.read(u.Query()); err != nil {
			return nil, err
		}
		if bare && u.User == nil {
			u.User = first.User
		}
		if i == 0 {
			first = u
		}
		if err := r.take(i == 0, u); err != nil {
			return nil, fmt.Errorf("%w%s", err, which)
		}
	}
	if first.Scheme == "rediss" {
		r.Options.TLSConfig = newTLSConfig()
	}
	return r, r.settle(&params)
}

// read notes the parameters; each may be given once, addr any number of times.
func (p *redisParameters) read(q url.Values) error {
	p.addrs = append(p.addrs, q["addr"]...)
	q.Del("addr")
	known := map[string]*string{
		"cluster": &p.cluster, "master_name": &p.masterName,
		"sentinel_username": &p.sentinelUser, "sentinel_password": &p.sentinelPassword,
	}
	for name, values := range q {
		to := known[name]
		if to == nil {
			return errors.New("has a parameter that is not known; known are cluster, master_name, sentinel_username, sentinel_password and addr")
		}
		if *to != "" || len(values) != 1 || values[0] == "" {
			return fmt.Errorf("has ?%s= more than once, or empty", name)
		}
		*to = values[0]
	}
	return nil
}

// take adds an address, whose credentials and database must be those of the first.
func (r *Redis) take(first bool, u *url.URL) error {
	o := r.Options
	password, _ := u.User.Password()
	db := 0
	if path := strings.Trim(u.Path, "/"); path != "" {
		var err error
		if db, err = strconv.Atoi(path); err != nil || db < 0 {
			return errors.New("has a path that is not the number of a database")
		}
	}
	switch {
	case first:
		o.Username, o.Password, o.DB = u.User.Username(), password, db
	case u.User.Username() != o.Username || password != o.Password:
		return errors.New("has addresses whose user or password differ")
	case db != 0 && o.DB == 0:
		o.DB = db // written once, behind the last address
	case db != 0 && db != o.DB:
		return errors.New("has addresses whose databases differ")
	}
	host, err := withPort(u.Host)
	o.Addrs = append(o.Addrs, host)
	return err
}

// withPort returns host:port, with Redis's own port when none is given.
func withPort(host string) (string, error) {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" {
		return "", errors.New("has an address without a valid host and port")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("has an address without a valid host and port")
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// settle finds out what the addresses are of.
func (r *Redis) settle(p *redisParameters) error {
	o := r.Options
	for _, a := range p.addrs {
		host, err := withPort(a)
		if err != nil {
			return fmt.Errorf("%w (addr)", err)
		}
		o.Addrs = append(o.Addrs, host)
	}
	if p.cluster != "" && p.cluster != "true" && p.cluster != "false" {
		return errors.New("has ?cluster= with another value than true or false")
	}
	o.MasterName, o.SentinelUsername, o.SentinelPassword = p.masterName, p.sentinelUser, p.sentinelPassword
	r.Sentinel = p.masterName != ""
	r.Cluster = !r.Sentinel && (p.cluster == "true" || len(o.Addrs) > 1)
	switch {
	case r.Sentinel && p.cluster == "true":
		return errors.New("has both ?master_name= and ?cluster=true: a Redis Cluster has no Sentinels")
	case !r.Sentinel && (p.sentinelUser != "" || p.sentinelPassword != ""):
		return errors.New("has credentials for Sentinels but no ?master_name=, the name they know the master by")
	case r.Cluster && p.cluster == "false":
		return errors.New("has several addresses and ?cluster=false: only a Cluster or Sentinels (?master_name=) have several")
	case r.Cluster && o.DB != 0:
		return errors.New("names a database, but a Redis Cluster has only database 0")
	}
	return nil
}

func redisURL(s *Settings, value string) error {
	s.RedisURL = value
	if value == "" {
		return nil
	}
	_, err := parseRedisURL(value)
	return err
}
