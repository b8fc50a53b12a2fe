package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/vn"
)

type poolCmd struct {
	List   poolListCmd   `cmd:"" help:"Count the numbers of every pool."`
	Import poolImportCmd `cmd:"" help:"Bring numbers that you own into a pool."`
	Drain  poolDrainCmd  `cmd:"" help:"Take numbers out of a pool."`
}

type poolListCmd struct {
	JSON bool `help:"Print as JSON."`
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolListCmd) Help() string { return "Example:\n  callmask pool list" }

type poolRow struct {
	Name     string `json:"name"`
	Free     int    `json:"free"`
	Leased   int    `json:"leased"`
	Cooling  int    `json:"cooling"`
	Draining int    `json:"draining"`
	Total    int    `json:"total"`
}

// Run counts the numbers.
func (c *poolListCmd) Run(p *Process) error {
	api, err := p.dial()
	if err != nil {
		return err
	}
	rows := []poolRow{}
	if _, err := api.call(context.Background(), http.MethodGet, "/v1/pools", nil, &rows); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.Stdout, rows)
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "POOL\tFREE\tLEASED\tCOOLING\tDRAINING\tTOTAL\t\n")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t\n", r.Name, r.Free, r.Leased, r.Cooling, r.Draining, r.Total)
	}
	return w.Flush()
}

type poolImportCmd struct {
	Pool    string   `arg:"" help:"The pool."`
	Numbers []string `arg:"" optional:"" help:"The numbers; - reads them from standard input."`
	Carrier string   `required:"" help:"The carrier that they belong to, as in the settings."`
	File    string   `placeholder:"FILE" help:"Read numbers from a file: one or more a line, # starts a comment."`
	JSON    bool     `help:"Print as JSON."`
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolImportCmd) Help() string {
	return `Examples:
  callmask pool import demo --carrier sim +12025550160 +12025550161
  callmask pool import demo --carrier sim --file numbers.txt
  sort numbers.txt | callmask pool import demo --carrier sim -

It may be repeated: numbers that are there already are only counted.`
}

// batch is how many numbers one request carries; the API takes 10,000.
const batch = 5000

// Run imports the numbers in batches.
func (c *poolImportCmd) Run(p *Process) error {
	numbers, err := c.read(p)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		return errors.New("no numbers were given: name them, or --file, or - for standard input")
	}
	path, err := poolPath(c.Pool)
	if err != nil {
		return err
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	var all struct {
		Added   int `json:"added"`
		Present int `json:"present"`
	}
	for at := 0; at < len(numbers); at += batch {
		one := all
		body := map[string]any{"carrier": c.Carrier, "numbers": numbers[at:min(at+batch, len(numbers))]}
		if _, err := api.call(context.Background(), http.MethodPost, path, body, &one); err != nil {
			if at > 0 {
				err = fmt.Errorf("the first %d numbers are in the pool; then: %w", at, err)
			}
			return err
		}
		all.Added += one.Added
		all.Present += one.Present
	}
	if c.JSON {
		return printJSON(p.Stdout, all)
	}
	_, err = fmt.Fprintf(p.Stdout, "%d added, %d were there already\n", all.Added, all.Present)
	return err
}

func poolPath(pool string) (string, error) {
	if err := vn.CheckName("the pool's name", pool); err != nil {
		return "", err
	}
	return "/v1/pools/" + url.PathEscape(pool) + "/numbers", nil
}

func (c *poolImportCmd) read(p *Process) ([]string, error) {
	var numbers []string
	for _, n := range c.Numbers {
		if n != "-" {
			numbers = append(numbers, n)
			continue
		}
		more, err := readNumbers(p.Stdin)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, more...)
	}
	if c.File == "" {
		return numbers, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	more, err := readNumbers(f)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	return append(numbers, more...), nil
}

// readNumbers reads one or more numbers a line, separated by commas or tabs.
func readNumbers(r io.Reader) ([]string, error) {
	var numbers []string
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		line, _, _ := strings.Cut(scan.Text(), "#")
		for _, n := range strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' || r == '\t' }) {
			if n = strings.TrimSpace(n); n != "" {
				numbers = append(numbers, n)
			}
		}
	}
	return numbers, scan.Err()
}

type poolDrainCmd struct {
	Pool    string   `arg:"" help:"The pool."`
	Numbers []string `arg:"" help:"The numbers to take out."`
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolDrainCmd) Help() string {
	return `Example:
  callmask pool drain demo +12025550160

A free or cooling number leaves at once, a leased one when its order ends.
Exit code 1: the pool has no such number.`
}

// Run takes the numbers out, one after the other.
func (c *poolDrainCmd) Run(p *Process) error {
	path, err := poolPath(c.Pool)
	if err != nil {
		return err
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	for i, n := range c.Numbers {
		if _, err := api.call(context.Background(), http.MethodDelete, path+"/"+url.PathEscape(n), nil, nil); err != nil {
			return fmt.Errorf("number %d of %d: %w", i+1, len(c.Numbers), err)
		}
	}
	_, err = fmt.Fprintf(p.Stdout, "%d leaving: at once when free or cooling, else when the order ends\n", len(c.Numbers))
	return err
}
