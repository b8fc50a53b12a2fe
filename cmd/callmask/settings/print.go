package settings

import (
	"bytes"
	_ "embed" // the demo settings
	"fmt"
	"io"
	"strconv"
	"strings"
)

const hidden = "•••"

// demo.yaml is what `callmask all --demo` runs when no file is named.
//
//go:embed demo.yaml
var demoFile []byte

const demoName = "demo.yaml"

// Demo returns the built-in demo settings file.
func Demo() []byte { return bytes.Clone(demoFile) }

// Print writes the settings in force as a settings file, secrets hidden, each
// single value with a comment that says where it came from.
func (s *Settings) Print(w io.Writer) error {
	var b bytes.Buffer
	for i := range scalars {
		c := &scalars[i]
		value := s.raw[c.key]
		switch {
		case value == "":
			value = `""`
		case c.secret == allSecret:
			value = hidden
		case c.secret == urlSecret:
			value = Redact(value)
		}
		if strings.ContainsAny(value, ":#{}[]&*!|>'%@`, ") && value[0] != '"' {
			value = strconv.Quote(value)
		}
		fmt.Fprintf(&b, "%-46s # %s\n", c.key+": "+value, strings.TrimSuffix(s.origins[c.key], ": "+c.key))
	}
	section(&b, "pools", len(s.Pools))
	for i := range s.Pools {
		s.Pools[i].print(&b)
	}
	section(&b, "carriers", len(s.Carriers))
	for i := range s.Carriers {
		s.Carriers[i].print(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func section(b *bytes.Buffer, name string, entries int) {
	b.WriteString(name + ":")
	if entries == 0 {
		b.WriteString(" []")
	}
	b.WriteByte('\n')
}

func (p *Pool) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "  - name: %s\n    region: %s\n    carriers: [%s]\n    low_water: %d\n    target: %d\n    max: %d\n",
		p.Name, p.Region, strings.Join(p.Carriers, ", "), p.LowWater, p.Target, p.Max)
	fmt.Fprintf(b, "    cooldown: %s\n    ttl: {default: %s, max: %s}\n    assign_wait: %s\n    destinations: [%s]\n",
		short(p.Cooldown), short(p.TTLDefault), short(p.TTLMax), short(p.AssignWait), strings.Join(p.Destinations, ", "))
}

func (c *Carrier) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "  - name: %s\n    kind: %s\n    id: %d\n", c.Name, c.Kind, c.ID)
	one := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "    %s: %s\n", key, strconv.Quote(value))
		}
	}
	list := func(key string, values []string) {
		if n := len(values); n > 0 {
			fmt.Fprintf(b, "    %s: [%s]\n", key, strings.TrimSuffix(strings.Repeat(`"`+hidden+`", `, n), ", "))
		}
	}
	one("account_sid", c.AccountSID)
	list("auth_tokens", c.AuthTokens)
	one("public_url", c.PublicURL)
	one("api_url", c.APIURL)
	one("refusal", c.Refusal)
	one("text", c.Text)
	one("language", c.Language)
	list("tokens", c.Tokens)
	list("secrets", c.Secrets)
	one("listen", c.Listen)
}
