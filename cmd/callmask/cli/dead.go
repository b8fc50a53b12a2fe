package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/seal"
)

type deadCmd struct {
	List   deadListCmd   `cmd:"" help:"Show what could not be handled, and why."`
	Replay deadReplayCmd `cmd:"" help:"Publish it again, once what was wrong is mended."`
}

// deadFilter says which dead letters are meant.
type deadFilter struct {
	Subject string `placeholder:"SUBJECT" help:"Only events of this subject; wildcards * and > as in NATS."`
	Order   string `placeholder:"ID" help:"Only events of this order."`
}

func (f *deadFilter) match(l *events.StoredLetter) bool {
	return (f.Order == "" || f.Order == l.OrderID) && (f.Subject == "" || events.SubjectMatches(f.Subject, l.Subject))
}

// deadLetters reads those that match, with the replayed ones if wanted.
func (f *deadFilter) read(ctx context.Context, p *Process, bus *events.Bus, replayed bool) ([]events.StoredLetter, error) {
	letters, unreadable, err := bus.DeadLetters(ctx)
	if err != nil {
		return nil, settings.Named("nats_url", err)
	}
	if unreadable > 0 {
		fmt.Fprintf(p.Stderr, "callmask: %d messages of stream DEAD are no dead letters of callmask's and were left out\n", unreadable)
	}
	return slices.DeleteFunc(letters, func(l events.StoredLetter) bool {
		return !f.match(&l) || !replayed && !l.Replayed.IsZero()
	}), nil
}

type deadListCmd struct {
	deadFilter

	All bool `help:"Also those that were published again already."`
	listOutput
	Limit time.Duration `default:"5m" help:"Give up after this time."`
	settings.Flags
}

// Help implements kong.HelpProvider.
func (deadListCmd) Help() string {
	return `What could not be handled stays here for 14 days: when, what, why, and after how many
deliveries. "waiting" means that no allocator has taken the server's word of it yet, because
none runs. Payloads are sealed and not shown.

Examples:
  callmask dead list
  callmask dead list --order o-1001 --all
  callmask dead list --subject orders.assigned -o jsonl > dead.jsonl`
}

// Run shows the dead letters.
func (c *deadListCmd) Run(p *Process) error {
	s, err := p.where()
	if err != nil {
		return err
	}
	ctx, end := within(c.Limit)
	defer end()
	bus, err := connectNATS(ctx, s, "callmask dead list")
	if err != nil {
		return err
	}
	defer bus.Close()
	letters, err := c.read(ctx, p, bus, c.All)
	if err != nil {
		return err
	}
	rows := make([]deadRow, len(letters))
	for i := range letters {
		rows[i] = showLetter(&letters[i])
	}
	return printList(&c.listOutput, p.Stdout, rows, func(out io.Writer) error { return printDead(out, rows) })
}

// deadRow is a dead letter as it is shown.
type deadRow struct {
	At         time.Time `json:"at"`
	State      string    `json:"state"` // dead, waiting or replayed
	Subject    string    `json:"subject"`
	OrderID    string    `json:"order_id,omitempty"`
	Stream     string    `json:"stream"`
	Sequence   uint64    `json:"sequence"`
	Consumer   string    `json:"consumer"`
	Deliveries int       `json:"deliveries"`
	Reason     string    `json:"reason"`
	ReplayedAt time.Time `json:"replayed_at,omitzero"`
}

func showLetter(l *events.StoredLetter) deadRow {
	row := deadRow{
		At: l.At, State: "dead", Subject: l.Subject, OrderID: l.OrderID, Stream: l.Stream, Sequence: l.Sequence,
		Consumer: l.Consumer, Deliveries: l.Deliveries, Reason: l.Reason, ReplayedAt: l.Replayed,
	}
	switch {
	case !l.Replayed.IsZero():
		row.State = "replayed"
	case l.Stored == 0:
		row.State = "waiting"
	}
	return row
}

func printDead(out io.Writer, rows []deadRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "at\tstate\tsubject\torder\tconsumer\tdeliveries\treason")
	for i := range rows {
		r := &rows[i]
		_, line := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n",
			r.At.UTC().Format(time.DateTime), r.State, r.Subject, r.OrderID, r.Consumer, r.Deliveries, r.Reason)
		err = errors.Join(err, line)
	}
	return errors.Join(err, w.Flush())
}

type deadReplayCmd struct {
	deadFilter

	All    bool          `help:"Everything that was not replayed yet."`
	DryRun bool          `help:"Only say what would be published again."`
	Limit  time.Duration `default:"15m" help:"Give up after this time."`
	settings.Flags
}

// Help implements kong.HelpProvider.
func (deadReplayCmd) Help() string {
	return `Publishes events again that could not be handled, to the subject they had, each once: a
second replay leaves out what the first one did. It needs the keyset where the stream of
orders does not hold the event itself any more.

An event that gives an order its numbers is replayed for 23 hours only: later its order
may have ended and been forgotten. If such an order still lives, publish the event anew.

Exit code 1: some could not be replayed; it says how many and why.

Examples:
  callmask dead replay --all --dry-run
  callmask dead replay --order o-1001
  callmask dead replay --subject 'orders.*'`
}

// Run replays the dead letters.
func (c *deadReplayCmd) Run(p *Process) error {
	if !c.All && c.Subject == "" && c.Order == "" {
		return errors.New("say what to replay: --order, --subject, or --all")
	}
	path, s, err := p.keyset()
	if err != nil {
		return err
	}
	ctx, end := within(c.Limit)
	defer end()
	bus, err := connectNATS(ctx, s, "callmask dead replay")
	if err != nil {
		return err
	}
	defer bus.Close()
	letters, err := c.read(ctx, p, bus, false)
	if err != nil {
		return err
	}
	act := func(l *events.StoredLetter) error {
		return bus.Replay(ctx, l, func(box []byte) ([]byte, error) { return openDead(path, box) })
	}
	if c.DryRun {
		act = bus.MayReplay
	}
	return c.replay(ctx, p, letters, act)
}

// replay does it for each letter and tells how it went.
func (c *deadReplayCmd) replay(ctx context.Context, p *Process, letters []events.StoredLetter, act func(*events.StoredLetter) error) error {
	done, why := 0, map[string]int{}
	meter := p.meter("replaying")
	for i := range letters {
		if err := act(&letters[i]); err != nil {
			why[oneLine(err)]++
		} else {
			done++
		}
		meter.at(i+1, len(letters))
		if ctx.Err() != nil && i+1 < len(letters) {
			why["not tried: "+context.Cause(ctx).Error()] += len(letters) - i - 1
			break
		}
	}
	meter.end()
	what := "replayed"
	if c.DryRun {
		what = "would be replayed"
	}
	if _, err := fmt.Fprintf(p.Stdout, "%d of %d %s\n", done, len(letters), what); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if done == len(letters) {
		return nil
	}
	reasons := make([]string, 0, len(why))
	for reason, n := range why {
		reasons = append(reasons, fmt.Sprintf("%d × %s", n, reason))
	}
	slices.Sort(reasons)
	return &noError{fmt.Errorf("%d not replayed: %s", len(letters)-done, strings.Join(reasons, "; "))}
}

// openDead opens the sealed payload of a dead letter with the keyset file at path.
func openDead(path string, box []byte) ([]byte, error) {
	keys, err := seal.Open(path)
	if err != nil {
		return nil, settings.Named("keyset", err)
	}
	return app.OpenDead(keys, box)
}
