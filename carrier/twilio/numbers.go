package twilio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// NumberType is a type of number that Twilio sells.
type NumberType string

// The types of number. Not every country has each of them.
const (
	Local    NumberType = "local"
	Mobile   NumberType = "mobile"
	TollFree NumberType = "toll_free"
)

// DefaultAPI and DefaultPricing are Twilio's own addresses.
const (
	DefaultAPI     = "https://api.twilio.com"
	DefaultPricing = "https://pricing.twilio.com"
)

const (
	maxOffers = 1000 // of one search, Twilio's limit
	maxRef    = 64   // characters of a FriendlyName, Twilio's limit
)

// NumbersConfig holds the settings of a Numbers.
type NumbersConfig struct {
	APIURL     string // empty: DefaultAPI
	AccountSID string // "AC…", whose numbers they are
	AuthToken  string // authenticates, unless an API key does
	APIKey     string // "SK…"; empty: AuthToken is used
	APISecret  string // of APIKey

	Type     NumberType // what is searched for; empty: Local
	AreaCode string     // three digits; only where the region is US or CA
	Contains string     // Twilio's pattern for the digits of a number, such as "555****"

	// MonthlyPrice is what a number costs, such as "1.15 USD". When it is empty
	// PricingURL is asked, DefaultPricing as a rule; when that is empty too, offers
	// have no price. Twilio's search itself quotes none. Nothing is searched for while
	// Twilio has never told the price of the region's numbers.
	MonthlyPrice string
	PricingURL   string

	// Bundles and Addresses hold by region (ISO 3166) what the law asks for: the id of
	// an approved regulatory bundle (BU…) or of an address (AD…), for numbers of Type.
	Bundles   map[string]string
	Addresses map[string]string

	// WebhookURL is set with the purchase already, so that no call to the number gets
	// lost; empty leaves it to Configure.
	WebhookURL string
	// FallbackURL is called when the webhook fails, MessageURL for messages, StatusURL
	// when a call has ended. What is empty is left as it is at Twilio.
	FallbackURL string
	MessageURL  string
	StatusURL   string

	// Limits: Twilio documents no rate, only that too many requests at once are refused;
	// the defaults are 10 a second and 4 under way.
	Limits carrier.Limits
}

// Numbers is the client of Twilio's number API. It never repeats a purchase. Errors
// are those of package carrier. It is safe for concurrent use.
// https://www.twilio.com/docs/phone-numbers/api
type Numbers struct {
	cfg     NumbersConfig
	account string
	api     *api.Client
	prices  prices
}

// NewNumbers checks the settings and returns a client. Close it after use. An error
// names the setting.
func NewNumbers(cfg NumbersConfig) (*Numbers, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Type = cmp.Or(cfg.Type, Local)
	n := &Numbers{cfg: cfg, account: cfg.AccountSID}
	at := api.Config{
		BaseURL: cmp.Or(cfg.APIURL, DefaultAPI), Code: errorCode, Limits: cfg.Limits,
		User: cfg.AccountSID, Secret: cfg.AuthToken,
	}
	if cfg.APIKey != "" {
		at.User, at.Secret = cfg.APIKey, cfg.APISecret
	}
	var err error
	if n.api, err = api.New(at); err != nil {
		return nil, err
	}
	return n, n.prices.open(cfg, at)
}

// Close drops the idle connections.
func (n *Numbers) Close() {
	n.api.Close()
	n.prices.close()
}

