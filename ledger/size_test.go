package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// TestTheLossOfAllOfRedisAtSize gives many orders their numbers through a synced ledger,
// loses all of Redis and measures how long it takes until every call is put through again.
// CALLMASK_REBUILD_ORDERS sets how many orders; the figures are in the log (-v).
func TestTheLossOfAllOfRedisAtSize(t *testing.T) {
	t.Parallel()
	orders := 200
	if s := os.Getenv("CALLMASK_REBUILD_ORDERS"); s != "" {
		var err error
		orders, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	const workers = 64
	ctx := t.Context()
	client := testkit.Redis(t, "--save", "", "--appendonly", "no").Client(t)
	bus, err := events.Connect(ctx, events.Config{URL: testkit.NATS(t).URL, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(bus.Close)
	require.NoError(t, bus.EnsureStreams(ctx))
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	store, err := scripts.New(scripts.Config{Timeout: 30 * time.Second}, client, keys)
	require.NoError(t, err)
	require.NoError(t, store.Start(ctx))
	require.NoError(t, store.MarkReady(ctx))
	l := New(store, bus, nil, zerolog.Nop())
	owned := make([]scripts.Owned, 2*orders+1000)
	for i := range owned {
		owned[i] = scripts.Owned{VN: vn.Number(447700000000 + i)}
		owned[i].Ref = owned[i].VN.Digits()
	}
	for from := 0; from < len(owned); from += 10_000 {
		_, err = l.Own(ctx, poolName, sim.Name, owned[from:min(from+10_000, len(owned))])
		require.NoError(t, err)
	}

	assigned := make([]vn.Assignment, orders)
	var next atomic.Int64
	each := func(f func(i int) error) time.Duration {
		next.Store(0)
		began := time.Now()
		var g errgroup.Group
		for range workers {
			g.Go(func() error {
				for i := int(next.Add(1)) - 1; i < orders; i = int(next.Add(1)) - 1 {
					if err := f(i); err != nil {
						return fmt.Errorf("order %d: %w", i, err)
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		return time.Since(began)
	}
	took := each(func(i int) error {
		a, err := store.Allocate(ctx, scripts.AllocateRequest{
			Order: vn.Order{ID: "o-" + strconv.Itoa(i), Pool: poolName, TTL: 6 * time.Hour, Parties: []vn.Party{
				{Role: "customer", Number: customer}, {Role: "agent", Number: agent},
			}},
			Cooldown: time.Minute, Carriers: []scripts.Carrier{sim},
		})
		if err != nil {
			return err
		}
		assigned[i] = a.Assignment
		for err = l.Assign(ctx, &a); errors.Is(err, vn.ErrUnavailable) && ctx.Err() == nil; {
			err = l.Assign(ctx, &a) // a disk that other programs keep busy
		}
		return err
	})
	t.Logf("%d two-party orders assigned through the ledger in %s: %.0f a second", orders, took.Round(time.Millisecond), float64(orders)/took.Seconds())

	require.NoError(t, client.FlushAll(ctx).Err())
	began := time.Now()
	r := NewRestorer(l, store, bus, []scripts.Carrier{sim})
	done, err := r.Replay(ctx, nil, true, nil)
	require.NoError(t, err)
	back := time.Since(began)
	t.Logf("all of Redis lost: %d records replayed, %d numbers restored, ready after %s: %.0f numbers a second",
		done.Records, done.Restored, back.Round(time.Millisecond), float64(done.Restored)/back.Seconds())
	require.Equal(t, len(owned), done.Restored)
	require.Empty(t, done.Busy)
	each(func(i int) error {
		var d vn.Decision
		if _, err := store.Lookup(ctx, assigned[i].Parties[1].VN, customer, &d); err != nil {
			return err
		}
		if d.Reason != vn.Connected || string(d.OrderID) != assigned[i].OrderID {
			return fmt.Errorf("a call of it is refused: %s", d.Reason)
		}
		return nil
	})
	audit, err := store.Audit(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
	ready, err := store.Ready(ctx)
	require.NoError(t, err)
	require.True(t, ready)
}
