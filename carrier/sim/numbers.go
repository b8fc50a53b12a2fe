package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/vn"
)

// maxPages bounds a list, so that a server whose pages never end cannot hold us.
const maxPages = 10_000

// NumbersConfig holds the settings of a Numbers.
type NumbersConfig struct {
	APIURL  string        // of the Server
	Token   string        // one of the Server's
	Timeout time.Duration // of each request; 0 means 10 s
}

// Numbers is the client of the simulated carrier's number API. It repeats nothing that
// changes something (net/http may repeat a read on a connection that was dropped). Errors: *carrier.APIError when the carrier said no, another one
// when it could not be asked or understood. It is safe for concurrent use.
type Numbers struct {
	base    string
	token   string
	timeout time.Duration
	client  *http.Client
}

// NewNumbers checks the settings and returns a client. Close it after use.
func NewNumbers(cfg NumbersConfig) (*Numbers, error) {
	if err := checkURL("api_url", cfg.APIURL); err != nil {
		return nil, err
	}
	if cfg.Token == "" {
		return nil, &vn.FieldError{Field: "token", Problem: "is missing"}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	return &Numbers{base: strings.TrimRight(cfg.APIURL, "/"), token: cfg.Token, timeout: cfg.Timeout, client: newClient()}, nil
}

// Close drops the idle connections.
func (n *Numbers) Close() { n.client.CloseIdleConnections() }

// Search returns up to limit numbers (1000 at most) for sale in the region (ISO 3166),
// fewer or none when there are no more. It reserves nothing.
func (n *Numbers) Search(ctx context.Context, region string, limit int) ([]carrier.Offer, error) {
	if limit <= 0 {
		return nil, nil
	}
	query := url.Values{"region": {region}, "limit": {strconv.Itoa(min(limit, maxPage))}}
	var page struct {
		Numbers []offer `json:"numbers"`
	}
	if err := n.do(ctx, http.MethodGet, "/v1/available?"+query.Encode(), nil, http.StatusOK, &page); err != nil {
		return nil, fmt.Errorf("sim: search numbers: %w", err)
	}
	offers := make([]carrier.Offer, 0, len(page.Numbers))
	for _, o := range page.Numbers {
		number, ok := vn.ParseE164(o.Number)
		if !ok {
			return nil, fmt.Errorf("sim: search numbers: %w", errNoNumber)
		}
		offers = append(offers, carrier.Offer{Number: number, Region: o.Region, Price: o.Price, Currency: o.Currency})
	}
	return offers, nil
}

// Buy buys exactly this number; ref (64 bytes at most) is what List tells it by
// later. carrier.ErrNotAvailable: somebody else has it, nothing was bought.
// carrier.ErrUnknownOutcome: the number may be ours; ask List before buying again.
func (n *Numbers) Buy(ctx context.Context, number vn.Number, ref string) (carrier.Bought, error) {
	var got owned
	req := map[string]string{"number": number.E164(), "ref": ref}
	err := n.do(ctx, http.MethodPost, "/v1/numbers", req, http.StatusCreated, &got)
	if err != nil {
		return carrier.Bought{}, fmt.Errorf("sim: buy a number: %w", purchaseError(err))
	}
	bought, err := got.bought()
	if err != nil || bought.Number != number || bought.Ref == "" {
		return carrier.Bought{}, fmt.Errorf("sim: buy a number: %w: the answer names no number or another one", carrier.ErrUnknownOutcome)
	}
	return bought, nil
}

// purchaseError tells what an error means for a purchase. Only an answer of the kind
// "no" proves that nothing was bought.
func purchaseError(err error) error {
	var api *carrier.APIError
	var early *notSentError
	switch {
	case errors.As(err, &early):
		return err
	case !errors.As(err, &api):
		return fmt.Errorf("%w (%w)", carrier.ErrUnknownOutcome, err)
	case api.Status == http.StatusConflict && api.Code == codeNotAvailable:
		return fmt.Errorf("%w (%w)", carrier.ErrNotAvailable, err)
	case api.Status >= http.StatusInternalServerError || api.Status == http.StatusRequestTimeout:
		return fmt.Errorf("%w (%w)", carrier.ErrUnknownOutcome, err)
	}
	return err
}

// Configure lets calls to the number be announced at webhookURL. It may be repeated.
func (n *Numbers) Configure(ctx context.Context, b carrier.Bought, webhookURL string) error {
	req := map[string]string{"webhook_url": webhookURL}
	var got owned
	if err := n.do(ctx, http.MethodPatch, "/v1/numbers/"+url.PathEscape(b.Ref), req, http.StatusOK, &got); err != nil {
		return fmt.Errorf("sim: configure a number: %w", err)
	}
	if got.ID != b.Ref || got.WebhookURL != webhookURL {
		return errors.New("sim: configure a number: the answer does not show the new address")
	}
	return nil
}

// List returns every number that the account owns, all pages, or an error: never a
// part of them.
func (n *Numbers) List(ctx context.Context) ([]carrier.Bought, error) {
	var all []carrier.Bought
	after := ""
	for range maxPages {
		var page struct {
			Numbers []owned `json:"numbers"`
			Next    *string `json:"next"`
		}
		if err := n.do(ctx, http.MethodGet, "/v1/numbers?"+url.Values{"after": {after}}.Encode(), nil, http.StatusOK, &page); err != nil {
			return nil, fmt.Errorf("sim: list numbers: %w", err)
		}
		if page.Next == nil || (*page.Next != "" && *page.Next == after) {
			return nil, errors.New("sim: list numbers: a page does not tell what follows it")
		}
		for i := range page.Numbers {
			b, err := page.Numbers[i].bought()
			if err != nil {
				return nil, fmt.Errorf("sim: list numbers: %w", err)
			}
			all = append(all, b)
		}
		if after = *page.Next; after == "" {
			return all, nil
		}
	}
	return nil, errors.New("sim: list numbers: the pages do not end")
}

// Release gives the number with this carrier id back. One that is gone is a success.
func (n *Numbers) Release(ctx context.Context, ref string) error {
	err := n.do(ctx, http.MethodDelete, "/v1/numbers/"+url.PathEscape(ref), nil, http.StatusNoContent, nil)
	var api *carrier.APIError
	if errors.As(err, &api) && api.Status == http.StatusNotFound && api.Code == codeNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sim: release a number: %w", err)
	}
	return nil
}

