package settings

import (
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/vn"
)

// NumberClient is a carrier's number API.
type NumberClient interface {
	replenisher.Numbers
	// Close drops the idle connections.
	Close()
}

// quick makes Twilio give up on us early and turn to the number's fallback URL. It is
// not part of what Twilio signs.
// https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
const quick = "#ct=500&rt=2000&rc=1&rp=ct,rt,5xx"

// Sells tells whether numbers are bought from the carrier: it has a number API that we
// speak, and the settings that it needs.
func (c *Carrier) Sells() bool {
	switch c.Kind {
	case Twilio, Sim:
		return true
	case Exotel:
		return c.AppID != "" || c.APIKey != "" || c.APIToken != ""
	}
	return false
}

// Numbers makes the client of the carrier's number API at apiURL; Close it after use. An
// error is a *vn.FieldError that names the key.
func (c *Carrier) Numbers(apiURL string) (NumberClient, error) {
	switch c.Kind {
	case Twilio:
		cfg := twilio.NumbersConfig{
			APIURL: apiURL, AccountSID: c.AccountSID, AuthToken: c.AuthTokens[0], APIKey: c.APIKey, APISecret: c.APISecret,
			Type: twilio.NumberType(c.NumberType), AreaCode: c.AreaCode, Contains: c.Contains, MonthlyPrice: c.MonthlyPrice,
			Bundles: c.Bundles, Addresses: c.Addresses, WebhookURL: c.voiceURL(), FallbackURL: c.FallbackURL,
			MessageURL: c.PublicURL + "/v1/carriers/" + c.Name + "/sms" + quick, StatusURL: c.statusURL(),
		}
		if apiURL == twilio.DefaultAPI {
			cfg.PricingURL = twilio.DefaultPricing
		}
		return twilio.NewNumbers(cfg)
	case Exotel:
		return exotel.NewNumbers(exotel.NumbersConfig{
			APIURL: apiURL, AccountSID: c.AccountSID, APIKey: c.APIKey, APIToken: c.APIToken, AppID: c.AppID,
			Type: exotel.NumberType(c.NumberType), Circle: c.Circle, Contains: c.Contains,
		})
	case Sim:
		return sim.NewNumbers(sim.NumbersConfig{APIURL: apiURL, Token: c.Secrets[0]})
	}
	return nil, &vn.FieldError{Field: "kind", Problem: "is not one that numbers are bought from"}
}

// voiceURL is where the carrier announces calls to a number.
func (c *Carrier) voiceURL() string {
	address := c.PublicURL + "/v1/carriers/" + c.Name + "/voice"
	if c.Kind == Twilio {
		address += quick
	}
	return address
}

// WebhookURL is what a number of the carrier must be attached to: our address, or the
// carrier's object that holds it.
func (c *Carrier) WebhookURL(numbers NumberClient) string {
	if attached, ok := numbers.(interface{ WebhookURL() string }); ok {
		return attached.WebhookURL()
	}
	return c.voiceURL()
}
