package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/vn"
)

// Config holds the settings of one account at one API.
type Config struct {
	// BaseURL is what the requests' paths are appended to: https, or http to a loopback
	// address.
	BaseURL string
	// Plain allows http to any address: for a simulated carrier, whose secret is worth
	// nothing.
	Plain bool
	// User and Secret authenticate every request (basic); without a User the Secret is
	// a bearer token.
	User, Secret string
	// Code finds the carrier's own error code in the body of a refusal; nil when it has
	// none. What it returns is shown only if it looks like a code.
	Code func(body []byte) string

	// Limits: 10 s for each request, 10 requests a second and at once, 4 under way, and
	// 30 s of rest after 5 failures in a row, where they say nothing else.
	Limits carrier.Limits
}

// Client makes requests to one API. It is safe for concurrent use.
type Client struct {
	cfg     Config
	base    string
	http    *http.Client
	slots   chan struct{}
	limiter *rate.Limiter
	breaker *gobreaker.CircuitBreaker[Answer]
}

// Request is one request to the API.
type Request struct {
	Method string
	Path   string // below the base, escaped, with its query
	Type   string // media type of Body
	Body   []byte // nil sends none
}

// Answer is the success that a request was answered with: a status from 200 to 299,
// and JSON or nothing.
type Answer struct {
	Status int
	Body   []byte
}

// New checks the settings and returns a client. Close it after use.
func New(cfg Config) (*Client, error) {
	if err := checkBase(cfg.BaseURL, cfg.Plain); err != nil {
		return nil, err
	}
	if err := cfg.Limits.Check(); err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.Or(carrier.Limits{
		Timeout: 10 * time.Second, PerSecond: 10, Burst: 10, Concurrent: 4, Failures: 5, Rest: 30 * time.Second,
	})
	limits := cfg.Limits
	return &Client{
		cfg: cfg, base: strings.TrimRight(cfg.BaseURL, "/"), http: newHTTP(limits.Concurrent),
		slots:   make(chan struct{}, limits.Concurrent),
		limiter: rate.NewLimiter(rate.Limit(limits.PerSecond), limits.Burst),
		breaker: gobreaker.NewCircuitBreaker[Answer](gobreaker.Settings{
			Timeout:      limits.Rest,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= limits.Failures },
			IsSuccessful: isAlive,
			IsExcluded:   isOurs,
		}),
	}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// checkBase refuses an address that would send the account's key in clear over a
// network.
func checkBase(base string, plain bool) error {
	const field = "api_url"
	if base == "" {
		return &vn.FieldError{Field: field, Problem: "is missing"}
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return &vn.FieldError{Field: field, Problem: "must be an address such as https://api.example.com"}
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return &vn.FieldError{Field: field, Problem: "must not hold a password, a query or a fragment"}
	}
	if u.Scheme == "http" && !plain && !isLoopback(u.Hostname()) {
		return &vn.FieldError{Field: field, Problem: "must be https: the account's key goes there"}
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newHTTP returns a client with connections of its own. It goes through no proxy of
// the environment, which would see the account's numbers, and follows no redirect,
// which would repeat a purchase elsewhere. By itself net/http repeats a request only
// when it is a read, or when its connection was dead before a byte was written.
func newHTTP(connections int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: connections,
			IdleConnTimeout:     time.Minute,
			TLSHandshakeTimeout: 5 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Get makes a read.
func Get(path string) Request { return Request{Method: http.MethodGet, Path: path} }

// Delete makes a deletion.
func Delete(path string) Request { return Request{Method: http.MethodDelete, Path: path} }

// Form makes a request with a form as its body.
func Form(method, path string, form url.Values) Request {
	return Request{Method: method, Path: path, Type: "application/x-www-form-urlencoded", Body: []byte(form.Encode())}
}

// JSON makes a request with body's JSON as its body.
func JSON(method, path string, body any) (Request, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return Request{}, fmt.Errorf("%w: %w", carrier.ErrNotSent, err)
	}
	return Request{Method: method, Path: path, Type: "application/json", Body: b}, nil
}

// Do is Send for an answer that must have this status and, unless into is nil, hold
// JSON of its shape.
func (c *Client) Do(ctx context.Context, r Request, status int, into any) error {
	a, err := c.Send(ctx, r)
	if err != nil {
		return err
	}
	if a.Status != status {
		return fmt.Errorf("the carrier answered HTTP %d where %d was expected", a.Status, status)
	}
	if into == nil {
		return nil
	}
	if json.Unmarshal(a.Body, into) != nil { // its error repeats what was read
		return ErrUnexpected
	}
	return nil
}

// Errors about an answer that is not what the API's documentation says.
var (
	ErrNotJSON    = errors.New("the carrier's answer is not JSON; is api_url the right address, or is a proxy in between?")
	ErrUnexpected = errors.New("the carrier's answer is not the JSON that was expected")
)
