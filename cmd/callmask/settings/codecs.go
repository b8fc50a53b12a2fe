package settings

import (
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/carrier/jambonz"
	"github.com/callmask/callmask/carrier/plivo"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/softswitch"
	"github.com/callmask/callmask/carrier/telnyx"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/carrier/vonage"
	"github.com/callmask/callmask/router"
	"github.com/callmask/callmask/vn"
)

// Codec makes what speaks to the carrier about calls. An error is a *vn.FieldError that
// names the key.
func (c *Carrier) Codec() (router.Codec, error) {
	switch c.Kind {
	case Twilio:
		return twilio.New(twilio.Config{
			AccountSID: c.AccountSID, AuthTokens: c.AuthTokens, PublicURL: c.PublicURL, StatusURL: c.statusURL(),
			Refusal: twilio.Refusal(c.Refusal), Text: c.Text, Language: c.Language, MediaText: c.MediaText,
		})
	case Exotel:
		return exotel.New(exotel.Config{
			AccountSID: c.AccountSID, Secrets: c.Secrets, Region: c.Region, StatusURL: c.statusURL(),
			Fallback: c.Fallback != nil && *c.Fallback,
		})
	case Plivo:
		return plivo.New(plivo.Config{
			AuthID: c.AuthID, AuthTokens: c.AuthTokens, PublicURL: c.PublicURL, StatusURL: c.statusURL(),
			Refusal: plivo.Refusal(c.Refusal), Text: c.Text, Language: c.Language, MediaText: c.MediaText,
		})
	case Vonage:
		return vonage.New(vonage.Config{
			APIKey: c.APIKey, ApplicationID: c.ApplicationID, Secrets: c.Secrets, StatusURL: c.statusURL(),
			Text: c.Text, Language: c.Language,
		})
	case Telnyx:
		return telnyx.New(telnyx.Config{
			PublicKeys: c.PublicKeys, StatusURL: c.statusURL(),
			Refusal: telnyx.Refusal(c.Refusal), Text: c.Text, Language: c.Language,
		})
	case Jambonz:
		return jambonz.New(jambonz.Config{
			Secrets: c.Secrets, Trunk: c.Trunk, StatusURL: c.statusURL(),
			Refusal: jambonz.Refusal(c.Refusal), Text: c.Text, Language: c.Language,
		})
	case Softswitch:
		return softswitch.New(softswitch.Config{Tokens: c.Tokens})
	case Sim:
		return sim.NewCodec(sim.Config{Secrets: c.Secrets})
	}
	return nil, &vn.FieldError{Field: "kind", Problem: "is not a kind this version speaks"}
}

// statusURL is where the carrier shall tell what became of a call; empty when it shall
// not, or when nobody knows our address.
func (c *Carrier) statusURL() string {
	if c.PublicURL == "" || c.CallStatus != nil && !*c.CallStatus {
		return ""
	}
	address := c.PublicURL + "/v1/carriers/" + c.Name + "/status"
	if c.Kind == Exotel { // signs nothing: the path is the secret
		address += "/" + c.Secrets[0]
	}
	return address
}
