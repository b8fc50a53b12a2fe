package twilio

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
	"github.com/callmask/callmask/vn"
)

// priceAge is how old a price may become before it is asked for again.
const priceAge = time.Hour

// price is what a number costs a month; the zero price is an unknown one.
type price struct {
	amount   string // a decimal, such as "1.15"
	currency string // ISO 4217
	at       time.Time
}

// prices knows what numbers cost: by the settings, or from Twilio's pricing API.
type prices struct {
	fixed price
	api   *api.Client // nil: nobody is asked

	mu       sync.Mutex
	byRegion map[string]price
}

// open checks the settings; at is how Twilio's other API is asked.
func (p *prices) open(cfg NumbersConfig, at api.Config) (err error) {
	if cfg.MonthlyPrice != "" {
		p.fixed, err = parsePrice(cfg.MonthlyPrice)
		return err
	}
	if cfg.PricingURL == "" {
		return nil
	}
	at.BaseURL = cfg.PricingURL
	p.byRegion = make(map[string]price)
	p.api, err = api.New(at)
	if field := (*vn.FieldError)(nil); errors.As(err, &field) {
		field.Field = "pricing_url"
	}
	return err
}

func (p *prices) close() {
	if p.api != nil {
		p.api.Close()
	}
}

// of returns the monthly price of a number. When Twilio does not tell it now, the last
// one it told holds on; a country or type that it has no price for gives the zero one.
func (p *prices) of(ctx context.Context, region string, kind NumberType) (price, error) {
	if p.api == nil {
		return p.fixed, nil
	}
	p.mu.Lock()
	known, ok := p.byRegion[region]
	p.mu.Unlock()
	if ok && time.Since(known.at) < priceAge {
		return known, nil
	}
	got, err := p.ask(ctx, region, kind)
	if err != nil && ok {
		return known, nil
	}
	if err != nil {
		return price{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byRegion[region] = got
	return got, nil
}

// ask reads the account's own price of a region.
// https://www.twilio.com/docs/phone-numbers/pricing
func (p *prices) ask(ctx context.Context, region string, kind NumberType) (price, error) {
	var told struct {
		Unit   string `json:"price_unit"`
		Prices []struct {
			Type    string `json:"number_type"` // "local", "mobile", "toll free"
			Current string `json:"current_price"`
		} `json:"phone_number_prices"`
	}
	got := price{at: time.Now()}
	err := p.api.Do(ctx, api.Get("/v1/PhoneNumbers/Countries/"+region), http.StatusOK, &told)
	if refusal := (*carrier.APIError)(nil); errors.As(err, &refusal) && refusal.Status == http.StatusNotFound {
		return got, nil
	}
	if err != nil {
		return price{}, err
	}
	for _, offer := range told.Prices {
		if strings.ReplaceAll(strings.ToLower(offer.Type), " ", "_") != string(kind) {
			continue
		}
		quoted, err := parsePrice(offer.Current + " " + strings.ToUpper(told.Unit))
		if err != nil {
			return price{}, api.ErrUnexpected
		}
		got.amount, got.currency = quoted.amount, quoted.currency
	}
	return got, nil
}

// parsePrice reads a price such as "1.15 USD".
func parsePrice(s string) (price, error) {
	amount, currency, _ := strings.Cut(s, " ")
	whole, cents, point := strings.Cut(amount, ".")
	if !isDigits(whole) || point && !isDigits(cents) || !api.IsCurrency(currency) {
		return price{}, &vn.FieldError{Field: "monthly_price", Problem: "must be an amount and a currency, such as 1.15 USD"}
	}
	return price{amount: amount, currency: currency}, nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 12
}
