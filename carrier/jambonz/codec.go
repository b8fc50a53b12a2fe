package jambonz

import (
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/jsonform"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// maxTrunk bounds the name of a trunk.
const maxTrunk = 64

// Config holds the settings of one jambonz account.
type Config struct {
	// Secrets are the account's webhook secrets, which sign its requests: one, or two
	// while the secret is rotated.
	Secrets []string
	// Trunk is the name of the jambonz carrier that calls go out by; empty lets jambonz
	// choose: first the carrier that the VN shown belongs to.
	Trunk string
	// Refusal is how callers are refused; empty means Reject.
	Refusal Refusal
	// Text is what Say speaks, plain or as SSML (<speak>…</speak>), in at most 900
	// characters; empty means DefaultText. Every refusal says the same.
	Text string
	// Language is the language of Text, such as "id-ID", which the voice of the jambonz
	// application must speak; empty means the application's.
	Language string
	// StatusURL is where jambonz shall tell what became of a call, such as
	// https://calls.example.com/v1/carriers/jambonz/status; empty asks for nothing.
	StatusURL string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Codec reads jambonz's webhooks and writes its verbs. It is safe for concurrent use.
type Codec struct {
	secrets [][]byte
	now     func() time.Time
	status  callback.URL
	trunk   []byte // what follows the number dialled
	refusal []byte // the whole answer to every refused call
}

// New checks the settings and returns the account's codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	if len(cfg.Secrets) == 0 || len(cfg.Secrets) > 2 {
		return nil, &vn.FieldError{Field: "secrets", Problem: "must hold one webhook secret, or two while it is rotated"}
	}
	c := &Codec{now: cfg.Now}
	if c.now == nil {
		c.now = time.Now
	}
	for _, secret := range cfg.Secrets {
		if secret == "" || secret != strings.TrimSpace(secret) {
			return nil, &vn.FieldError{Field: "secrets", Problem: "holds a secret that is empty or has spaces around it"}
		}
		c.secrets = append(c.secrets, []byte(secret))
	}
	if cfg.Trunk != "" {
		if !text.Printable(cfg.Trunk, maxTrunk) {
			return nil, &vn.FieldError{Field: "trunk", Problem: "must be the name of a carrier in jambonz: at most 64 printable ASCII characters"}
		}
		c.trunk = text.AppendJSON([]byte(`,"trunk":`), cfg.Trunk)
	}
	var err error
	if c.refusal, err = refusalVerbs(cfg); err != nil {
		return nil, err
	}
	if c.status, err = callback.Parse(cfg.StatusURL); err != nil {
		return nil, err
	}
	return c, nil
}

// Decode checks the signature, then reads the call. Without a valid signature nothing
// but vn.ErrForbidden is told; a wrong field gives a *vn.FieldError. call.ID belongs to
// the call. secret is not used.
// https://docs.jambonz.org/reference/webhooks/call-hook-post
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	if _, ok := c.signed(ctx); !ok {
		return vn.ErrForbidden
	}
	o, err := jsonform.Parse(ctx.PostBody(), "call_sid", "direction", "from", "to")
	if err != nil {
		return err
	}
	id, err := callSID(o, "call_sid")
	if err != nil {
		return err
	}
	direction, err := o.String("direction")
	if err != nil {
		return err
	}
	if direction != "inbound" {
		return &vn.FieldError{Field: "direction", Problem: "is not inbound: only a call to one of our numbers can be put through"}
	}
	calling, ok := caller(o.Optional("from"))
	if !ok {
		return &vn.FieldError{Field: "from", Problem: "is no number with country code: let the SIP trunk deliver E.164"}
	}
	to, err := o.String("to")
	if err != nil {
		return err
	}
	called, ok := number(to)
	if !ok {
		return &vn.FieldError{Field: "to", Problem: "is no number with country code: let the SIP trunk deliver E.164"}
	}
	call.ID, call.Calling, call.Called = id, calling, called
	return nil
}

// callSID reads the id of a call, which jambonz makes: a UUID, but an SBC may hand in
// another.
func callSID(o *jsonform.Object, field string) ([]byte, error) {
	id, err := o.String(field)
	if err != nil {
		return nil, err
	}
	if !text.Printable(id, 64) {
		return nil, &vn.FieldError{Field: field, Problem: "is not the id of a call"}
	}
	return []byte(id), nil
}

// number reads E.164 with or without its plus sign, as SIP trunks deliver it.
func number(s string) (vn.Number, bool) {
	if n, ok := vn.ParseE164(s); ok {
		return n, true
	}
	return vn.ParseDigits(s)
}

// caller reads from, the user part of the INVITE's From header (RFC 3261 section
// 8.1.1.3): 0 and true for a caller without a number. That is anonymous and its like
// (RFC 3323 section 4.1.1.3), the name of a SIP user, or no user part at all. What
// begins as a number must be one.
func caller(from string) (vn.Number, bool) {
	if from == "" || from[0] != '+' && (from[0] < '0' || from[0] > '9') {
		return 0, true
	}
	return number(from)
}
