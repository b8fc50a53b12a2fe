package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/vn"
)

type poolImportCmd struct {
	Pool    string   `arg:"" help:"The pool."`
	Numbers []string `arg:"" optional:"" help:"The numbers; a name that ends in .csv is a file of them, - reads them from standard input."`
	Carrier string   `help:"The carrier that they belong to, as in the settings; a column of the file may name it instead."`
	File    string   `placeholder:"FILE" help:"Read numbers from a file: .csv with the columns number and carrier, else one or more a line, # starts a comment."`
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolImportCmd) Help() string {
	return `Examples:
  callmask pool import demo --carrier sim +12025550160 +12025550161
  callmask pool import jakarta numbers.csv --carrier pbx
  callmask pool import jakarta numbers.csv         the second column names the carrier of each number
  sort numbers.txt | callmask pool import demo --carrier sim -

A .csv file has the columns number and, if you like, carrier; a first line that names them
is optional. Numbers that are refused are listed with their line, never in clear, and do not
hold the others up. It may be repeated: numbers that are there already are only counted.
Exit code 1: some were refused.`
}

// batch is how many numbers one request carries; the API takes 10,000.
const batch = 5000

// entry is one number as it was given.
type entry struct {
	where           string // "line 17": what to call it by
	number, carrier string
	at              int // its place among all
}

// refusedEntry is an entry that was not imported.
type refusedEntry struct {
	Where  string `json:"where"`
	Detail string `json:"detail"`

	at int
}

// imported is what an import did.
type imported struct {
	Added   int            `json:"added"`
	Present int            `json:"present"`
	Refused []refusedEntry `json:"refused,omitempty"`
}

func (i *imported) refuse(e entry, detail string) {
	i.Refused = append(i.Refused, refusedEntry{e.where, detail, e.at})
}

// Run imports the numbers in batches.
func (c *poolImportCmd) Run(p *Process) error {
	path, err := poolPath(c.Pool)
	if err != nil {
		return err
	}
	var all imported
	entries, err := c.read(p, &all)
	if err != nil {
		return err
	}
	given := len(entries) + len(all.Refused)
	if given == 0 {
		return errors.New("no numbers were given: name them, or a file, or - for standard input")
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	shown := p.meter("importing")
	defer shown.end()
	for sent := 0; sent < len(entries); {
		next := nextBatch(entries[sent:])
		if err := api.importAll(path, next, &all); err != nil {
			if sent > 0 {
				err = fmt.Errorf("after the first %d numbers (it may be repeated): %w", sent, err)
			}
			return err
		}
		sent += len(next)
		shown.at(sent, len(entries))
	}
	shown.end()
	return all.print(p, &c.output, given)
}

// nextBatch returns as many of the first entries as one request can carry: those of one
// carrier.
func nextBatch(entries []entry) []entry {
	n := slices.IndexFunc(entries, func(e entry) bool { return e.carrier != entries[0].carrier })
	if n < 0 {
		n = len(entries)
	}
	return entries[:min(n, batch)]
}

func (i *imported) print(p *Process, form *output, given int) error {
	slices.SortFunc(i.Refused, func(a, b refusedEntry) int { return a.at - b.at })
	if err := form.print(p.Stdout, i, i.table); err != nil {
		return err
	}
	if len(i.Refused) > 0 {
		return &noError{fmt.Errorf("%d of %d were refused, the first (%s): %s", len(i.Refused), given, i.Refused[0].Where, i.Refused[0].Detail)}
	}
	return nil
}

func (i *imported) table(out io.Writer) error {
	for _, r := range i.Refused {
		fmt.Fprintf(out, "%s: %s\n", r.Where, r.Detail)
	}
	fmt.Fprintf(out, "%d added, %d were there already", i.Added, i.Present)
	if len(i.Refused) > 0 {
		fmt.Fprintf(out, ", %d refused", len(i.Refused))
	}
	_, err := fmt.Fprintln(out)
	return err
}

// importAll imports entries of one carrier. The API takes all or none: what it refuses
// is noted and left out, and the rest sent again.
func (c *client) importAll(path string, entries []entry, all *imported) error {
	for len(entries) > 0 {
		numbers := make([]string, len(entries))
		for i, e := range entries {
			numbers[i] = e.number
		}
		var one imported
		body := map[string]any{"carrier": entries[0].carrier, "numbers": numbers}
		_, err := c.call(context.Background(), http.MethodPost, path, body, &one)
		if err == nil {
			all.Added += one.Added
			all.Present += one.Present
			return nil
		}
		var told *refusal
		if !errors.As(err, &told) {
			return err
		}
		left := told.without(entries, all)
		if len(left) == len(entries) {
			return err
		}
		entries = left
	}
	return nil
}

// without notes the entries that a refusal names and returns the others.
func (e *refusal) without(entries []entry, all *imported) []entry {
	if e.Field == "carrier" {
		for _, en := range entries {
			all.refuse(en, e.Detail)
		}
		return nil
	}
	bad := make(map[int]string, len(e.Errors))
	for _, f := range e.Errors {
		if i, ok := index(f.Field); ok && i < len(entries) {
			bad[i] = indexed.ReplaceAllStringFunc(f.Detail, func(s string) string {
				if j, ok := index(s); ok && j < len(entries) {
					return entries[j].where
				}
				return s
			})
		}
	}
	left := make([]entry, 0, len(entries))
	for i, en := range entries {
		if detail, refused := bad[i]; refused {
			all.refuse(en, detail)
			continue
		}
		left = append(left, en)
	}
	return left
}

// indexed is how the API names one of several numbers.
var indexed = regexp.MustCompile(`numbers\[(\d+)\]`)

func index(field string) (int, bool) {
	m := indexed.FindStringSubmatch(field)
	if m == nil {
		return 0, false
	}
	i, err := strconv.Atoi(m[1])
	return i, err == nil
}

// read collects the numbers from wherever they are. What can be refused without asking
// is refused at once.
func (c *poolImportCmd) read(p *Process, all *imported) ([]entry, error) {
	var entries []entry
	for i, n := range c.Numbers {
		more, err := []entry{{where: "number " + strconv.Itoa(i+1), number: n}}, error(nil)
		switch {
		case n == "-":
			more, err = readNumbers(p.Stdin)
		case strings.HasSuffix(strings.ToLower(n), ".csv"):
			more, err = readFile(n)
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	if c.File != "" {
		more, err := readFile(c.File)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		entries = append(entries, more...)
	}
	good := entries[:0]
	for i, e := range entries {
		e.at = i
		if e.carrier == "" {
			e.carrier = c.Carrier
		}
		switch err := vn.CheckName("carrier", e.carrier); {
		case e.number == "":
			all.refuse(e, "is not a number, or a number and its carrier")
		case e.carrier == "":
			all.refuse(e, "names no carrier, and --carrier does not either")
		case err != nil:
			all.refuse(e, err.Error())
		default:
			good = append(good, e)
		}
	}
	// In a table that changes the carrier with every line each request would carry one.
	slices.SortStableFunc(good, func(a, b entry) int { return strings.Compare(a.carrier, b.carrier) })
	return good, nil
}
