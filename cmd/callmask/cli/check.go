package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/scripts"
)

type checkCmd struct {
	JSON  bool          `help:"Print as JSON."`
	Limit time.Duration `default:"10m" help:"Give up after this time."`
	settings.Flags
}

func (checkCmd) Help() string {
	return `Looks at every number, order, binding and counter in Redis, beside traffic and without
a lock. A mismatch counts only when it persists while its parts are read again in one
transaction: changes in flight and warnings do not.

Exit code 0: nothing is wrong. 1: mismatches, listed. 2: it could not check.

Examples:
  callmask check                                       the Redis that callmask all runs here
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 callmask check --json`
}

func (c *checkCmd) Run(p *Process) error {
	s, err := p.where() // a missing ${VAR} of a carrier does not keep anybody from checking
	if err != nil {
		return err
	}
	ctx, end := within(c.Limit)
	defer end()
	audit, err := auditAt(ctx, s.RedisAt(), progress(p.Stderr))
	if err != nil {
		return err
	}
	if s.NATSURL != "" {
		audit.Warnings = append(audit.Warnings, "CALLMASK_NATS_URL: an external NATS must encrypt its store, because orders.assigned holds real numbers")
	}
	if c.JSON {
		err = printJSON(p.Stdout, auditJSON(audit))
	} else {
		err = printAudit(p.Stdout, audit)
	}
	if err != nil {
		return err
	}
	if n := len(audit.Problems); n > 0 {
		return &noError{fmt.Errorf("%d mismatches found", n)}
	}
	return nil
}

// checkTimeout bounds each command of a check: none of them is large.
const checkTimeout = 5 * time.Second

// auditAt looks at all of a Redis.
func auditAt(ctx context.Context, at settings.RedisAt, tell func(done, of int)) (scripts.Audit, error) {
	client, err := app.NewRedis(at, checkTimeout, 4)
	if err != nil {
		return scripts.Audit{}, err
	}
	audit, err := func() (scripts.Audit, error) {
		store, err := scripts.New(scripts.Config{Timeout: checkTimeout}, client, nil)
		if err != nil {
			return scripts.Audit{}, err
		}
		return store.Audit(ctx, tell)
	}()
	if err := errors.Join(err, client.Close()); err != nil {
		return audit, settings.Named("redis_url", err)
	}
	return audit, nil
}

// progress shows on a terminal how far a check has come.
func progress(w io.Writer) func(done, of int) {
	if !isTerminal(w) {
		return nil
	}
	next := time.Now().Add(time.Second) // a short check shows none
	return func(keys, _ int) {
		if now := time.Now(); now.After(next) {
			next = now.Add(200 * time.Millisecond)
			_, _ = fmt.Fprintf(w, "\r%d keys read ", keys) // for a person only; a lost line does no harm
		}
	}
}

func printAudit(out io.Writer, a scripts.Audit) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "pool\tcarrier\tfree\tleased\tcooling\tdraining\ttotal\t")
	for _, s := range a.Stock {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t\n", s.Pool, s.Carrier, s.Free, s.Leased, s.Cooling, s.Draining, s.Total)
	}
	_, _ = fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, p := range a.Problems {
		subject := p.OrderID
		if p.VN != 0 {
			subject = p.VN.E164()
			if p.OrderID != "" {
				subject += " of order " + p.OrderID
			}
		} else if subject != "" {
			subject = "order " + subject
		}
		if _, err := fmt.Fprintf(out, "MISMATCH %s: %s %s\n", p.Kind, subject, p.Detail); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	for _, warning := range a.Warnings {
		if _, err := fmt.Fprintf(out, "warning: %s\n", warning); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	_, err := fmt.Fprintf(out, "%d numbers, %d live orders, %d mismatches, %d changes in flight\n",
		a.VNs, a.Orders, len(a.Problems), a.Cleared)
	return err
}

type stockReport struct {
	Pool     string `json:"pool"`
	Carrier  string `json:"carrier"`
	Free     int    `json:"free"`
	Leased   int    `json:"leased"`
	Cooling  int    `json:"cooling"`
	Draining int    `json:"draining"`
	Total    int    `json:"total"`
}

type problemReport struct {
	Kind    string `json:"kind"`
	VN      string `json:"vn,omitempty"`
	OrderID string `json:"order_id,omitempty"`
	Detail  string `json:"detail"`
}

type auditReport struct {
	Numbers    int             `json:"numbers"`
	Orders     int             `json:"orders"`
	Pools      []stockReport   `json:"pools"`
	Mismatches []problemReport `json:"mismatches"`
	Warnings   []string        `json:"warnings"`
	InFlight   int             `json:"in_flight"`
}

func auditJSON(a scripts.Audit) auditReport {
	out := auditReport{
		Numbers: a.VNs, Orders: a.Orders, InFlight: a.Cleared,
		Pools: []stockReport{}, Mismatches: []problemReport{}, Warnings: append([]string{}, a.Warnings...),
	}
	for _, s := range a.Stock {
		out.Pools = append(out.Pools, stockReport(s))
	}
	for _, p := range a.Problems {
		r := problemReport{Kind: string(p.Kind), OrderID: p.OrderID, Detail: p.Detail}
		if p.VN != 0 {
			r.VN = p.VN.E164()
		}
		out.Mismatches = append(out.Mismatches, r)
	}
	return out
}
