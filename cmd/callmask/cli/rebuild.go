package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

type rebuildCmd struct {
	Limit time.Duration `default:"1h" help:"Give up after this time. What was restored stays."`
	settings.Flags
}

// Help implements kong.HelpProvider.
func (rebuildCmd) Help() string {
	return `Brings Redis to what the ledger says: every number, live order and call, and which
orders have ended. Into an empty Redis, or one that has lost some of its data. What Redis
knows already, or is changing at the moment, stays as it is, so it may run beside traffic, be
broken off with Ctrl-C and be run again. At the end the partitions are marked ready.

A replenisher does the same by itself (CALLMASK_AUTO_REBUILD). This command is for when none
runs, or when that is turned off. It needs the settings of the allocators: the same carriers,
Redis and NATS. No real number is read or shown: they stay sealed.

Exit code 0: all is restored. 2: not all; what is wrong is said, and it may be run again.

Examples:
  callmask rebuild
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 callmask rebuild`
}

// Run restores.
func (c *rebuildCmd) Run(p *Process) error {
	s, err := p.load(false)
	if err != nil {
		return err
	}
	ctx, end := within(c.Limit)
	defer end()
	bus, err := connectNATS(ctx, s, "callmask rebuild")
	if err != nil {
		return err
	}
	defer bus.Close()
	client, err := app.NewRedis(s.RedisAt(), checkTimeout, 16)
	if err != nil {
		return err
	}
	began := time.Now()
	done, err := func() (ledger.Replayed, error) {
		store, err := scripts.New(scripts.Config{Partitions: s.Partitions, Tombstone: s.Tombstone, Timeout: checkTimeout}, client, nil)
		if err != nil {
			return ledger.Replayed{}, err
		}
		if err := store.Start(ctx); err != nil {
			return ledger.Replayed{}, err
		}
		servers, err := store.Servers(ctx)
		if err != nil {
			return ledger.Replayed{}, err
		}
		restorer := ledger.NewRestorer(ledger.New(store, bus, nil, zerolog.Nop()), store, bus, app.Carriers(s))
		done, err := c.replay(ctx, p, restorer)
		if err != nil {
			return done, err
		}
		return done, store.MarkWhole(ctx, servers)
	}()
	if closed := client.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return settings.Named("redis_url", err)
	}
	return printRebuilt(p.Stdout, done, time.Since(began))
}

// replay restores everything, and then what seemed to be under way.
func (c *rebuildCmd) replay(ctx context.Context, p *Process, restorer *ledger.Restorer) (ledger.Replayed, error) {
	orders, numbers := p.meter("orders that have ended"), p.meter("numbers")
	done, err := restorer.Replay(ctx, nil, true, func(stage ledger.Stage, done, of int) {
		if stage == ledger.StageNumbers {
			numbers.at(done, of)
		} else {
			orders.at(done, of)
		}
	})
	orders.end()
	numbers.end()
	if err != nil || len(done.Busy) == 0 {
		return done, err
	}
	fmt.Fprintf(p.Stderr, "callmask: %d numbers seem to be changing at the moment; looking at them again in %s\n", len(done.Busy), idleAfter)
	select {
	case <-time.After(idleAfter):
	case <-ctx.Done():
		return done, ctx.Err()
	}
	var errs []error
	for _, n := range done.Busy {
		status, err := restorer.Restore(ctx, n, true)
		switch {
		case err != nil && !errors.Is(err, vn.ErrNumberUnknown):
			errs = append(errs, fmt.Errorf("number %s: %w", n, err))
		case status == scripts.RestoreDone:
			done.Restored++
		}
	}
	return done, errors.Join(errs...)
}

// idleAfter is longer than an allocator works on one order, and than an event waits to be
// delivered again.
const idleAfter = 45 * time.Second

func printRebuilt(out io.Writer, done ledger.Replayed, took time.Duration) error {
	_, err := fmt.Fprintf(out, "%d records read, %d numbers restored, %d ended orders made known again in %s; Redis is ready\n",
		done.Records, done.Restored, done.Ended, took.Round(10*time.Millisecond))
	return err
}
