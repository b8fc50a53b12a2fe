package exotel

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/callback"
	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

// DefaultRegion is the region of Exotel's numbers when Config.Region is empty.
const DefaultRegion = "IN"

// minSecret is the shortest secret: nothing else protects the webhook.
const minSecret = 16

// maxCallSid bounds CallSid, which has 32 characters.
const maxCallSid = 64

// versionHeader comes from a Connect applet that reads its settings from our answer.
// https://support.exotel.com/support/solutions/articles/3000096873
const versionHeader = "Exotel-Version"

// Config holds the settings of one Exotel account.
type Config struct {
	// AccountSID is the account's id, as in the addresses of its API.
	AccountSID string
	// Secrets are the last segment of the webhook's path: one, or two while the
	// secret is rotated. 16 or more of A-Z a-z 0-9 . _ ~ -
	Secrets []string
	// Region (ISO 3166) is whose national numbers Exotel sends; empty means DefaultRegion.
	Region string
	// StatusURL is where Exotel tells call progress; empty asks for none.
	StatusURL string
	// Fallback tells that the applet has a Fallback URL. Our own failure is then
	// answered with 503, which makes Exotel use it; otherwise like a refusal, so that
	// the flow's own announcement is heard.
	Fallback bool
}

// Codec reads Exotel's webhooks and writes the Connect applet's settings. It is safe for
// concurrent use.
type Codec struct {
	account  []byte
	secrets  [][sha256.Size]byte // hashes, so that comparing tells nothing of their length
	region   string
	status   callback.URL
	fallback bool
	forms    sync.Pool
}

// New checks the settings and returns the account's codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	if err := checkAccount(cfg.AccountSID); err != nil {
		return nil, err
	}
	if len(cfg.Secrets) == 0 || len(cfg.Secrets) > 2 {
		return nil, &vn.FieldError{Field: "secrets", Problem: "must hold one secret, or two while it is rotated"}
	}
	c := &Codec{account: []byte(cfg.AccountSID), region: cfg.Region, fallback: cfg.Fallback}
	for _, secret := range cfg.Secrets {
		if err := checkSecret(secret); err != nil {
			return nil, err
		}
		c.secrets = append(c.secrets, sha256.Sum256([]byte(secret)))
	}
	if c.region == "" {
		c.region = DefaultRegion
	}
	if err := numbering.CheckRegion(c.region); err != nil {
		return nil, &vn.FieldError{Field: "region", Problem: err.Error()}
	}
	var err error
	if c.status, err = callback.Parse(cfg.StatusURL); err != nil {
		return nil, err
	}
	c.forms.New = func() any { return new(form.Form) }
	return c, nil
}

func checkAccount(sid string) error {
	if sid == "" {
		return &vn.FieldError{Field: "account_sid", Problem: "is missing"}
	}
	if !urlSafe(sid) {
		return &vn.FieldError{Field: "account_sid", Problem: "may hold only A-Z a-z 0-9 . _ ~ -"}
	}
	return nil
}

func checkSecret(secret string) error {
	const field = "secrets"
	if len(secret) < minSecret {
		return &vn.FieldError{Field: field, Problem: "holds one shorter than 16 characters: Exotel signs nothing, so it must not be guessed"}
	}
	if !urlSafe(secret) {
		return &vn.FieldError{Field: field, Problem: "holds one with other characters than A-Z a-z 0-9 . _ ~ -, which a path shows as they are"}
	}
	return nil
}

// urlSafe tells whether s needs no escaping in a path (RFC 3986 section 2.3).
func urlSafe(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '.', c == '_', c == '~', c == '-':
		default:
			return false
		}
	}
	return true
}

// Decode checks the secret and the account, then reads the call. Without a valid secret
// nothing but vn.ErrForbidden is told; a wrong field gives a *vn.FieldError. call.ID
// points into the request.
//
// A request without the header Exotel-Version comes from the applet's older mode, "Dial
// Whom", which takes a list of numbers and shows the caller's own number to whom it
// dials. It is malformed, whatever it asks.
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, secret []byte, call *vn.Call) error {
	if !c.authorised(secret) {
		return vn.ErrForbidden
	}
	if !ctx.IsGet() {
		return &vn.FieldError{Field: "method", Problem: "must be GET"}
	}
	if len(ctx.Request.Header.Peek(versionHeader)) == 0 {
		return &vn.FieldError{Field: versionHeader, Problem: "is missing: choose the Connect applet's URL for all its settings, not the one for Dial Whom"}
	}
	f := c.forms.Get().(*form.Form) //nolint:errcheck // the pool makes nothing else
	defer c.forms.Put(f)
	_, query, _ := bytes.Cut(ctx.RequestURI(), []byte{'?'})
	if !f.Parse(query) {
		return errQuery()
	}
	return c.decode(f, call)
}

// authorised tells whether the path ended in one of the secrets. Every one is compared.
func (c *Codec) authorised(secret []byte) bool {
	sum := sha256.Sum256(secret)
	found := 0
	for i := range c.secrets {
		found |= subtle.ConstantTimeCompare(sum[:], c.secrets[i][:])
	}
	return found == 1
}

func errQuery() error { return &vn.FieldError{Field: "query", Problem: "is not well formed"} }

// decode reads the parameters of the Connect applet.
// https://support.exotel.com/support/solutions/articles/3000096873
func (c *Codec) decode(f *form.Form, call *vn.Call) error {
	if !c.sameAccount(f) {
		return vn.ErrForbidden
	}
	p, err := f.Get("Direction")
	if err != nil {
		return err
	}
	if string(p.Value) != "incoming" {
		return &vn.FieldError{Field: "Direction", Problem: "must be incoming"}
	}
	id, err := f.Get("CallSid")
	if err != nil {
		return err
	}
	if !text.Printable(id.Value, maxCallSid) {
		return &vn.FieldError{Field: "CallSid", Problem: "is not the id of a call"}
	}
	calling, err := c.party(f, "CallFrom", "From", true)
	if err != nil {
		return err
	}
	called, err := c.party(f, "CallTo", "To", false)
	if err != nil {
		return err
	}
	call.ID, call.Calling, call.Called = id.Keep(), calling, called
	return nil
}

// sameAccount tells whether every AccountSid, which need not be there, is ours: the
// secret could have been given to another account's flow by mistake.
func (c *Codec) sameAccount(f *form.Form) bool {
	for i := range f.Params {
		if p := &f.Params[i]; string(p.Key) == "AccountSid" && !bytes.Equal(p.Value, c.account) {
			return false
		}
	}
	return true
}

// party reads the number in field, in older where field is missing: a flow passes on
// only some of the parameters.
func (c *Codec) party(f *form.Form, field, older string, withheld bool) (vn.Number, error) {
	p, found, err := f.Optional(field)
	if err == nil && !found {
		p, found, err = f.Optional(older)
		if found {
			field = older
		}
	}
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, &vn.FieldError{Field: field, Problem: "is missing"}
	}
	// Exotel does not document how it announces a caller who withheld the number; these
	// are the words that switches use.
	if withheld && text.Withheld(p.Value) {
		return 0, nil
	}
	n, err := c.number(p.Value)
	if err != nil {
		return 0, &vn.FieldError{Field: field, Problem: err.Error()}
	}
	return n, nil
}
