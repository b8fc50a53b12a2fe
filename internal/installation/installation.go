package installation

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/seal"
)

const (
	// Pool is the one pool, of region US.
	Pool = "demo"
	// Carrier is the name of the simulated carrier.
	Carrier = "sim"
	// WebhookSecret is what the simulated carrier signs its webhooks with.
	WebhookSecret = "demo-webhook-secret" //nolint:gosec // on the loopback only
)

// Config says how large an installation is.
type Config struct {
	Binary string // path of callmask
	Dir    string // an empty directory, whose absolute path is taken
	Redis  cluster.RedisConfig
	NATS   cluster.NATSConfig
	// Routers, Allocators and Replenishers are how many processes of each there are.
	Routers, Allocators, Replenishers int
	Numbers                           int           // in the pool from the start; 0 means 200, at most 1000 are for sale
	Cooldown                          time.Duration // of the pool; 0 means 10 s
	// Flags are further arguments of every role, Env what its environment also holds.
	Flags, Env []string
	Logs       string // a directory that gets the log of each role; empty: nobody keeps them
}

// Installation is a callmask of many processes.
type Installation struct {
	Redis *cluster.Redis
	NATS  *cluster.NATS
	Roles []*Role // routers, then allocators, then replenishers
	// Market is the simulated carrier's number API; it runs in this process.
	Market *sim.Server
	Dir    string // absolute; callmask's commands take it as --data-dir
	Token  string // the API token

	cfg       Config
	logs      []*os.File
	endMarket context.CancelFunc
	market    errgroup.Group
}

// Start starts everything and returns when every role is ready. Redis' and NATS' files
// go below Config.Dir, whatever their Dir says. ctx bounds the start; Stop ends all.
// The program that calls it begins with cluster.RunNode.
func Start(ctx context.Context, cfg Config) (*Installation, error) {
	if cfg.Routers < 1 || cfg.Allocators < 1 || cfg.Replenishers < 1 {
		return nil, errors.New("installation: there must be one process of each role at least")
	}
	cfg.Numbers, cfg.Cooldown = cmp.Or(cfg.Numbers, 200), cmp.Or(cfg.Cooldown, 10*time.Second)
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("installation: %w", err)
	}
	in := &Installation{cfg: cfg, Dir: dir, endMarket: func() {}}
	for _, step := range []func(context.Context) error{in.startServers, in.startMarket, in.writeFiles, in.startRoles} {
		if err := step(ctx); err != nil {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			return nil, errors.Join(err, in.Stop(end))
		}
	}
	return in, nil
}

func (in *Installation) startServers(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() (err error) {
		in.cfg.Redis.Dir = in.Dir
		in.Redis, err = cluster.StartRedis(ctx, in.cfg.Redis)
		return err
	})
	g.Go(func() (err error) {
		in.cfg.NATS.Dir = in.Dir
		in.NATS, err = cluster.StartNATS(ctx, in.cfg.NATS)
		return err
	})
	return g.Wait()
}

func (in *Installation) startMarket(ctx context.Context) (err error) {
	// Without 202, whose fictional numbers people take for the parties of an order.
	stock := sim.Stock{Region: "US", Digits: 2}
	for _, code := range strings.Fields("201 203 205 206 207 208 209 210 212 213") {
		stock.Prefixes = append(stock.Prefixes, "+1"+code+"55501")
	}
	if in.Market, err = sim.NewServer(sim.ServerConfig{Tokens: []string{WebhookSecret}, Stock: []sim.Stock{stock}}); err != nil {
		return err
	}
	if err := in.Market.Listen(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	in.endMarket = end
	in.market.Go(func() error { return in.Market.Run(running) })
	return nil
}

// writeFiles writes what all roles share: settings, keyset and API token.
func (in *Installation) writeFiles(ctx context.Context) error {
	if err := in.makeRoles(ctx); err != nil {
		return err
	}
	if _, err := seal.Create(filepath.Join(in.Dir, "keyset.json")); err != nil {
		return err
	}
	in.Token = rand.Text()
	if err := os.WriteFile(filepath.Join(in.Dir, "api-token"), []byte(in.Token+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(in.SettingsFile(), []byte(in.settings()), 0o600)
}

// SettingsFile is the path of the settings that all roles share.
func (in *Installation) SettingsFile() string { return filepath.Join(in.Dir, "callmask.yaml") }

func (in *Installation) settings() string {
	// As many copies of a stream as JetStream can keep: an odd number, 5 at most.
	copies := 1
	if n := len(in.NATS.Nodes()); n >= 3 {
		copies = 3
	}
	return fmt.Sprintf(`# Written by the program that started this installation.
redis_url: %q
nats_url: %q
nats_replicas: %d
keyset: %q
api_token: %q
pools:
  - name: %s
    region: US
    carriers: [%s]
    low_water: %d
    target: %d
    max: 1000
    cooldown: %s
    ttl: {default: 10m, max: 1h}
    destinations: [US, GB]
carriers:
  - {name: %s, kind: sim, api_url: %q, public_url: %q, secrets: [%s]}
`, in.Redis.URL(), in.NATS.URL(), copies, filepath.Join(in.Dir, "keyset.json"), in.Token,
		Pool, Carrier, in.cfg.Numbers/2, in.cfg.Numbers, in.cfg.Cooldown, Carrier, in.Market.URL(), "http://"+in.Routers()[0].HTTP, WebhookSecret)
}

// Stop ends everything in order and waits for it; what has not ended with ctx is
// killed. The files stay.
func (in *Installation) Stop(ctx context.Context) error {
	errs := []error{in.stopRoles(ctx)}
	for _, log := range in.logs {
		errs = append(errs, log.Close())
	}
	in.endMarket()
	errs = append(errs, in.market.Wait())
	if in.NATS != nil {
		errs = append(errs, in.NATS.Stop(ctx))
	}
	if in.Redis != nil {
		errs = append(errs, in.Redis.Stop(ctx))
	}
	return errors.Join(errs...)
}
