package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

type whoisCmd struct {
	VN           string        `arg:"" help:"The virtual number, with + and country code."`
	At           moment        `default:"now" placeholder:"TIME" help:"When: 2026-11-25T14:03:00+01:00, \"2026-11-25 14:03\" (UTC), -2h, -3d; now by default."`
	Reveal       bool          `help:"Show real numbers in clear; the audit (stream AUDIT) keeps that you did."`
	LongestLease time.Duration `help:"No lease was ever longer; 24h by default; give the longest ttl that a pool had, where that is longer."`
	Limit        time.Duration `default:"5m" help:"Give up after this time."`
	output
	settings.Flags
}

// Help implements kong.HelpProvider.
func (whoisCmd) Help() string {
	return `Says which order held a virtual number at a moment, and which party it reached: for complaints
and lawful requests. It reads the number's records in the ledger, and events of the last 90
days (stream VN); a time without a zone is UTC, and the answer is good to about a second.

Real numbers are kept, sealed, only while an order lives: of one that has ended your own
records have them, by the order's id. They are opened with the keyset, masked unless --reveal
asks for them, and shown then only when the audit has the entry.

Exit code 0: an order held it. 1: none did. 2: the history does not reach back far enough.

Examples:
  callmask whois +12025550160
  callmask whois +12025550160 --at '2026-11-25 14:03'
  callmask whois +12025550160 --at -2h --reveal -o json`
}

// holder is a party of the order that held a VN.
type holder struct {
	Role   string `json:"role"`
	VN     string `json:"vn"`               // that reaches it
	Number string `json:"number,omitempty"` // its own, masked unless revealed; empty when it is not kept any more
}

// whoisAnswer is what is known of a VN at a moment.
type whoisAnswer struct {
	VN       string     `json:"vn"`
	At       time.Time  `json:"at"`
	Held     bool       `json:"held"`
	OrderID  string     `json:"order_id,omitempty"`
	Pool     string     `json:"pool,omitempty"`
	Role     string     `json:"role,omitempty"` // the party that the VN reached
	From     *time.Time `json:"from,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Reason   string     `json:"reason,omitempty"` // of the order's end
	Parties  []holder   `json:"parties,omitempty"`
	Revealed bool       `json:"revealed"`
	Note     string     `json:"note,omitempty"`
}

// Run looks it up.
func (c *whoisCmd) Run(p *Process) error {
	at, err := c.At.at(time.Now())
	if err != nil {
		return fmt.Errorf("--at: %w", err)
	}
	number, err := numbering.Parse(c.VN, "")
	if err != nil {
		return &noError{fmt.Errorf("the virtual number %w", err)}
	}
	path, s, err := p.keyset()
	if err != nil {
		return err
	}
	keys, err := seal.Open(path)
	if err != nil && (c.Reveal || !errors.Is(err, fs.ErrNotExist)) {
		return settings.Named("keyset", err)
	}
	ctx, end := within(c.Limit)
	defer end()
	bus, err := connectNATS(ctx, s, "callmask whois")
	if err != nil {
		return err
	}
	defer bus.Close()
	held, err := bus.HeldAt(ctx, number, at, c.longest())
	if err != nil {
		return settings.Named("nats_url", err)
	}
	if !held.Known {
		return fmt.Errorf("nobody can tell: the history is whole only from %s on (stream VN), and that order may have been announced before",
			held.Since.UTC().Format(time.RFC3339))
	}
	answer := whoisAnswer{VN: number.String(), At: at} // masked: it may be somebody's
	if held.Holding != nil {
		if err := c.tell(ctx, p, bus, keys, number, held.Holding, &answer); err != nil {
			return err
		}
	}
	if err := c.print(p.Stdout, &answer, answer.table); err != nil {
		return err
	}
	if !answer.Held {
		return &noError{errors.New("")} // it has been said
	}
	return nil
}

// defaultLongest is the longest ttl of a pool whose settings name none.
const defaultLongest = 24 * time.Hour

// longest is how long a lease may have been.
func (c *whoisCmd) longest() time.Duration {
	if c.LongestLease > 0 {
		return c.LongestLease
	}
	return defaultLongest
}

// tell fills in who held the number. keys may be nil.
func (c *whoisCmd) tell(ctx context.Context, p *Process, bus *events.Bus, keys *seal.Keyset, number vn.Number, h *events.Holding, a *whoisAnswer) error {
	a.VN, a.Held, a.OrderID, a.Pool, a.Role, a.Reason = number.E164(), true, h.OrderID, h.Pool, h.Role(number), h.Reason
	a.From, a.Until = &h.From, &h.Until
	var numbers map[string]vn.Number
	if keys != nil {
		var err error
		if numbers, err = people(ctx, bus, keys, h); err != nil {
			return err
		}
	}
	if c.Reveal {
		err := p.noted(ctx, bus, events.AuditEntry{
			Action: events.AuditReveal, Target: number.E164(), Outcome: events.AuditDone,
			Detail: "the numbers of order " + h.OrderID + ", which held it at " + a.At.Format(time.RFC3339) + ", were shown in clear",
		})
		if err != nil {
			return fmt.Errorf("no number is shown: %w", err)
		}
		a.Revealed = true
	}
	for _, party := range h.Parties {
		row := holder{Role: party.Role, VN: party.VN}
		if n := numbers[party.Role]; n != 0 && c.Reveal {
			row.Number = n.E164()
		} else if n != 0 {
			row.Number = n.String()
		}
		a.Parties = append(a.Parties, row)
	}
	switch {
	case keys == nil:
		a.Note = "real numbers are not shown: there is no keyset here (CALLMASK_KEYSET)"
	case len(numbers) < len(h.Parties):
		a.Note = "the order has ended, and its real numbers went with it: your own records have them, by the order's id"
	}
	return nil
}

func (a *whoisAnswer) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "number\t%s\nat\t%s\n", a.VN, a.At.Format(time.RFC3339))
	if !a.Held {
		fmt.Fprint(w, "held by\tno order\n")
		return w.Flush()
	}
	until := a.Until.Format(time.RFC3339)
	if a.Reason != "" {
		until += " (" + a.Reason + ")"
	}
	fmt.Fprintf(w, "held by\torder %s of pool %s\nfrom\t%s\nuntil\t%s\nreached\t%s\n", a.OrderID, a.Pool, a.From.Format(time.RFC3339), until, a.Role)
	for _, party := range a.Parties {
		number := party.Number
		if number == "" {
			number = "-"
		}
		fmt.Fprintf(w, "%s\t%s by %s\n", party.Role, number, party.VN)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if a.Note != "" {
		_, err := fmt.Fprintf(out, "\n%s\n", a.Note)
		return err
	}
	return nil
}
