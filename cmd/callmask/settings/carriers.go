package settings

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/vn"
)

// Kind says how a carrier is spoken to.
type Kind string

// The kinds of carrier that this build speaks.
const (
	Twilio     Kind = "twilio"
	Exotel     Kind = "exotel"
	Plivo      Kind = "plivo"
	Vonage     Kind = "vonage"
	Telnyx     Kind = "telnyx"
	Jambonz    Kind = "jambonz"
	Softswitch Kind = "softswitch"
	Sim        Kind = "sim"
)

// Kinds lists every kind.
func Kinds() []Kind { return []Kind{Twilio, Exotel, Plivo, Vonage, Telnyx, Jambonz, Softswitch, Sim} }

// CarrierKeys are the keys of a carrier of callmask.yaml, as they are written. Which of
// them go with a kind is in kindKeys.
type CarrierKeys struct {
	Name string `yaml:"name"`
	Kind Kind   `yaml:"kind"`
	ID   *int   `yaml:"id"`

	AccountSID    string   `yaml:"account_sid"`
	AuthID        string   `yaml:"auth_id"`
	AuthTokens    []string `yaml:"auth_tokens" secret:"true"` // two during a rotation
	APIKey        string   `yaml:"api_key"`
	APIToken      string   `yaml:"api_token" secret:"true"`
	ApplicationID string   `yaml:"application_id"`
	PublicKeys    []string `yaml:"public_keys"`
	Tokens        []string `yaml:"tokens" secret:"true"`
	Secrets       []string `yaml:"secrets" secret:"true"` // two during a rotation
	Region        string   `yaml:"region"`
	Trunk         string   `yaml:"trunk"`
	PublicURL     string   `yaml:"public_url"` // what the carrier calls; no slash at the end
	APIURL        string   `yaml:"api_url"`    // where numbers are bought
	Listen        string   `yaml:"listen"`     // sim: when set, the simulated carrier is started here

	Refusal    string `yaml:"refusal"`     // reject, busy, or say for a spoken refusal
	Text       string `yaml:"text"`        // what a spoken refusal says
	Language   string `yaml:"language"`    // the language of Text
	MediaText  string `yaml:"media_text"`  // what the sender of a file is told
	CallStatus *bool  `yaml:"call_status"` // ask what became of calls; true by default
	Fallback   *bool  `yaml:"fallback"`    // exotel: a fallback URL is set in its dashboard

	// What follows is for buying numbers.
	APISecret    string            `yaml:"api_secret" secret:"true"` // of APIKey; without them the account's token is used
	AppID        string            `yaml:"app_id"`                   // exotel: the flow that numbers are attached to
	FallbackURL  string            `yaml:"fallback_url"`             // what bought numbers call when we do not answer
	NumberType   string            `yaml:"number_type"`
	AreaCode     string            `yaml:"area_code"`
	Circle       string            `yaml:"circle"`
	Contains     string            `yaml:"contains"`
	MonthlyPrice string            `yaml:"monthly_price"` // such as "1.15 USD"
	Bundles      map[string]string `yaml:"bundles"`       // by region: the id of an approved regulatory bundle
	Addresses    map[string]string `yaml:"addresses"`     // by region: the id of an address
}

// APIName is who asks with the API token, as metrics and events name it.
const APIName = "api"

// Carrier is one carrier of callmask.yaml with its defaults filled in.
type Carrier struct {
	CarrierKeys

	ID byte // stands for the carrier in a packed binding
}

// kindKeys lists which keys go with a kind, beside name, kind and id.
var kindKeys = map[Kind][]string{
	Twilio: {
		"account_sid", "auth_tokens", "public_url", "api_url", "refusal", "text", "language", "media_text", "call_status",
		"api_key", "api_secret", "fallback_url", "number_type", "area_code", "contains", "monthly_price", "bundles", "addresses",
	},
	Exotel: {
		"account_sid", "secrets", "region", "public_url", "call_status", "fallback",
		"api_key", "api_token", "api_url", "app_id", "number_type", "circle", "contains",
	},
	Plivo:      {"auth_id", "auth_tokens", "public_url", "refusal", "text", "language", "media_text", "call_status"},
	Vonage:     {"api_key", "application_id", "secrets", "public_url", "text", "language", "call_status"},
	Telnyx:     {"public_keys", "public_url", "refusal", "text", "language", "call_status"},
	Jambonz:    {"secrets", "trunk", "public_url", "refusal", "text", "language", "call_status"},
	Softswitch: {"tokens"},
	Sim:        {"api_url", "secrets", "listen", "public_url"},
}

