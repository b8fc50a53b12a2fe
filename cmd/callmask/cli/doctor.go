package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/doctor"
	"github.com/callmask/callmask/cmd/callmask/settings"
)

type doctorCmd struct {
	Role    string        `default:"" enum:",all,router,allocator,replenisher" placeholder:"ROLE" help:"Also tell whether this role has all settings that it needs (all, router, allocator, replenisher)."`
	Timeout time.Duration `default:"10s" help:"How long each check may take; all are made at the same time."`
	output
	settings.Flags
}

// Help implements kong.HelpProvider.
func (doctorCmd) Help() string {
	return `Looks at the settings, the keyset, the disk, Redis (version, eviction, persistence, data),
NATS (JetStream, every stream and its copies), the callmask that runs here, each carrier (does
it accept the credentials, where do calls to our numbers go, does the public URL lead to a
router) and at all their clocks. Each line says what was seen, and what to do where something
should be done. It changes nothing; carriers are only asked for the list of numbers. What is
in Redis, number by number, is the matter of callmask check.

Exit code 0: nothing fails (there may be warnings). 1: something fails. 2: it could not look.

Examples:
  callmask doctor --config callmask.yaml
  callmask doctor --config callmask.yaml --role router
  callmask doctor -o json`
}

// Run looks and prints what was found.
func (c *doctorCmd) Run(p *Process) error {
	cfg := doctor.Config{Role: settings.Role(c.Role), Timeout: c.Timeout}
	if cfg.Settings, cfg.SettingsError = p.load(false); cfg.SettingsError != nil {
		var err error
		if cfg.Settings, err = p.where(); err != nil { // not even where the servers are
			return err
		}
	}
	redis.SetLogger(&app.MaskedLog{Logger: zerolog.Nop()}) // what it would say is said by the findings
	ctx, end := within(2*c.Timeout + time.Second)
	defer end()
	found := doctor.Look(ctx, cfg)
	err := c.print(p.Stdout, found, func(out io.Writer) error { return printFindings(out, found, p.colours(out)) })
	if err != nil {
		return err
	}
	if doctor.Worst(found) == doctor.Fail {
		n := 0
		for i := range found {
			if found[i].Status == doctor.Fail {
				n++
			}
		}
		return &noError{fmt.Errorf("%d of %d lines fail", n, len(found))}
	}
	return nil
}

func printFindings(out io.Writer, found []doctor.Finding, colours bool) error {
	wide := 0
	for i := range found {
		wide = max(wide, len(found[i].Check))
	}
	paint := map[doctor.Status]string{doctor.OK: "\x1b[32m", doctor.Warn: "\x1b[33m", doctor.Fail: "\x1b[31m"}
	for i := range found {
		f := &found[i]
		status := fmt.Sprintf("%-4s", f.Status)
		if colours {
			status = paint[f.Status] + status + "\x1b[0m"
		}
		if _, err := fmt.Fprintf(out, "%s  %-*s  %s\n", status, wide, f.Check, f.Seen); err != nil {
			return err
		}
		if f.Do != "" {
			if _, err := fmt.Fprintf(out, "      %-*s  → %s\n", wide, "", f.Do); err != nil {
				return err
			}
		}
	}
	return nil
}
