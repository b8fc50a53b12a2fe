// Command cluster starts a callmask that is spread out, on this machine and for
// playing with: a Redis Cluster, a NATS cluster, and two of each role. Ctrl-C ends all
// of it and leaves nothing behind. `make cluster` builds callmask and runs it.
//
//	go run ./internal/tools/cluster --help
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/installation"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

type command struct {
	Callmask     string        `default:"bin/callmask" placeholder:"PATH" help:"The binary to run (${default})."`
	Masters      int           `default:"3" help:"Redis masters (${default})."`
	Replicas     int           `default:"1" help:"Replicas of each Redis master (${default})."`
	NodeTimeout  time.Duration `default:"2s" help:"How long a Redis node may be silent before it is taken for dead (${default})."`
	NATS         int           `name:"nats" default:"3" help:"NATS servers: 1, 3 or 5 (${default})."`
	Routers      int           `default:"2" help:"Routers (${default})."`
	Allocators   int           `default:"2" help:"Allocators (${default})."`
	Replenishers int           `default:"2" help:"Replenishers (${default})."`
	Revive       time.Duration `default:"10s" help:"After how long a process that died is started again (${default}). Keep it well above the node timeout: a replica must have taken over before."`
	Every        time.Duration `default:"2s" help:"How often to look (${default}); a line is printed when something has changed."`
}

// Help implements kong.HelpProvider.
func (command) Help() string {
	return `Examples:
  go run ./internal/tools/cluster
  go run ./internal/tools/cluster --masters 6 --routers 3

All files are in a temporary directory, which is removed at the end. Ctrl-C ends everything.`
}

func main() {
	if cluster.RunNode() {
		return
	}
	var c command
	kong.Parse(&c, kong.Name("cluster"), kong.Description("A Redis Cluster, a NATS cluster and two of each of callmask's roles, on this machine."))
	redis.SetLogger(&app.MaskedLog{Logger: zerolog.Nop()}) // that nodes come and go is the point
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		os.Exit(1)
	}
}

func (c *command) run(ctx context.Context) error {
	if _, err := os.Stat(c.Callmask); err != nil {
		return fmt.Errorf("--callmask: there is no %s: build it with `make build`", c.Callmask)
	}
	dir, err := os.MkdirTemp("", "callmask-cluster-")
	if err != nil {
		return err
	}
	fmt.Printf("Starting %d + %d Redis nodes, %d NATS servers, %d routers, %d allocators, %d replenishers …\n",
		c.Masters, c.Masters*c.Replicas, c.NATS, c.Routers, c.Allocators, c.Replenishers)
	return errors.Join(c.inside(ctx, dir), os.RemoveAll(dir))
}

func (c *command) inside(ctx context.Context, dir string) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	in, err := installation.Start(starting, installation.Config{
		Binary: c.Callmask, Dir: dir,
		Redis:   cluster.RedisConfig{Masters: c.Masters, Replicas: c.Replicas, NodeTimeout: c.NodeTimeout},
		NATS:    cluster.NATSConfig{Nodes: c.NATS},
		Routers: c.Routers, Allocators: c.Allocators, Replenishers: c.Replenishers,
	})
	if ctx.Err() != nil {
		return err // interrupted, and ended again
	}
	if err != nil {
		return err
	}
	banner(os.Stdout, in, c.Masters, c.Callmask)
	newWatch(in, os.Stdout, c.Revive).run(ctx, c.Every)
	fmt.Println("Ending …")
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return in.Stop(end)
}