// Search returns up to limit numbers (1000 at most) for sale in the region (ISO 3166)
// that can be called and that need no papers but those configured. It reserves
// nothing.
func (n *Numbers) Search(ctx context.Context, region string, limit int) ([]carrier.Offer, error) {
	if limit <= 0 {
		return nil, nil
	}
	if err := numbering.CheckRegion(region); err != nil { // it becomes a part of the path
		return nil, fmt.Errorf("twilio: search numbers: the region %w", err)
	}
	price, err := n.prices.of(ctx, region, n.cfg.Type)
	if err != nil {
		return nil, fmt.Errorf("twilio: ask for the price of numbers: %w", err)
	}
	found, err := n.available(ctx, region, min(limit, maxOffers))
	if err != nil {
		return nil, fmt.Errorf("twilio: search numbers: %w", n.meaning(err, region))
	}
	offers := make([]carrier.Offer, 0, len(found))
	for i := range found {
		number, ok := vn.ParseE164(value(found[i].PhoneNumber))
		if !ok {
			return nil, fmt.Errorf("twilio: search numbers: %w", api.ErrUnexpected)
		}
		if c := found[i].Capabilities; c != nil && c.Voice && len(offers) < limit {
			offers = append(offers, carrier.Offer{Number: number, Region: region, Price: price.amount, Currency: price.currency})
		}
	}
	return offers, nil
}

// available asks for one page, which holds all that a search finds.
func (n *Numbers) available(ctx context.Context, region string, limit int) ([]openapi.ApiV2010AvailablePhoneNumberLocal, error) {
	p := new(openapi.ListAvailablePhoneNumberLocalParams).SetVoiceEnabled(true).SetPageSize(limit).
		SetExcludeAllAddressRequired(n.cfg.Addresses[region] == "")
	if n.cfg.Contains != "" {
		p.SetContains(n.cfg.Contains)
	}
	if code, err := strconv.Atoi(n.cfg.AreaCode); err == nil && (region == "US" || region == "CA") {
		p.SetAreaCode(code)
	}
	return ask(ctx, n, func(s *openapi.ApiService) ([]openapi.ApiV2010AvailablePhoneNumberLocal, error) {
		switch n.cfg.Type {
		case Mobile:
			page, err := s.PageAvailablePhoneNumberMobile(region, (*openapi.ListAvailablePhoneNumberMobileParams)(p), "", "")
			if err != nil {
				return nil, err
			}
			return locals(page.AvailablePhoneNumbers)
		case TollFree:
			page, err := s.PageAvailablePhoneNumberTollFree(region, (*openapi.ListAvailablePhoneNumberTollFreeParams)(p), "", "")
			if err != nil {
				return nil, err
			}
			return locals(page.AvailablePhoneNumbers)
		default:
			page, err := s.PageAvailablePhoneNumberLocal(region, p, "", "")
			if err != nil {
				return nil, err
			}
			return locals(page.AvailablePhoneNumbers)
		}
	})
}

// locals turns what is found into one type: to twilio-go local, mobile and toll-free
// numbers are types of their own that differ in nothing but the name. JSON that has
// no list at all is not an empty one.
func locals[T openapi.ApiV2010AvailablePhoneNumberLocal | openapi.ApiV2010AvailablePhoneNumberMobile |
	openapi.ApiV2010AvailablePhoneNumberTollFree](found []T,
) ([]openapi.ApiV2010AvailablePhoneNumberLocal, error) {
	if found == nil {
		return nil, api.ErrUnexpected
	}
	all := make([]openapi.ApiV2010AvailablePhoneNumberLocal, len(found))
	for i := range found {
		all[i] = openapi.ApiV2010AvailablePhoneNumberLocal(found[i])
	}
	return all, nil
}

