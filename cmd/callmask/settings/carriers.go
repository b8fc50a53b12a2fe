package settings

import (
	"errors"
	"fmt"
	"hash/fnv"
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
	Softswitch Kind = "softswitch"
	Sim        Kind = "sim"
)

// Carrier is one carrier of callmask.yaml with its defaults filled in.
type Carrier struct {
	Name string
	Kind Kind
	ID   byte // stands for the carrier in a packed binding

	AccountSID string   // twilio
	AuthTokens []string // twilio; two during a rotation
	PublicURL  string   // twilio: what it calls, without a slash at the end; sim: empty for this process
	APIURL     string   // twilio, sim: where numbers are bought
	Refusal    string   // twilio: reject, busy, or say for a spoken refusal
	Text       string   // twilio: what a spoken refusal says
	Language   string   // twilio: the language of Text
	Tokens     []string // softswitch
	Secrets    []string // sim: they sign its webhook, and buy its numbers
	Listen     string   // sim: when set, the simulated carrier is started here
}

const defaultTwilioURL = "https://api.twilio.com"

// kindKeys lists which keys go with a kind, beside name, kind and id.
var kindKeys = map[Kind][]string{
	Twilio:     {"account_sid", "auth_tokens", "public_url", "api_url", "refusal", "text", "language"},
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

func (f *file) carrier(at string, in *fileCarrier) (Carrier, error) {
	c := Carrier{
		Name: in.Name, Kind: Kind(in.Kind), ID: DefaultID(in.Name), AccountSID: in.AccountSID, AuthTokens: in.AuthTokens,
		PublicURL: strings.TrimRight(in.PublicURL, "/"), APIURL: strings.TrimRight(in.APIURL, "/"),
		Refusal: in.Refusal, Text: in.Text, Language: in.Language,
		Tokens: in.Tokens, Secrets: in.Secrets, Listen: in.Listen,
	}
	if err := f.checkName(at, in.Name); err != nil {
		return c, err
	}
	if in.ID != nil {
		if *in.ID < 0 || *in.ID > 255 {
			return c, f.errorf(at+".id", "must be between 0 and 255")
		}
		c.ID = byte(*in.ID)
	}
	keys, ok := kindKeys[c.Kind]
	switch {
	case in.Kind == "":
		return c, f.errorf(at+".kind", "is missing (twilio, softswitch or sim)")
	case !ok:
		return c, f.errorf(at+".kind", "%q is not a kind this version speaks (twilio, softswitch, sim)", printable(in.Kind))
	}
	for _, key := range keysAt("carriers[") {
		if _, given := f.lines[at+"."+key]; given && !slices.Contains(common, key) && !slices.Contains(keys, key) {
			return c, f.errorf(at+"."+key, "does not go with kind %s", c.Kind)
		}
	}
	switch c.Kind {
	case Twilio:
		return c, f.twilio(at, &c)
	case Softswitch:
		return c, f.secrets(at+".tokens", c.Tokens)
	default:
		return c, f.sim(at, &c)
	}
}

func (f *file) twilio(at string, c *Carrier) error {
	if c.APIURL == "" {
		c.APIURL = defaultTwilioURL
	}
	_, err := twilio.New(c.TwilioCodec())
	var fe *vn.FieldError
	if errors.As(err, &fe) {
		return f.problem(at+"."+fe.Field, err)
	}
	if err != nil {
		return f.errorf(at, "%w", err)
	}
	return f.baseURL(at+".api_url", c.APIURL)
}

// TwilioCodec gives the webhook settings of a carrier of kind twilio.
func (c *Carrier) TwilioCodec() twilio.Config {
	return twilio.Config{
		AccountSID: c.AccountSID, AuthTokens: c.AuthTokens, PublicURL: c.PublicURL,
		Refusal: twilio.Refusal(c.Refusal), Text: c.Text, Language: c.Language,
	}
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
