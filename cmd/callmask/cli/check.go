package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
)

type checkCmd struct {
	RedisOnly bool          `help:"Leave the ledger out: look at Redis by itself."`
	History   bool          `help:"Also hold the last 25 hours of assignments and calls against the promises."`
	Repair    bool          `help:"Make Redis say what the ledger says, after showing what would be done."`
	Yes       bool          `help:"Repair without asking."`
	Patience  time.Duration `placeholder:"DURATION" help:"How long a difference of Redis and ledger must persist; 3s by default, 45s with --repair."`
	Rate      int           `default:"50000" placeholder:"N" help:"Keys of Redis read a second, or four times as many records of NATS."`
	Limit     time.Duration `default:"10m" help:"Give up after this time."`
	output
	settings.Flags
}

// Help implements kong.HelpProvider.
func (checkCmd) Help() string {
	return `Looks at every number, order, binding and counter in Redis, and holds every number against
its last record in the ledger, beside traffic and without a lock. A mismatch counts only when
it persists while both sides are read again: changes in flight and warnings do not.

--repair shows what Redis says, what the ledger says and what would be done, and asks. It looks
twice, 45 seconds apart (--patience), since so long something may be under way. It needs the settings of the
allocators and a Redis user who may write; everything else only reads.

Exit code 0: nothing is wrong. 1: mismatches, listed. 2: it could not check.

Examples:
  callmask check                        what callmask all runs here
  callmask check --redis-only -o json    without NATS
  callmask check --history              was anybody ever given somebody else's number?
  callmask check --repair               show the differences, ask, repair, check again
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 callmask check`
}

// Run checks, and repairs if wanted.
func (c *checkCmd) Run(p *Process) error {
	if c.RedisOnly && (c.Repair || c.History) {
		return errors.New("--redis-only leaves out the ledger, which --repair and --history need")
	}
	read := p.where // a missing ${VAR} of a carrier does not keep anybody from checking
	if c.Repair {
		read = func() (*settings.Settings, error) { return p.load(false) } // a binding names its carrier
	}
	s, err := read()
	if err != nil {
		return err
	}
	ctx, end := within(c.Limit)
	defer end()
	found, err := c.check(ctx, p, s)
	if err != nil {
		return err
	}
	if n := found.mismatches(); n > 0 {
		return &noError{fmt.Errorf("%d mismatches found", n)}
	}
	return nil
}

// check checks, prints, and after a repair checks and prints again. It returns what was
// found last.
func (c *checkCmd) check(ctx context.Context, p *Process, s *settings.Settings) (*checked, error) {
	if c.RedisOnly {
		return c.alone(ctx, p, s)
	}
	client, err := app.NewRedis(s.RedisAt(), checkTimeout, 16)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck // nothing is lost by it
	store, err := scripts.New(scripts.Config{Partitions: s.Partitions, Tombstone: s.Tombstone, Timeout: checkTimeout}, client, nil)
	if err != nil {
		return nil, settings.Named("tombstone", err)
	}
	if err := store.Ping(ctx); err != nil {
		return nil, settings.Named("redis_url", err)
	}
	bus, err := connectNATS(ctx, s, "callmask check")
	switch {
	case err != nil && s.NATSURL == "" && !c.Repair && !c.History:
		return c.alone(ctx, p, s, "there is no NATS at CALLMASK_EMBEDDED_NATS_ADDR, and CALLMASK_NATS_URL names none: the ledger was left out")
	case err != nil:
		return nil, fmt.Errorf("%w; --redis-only leaves the ledger out", err)
	}
	defer bus.Close()
	cfg := audit.Config{Rate: c.Rate, Patience: c.Patience, StateOnly: !c.History, Suspects: mostSuspects}
	if c.Repair {
		if cfg.Patience == 0 {
			cfg.Patience = idleAfter
		}
		if err := store.Start(ctx); err != nil {
			return nil, settings.Named("redis_url", err)
		}
	}
	a := audit.New(cfg, store, bus)
	found, err := c.round(ctx, p, s, a)
	if err != nil || !c.Repair {
		return found, err
	}
	led := ledger.New(store, bus, nil, zerolog.Nop())
	repaired, err := c.repair(ctx, p, found, store, restorer{ledger.NewRestorer(led, store, bus, app.Carriers(s))})
	if err != nil || !repaired {
		return found, err
	}
	return c.round(ctx, p, s, a)
}

// alone checks Redis by itself.
func (c *checkCmd) alone(ctx context.Context, p *Process, s *settings.Settings, warnings ...string) (*checked, error) {
	state, err := auditAt(ctx, s.RedisAt(), progress(p.Stderr, "redis"))
	if err != nil {
		return nil, err
	}
	state.Warnings = append(state.Warnings, warnings...)
	found := &checked{report: audit.Report{Redis: state, InFlight: state.Cleared}}
	return found, c.show(p, s, found)
}

// mostSuspects is how many numbers are looked at again: a person wants to see all of them.
const mostSuspects = 1_000_000

func (c *checkCmd) round(ctx context.Context, p *Process, s *settings.Settings, a *audit.Auditor) (*checked, error) {
	bar := newBars(p.Stderr)
	r, err := a.Round(ctx, bar.at)
	bar.end()
	if err != nil {
		return nil, settings.Named("redis_url, nats_url", err)
	}
	found := &checked{report: r, ledger: true}
	if found.rows, err = a.Diff(ctx, &r); err != nil {
		return nil, err
	}
	return found, c.show(p, s, found)
}

func (c *checkCmd) show(p *Process, s *settings.Settings, found *checked) error {
	if s.NATSURL != "" {
		found.report.Redis.Warnings = append(found.report.Redis.Warnings,
			"CALLMASK_NATS_URL: an external NATS must encrypt its store, because orders.assigned holds real numbers")
	}
	return c.print(p.Stdout, found.json(), found.print)
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