// Buy buys exactly this number, with all its settings; ref (64 characters at most) is
// kept as its friendly name, which List tells it by later. carrier.ErrNotAvailable:
// somebody else has it. carrier.ErrRequirementMissing: the law asks for papers.
// carrier.ErrUnknownOutcome: the number may be ours; ask List before buying again.
func (n *Numbers) Buy(ctx context.Context, number vn.Number, ref string) (carrier.Bought, error) {
	if len(ref) > maxRef {
		return carrier.Bought{}, fmt.Errorf("twilio: buy a number: %w: the reference is longer than %d characters", carrier.ErrNotSent, maxRef)
	}
	region := numbering.Region(number)
	p := new(openapi.CreateIncomingPhoneNumberParams).SetPhoneNumber(number.E164()).SetFriendlyName(ref)
	if bundle := n.cfg.Bundles[region]; bundle != "" {
		p.SetBundleSid(bundle)
	}
	if address := n.cfg.Addresses[region]; address != "" {
		p.SetAddressSid(address)
	}
	n.addSettings(p)
	got, err := ask(ctx, n, func(s *openapi.ApiService) (*openapi.ApiV2010IncomingPhoneNumber, error) {
		return s.CreateIncomingPhoneNumber(p)
	})
	if err != nil {
		return carrier.Bought{}, fmt.Errorf("twilio: buy a number: %w", api.Purchase(n.meaning(err, region)))
	}
	bought, err := n.bought(got)
	if err != nil || bought.Number != number {
		return carrier.Bought{}, fmt.Errorf("twilio: buy a number: %w: the answer names no number or another one", carrier.ErrUnknownOutcome)
	}
	return bought, nil
}

// Release gives the number with this id up. One that is gone is a success. Twilio
// keeps a released number from being bought again for hours or days.
func (n *Numbers) Release(ctx context.Context, ref string) error {
	if !isSID(ref, "PN") {
		return fmt.Errorf("twilio: release a number: %w", errRef)
	}
	_, err := ask(ctx, n, func(s *openapi.ApiService) (struct{}, error) {
		return struct{}{}, s.DeleteIncomingPhoneNumber(ref, nil)
	})
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("twilio: release a number: %w", err)
	}
	return nil
}

var errRef = fmt.Errorf("%w: the carrier's id of the number is not one of Twilio's (PN…)", carrier.ErrNotSent)

// isSID keeps anything else from becoming a part of a path: twilio-go escapes nothing.
func isSID(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || rest == "" || len(s) > 64 {
		return false
	}
	for i := range len(rest) {
		if c := rest[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// check tells what is wrong with the settings.
func (c *NumbersConfig) check() error {
	if err := checkAccount(c.AccountSID); err != nil {
		return err
	}
	switch {
	case c.APIKey == "" && c.AuthToken == "":
		return &vn.FieldError{Field: "auth_tokens", Problem: "is missing: numbers are bought with it, or with api_key and api_secret"}
	case (c.APIKey == "") != (c.APISecret == ""):
		return &vn.FieldError{Field: "api_key", Problem: "and api_secret go together"}
	case c.APIKey != "" && !isSID(c.APIKey, "SK"):
		return &vn.FieldError{Field: "api_key", Problem: "must begin with SK: it is the id of an API key"}
	}
	switch c.Type {
	case "", Local, Mobile, TollFree:
	default:
		return &vn.FieldError{Field: "number_type", Problem: "must be local, mobile or toll_free"}
	}
	if code, err := strconv.Atoi(c.AreaCode); c.AreaCode != "" && (err != nil || len(c.AreaCode) != 3 || code < 200) {
		return &vn.FieldError{Field: "area_code", Problem: "must be three digits, such as 415"}
	}
	for _, papers := range []struct {
		field, prefix string
		by            map[string]string
	}{{"bundles", "BU", c.Bundles}, {"addresses", "AD", c.Addresses}} {
		for region, sid := range papers.by {
			if err := numbering.CheckRegion(region); err != nil {
				return &vn.FieldError{Field: papers.field, Problem: "holds a region that is none: it " + err.Error()}
			}
			if !isSID(sid, papers.prefix) {
				return &vn.FieldError{Field: papers.field + "." + region, Problem: "must be an id that begins with " + papers.prefix}
			}
		}
	}
	return nil
}

// isGone tells whether Twilio does not have what the request was about.
func isGone(err error) bool {
	var refusal *carrier.APIError
	return errors.As(err, &refusal) && refusal.Status == http.StatusNotFound && refusal.Code == "20404"
}
