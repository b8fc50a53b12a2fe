package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/vn"
)

type poolCmd struct {
	List      poolListCmd      `cmd:"" help:"Count the numbers of every pool."`
	Import    poolImportCmd    `cmd:"" help:"Bring numbers that you own into a pool."`
	Drain     poolDrainCmd     `cmd:"" help:"Take numbers out of a pool; their carrier keeps them."`
	Release   poolReleaseCmd   `cmd:"" help:"Take numbers out of a pool and give them back to their carrier."`
	Reconcile poolReconcileCmd `cmd:"" help:"Compare a carrier's list of our numbers with the inventory, and put right what differs."`
	Plan      poolPlanCmd      `cmd:"" help:"Say how many numbers a load needs, and what to set for it."`
}

type poolListCmd struct {
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolListCmd) Help() string {
	return "Examples:\n  callmask pool list\n  callmask pool list -o json"
}

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
	return c.print(p.Stdout, rows, func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprint(w, "POOL\tFREE\tLEASED\tCOOLING\tDRAINING\tTOTAL\t\n")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t\n", r.Name, r.Free, r.Leased, r.Cooling, r.Draining, r.Total)
		}
		return w.Flush()
	})
}

func poolPath(pool string) (string, error) {
	if err := vn.CheckName("the pool's name", pool); err != nil {
		return "", err
	}
	return "/v1/pools/" + url.PathEscape(pool) + "/numbers", nil
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

A free or cooling number leaves at once, a leased one when its order ends. One that was
bought is still paid for then: callmask pool release gives it back as well.
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