var errNoNumber = errors.New("the answer holds what is not a number")

func (o *owned) bought() (carrier.Bought, error) {
	number, ok := vn.ParseE164(o.Number)
	if !ok {
		return carrier.Bought{}, errNoNumber
	}
	return carrier.Bought{Number: number, Ref: o.ID, Tag: o.Ref, WebhookURL: o.WebhookURL}, nil
}

// notSentError marks a request that never left us.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// do makes one request within the time-out and decodes the answer into into, unless
// it is nil. A status from 400 on gives a *carrier.APIError.
func (n *Numbers) do(ctx context.Context, method, path string, body any, want int, into any) error {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return &notSentError{err}
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.base+path, content)
	if err != nil {
		return &notSentError{err}
	}
	if err := ctx.Err(); err != nil {
		return &notSentError{err}
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	if body != nil {
		req.Header.Set("Content-Type", jsonType)
	}
	resp, err := n.client.Do(req)
	var network *net.OpError
	if errors.As(err, &network) && network.Op == "dial" {
		return &notSentError{fmt.Errorf("reach the carrier: %w", err)}
	}
	if err != nil {
		return fmt.Errorf("ask the carrier: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer has been read; there is nothing to do about it
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return fmt.Errorf("read the carrier's answer: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return apiError(resp, answer)
	}
	if resp.StatusCode != want {
		return fmt.Errorf("the carrier answered HTTP %d where %d was expected", resp.StatusCode, want)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return errors.New("the carrier's answer is not the JSON that was expected")
	}
	return nil
}

// apiError reads a refusal. A body that is not of the API's form (a proxy's page) has
// no code.
func apiError(resp *http.Response, body []byte) error {
	e := &carrier.APIError{Status: resp.StatusCode}
	var told struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &told) == nil && len(told.Error.Code) <= 64 {
		e.Code = told.Error.Code
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		if seconds, err := strconv.Atoi(after); err == nil && seconds > 0 {
			e.RetryAfter = time.Duration(seconds) * time.Second
		} else if at, err := http.ParseTime(after); err == nil {
			e.RetryAfter = max(0, time.Until(at))
		}
	}
	return e
}
