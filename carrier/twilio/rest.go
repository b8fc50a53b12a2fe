package twilio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
)

// ask makes one request with twilio-go's generated methods, over our own client.
//
// twilio-go takes no context anywhere, so each call gets a service of its own whose
// client carries it: that costs two small allocations. Its own client.Client is not
// used: it has one time-out for everything, reads answers of any length, repeats the
// carrier's words in its errors, and has a way on which a request that failed is made
// a second time, a POST too (client.go, doWithErr, for APIs of the version v1.0). Nor are
// its Stream and List methods: they page in a goroutine that nobody can stop.
func ask[T any](ctx context.Context, n *Numbers, request func(*openapi.ApiService) (T, error)) (T, error) {
	c := &sender{ctx: ctx, api: n.api, account: n.account}
	// Made by hand: its constructor would obey TWILIO_EDGE and TWILIO_REGION.
	got, err := request(openapi.NewApiService(&client.RequestHandler{Client: c}))
	if err != nil && c.err == nil {
		err = api.ErrUnexpected // of decoding; it would repeat what was read
	}
	return got, err
}

// sender is a client.BaseClient that makes requests within ctx, through api.
type sender struct {
	ctx     context.Context
	api     *api.Client
	account string
	err     error // what the request failed of
}

// SendRequest implements client.BaseClient. rawURL names Twilio's host; where the
// request really goes is api's to say.
func (c *sender) SendRequest(method, rawURL string, data url.Values, _ map[string]any, _ ...byte) (*http.Response, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		c.err = fmt.Errorf("%w: twilio-go made an address that is none", carrier.ErrNotSent)
		return nil, c.err
	}
	request := api.Request{Method: method, Path: u.EscapedPath()}
	if method == http.MethodPost {
		request = api.Form(method, request.Path, data)
	} else if len(data) > 0 {
		request.Path += "?" + data.Encode()
	}
	answer, err := c.api.Send(c.ctx, request)
	if err != nil {
		c.err = err
		return nil, err
	}
	return &http.Response{StatusCode: answer.Status, Body: io.NopCloser(bytes.NewReader(answer.Body))}, nil
}

// AccountSid implements client.BaseClient.
func (c *sender) AccountSid() string { return c.account }

// SetTimeout implements client.BaseClient; the deadline is api's.
func (c *sender) SetTimeout(time.Duration) {}

// SetOauth implements client.BaseClient; api authenticates.
func (c *sender) SetOauth(client.OAuth) {}

// OAuth implements client.BaseClient.
func (c *sender) OAuth() client.OAuth { return nil }

// errorCode finds the code in {"code":21422,"message":…,"status":400}.
func errorCode(body []byte) string {
	var told struct {
		Code int `json:"code"`
	}
	if json.Unmarshal(body, &told) != nil || told.Code <= 0 {
		return ""
	}
	return strconv.Itoa(told.Code)
}

// meaning adds to an error what Twilio's code says. region is that of the number.
// https://www.twilio.com/docs/api/errors
func (n *Numbers) meaning(err error, region string) error {
	var refusal *carrier.APIError
	if !errors.As(err, &refusal) {
		return err
	}
	switch refusal.Code {
	case "21422", "21421": // not available; not a number that Twilio could sell
		return fmt.Errorf("%w (%w)", carrier.ErrNotAvailable, err)
	case "21649": // the regulatory bundle is missing, not approved, or for another type
		return fmt.Errorf("%w: set bundles.%s to the id (BU…) of an approved regulatory bundle for %s numbers (%w)",
			carrier.ErrRequirementMissing, region, n.cfg.Type, err)
	case "21631", "21613", "21615": // an address is missing or does not fit; 21615 from memory, unverified
		return fmt.Errorf("%w: set addresses.%s to the id (AD…) of an address that fits %s numbers (%w)",
			carrier.ErrRequirementMissing, region, n.cfg.Type, err)
	case "20404":
		return fmt.Errorf("%w (%w)", carrier.ErrNotOwned, err)
	}
	return err
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
