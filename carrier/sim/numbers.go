package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
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

// Numbers is the client of the simulated carrier's number API, over carrier/internal/api
// like those of the real ones. It is safe for concurrent use.
type Numbers struct{ api *api.Client }

// NewNumbers checks the settings and returns a client. Close it after use.
func NewNumbers(cfg NumbersConfig) (*Numbers, error) {
	if cfg.Token == "" {
		return nil, &vn.FieldError{Field: "token", Problem: "is missing"}
	}
	// It is a simulation: nobody minds how often it is asked, and it is soon well again.
	client, err := api.New(api.Config{
		BaseURL: cfg.APIURL, Plain: true, Secret: cfg.Token, Code: errorCode,
		Limits: carrier.Limits{Timeout: cfg.Timeout, PerSecond: 10_000, Burst: 1000, Concurrent: 64, Rest: time.Second},
	})
	if err != nil {
		return nil, err
	}
	return &Numbers{api: client}, nil
}

// errorCode finds the code in {"error":{"code"}}.
func errorCode(body []byte) string {
	var told struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &told) // a body of another form has none
	return told.Error.Code
}

// Close drops the idle connections.
func (n *Numbers) Close() { n.api.Close() }

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
	if err := n.api.Do(ctx, api.Get("/v1/available?"+query.Encode()), http.StatusOK, &page); err != nil {
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
	err := n.send(ctx, http.MethodPost, "/v1/numbers", req, http.StatusCreated, &got)
	if err != nil {
		return carrier.Bought{}, fmt.Errorf("sim: buy a number: %w", purchaseError(err))
	}
	bought, err := got.bought()
	if err != nil || bought.Number != number || bought.Ref == "" {
		return carrier.Bought{}, fmt.Errorf("sim: buy a number: %w: the answer names no number or another one", carrier.ErrUnknownOutcome)
	}
	return bought, nil
}

// purchaseError tells what an error means for a purchase.
func purchaseError(err error) error {
	var refusal *carrier.APIError
	if errors.As(err, &refusal) && refusal.Status == http.StatusConflict && refusal.Code == codeNotAvailable {
		return fmt.Errorf("%w (%w)", carrier.ErrNotAvailable, err)
	}
	return api.Purchase(err)
}

// send makes a request with a JSON body.
func (n *Numbers) send(ctx context.Context, method, path string, body any, status int, into any) error {
	r, err := api.JSON(method, path, body)
	if err != nil {
		return err
	}
	return n.api.Do(ctx, r, status, into)
}

// Configure lets calls to the number be announced at webhookURL. It may be repeated.
func (n *Numbers) Configure(ctx context.Context, b carrier.Bought, webhookURL string) error {
	req := map[string]string{"webhook_url": webhookURL}
	var got owned
	if err := n.send(ctx, http.MethodPatch, "/v1/numbers/"+url.PathEscape(b.Ref), req, http.StatusOK, &got); err != nil {
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
		r := api.Get("/v1/numbers?" + url.Values{"after": {after}}.Encode())
		if err := n.api.Do(ctx, r, http.StatusOK, &page); err != nil {
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
	err := n.api.Do(ctx, api.Delete("/v1/numbers/"+url.PathEscape(ref)), http.StatusNoContent, nil)
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
	return carrier.Bought{Number: number, Ref: o.ID, Tag: o.Ref, WebhookURL: o.WebhookURL, CallsGoTo: o.WebhookURL}, nil
}
