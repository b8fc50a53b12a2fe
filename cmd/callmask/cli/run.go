package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
)

type allCmd struct {
	Demo bool `help:"Run the built-in demo settings: a pool of fictional numbers, sold by a simulated carrier."`
	settings.Flags
}

// Help implements kong.HelpProvider.
func (allCmd) Help() string {
	return `Examples:
  callmask all --demo                        everything, with numbers to play with
  callmask all --config callmask.yaml        your pools and carriers, own Redis and NATS
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 callmask all --config callmask.yaml
                                             an own NATS, but that Redis`
}

// Run runs the command.
func (c *allCmd) Run(p *Process) error { return p.serve(settings.All, c.Demo) }

type routerCmd struct{ settings.Flags }

// Help implements kong.HelpProvider.
func (routerCmd) Help() string {
	return `Example:
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 \
  CALLMASK_KEYSET=/etc/callmask/keyset.json callmask router --config callmask.yaml`
}

// Run runs the command.
func (c *routerCmd) Run(p *Process) error { return p.serve(settings.Router, false) }

type allocatorCmd struct{ settings.Flags }

// Help implements kong.HelpProvider.
func (allocatorCmd) Help() string {
	return `Example:
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 \
  CALLMASK_KEYSET=/etc/callmask/keyset.json CALLMASK_API_TOKEN=… callmask allocator --config callmask.yaml`
}

// Run runs the command.
func (c *allocatorCmd) Run(p *Process) error { return p.serve(settings.Allocator, false) }

type replenisherCmd struct{ settings.Flags }

// Help implements kong.HelpProvider.
func (replenisherCmd) Help() string {
	return `Example:
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 \
  CALLMASK_KEYSET=/etc/callmask/keyset.json callmask replenisher --config callmask.yaml`
}

// Run runs the command.
func (c *replenisherCmd) Run(p *Process) error { return p.serve(settings.Replenisher, false) }

func (p *Process) serve(role settings.Role, demo bool) error {
	s, err := p.load(demo)
	if err != nil {
		return err
	}
	log, console := p.logger(s)
	redis.SetLogger(&app.MaskedLog{Logger: log.With().Str("room", "redis").Logger()})
	cfg := app.Config{Settings: s, Role: role, Logger: log}
	if console {
		cfg.Banner = p.Stderr
	}
	a, err := app.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the next one ends the process at once, as if nobody
	// listened: whoever sends a second does not want to wait.
	context.AfterFunc(ctx, stop)
	return a.Run(ctx)
}

// logger writes for people on a terminal and JSON elsewhere, unless told otherwise.
func (p *Process) logger(s *settings.Settings) (log zerolog.Logger, console bool) {
	console = s.LogFormat == "console" || s.LogFormat == "auto" && isTerminal(p.Stderr)
	w := p.Stderr
	if console {
		w = zerolog.ConsoleWriter{Out: p.Stderr, TimeFormat: time.TimeOnly, NoColor: !p.colours(p.Stderr)}
	}
	return zerolog.New(w).Level(s.LogLevel).With().Timestamp().Logger(), console
}

// colours tells whether what is written to w may be coloured (https://no-color.org).
func (p *Process) colours(w io.Writer) bool {
	no, _ := p.Env("NO_COLOR")
	term, _ := p.Env("TERM")
	return no == "" && term != "dumb" && isTerminal(w)
}

// isTerminal tells whether w is a person's terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
