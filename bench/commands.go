package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/peers"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/scenario"
	"github.com/callmask/callmask/internal/embedded"
)

// commands is the command line as kong reads it.
type commands struct {
	Run     runCmd     `cmd:"" help:"Measure, and write figures, tables and plots."`
	List    listCmd    `cmd:"" help:"List the scenarios."`
	Profile profileCmd `cmd:"" help:"Write a CPU profile of a busy router."`

	// The processes that the harness starts of itself.
	Load loadCmd `cmd:"" hidden:""`
	Peer peerCmd `cmd:"" hidden:""`
	NATS natsCmd `cmd:"" name:"nats" hidden:""`
}

type runCmd struct {
	Scenarios []string      `arg:"" optional:"" help:"Which scenarios; without any all that do not take long (see list)."`
	Rounds    int           `default:"9" help:"Rounds; each measures everything once."`
	Seconds   float64       `default:"0.5" help:"Length of one measurement."`
	Orders    int           `default:"200000" help:"Active orders in Redis."`
	Conns     int           `default:"64" help:"Connections at saturation."`
	Full      bool          `help:"Everything, also what takes long, and one million orders (about an hour)."`
	Short     bool          `help:"A moment of everything: shows that it works, and nothing else."`
	Soak      time.Duration `default:"11m" help:"How long the scenario soak lasts."`
	Seed      uint64        `default:"1" help:"Of the random choice of calls and times."`
	Peers     []string      `help:"Who takes part in resolve beside callmask, such as bare,naive (the names of the table); without any all."`
	Out       string        `default:"bench/out" help:"Directory for results.json, the tables and the plots."`
	Callmask  string        `type:"existingfile" help:"Binary to measure; without one it is built from this source."`
	Versus    string        `type:"existingfile" help:"Another binary of callmask, measured in resolve by turns with the first."`
}

// Help implements kong.HelpProvider.
func (runCmd) Help() string {
	return `Examples:
  bench run                                  what make bench does
  bench run resolve --rounds 15 --seconds 2  one scenario, more precisely
  bench run resolve --peers bare,naive       against some peers only
  bench run growth soak                      what takes long, by name
  bench run --full --out /tmp/full           what make bench-full does
  bench run --callmask ./bin/callmask        a binary of your own

The exit code is 0 whether or not a goal is reached: noise is not a failure. It is 1 when a scenario
could not run, or an answer was wrong.`
}

// Run runs the command.
func (c *runCmd) Run(ctx context.Context) (err error) {
	options := scenario.Options{
		Rounds: c.Rounds, Seconds: c.Seconds, Orders: c.Orders, Conns: c.Conns, Full: c.Full, Short: c.Short, Soak: c.Soak, Seed: c.Seed, Peers: c.Peers, Versus: c.Versus,
	}
	chosen, err := scenario.Choose(c.Scenarios, c.Full)
	if err != nil {
		return err
	}
	e, progress, err := prepare(ctx, options, c.Callmask)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Rig.Close()) }()
	result := e.Report
	err = e.RunAll(ctx, chosen)
	progress.end()
	if len(result.Samples) > 0 {
		err = errors.Join(err, result.Write(c.Out), result.Print(os.Stdout))
		fmt.Fprintln(os.Stderr, "written:", filepath.Join(c.Out, "*"))
	}
	return err
}

// prepare checks the options and starts what every measurement needs; the caller closes the Rig.
func prepare(ctx context.Context, options scenario.Options, callmask string) (*scenario.Env, *progress, error) {
	if err := options.Check(); err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	p := newProgress(os.Stderr)
	p.Doing("building callmask")
	r, err := rig.New(ctx, self, callmask)
	if err != nil {
		return nil, nil, err
	}
	generator, err := r.Load(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	result := &report.Report{Machine: report.ThisMachine(ctx), Started: time.Now().UTC(), Command: os.Args, Short: options.Short}
	return &scenario.Env{Options: options, Rig: r, Load: generator, Report: result, Progress: p}, p, nil
}

type profileCmd struct {
	File     string  `arg:"" help:"Where to write it, such as router.pprof."`
	Seconds  float64 `default:"20" help:"How long to look."`
	Orders   int     `default:"200000" help:"Active orders in Redis."`
	Conns    int     `default:"64" help:"Connections."`
	Callmask string  `type:"existingfile" help:"Binary to look at; without one it is built from this source."`
}

// Help implements kong.HelpProvider.
func (profileCmd) Help() string {
	return `Examples:
  bench profile router.pprof && go tool pprof -top router.pprof
  bench profile router.pprof --callmask ./bin/callmask --seconds 60`
}

// Run runs the command.
func (c *profileCmd) Run(ctx context.Context) (err error) {
	e, progress, err := prepare(ctx, scenario.Options{
		Rounds: 1, Seconds: c.Seconds, Orders: c.Orders, Conns: c.Conns, Soak: time.Second, Seed: 1,
	}, c.Callmask)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Rig.Close()) }()
	err = e.Profile(ctx, c.File)
	progress.end()
	return err
}

type listCmd struct{}

// Run runs the command.
func (listCmd) Run() error { //nolint:unparam // kong wants an error
	for _, s := range scenario.All() {
		mark := ""
		if s.Full {
			mark = " (takes long: only by name or with --full)"
		}
		fmt.Printf("%-13s %s%s\n", s.Name, s.Summary, mark)
	}
	return nil
}

type loadCmd struct{}

// Run runs the command.
func (loadCmd) Run(ctx context.Context) error { return load.Serve(ctx, os.Stdin, os.Stdout) }

type peerCmd struct {
	Kind   string `arg:""`
	Redis  string
	Prefix string
	Keyset string
	DSN    string `name:"dsn"`
}

// Run runs the command.
func (c *peerCmd) Run(ctx context.Context) error {
	return peers.Serve(ctx, c.Kind, peers.Config{Redis: c.Redis, Prefix: c.Prefix, Keyset: c.Keyset, DSN: c.DSN}, os.Stdout)
}

type natsCmd struct {
	Dir string
}

// Run runs the command.
func (c *natsCmd) Run(ctx context.Context) error {
	s, err := embedded.StartNATS(ctx, embedded.NATSConfig{Addr: "127.0.0.1:0", Dir: c.Dir, Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(os.Stdout, s.URL()+"\n"); err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.Stop(end)
}
