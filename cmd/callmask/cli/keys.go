package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
)

type keysCmd struct {
	List    keysListCmd    `cmd:"" help:"Show the keys, without their secrets."`
	Add     keysAddCmd     `cmd:"" help:"Add the next key, or make a keyset where there is none."`
	Promote keysPromoteCmd `cmd:"" help:"Make the next key the one in use."`
	Drop    keysDropCmd    `cmd:"" help:"Delete a key that nothing uses any more."`
}

// keyFlags name the keyset file.
type keyFlags struct {
	Keyset string `env:"CALLMASK_KEYSET" placeholder:"FILE" help:"Keyset file; by default the one in the data directory."`
	settings.DataFlags
}

func (p *Process) keyset() (string, *settings.Settings, error) {
	s, err := p.where()
	if err != nil {
		return "", nil, err
	}
	path := s.Keyset
	if path == "" {
		path = filepath.Join(s.DataDir, app.KeysetFile)
	}
	return path, s, nil
}

type keysListCmd struct {
	output
	keyFlags
}

// Help implements kong.HelpProvider.
func (keysListCmd) Help() string {
	return "Example:\n  callmask keys list --keyset /etc/callmask/keyset.json"
}

// Run shows the keys.
func (c *keysListCmd) Run(p *Process) error {
	path, _, err := p.keyset()
	if err != nil {
		return err
	}
	keys, err := seal.Open(path)
	if err != nil {
		return err
	}
	rows := []keyRow{}
	for _, k := range keys.List() {
		rows = append(rows, keyRow{k.ID, string(k.State), k.Created.UTC()})
	}
	return c.print(p.Stdout, rows, func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprint(w, "ID\tSTATE\tCREATED\n")
		for _, r := range rows {
			fmt.Fprintf(w, "%d\t%s\t%s\n", r.ID, r.State, r.Created.Format(time.RFC3339))
		}
		return w.Flush()
	})
}

// keyRow is a key as it is shown.
type keyRow struct {
	ID      byte      `json:"id"`
	State   string    `json:"state"`
	Created time.Time `json:"created"`
}

type keysAddCmd struct{ keyFlags }

// Help implements kong.HelpProvider.
func (keysAddCmd) Help() string {
	return `Examples:
  callmask keys add --keyset /etc/callmask/keyset.json    the first time: makes the file
  callmask keys add                                       later: a key that is accepted, not used yet

A rotation is: keys add, copy the file to every process, keys promote, copy again, and
after the longest ttl plus the tombstones' time: keys drop.`
}

// Run adds a key.
func (c *keysAddCmd) Run(p *Process) error {
	path, _, err := p.keyset()
	if err != nil {
		return err
	}
	id, err := seal.Add(path)
	if errors.Is(err, fs.ErrNotExist) {
		keys, err := seal.Create(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.Stdout, "made %s with key %d as primary: keep a backup, without it no order routes\n", path, keys.Primary().ID())
		return err
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "key %d is next: once every process has it, callmask keys promote\n", id)
	return err
}

type keysPromoteCmd struct{ keyFlags }

// Help implements kong.HelpProvider.
func (keysPromoteCmd) Help() string { return "Example:\n  callmask keys promote" }

// Run makes the next key primary.
func (c *keysPromoteCmd) Run(p *Process) error {
	path, _, err := p.keyset()
	if err != nil {
		return err
	}
	if err := seal.Promote(path); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.Stdout, "the next key is primary; the old one is previous until no order uses it")
	return err
}

type keysDropCmd struct {
	ID byte `arg:"" help:"The key's id."`
	keyFlags
}

// Help implements kong.HelpProvider.
func (keysDropCmd) Help() string {
	return `Example:
  callmask keys drop 1

Redis is asked first: exit code 1 while an active or ended order still uses the key.`
}

// Run drops the key unless an order uses it.
func (c *keysDropCmd) Run(p *Process) error {
	path, s, err := p.keyset()
	if err != nil {
		return err
	}
	err = seal.Drop(path, c.ID, func() error { return unused(s, c.ID) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "key %d is gone\n", c.ID)
	return err
}

// unused returns a noError while an order's tokens are of the key.
func unused(s *settings.Settings, id byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	at := s.RedisAt()
	client, err := app.NewRedis(at, checkTimeout, 4)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing was written
	orders, err := scripts.OrdersUnder(ctx, client, id)
	if err != nil {
		return fmt.Errorf("asking Redis (%s) whether the key is in use: %w", settings.Redact(at.URL), err)
	}
	if orders > 0 {
		return &noError{fmt.Errorf("key %d is in use by %d orders, active or ended: wait until their tombstones are gone", id, orders)}
	}
	return nil
}
