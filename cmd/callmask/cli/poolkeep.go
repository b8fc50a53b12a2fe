package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/vn"
)

type poolReleaseCmd struct {
	Pool    string   `arg:"" help:"The pool."`
	Numbers []string `arg:"" help:"The numbers to give back."`
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolReleaseCmd) Help() string {
	return `Examples:
  callmask pool release demo +12025550160
  CALLMASK_ADMIN_ADDR=10.0.0.7:9090 callmask pool release demo +12025550160 +12025550161

A free or cooling number leaves the pool at once and goes back to its carrier, a leased one
when its order ends. Giving back is for good: the carrier may sell the number to somebody
else. CALLMASK_ADMIN_ADDR is that of a process with the replenisher.
Exit code 1: the pool has no such number, or callmask did not buy it.`
}

// Run gives the numbers back, one after the other.
func (c *poolReleaseCmd) Run(p *Process) error {
	path, err := poolPath(c.Pool)
	if err != nil {
		return err
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	for i, n := range c.Numbers {
		var answer struct {
			State replenisher.Giving `json:"state"`
		}
		if _, err := api.call(context.Background(), http.MethodPost, path+"/"+url.PathEscape(n)+"/release", nil, &answer); err != nil {
			return fmt.Errorf("number %d of %d: %w", i+1, len(c.Numbers), err)
		}
		said := map[replenisher.Giving]string{
			replenisher.Released: "given back to its carrier",
			replenisher.Draining: "goes back to its carrier when its order ends",
			replenisher.Kept:     "stays: it is in another pool by now",
		}[answer.State]
		fmt.Fprintf(p.Stdout, "number %d of %d: %s\n", i+1, len(c.Numbers), said)
	}
	return nil
}

type poolReconcileCmd struct {
	Carrier string        `arg:"" help:"The carrier, as in the settings."`
	DryRun  bool          `help:"Only say what would be done."`
	Pool    string        `help:"Take numbers that are ours and of no known pool into this one."`
	Force   bool          `help:"Act although much is missing, and on numbers whose calls go elsewhere."`
	Timeout time.Duration `default:"15m" help:"How long to wait."`
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (poolReconcileCmd) Help() string {
	return `Examples:
  callmask pool reconcile twilio --dry-run
  callmask pool reconcile twilio
  callmask pool reconcile twilio --pool jakarta    adopts what nobody knows the pool of

What a row's action means:
  adopt      paid for and in no pool: it comes into its pool
  configure  its calls do not come to us: they will
  remove     the carrier does not have it any more: it leaves its pool
  release    giving it back was cut short: it is finished
  wait       too early to tell; nothing is done now
  report     somebody has to decide; nothing is done

Numbers that are not ours are left alone and counted. Where a list lacks more than a tenth
of our numbers nothing is changed: --force does, the second time. The replenisher does the same by itself
every hour. CALLMASK_ADMIN_ADDR is that of a process with the replenisher.
Exit code 1: nothing was changed because too much is missing, or a row failed.`
}

// Run compares and prints the rows.
func (c *poolReconcileCmd) Run(p *Process) error {
	if err := vn.CheckName("the carrier's name", c.Carrier); err != nil {
		return err
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	shown := p.meter("reconciling " + c.Carrier)
	defer shown.end()
	ask := map[string]any{"dry_run": c.DryRun, "force": c.Force, "pool": c.Pool}
	diff, err := api.reconcile(ctx, "/v1/carriers/"+url.PathEscape(c.Carrier)+"/reconcile", ask, shown.at)
	shown.end()
	if diff != nil {
		if err := c.print(p.Stdout, diff, func(out io.Writer) error { return printDiff(out, diff) }); err != nil {
			return err
		}
	}
	if err == nil && diff.Failed > 0 {
		err = &noError{fmt.Errorf("%d of %d rows failed; the next comparison tries them again", diff.Failed, len(diff.Rows))}
	}
	return err
}

// reconcile sends the request and follows its progress. The Diff may come with an error.
func (c *client) reconcile(ctx context.Context, path string, ask any, progress func(done, of int)) (*replenisher.Diff, error) {
	long := *c.http
	long.Timeout = 0 // ctx has the deadline
	res, err := (&client{base: c.base, token: c.token, http: &long}).send(ctx, http.MethodPost, path, "application/x-ndjson", ask)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	if res.StatusCode >= 400 {
		b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		if err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		return nil, refused(res.StatusCode, b)
	}
	dec := json.NewDecoder(res.Body)
	for {
		var line struct {
			Done, Of int
			Diff     *replenisher.Diff
			Problem  *struct {
				problem

				Status int
			}
		}
		switch err := dec.Decode(&line); {
		case errors.Is(err, context.DeadlineExceeded):
			return nil, errors.New("no answer within --timeout; what was begun goes on or is done by the next comparison")
		case err != nil:
			return nil, errors.New("the answer broke off; what is left is done by the next comparison")
		case line.Problem != nil:
			return line.Problem.Diff, line.Problem.asError(line.Problem.Status)
		case line.Diff != nil:
			return line.Diff, nil
		}
		progress(line.Done, line.Of)
	}
}

func printDiff(out io.Writer, d *replenisher.Diff) error {
	if len(d.Rows) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprint(w, "VN\tPOOL\tACTION\tDETAIL\n")
		for _, r := range d.Rows {
			if r.Error != "" {
				r.Detail = "FAILED: " + r.Error
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.VN, r.Pool, r.Action, r.Detail)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s lists %d numbers, %d are ours here: %d in both, %d imported and not listed, %d of others left alone, %d rows\n",
		d.Carrier, d.Listed, d.Ours, d.Agreed, d.Imported, d.Foreign, len(d.Rows))
	switch {
	case d.DryRun && d.Brake != "":
		fmt.Fprintln(out, "dry run: nothing was changed, and without --force nothing would be: too much is missing")
	case d.DryRun:
		fmt.Fprintln(out, "dry run: nothing was changed")
	}
	return nil
}