var common = []string{"name", "kind", "id"}

func (f *file) carriers() ([]Carrier, error) {
	carriers := make([]Carrier, 0, len(f.doc.Carriers))
	secrets := map[string]string{}
	for i := range f.doc.Carriers {
		at := fmt.Sprintf("carriers[%d]", i)
		c, err := f.carrier(at, &f.doc.Carriers[i])
		if err != nil {
			return nil, err
		}
		for j := range carriers {
			if carriers[j].Name == c.Name {
				return nil, f.errorf(at+".name", "%q is also the name of carriers[%d]", c.Name, j)
			}
			if carriers[j].ID == c.ID {
				return nil, f.errorf(at+".id", "%d is also the id of carriers[%d] (%s): give one of them another id between 0 and 255", c.ID, j, carriers[j].Name)
			}
		}
		for _, t := range c.Tokens {
			if other, ok := secrets[t]; ok {
				return nil, f.errorf(at+".tokens", "holds a token that %s holds too", other)
			}
			secrets[t] = at
		}
		carriers = append(carriers, c)
	}
	return carriers, nil
}

func (f *file) carrier(at string, in *CarrierKeys) (Carrier, error) {
	c := Carrier{CarrierKeys: *in, ID: DefaultID(in.Name)}
	c.PublicURL, c.APIURL = strings.TrimRight(in.PublicURL, "/"), strings.TrimRight(in.APIURL, "/")
	if err := f.checkName(at, in.Name); err != nil {
		return c, err
	}
	if in.ID != nil {
		if *in.ID < 0 || *in.ID > 255 {
			return c, f.errorf(at+".id", "must be between 0 and 255")
		}
		c.ID = byte(*in.ID)
	}
	if c.Name == APIName {
		return c, f.errorf(at+".name", "%q is the API token's own name in metrics and events: take another one", APIName)
	}
	keys, ok := kindKeys[c.Kind]
	switch {
	case in.Kind == "":
		return c, f.errorf(at+".kind", "is missing (%s)", listed(Kinds()))
	case !ok:
		return c, f.errorf(at+".kind", "%q is not a kind this version speaks (%s)", printable(string(in.Kind)), listed(Kinds()))
	}
	for _, key := range keysAt("carriers[") {
		if _, given := f.lines[at+"."+key]; given && !slices.Contains(common, key) && !slices.Contains(keys, key) {
			return c, f.errorf(at+"."+key, "does not go with kind %s", c.Kind)
		}
	}
	return c, f.checkCarrier(at, &c)
}

