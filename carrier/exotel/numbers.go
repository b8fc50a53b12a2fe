package exotel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// NumberType is a type of number that Exotel sells.
type NumberType string

// The types of number.
const (
	Landline NumberType = "landline"
	Mobile   NumberType = "mobile"
	TollFree NumberType = "toll_free"
)

// The addresses of Exotel's API; an account is in one of them.
const (
	Singapore = "https://api.exotel.com"
	Mumbai    = "https://api.in.exotel.com"
)

// NumbersConfig holds the settings of a Numbers.
type NumbersConfig struct {
	APIURL     string // Singapore or Mumbai, where the account is; empty: Singapore
	AccountSID string // the account's id
	APIKey     string
	APIToken   string
	// AppID is the flow that numbers are attached to: its Connect applet asks our
	// webhook. Exotel's numbers hold no address of ours, only the flow does.
	AppID string
	// MessageAppID is the flow that gets messages; empty: the number keeps what it has.
	MessageAppID string

	Type     NumberType // what is searched for; empty: Landline
	Circle   string     // telecom circle, such as KA; empty: all
	Contains string     // digits that the numbers must contain
	// Currency of the prices that a search quotes (Exotel leaves it out there); empty:
	// INR in India, elsewhere offers have no price.
	Currency string

	// Limits: the defaults are 40 requests a minute and 10 at once, which stays within
	// the 50 a minute that Exotel allows an account, and 2 under way.
	Limits carrier.Limits
	// ReleaseWait is how long Release waits for a number to be gone (0 means 15 s), and
	// ReleasePoll how often it looks (0 means 3 s).
	ReleaseWait, ReleasePoll time.Duration
}

// Numbers is the client of Exotel's ExoPhone API. It never repeats a purchase. Errors
// are those of package carrier. It is safe for concurrent use.
// https://developer.exotel.com/docs/exophones/overview
type Numbers struct {
	cfg      NumbersConfig
	api      *api.Client
	account  string // path of the account
	voiceURL string // what the numbers are attached to
}

// NewNumbers checks the settings and returns a client. Close it after use. An error
// names the setting.
func NewNumbers(cfg NumbersConfig) (*Numbers, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Type = cmp.Or(cfg.Type, Landline)
	cfg.Limits = cfg.Limits.Or(carrier.Limits{PerSecond: 40. / 60, Burst: 10, Concurrent: 2})
	cfg.ReleaseWait = cmp.Or(cfg.ReleaseWait, 15*time.Second)
	cfg.ReleasePoll = cmp.Or(cfg.ReleasePoll, 3*time.Second)
	client, err := api.New(api.Config{
		BaseURL: cmp.Or(cfg.APIURL, Singapore), User: cfg.APIKey, Secret: cfg.APIToken, Code: errorCode, Limits: cfg.Limits,
	})
	if err != nil {
		return nil, err
	}
	return &Numbers{
		cfg: cfg, api: client, account: "/v2_beta/Accounts/" + cfg.AccountSID,
		voiceURL: flowURL(cfg.AccountSID, "start_voice", cfg.AppID),
	}, nil
}

// Close drops the idle connections.
func (n *Numbers) Close() { n.api.Close() }

// WebhookURL is what Configure takes and what a number that is attached to the flow
// shows as its WebhookURL: the flow's address at Exotel, not ours.
func (n *Numbers) WebhookURL() string { return n.voiceURL }

// flowURL is the address of a flow. Exotel documents http, for calls within its own
// network, and no host of its own for Mumbai.
func flowURL(account, kind, app string) string {
	return "http://my.exotel.com/" + account + "/exoml/" + kind + "/" + app
}

// Search returns up to limit numbers for sale in the region (ISO 3166) that can be
// called. It reserves nothing.
func (n *Numbers) Search(ctx context.Context, region string, limit int) ([]carrier.Offer, error) {
	if limit <= 0 {
		return nil, nil
	}
	if err := numbering.CheckRegion(region); err != nil { // it becomes a part of the path
		return nil, fmt.Errorf("exotel: search numbers: the region %w", err)
	}
	query := url.Values{}
	if n.cfg.Circle != "" {
		query.Set("InRegion", n.cfg.Circle)
	}
	if n.cfg.Contains != "" {
		query.Set("Contains", n.cfg.Contains)
	}
	var found []exoPhone
	path := n.account + "/AvailablePhoneNumbers/" + region + "/" + n.cfg.Type.path() + "?" + query.Encode()
	if err := n.api.Do(ctx, api.Get(path), http.StatusOK, &found); err != nil {
		return nil, fmt.Errorf("exotel: search numbers: %w", err)
	}
	if found == nil {
		return nil, fmt.Errorf("exotel: search numbers: %w", api.ErrUnexpected)
	}
	offers := make([]carrier.Offer, 0, min(limit, len(found)))
	for i := range found {
		number, ok := found[i].number()
		if !ok {
			return nil, fmt.Errorf("exotel: search numbers: %w", api.ErrUnexpected)
		}
		if found[i].Capabilities.Voice && len(offers) < limit {
			price, currency := found[i].price(n.currency(region))
			offers = append(offers, carrier.Offer{Number: number, Region: region, Price: price, Currency: currency})
		}
	}
	return offers, nil
}

func (n *Numbers) currency(region string) string {
	if n.cfg.Currency == "" && region == "IN" {
		return "INR"
	}
	return n.cfg.Currency
}

