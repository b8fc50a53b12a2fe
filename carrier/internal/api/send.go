package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/callmask/callmask/carrier"
)

const (
	// maxAnswer bounds what is read of an answer: 1000 numbers take less than 2 MiB.
	maxAnswer = 8 << 20
	// tries is how often a read is made at most.
	tries = 3
	// firstPause is waited before a read is repeated, twice as long each time.
	firstPause = 250 * time.Millisecond
	// maxPause is how long a read waits for what the carrier asked for. A longer
	// Retry-After is left to the caller.
	maxPause = 5 * time.Second
)

// Send makes a request within ctx and the limits of the account. A GET is repeated
// when the carrier failed, at most twice, and only while ctx leaves the time; nothing
// else ever is. The error is, or wraps, one of package carrier's.
func (c *Client) Send(ctx context.Context, r Request) (Answer, error) {
	for try := 1; ; try++ {
		a, err := c.attempt(ctx, r)
		if err == nil || r.Method != http.MethodGet || try == tries || !mayPass(err) || !pause(ctx, err, try) {
			return a, err
		}
	}
}

// mayPass tells whether the same read may succeed a moment later.
func mayPass(err error) bool {
	if isOurs(err) || errors.Is(err, carrier.ErrCircuitOpen) {
		return false
	}
	var refusal *carrier.APIError
	return !errors.As(err, &refusal) || !saysNo(refusal.Status) || refusal.Status == http.StatusTooManyRequests
}

// pause waits before the next try; false when there is no time for it.
func pause(ctx context.Context, err error, try int) bool {
	d := firstPause << (try - 1)
	d += rand.N(d / 4) //nolint:gosec // several clients should not come back in step; it need not be unguessable
	var refusal *carrier.APIError
	if errors.As(err, &refusal) && refusal.RetryAfter > 0 {
		d = refusal.RetryAfter
	}
	if deadline, ok := ctx.Deadline(); d > maxPause || ok && time.Until(deadline) < d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt makes one try, as soon as the account's limits allow it.
func (c *Client) attempt(ctx context.Context, r Request) (Answer, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return Answer{}, &oursError{ctx.Err()}
	}
	defer func() { <-c.slots }()
	a, err := c.breaker.Execute(func() (Answer, error) {
		if err := c.limiter.Wait(ctx); err != nil {
			if ctx.Err() == nil {
				err = errors.New("the account's own limit of requests leaves no turn before the deadline")
			}
			return Answer{}, &oursError{err}
		}
		return c.exchange(ctx, r)
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return Answer{}, fmt.Errorf("%w: %w", carrier.ErrNotSent, carrier.ErrCircuitOpen)
	}
	return a, err
}

// exchange sends the request and reads its answer.
func (c *Client) exchange(ctx context.Context, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.Timeout)
	defer cancel()
	var connected atomic.Bool // before that nothing can have been sent
	req, err := c.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}), r)
	if err != nil {
		return Answer{}, &oursError{err}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // without the URL
		}
		if !connected.Load() {
			return Answer{}, fmt.Errorf("%w: %w", carrier.ErrNotSent, err)
		}
		return Answer{}, fmt.Errorf("the carrier did not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer has been read; there is nothing to do about it
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("read the carrier's answer: %w", err)
	case resp.StatusCode >= http.StatusBadRequest:
		return Answer{}, c.refusal(resp, body)
	case resp.StatusCode >= http.StatusMultipleChoices:
		return Answer{}, fmt.Errorf("the carrier answered HTTP %d, which leads elsewhere; check api_url", resp.StatusCode)
	case len(body) > maxAnswer:
		return Answer{}, fmt.Errorf("the carrier's answer is longer than %d bytes", maxAnswer)
	case len(body) > 0 && !json.Valid(body):
		return Answer{}, ErrNotJSON
	}
	return Answer{Status: resp.StatusCode, Body: body}, nil
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base+r.Path, body)
	if err != nil {
		return nil, errors.New("the request cannot be written as HTTP") // the error would repeat the URL
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "callmask")
	if r.Body != nil {
		req.Header.Set("Content-Type", r.Type)
	}
	if c.cfg.User != "" {
		req.SetBasicAuth(c.cfg.User, c.cfg.Secret)
	} else {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Secret)
	}
	return req, nil
}
