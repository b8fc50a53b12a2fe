package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// restorer is a ledger's Restorer for numbers that have not changed for as long as anything is
// ever under way.
type restorer struct{ *ledger.Restorer }

func (r restorer) Restore(ctx context.Context, number vn.Number) error {
	status, err := r.Restorer.Restore(ctx, number, true)
	if err == nil && status == scripts.RestoreBusy {
		err = errors.New("it is being changed at this moment; check again")
	}
	return err
}

// totals puts counters right.
type totals interface {
	CorrectTotal(ctx context.Context, p *scripts.Problem) error
}

// repair shows what differs, asks, and repairs. It tells whether anything was done.
func (c *checkCmd) repair(ctx context.Context, p *Process, found *checked, counters totals, by audit.Restorer) (bool, error) {
	wrong, numbers := found.report.Totals(), 0
	w := tabwriter.NewWriter(p.Stderr, 0, 0, 2, ' ', 0)
	for i := range found.rows {
		d := &found.rows[i]
		if d.Repairable() {
			numbers++
		}
		if i == 0 {
			_, _ = fmt.Fprintln(w, "number\tRedis says\tthe ledger says\tto do")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.VN.E164(), d.Redis, d.Ledger, d.Repair)
	}
	if err := w.Flush(); err != nil {
		return false, fmt.Errorf("print: %w", err)
	}
	for _, t := range wrong {
		fmt.Fprintf(p.Stderr, "counter: %s; to do: count anew\n", t.Detail)
	}
	if numbers+len(wrong) == 0 {
		return false, nil
	}
	if yes, err := c.confirmed(p, fmt.Sprintf("Repair %d numbers and %d counters?", numbers, len(wrong))); !yes || err != nil {
		return false, err
	}
	meter, done := p.meter("repaired"), 0
	repaired, err := audit.Repair(ctx, by, found.rows, func() {
		done++
		meter.at(done, numbers)
	})
	meter.end()
	for i := range wrong {
		err = errors.Join(err, counters.CorrectTotal(ctx, &wrong[i]))
	}
	fmt.Fprintf(p.Stderr, "%d of %d numbers repaired, %d counters\n", repaired, numbers, len(wrong))
	return true, err
}

// confirmed asks the person at the terminal.
func (c *checkCmd) confirmed(p *Process, question string) (bool, error) {
	if c.Yes {
		return true, nil
	}
	fmt.Fprintf(p.Stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(p.Stdin).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(p.Stderr)
		return false, errors.New("nobody answered; --yes repairs without asking")
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
