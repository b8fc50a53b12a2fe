package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
)

type callsCmd struct {
	Since time.Duration `default:"1h" help:"How far back to look; the stream keeps 30 days."`
	Order string        `help:"Only the calls of this order."`
	Call  string        `help:"Only the call with this id of the carrier's."`
	listOutput
	Limit time.Duration `default:"5m" help:"Give up after this time."`
	settings.Flags
}

func (callsCmd) Help() string {
	return `One record for each call, made of the events in stream CALLS: what was decided and why, and
what the carrier told of it. "connected" means that the party dialled has answered. Records
hold no real number.

Examples:
  callmask calls                                the calls of the last hour
  callmask calls --order o-1001 --since 48h     why was nobody put through?
  callmask calls --since 24h -o jsonl > calls.jsonl`
}

func (c *callsCmd) Run(p *Process) error {
	s, err := p.where()
	if err != nil {
		return err
	}
	ctx, end := within(c.Limit)
	defer end()
	bus, err := connectNATS(ctx, s, "callmask calls")
	if err != nil {
		return err
	}
	defer bus.Close()
	calls, unreadable, err := bus.Calls(ctx, time.Now().Add(-c.Since))
	if err != nil {
		return settings.Named("nats_url", err)
	}
	if unreadable > 0 {
		fmt.Fprintf(p.Stderr, "callmask: %d events of stream CALLS cannot be read and were left out\n", unreadable)
	}
	kept := slices.DeleteFunc(calls, func(r events.CallRecord) bool {
		return c.Order != "" && r.OrderID != c.Order || c.Call != "" && r.CallID != c.Call
	})
	return printList(&c.listOutput, p.Stdout, kept, func(out io.Writer) error { return printCalls(out, kept) })
}

func printCalls(out io.Writer, calls []events.CallRecord) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "decided at\tcarrier\tcall\torder\tnumber dialled\tdecision\tconnected\toutcome\ttalked")
	for i := range calls {
		r := &calls[i]
		at, talked := "", ""
		if !r.DecidedAt.IsZero() {
			at = r.DecidedAt.UTC().Format(time.DateTime)
		}
		if r.DurationS > 0 {
			talked = (time.Duration(r.DurationS) * time.Second).String()
		}
		connected := "no"
		switch {
		case r.Connected:
			connected = "yes"
		case r.Outcome == "":
			connected = "" // nobody told
		}
		_, line := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			at, r.Carrier, r.CallID, r.OrderID, r.VN, r.Reason, connected, r.Outcome, talked)
		err = errors.Join(err, line)
	}
	return errors.Join(err, w.Flush())
}
