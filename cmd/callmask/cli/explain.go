package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/explain"
)

type explainCmd struct {
	Called  string `arg:"" help:"The number that is dialled, with + and country code."`
	Calling string `arg:"" help:"Who dials; national ones are read as in the pool's region, anonymous is a withheld one."`
	Carrier string `help:"The carrier that announces the call; by default the number's own."`
	Reveal  bool   `help:"Show real numbers in clear; the audit (stream AUDIT) keeps that you did."`
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (explainCmd) Help() string {
	return `Takes every step of the decision as a dry run, which changes nothing: the numbers as they are
read, the virtual number's state and carrier, its partition, the key, the binding or why there is
none, the lease. Numbers of people are masked. What a router keeps in memory, the limit on refused
calls, is not looked at.

Exit code 0: the call would be connected. 1: it would be refused.

Examples:
  callmask explain +12025550160 +12025550123
  callmask explain +12025550160 '(202) 555-0123' --carrier twilio
  callmask explain +12025550160 +12025550123 --reveal -o json`
}

// Run explains a call.
func (c *explainCmd) Run(p *Process) error {
	api, err := p.dial()
	if err != nil {
		return err
	}
	body := map[string]any{"called": c.Called, "calling": c.Calling, "carrier": c.Carrier, "reveal": c.Reveal}
	var e explain.Explanation
	if _, err := api.call(context.Background(), http.MethodPost, explain.Path, body, &e); err != nil {
		return err
	}
	if err := c.print(p.Stdout, &e, func(out io.Writer) error { return printExplanation(out, &e) }); err != nil {
		return err
	}
	if e.Action != "connect" {
		return &noError{errors.New("")} // it has been said
	}
	return nil
}

func printExplanation(out io.Writer, e *explain.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range e.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Result, s.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if e.Advice != "" {
		fmt.Fprintf(out, "\n%s\n", e.Advice)
	}
	return nil
}
