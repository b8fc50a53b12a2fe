package cli

import (
	"context"
	_ "embed" // the demo's settings
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
)

//go:embed demo.yaml
var demoSettings []byte

const (
	demoSecret = "demo-webhook-secret" //nolint:gosec // of the simulated carrier, on the loopback only
	demoPool   = "demo"
	demoTime   = 3 * time.Minute // the whole story, with a slow machine's start
)

type demoCmd struct {
	Verbose bool `short:"v" help:"Show callmask's own log too."`
}

// Help implements kong.HelpProvider.
func (demoCmd) Help() string {
	return `Example:
  callmask demo

It starts everything on free ports and in a temporary directory, plays the story of one
order with fictional numbers, and leaves nothing behind.

Exit code 1: something was not as told.`
}

// Run plays the story.
func (c *demoCmd) Run(p *Process) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "callmask-demo-")
	if err != nil {
		return err
	}
	log := zerolog.Nop()
	if c.Verbose {
		log = zerolog.New(zerolog.ConsoleWriter{Out: p.Stderr, TimeFormat: time.TimeOnly, NoColor: !p.colours(p.Stderr)}).
			With().Timestamp().Logger()
	}
	redis.SetLogger(&app.MaskedLog{Logger: log})
	err = c.inside(ctx, p, dir, log)
	return errors.Join(err, os.RemoveAll(dir))
}

// inside starts a whole callmask in dir, plays the story and ends it again.
func (c *demoCmd) inside(ctx context.Context, p *Process, dir string, log zerolog.Logger) (err error) {
	sellers, err := openMarket(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sellers.close()) }()
	file := filepath.Join(dir, "demo.yaml")
	if err := os.WriteFile(file, demoSettings, 0o600); err != nil {
		return err
	}
	s, err := settings.Load(settings.Input{
		Flags: map[string]string{
			"config": file, "data-dir": filepath.Join(dir, "data"), "http-addr": "127.0.0.1:0", "admin-addr": "127.0.0.1:0",
			"embedded-redis-addr": "127.0.0.1:0", "embedded-nats-addr": "127.0.0.1:0",
		},
		Env: sellers.variable, // and nothing else: the story is the same everywhere
	})
	if err != nil {
		return err
	}
	a, err := app.New(app.Config{Settings: s, Role: settings.All, Logger: log})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	defer end()
	done := make(chan error, 1)
	go func() { done <- a.Run(running) }()
	select {
	case <-a.Started():
	case err := <-done:
		return err
	}
	played := c.play(ctx, p, a.Endpoints(), sellers)
	end()
	return errors.Join(played, <-done)
}

func (c *demoCmd) play(ctx context.Context, p *Process, at app.Endpoints, sellers *market) error {
	phone, err := sim.NewPhone(sim.PhoneConfig{URL: "http://" + at.HTTP + "/v1/carriers/sim/voice", Secret: demoSecret})
	if err != nil {
		return err
	}
	defer phone.Close()
	s := &story{
		out: p.Stdout, colours: p.colours(p.Stdout), phone: phone, redis: at.RedisURL, market: sellers,
		api: &client{
			base: "http://" + at.Admin, token: at.APIToken,
			http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
		},
	}
	if err := s.tell(ctx); err != nil {
		return err
	}
	if s.wrong > 0 {
		return &noError{fmt.Errorf("%d things were not as told", s.wrong)}
	}
	return nil
}
