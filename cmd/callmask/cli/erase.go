package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
)

type eraseCmd struct {
	Order  string        `arg:"" optional:"" help:"The order's id."`
	Number string        `placeholder:"NUMBER" help:"All orders of the person with this number instead; - reads it from standard input, so that no history of a shell keeps it."`
	Yes    bool          `help:"Do it. Without it nothing is changed, only shown."`
	End    bool          `help:"End the order first (as cancelled) where it is still live."`
	Limit  time.Duration `default:"15m" help:"Give up after this time."`
	output
	settings.Flags
}

// Help implements kong.HelpProvider.
func (eraseCmd) Help() string {
	return `Erases what callmask keeps of an order's parties (a request under the GDPR, say): the events
that gave the order its numbers, which hold real ones for 24 hours, dead letters of it, and the
keyed hashes by which former callers are told that it has ended. Messages are overwritten on the
disk. It stays known that the order has ended, so that no late event brings it back, as do events
without real numbers (roles, virtual numbers, times).

Without --yes it shows what would be erased. A live order is refused: calls depend on it; --end
ends it first. Each erasure is in the audit (stream AUDIT) before it is done. With --number an
order is erased for all its parties; orders that ended more than 25 hours ago are known by
nobody's number any more. Not reached: backups, your own records, the carrier's, and what
Redis's append-only file holds until it is rewritten (BGREWRITEAOF).

Exit code 0: done, or shown. 1: refused, nothing was erased.

Examples:
  callmask erase order-1
  callmask erase order-1 --end --yes
  callmask erase --number - --yes < number.txt`
}

// erasure is what is kept of one order.
type erasure struct {
	OrderID  string `json:"order_id"`
	State    string `json:"state"`        // live, waiting (its event was not handled yet), ended or unknown
	Events   int    `json:"events"`       // orders.assigned, in the stream of orders
	Dead     int    `json:"dead_letters"` // of it
	Callers  int    `json:"callers"`      // keyed hashes in Redis
	Erased   bool   `json:"erased"`
	messages []events.Trace
}

// The states of an erasure.
const (
	stateLive    = "live"
	stateWaiting = "waiting"
	stateEnded   = "ended"
	stateUnknown = "unknown"
)

func (e *erasure) needsEnd() bool { return e.State == stateLive || e.State == stateWaiting }

func (e *erasure) nothing() bool { return e.Events+e.Dead+e.Callers == 0 }

// Run shows or erases.
func (c *eraseCmd) Run(p *Process) error {
	if (c.Order == "") == (c.Number == "") {
		return errors.New("name an order, or give --number")
	}
	ctx, end := within(c.Limit)
	defer end()
	job, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer job.close()
	found, err := job.find(ctx)
	if err != nil {
		return err
	}
	if c.Yes {
		err = c.erase(ctx, job, found)
	}
	if found == nil {
		found = []erasure{}
	}
	return errors.Join(err, c.print(p.Stdout, found, func(out io.Writer) error { return c.table(out, found) }))
}

// erase erases all, or none where one of them is refused.
func (c *eraseCmd) erase(ctx context.Context, job *eraser, found []erasure) error {
	for i := range found {
		if found[i].needsEnd() && !c.End {
			return &noError{fmt.Errorf("order %s is %s: end it first (callmask order end %s), or give --end", found[i].OrderID, found[i].State, found[i].OrderID)}
		}
	}
	for i := range found {
		if err := job.erase(ctx, &found[i]); err != nil {
			return fmt.Errorf("order %s: %w; it may be repeated", found[i].OrderID, err)
		}
	}
	return nil
}

func (c *eraseCmd) table(out io.Writer, found []erasure) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "nothing is kept of such an order")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "order\tstate\tevents with numbers\tdead letters\tcallers in Redis\terased\n")
	for i := range found {
		e := &found[i]
		erased := "no"
		if e.Erased {
			erased = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\n", e.OrderID, e.State, e.Events, e.Dead, e.Callers, erased)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !c.Yes {
		_, err := fmt.Fprintln(out, "\ndry run: nothing was changed; --yes erases it")
		return err
	}
	return nil
}

// endOrder ends a live order as an app would.
func (e *eraser) endOrder(ctx context.Context, id string) error {
	path, err := orderPath(id)
	if err != nil {
		return err
	}
	api, err := e.process.dial()
	if err != nil {
		return err
	}
	_, err = api.call(ctx, http.MethodDelete, path+"?reason=cancelled", nil, nil)
	return err
}
