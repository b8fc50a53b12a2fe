package vonage

import (
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/jsonform"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// maxUUID bounds conversation_uuid, which is CON- and a UUID.
const maxUUID = 64

// Config holds the settings of one Vonage account.
type Config struct {
	// APIKey is the account's key; it stands in every signature.
	APIKey string
	// ApplicationID is the application whose webhooks these are; empty accepts all of
	// the account's.
	ApplicationID string
	// Secrets are the account's signature secrets: one, or two while it is rotated.
	Secrets []string
	// StatusURL is where Vonage tells what becomes of the callee's leg; empty asks for
	// nothing.
	StatusURL string
	// Text is what a refused caller hears; empty means DefaultText. Every refusal says
	// the same.
	Text string
	// Language is the language of Text, such as "en-GB"; empty means Vonage's default.
	Language string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Codec reads Vonage's webhooks and writes NCCOs. It is safe for concurrent use.
type Codec struct {
	verifier *verifier
	status   callback.URL
	refusal  []byte // the whole answer to every refused call
}

// New checks the settings and returns the account's codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	if !text.Printable(cfg.APIKey, 64) || strings.Contains(cfg.APIKey, " ") {
		return nil, &vn.FieldError{Field: "api_key", Problem: "is missing, or has other than printable ASCII characters in it"}
	}
	if len(cfg.Secrets) == 0 || len(cfg.Secrets) > 2 {
		return nil, &vn.FieldError{Field: "secrets", Problem: "must hold one signature secret, or two while it is rotated"}
	}
	for _, secret := range cfg.Secrets {
		if secret == "" || secret != strings.TrimSpace(secret) {
			return nil, &vn.FieldError{Field: "secrets", Problem: "holds a secret that is empty or has spaces around it"}
		}
	}
	status, err := callback.Parse(cfg.StatusURL)
	if err != nil {
		return nil, err
	}
	refusal, err := refusalNCCO(cfg)
	if err != nil {
		return nil, err
	}
	return &Codec{verifier: newVerifier(cfg), status: status, refusal: refusal}, nil
}

// Decode checks the signature, then reads the call. Without a valid one nothing but
// vn.ErrForbidden is told; a wrong field gives a *vn.FieldError. call.ID has its own
// memory. secret is not used. Of a GET, whatever its address holds, nothing is signed that we
// could check: it is refused.
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	payload := ctx.PostBody()
	if !ctx.IsPost() || !c.verifier.verify(ctx.Request.Header.Peek("Authorization"), payload) {
		return vn.ErrForbidden
	}
	return decode(payload, call)
}

// decode reads the fields of the answer webhook.
// https://developer.vonage.com/en/voice/voice-api/webhook-reference#answer-webhook
func decode(payload []byte, call *vn.Call) error {
	o, err := jsonform.Parse(payload, "conversation_uuid", "from", "from_user", "to")
	if err != nil {
		return err
	}
	id, err := o.String("conversation_uuid")
	if err != nil {
		return err
	}
	if !text.Printable(id, maxUUID) {
		return &vn.FieldError{Field: "conversation_uuid", Problem: "is not the id of a conversation"}
	}
	calling, err := caller(o)
	if err != nil {
		return err
	}
	to, err := o.String("to")
	if err != nil {
		return err
	}
	called, ok := vn.ParseDigits(to)
	if !ok {
		return &vn.FieldError{Field: "to", Problem: "is not a number of digits with country code"}
	}
	call.ID, call.Calling, call.Called = []byte(id), calling, called
	return nil
}

// caller reads who calls: 0 for a caller without a number, which is a user of Vonage's
// client SDK (from_user in place of from), a SIP address, or somebody who withheld the
// number. For the last one Vonage documents no form; these are the words that switches use.
// https://developer.vonage.com/en/voice/voice-api/webhook-reference#answer-webhook
func caller(o *jsonform.Object) (vn.Number, error) {
	from, err := o.String("from")
	if err != nil {
		if o.Optional("from") == "" && o.Optional("from_user") != "" {
			return 0, nil
		}
		return 0, err
	}
	if n, ok := vn.ParseDigits(from); ok {
		return n, nil
	}
	if text.Withheld(from) || text.HasPrefixFold(from, "sip:") || text.HasPrefixFold(from, "sips:") {
		return 0, nil
	}
	return 0, &vn.FieldError{Field: "from", Problem: "is neither a number of digits with country code nor a known marker"}
}