func listed(kinds []Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// checkCarrier checks what only the carrier's own code knows by making its codec.
func (f *file) checkCarrier(at string, c *Carrier) error {
	switch c.Kind {
	case Softswitch:
		return f.secrets(at+".tokens", c.Tokens)
	case Sim:
		return f.sim(at, c)
	case Exotel: // its secret stands in a path
		if err := f.secrets(at+".secrets", c.Secrets); err != nil {
			return err
		}
	case Twilio:
		if c.APIURL == "" {
			c.APIURL = twilio.DefaultAPI
		}
	}
	_, err := c.Codec()
	var fe *vn.FieldError
	if errors.As(err, &fe) {
		return f.problem(at+"."+fe.Field, err)
	}
	if err != nil {
		return f.errorf(at, "%w", err)
	}
	if err := f.checkAddresses(at, c); err != nil {
		return err
	}
	if (c.Text != "" || c.Language != "") && c.Kind != Vonage && c.Refusal != "say" {
		return f.errorf(at+".refusal", "must be say for text and language to be spoken")
	}
	if c.Kind == Vonage || c.Kind == Jambonz {
		if err := f.longSecrets(at+".secrets", c.Secrets); err != nil {
			return err
		}
	}
	return f.checkSeller(at, c)
}

// checkAddresses checks what the carrier calls. Where nothing but a secret in the path, or
// a signature that leaves the path out, tells its requests from others', they must not be
// read on their way.
func (f *file) checkAddresses(at string, c *Carrier) error {
	if c.FallbackURL != "" {
		if u, err := url.Parse(c.FallbackURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return f.errorf(at+".fallback_url", "is not a URL such as https://other.example.com/v1/carriers/%s/voice", c.Name)
		}
		if c.PublicURL != "" && strings.HasPrefix(c.FallbackURL, c.PublicURL+"/") {
			return f.errorf(at+".fallback_url", "is this callmask again: it must lead somewhere else")
		}
	}
	if c.PublicURL == "" {
		if c.CallStatus != nil && *c.CallStatus {
			return f.errorf(at+".public_url", "is missing: call_status needs to know where the carrier can tell")
		}
		return nil
	}
	if err := f.baseURL(at+".public_url", c.PublicURL); err != nil {
		return err
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return f.errorf(at+".public_url", "is not a URL such as https://calls.example.com")
	}
	switch c.Kind {
	case Exotel, Vonage, Telnyx, Jambonz:
		if u.Scheme != "https" && !isLoopback(net.JoinHostPort(u.Hostname(), "1")) {
			return f.errorf(at+".public_url", "must be https: what %s signs does not cover the address", c.Kind)
		}
	}
	return nil
}

// longSecrets checks secrets that a carrier has chosen, with whatever characters.
func (f *file) longSecrets(at string, list []string) error {
	for i, s := range list {
		if len(s) < 8 {
			return f.errorf(fmt.Sprintf("%s[%d]", at, i), "must have at least 8 characters")
		}
		if slices.Contains(list[:i], s) {
			return f.errorf(fmt.Sprintf("%s[%d]", at, i), "is listed twice")
		}
	}
	return nil
}

// checkSeller checks what only the carrier's number client knows by making one.
func (f *file) checkSeller(at string, c *Carrier) error {
	if c.APIURL != "" {
		if err := f.baseURL(at+".api_url", c.APIURL); err != nil {
			return err
		}
	}
	if !c.Sells() {
		return nil
	}
	numbers, err := c.Numbers(c.APIURL)
	var fe *vn.FieldError
	if errors.As(err, &fe) {
		return f.problem(at+"."+fe.Field, err)
	}
	if err != nil {
		return f.errorf(at, "%w", err)
	}
	numbers.Close()
	return nil
}

func (f *file) sim(at string, c *Carrier) error {
	if err := f.secrets(at+".secrets", c.Secrets); err != nil {
		return err
	}
	if c.PublicURL != "" {
		if err := f.baseURL(at+".public_url", c.PublicURL); err != nil {
			return err
		}
	}
	if c.Listen == "" {
		if c.APIURL == "" {
			return f.errorf(at+".api_url", "is missing (or set listen to start a simulated carrier here)")
		}
		return f.baseURL(at+".api_url", c.APIURL)
	}
	if c.APIURL != "" {
		return f.errorf(at+".api_url", "does not go with listen, which decides it")
	}
	var s Settings
	if err := addr(func(s *Settings) *string { return &s.HTTPAddr })(&s, c.Listen); err != nil {
		return f.errorf(at+".listen", "%w", err)
	}
	if !isLoopback(c.Listen) {
		return f.errorf(at+".listen", "must be a loopback address: a simulated carrier is for trying out")
	}
	return nil
}

func (f *file) secrets(at string, list []string) error {
	if len(list) == 0 {
		return f.errorf(at, "is missing")
	}
	for i, s := range list {
		if err := checkSecret(s); err != nil {
			return f.errorf(fmt.Sprintf("%s[%d]", at, i), "%w", err)
		}
		if slices.Contains(list[:i], s) {
			return f.errorf(fmt.Sprintf("%s[%d]", at, i), "is listed twice")
		}
	}
	return nil
}

func (f *file) baseURL(at, s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return f.errorf(at, "is not a URL such as https://calls.example.com")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return f.errorf(at, "must have no user, query or fragment")
	}
	return nil
}

// checkSecret accepts what can stand in a header and in a URL's path unescaped.
func checkSecret(s string) error {
	if len(s) < 8 {
		return errors.New("must have at least 8 characters")
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte(`/?#%"\`, c) >= 0 {
			return errors.New(`may hold only visible ASCII characters other than / ? # % " \`)
		}
	}
	return nil
}

// DefaultID is the byte that stands for a carrier that is given none: the low byte
// of the FNV-1a-64 hash of its name.
func DefaultID(name string) byte {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash never fails to be written to
	return byte(h.Sum64())
}
