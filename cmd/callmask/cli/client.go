package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/replenisher"
)

// requestTimeout bounds one request; an import of many numbers takes the longest.
const requestTimeout = 2 * time.Minute

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// client speaks with the private API of a running system.
type client struct {
	base, token string
	http        *http.Client
}

// dial finds the running system: its address, and the token in the setting or in the
// data directory.
func (p *Process) dial() (*client, error) {
	s, err := p.where()
	if err != nil {
		return nil, err
	}
	token := s.APIToken
	if token == "" {
		path := filepath.Join(s.DataDir, app.TokenFile)
		token, err = app.ReadToken(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("CALLMASK_API_TOKEN: is not set, and there is no %s", path)
		}
		if err != nil {
			return nil, fmt.Errorf("CALLMASK_API_TOKEN: %w", err)
		}
	}
	host, port, err := net.SplitHostPort(s.AdminAddr)
	if err != nil {
		return nil, fmt.Errorf("CALLMASK_ADMIN_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return &client{
		base: "http://" + net.JoinHostPort(host, port), token: token,
		http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}, nil
}

// problem is an RFC 9457 answer of the API.
type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
	Errors []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"errors"` // where several fields are at fault
	Diff *replenisher.Diff `json:"diff"` // of a comparison that changed nothing
}

// refusal is a problem as an error.
type refusal struct {
	problem

	err error
}

func (e *refusal) Error() string { return e.err.Error() }

// call sends a request; in and out may be nil. What callmask refuses is a noError,
// everything else that goes wrong is not.
func (c *client) call(ctx context.Context, method, path string, in, out any) (status int, err error) {
	res, err := c.send(ctx, method, path, "application/json", in)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return res.StatusCode, fmt.Errorf("reading the answer: %w", err)
	}
	if res.StatusCode >= 400 {
		return res.StatusCode, refused(res.StatusCode, b)
	}
	if out == nil || len(b) == 0 {
		return res.StatusCode, nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return res.StatusCode, fmt.Errorf("the answer is not callmask's: is CALLMASK_ADMIN_ADDR right?")
	}
	return res.StatusCode, nil
}

// send sends a request and returns the answer, whose body the caller closes.
func (c *client) send(ctx context.Context, method, path, accept string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", accept)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which may hold a number
		}
		return nil, fmt.Errorf("no answer from %s (CALLMASK_ADMIN_ADDR): %w", c.base, err)
	}
	return res, nil
}

func refused(status int, body []byte) error {
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return fmt.Errorf("HTTP %d, not an answer of callmask's API: is CALLMASK_ADMIN_ADDR right?", status)
	}
	return p.asError(status)
}

func (p *problem) asError(status int) error {
	err := errors.New(p.Code)
	if p.Detail != "" && !strings.HasPrefix(p.Detail, p.Code) {
		err = fmt.Errorf("%s: %s", p.Code, p.Detail)
	} else if p.Detail != "" {
		err = errors.New(p.Detail)
	}
	told := &refusal{problem: *p, err: err}
	if status == http.StatusUnauthorized || status >= 500 && p.Code != "pool_exhausted" {
		return told
	}
	return &noError{told}
}
