package settings

import (
	"bytes"
	_ "embed" // the demo settings
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
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
	surplus := "never"
	if p.SurplusAfter > 0 {
		surplus = short(p.SurplusAfter)
	}
	fmt.Fprintf(b, "    forecast: %t\n    surplus_after: %s\n", p.Forecast, surplus)
	if !p.MonthlyCap.IsZero() {
		fmt.Fprintf(b, "    monthly_cap: %s\n", p.MonthlyCap)
	}
}

func (c *Carrier) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "  - name: %s\n    kind: %s\n    id: %d\n", c.Name, c.Kind, c.ID)
	values := reflect.ValueOf(c.CarrierKeys)
	for i := range values.NumField() {
		field, value := values.Type().Field(i), values.Field(i)
		key := field.Tag.Get("yaml")
		if slices.Contains(common, key) || value.IsZero() {
			continue
		}
		shown := func(s string) string {
			if field.Tag.Get("secret") != "" {
				s = hidden
			}
			return strconv.Quote(s)
		}
		switch v := value.Interface().(type) {
		case string:
			fmt.Fprintf(b, "    %s: %s\n", key, shown(v))
		case []string:
			quoted := make([]string, len(v))
			for j := range v {
				quoted[j] = shown(v[j])
			}
			fmt.Fprintf(b, "    %s: [%s]\n", key, strings.Join(quoted, ", "))
		case map[string]string:
			pairs := make([]string, 0, len(v))
			for _, region := range slices.Sorted(maps.Keys(v)) {
				pairs = append(pairs, region+": "+strconv.Quote(v[region]))
			}
			fmt.Fprintf(b, "    %s: {%s}\n", key, strings.Join(pairs, ", "))
		case *bool:
			fmt.Fprintf(b, "    %s: %t\n", key, *v)
		}
	}
}