// Buy buys exactly this number, attached to the flow; ref is kept as its friendly name,
// which List tells it by later. carrier.ErrNotAvailable: somebody else has it.
// carrier.ErrUnknownOutcome: the number may be ours; ask List before buying again.
func (n *Numbers) Buy(ctx context.Context, number vn.Number, ref string) (carrier.Bought, error) {
	form := n.attachment()
	form.Set("PhoneNumber", number.E164())
	form.Set("FriendlyName", ref)
	a, err := n.api.Send(ctx, api.Form(http.MethodPost, n.account+"/IncomingPhoneNumbers", form))
	if err != nil {
		return carrier.Bought{}, fmt.Errorf("exotel: buy a number: %w", purchaseError(err))
	}
	bought, err := n.read(a)
	if err != nil || bought.Number != number {
		return carrier.Bought{}, fmt.Errorf("exotel: buy a number: %w: the answer names no number or another one", carrier.ErrUnknownOutcome)
	}
	return bought, nil
}

// purchaseError tells what an error means for a purchase. Exotel does not document
// how it says that a number was sold meanwhile (unverified): by the meaning of the
// statuses that it does document it is "not found" or "conflict".
// https://developer.exotel.com/docs/references/error-codes
func purchaseError(err error) error {
	var refusal *carrier.APIError
	if errors.As(err, &refusal) && refusal.Code != "" && (refusal.Status == http.StatusNotFound || refusal.Status == http.StatusConflict) {
		return fmt.Errorf("%w (%w)", carrier.ErrNotAvailable, err)
	}
	return api.Purchase(err)
}

// attachment is the form that attaches a number to the flows.
func (n *Numbers) attachment() url.Values {
	form := url.Values{"VoiceUrl": {n.voiceURL}}
	if n.cfg.MessageAppID != "" {
		form.Set("SMSUrl", flowURL(n.cfg.AccountSID, "start_sms", n.cfg.MessageAppID))
	}
	return form
}

// Configure attaches the number to the flow of AppID; webhookURL must be WebhookURL. It
// may be repeated. carrier.ErrNotOwned: the account does not have the number.
func (n *Numbers) Configure(ctx context.Context, b carrier.Bought, webhookURL string) error {
	if webhookURL != n.voiceURL {
		return fmt.Errorf("exotel: attach a number: %w: a number can be attached to the flow of app_id alone", carrier.ErrNotSent)
	}
	path, err := n.path(b.Ref)
	if err != nil {
		return fmt.Errorf("exotel: attach a number: %w", err)
	}
	a, err := n.api.Send(ctx, api.Form(http.MethodPut, path, n.attachment()))
	if isGone(err) {
		err = fmt.Errorf("%w (%w)", carrier.ErrNotOwned, err)
	}
	if err != nil {
		return fmt.Errorf("exotel: attach a number: %w", err)
	}
	got, err := n.read(a)
	if err != nil || got.Ref != b.Ref || got.WebhookURL != n.voiceURL {
		return errors.New("exotel: attach a number: the answer does not show the flow")
	}
	return nil
}

// Release gives the number with this id up, for good. Exotel does it some time later:
// carrier.ErrPending means that it was still there after ReleaseWait or when ctx ended.
// One that is gone is a success, so repeating a release tells whether it is done.
func (n *Numbers) Release(ctx context.Context, ref string) error {
	path, err := n.path(ref)
	if err != nil {
		return fmt.Errorf("exotel: release a number: %w", err)
	}
	if _, err := n.api.Send(ctx, api.Delete(path)); isGone(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("exotel: release a number: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ReleaseWait)
	defer cancel()
	poll := time.NewTicker(n.cfg.ReleasePoll)
	defer poll.Stop()
	for {
		// Its own page, not the list: that takes a request for every 50 numbers, of 50 a
		// minute. A failure to read it tells nothing; the release has been accepted.
		if _, err := n.api.Send(ctx, api.Get(path)); isGone(err) {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("exotel: release a number: %w", carrier.ErrPending)
		}
	}
}

// isGone tells whether Exotel does not have what the request was about. A 404 without
// Exotel's own words may come from anybody.
func isGone(err error) bool {
	var refusal *carrier.APIError
	return errors.As(err, &refusal) && refusal.Status == http.StatusNotFound && refusal.Code != ""
}

// path is the address of a number of the account's.
func (n *Numbers) path(ref string) (string, error) {
	if !isID(ref) {
		return "", fmt.Errorf("%w: the carrier's id of the number is not one of Exotel's", carrier.ErrNotSent)
	}
	return n.account + "/IncomingPhoneNumbers/" + ref, nil
}

// isID tells whether s can be a part of a path as it is.
func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func (t NumberType) path() string {
	switch t {
	case Mobile:
		return "Mobile"
	case TollFree:
		return "TollFree"
	default:
		return "Landline"
	}
}

// check tells what is wrong with the settings.
func (c *NumbersConfig) check() error {
	for _, id := range []struct{ field, value string }{{"account_sid", c.AccountSID}, {"app_id", c.AppID}} {
		if !isID(id.value) {
			return &vn.FieldError{Field: id.field, Problem: "must be letters and digits, as Exotel's dashboard shows it"}
		}
	}
	switch {
	case c.MessageAppID != "" && !isID(c.MessageAppID):
		return &vn.FieldError{Field: "message_app_id", Problem: "must be letters and digits, as Exotel's dashboard shows it"}
	case c.APIKey == "":
		return &vn.FieldError{Field: "api_key", Problem: "is missing"}
	case c.APIToken == "":
		return &vn.FieldError{Field: "api_token", Problem: "is missing"}
	case c.Currency != "" && !api.IsCurrency(c.Currency):
		return &vn.FieldError{Field: "currency", Problem: "must be an ISO 4217 code such as INR"}
	}
	switch c.Type {
	case "", Landline, Mobile, TollFree:
		return nil
	}
	return &vn.FieldError{Field: "number_type", Problem: "must be landline, mobile or toll_free"}
}
