//go:build faults

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// TestRollingRestartOfEveryRole restarts each process in turn under load, behind a load
// balancer that looks at /readyz. No webhook fails, no request of the API does, and
// orders from the bus are assigned once each.
func TestRollingRestartOfEveryRole(t *testing.T) {
	t.Parallel()
	s := startSpread(t, "--drain-delay", "1s", "--resolve-timeout", "5s")
	load := s.start(t.Context(), 4, 2, 10*time.Millisecond)
	bus := s.publish(t)

	for _, r := range s.Roles {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), startLimit)
		require.NoError(t, r.Stop(ctx))
		stopped := time.Since(began)
		require.NoError(t, r.Restart(ctx))
		cancel()
		t.Logf("%s: ended in %s, ready again after %s", r.Name(), stopped.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	orders := bus.end(t)
	load.end(t)

	tried, failed, worst, first := s.calls.take()
	t.Logf("%d calls, %d failed, the slowest took %s", tried, failed, worst.Round(time.Millisecond))
	require.Empty(t, first, "calls that failed")
	require.Greater(t, tried, int64(100))
	tried, failed, worst, first = s.puts.take()
	t.Logf("%d requests of the API, %d failed, the slowest took %s", tried, failed, worst.Round(time.Millisecond))
	require.Empty(t, first, "requests of the API that failed")
	require.Greater(t, tried, int64(20))
	s.requireAssignedOnce(t, orders)
	s.requireClean(t)
}

// publisher sends orders by the bus.
type publisher struct {
	load *load
	sent int
}

// publish begins to send orders.assigned, and for each a moment later orders.completed.
func (s *spread) publish(t *testing.T) *publisher {
	t.Helper()
	nc, err := nats.Connect(s.NATS.URL(), nats.MaxReconnects(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	p := &publisher{}
	ctx, stop := context.WithCancel(t.Context())
	p.load = &load{stop: stop, group: &errgroup.Group{}}
	p.load.group.Go(func() error {
		return every(ctx, 50*time.Millisecond, func(n int) error {
			id := fmt.Sprintf("bus-%d", n)
			body := fmt.Sprintf(`{"order_id":%q,"pool":"demo","parties":[{"role":"customer","number":%q},{"role":"agent","number":%q}]}`,
				id, person(500+2*n), person(501+2*n))
			if _, err := js.Publish(t.Context(), "orders.assigned", []byte(body), jetstream.WithMsgID("a-"+id)); err != nil {
				return err
			}
			p.sent = n + 1
			if n < 10 {
				return nil
			}
			done := fmt.Sprintf("bus-%d", n-10)
			_, err := js.Publish(t.Context(), "orders.completed", fmt.Appendf(nil, `{"order_id":%q}`, done), jetstream.WithMsgID("c-"+done))
			return err
		})
	})
	return p
}

func (p *publisher) end(t *testing.T) int {
	t.Helper()
	p.load.end(t)
	return p.sent
}

// requireAssignedOnce reads what the apps were told of the bus's orders.
func (s *spread) requireAssignedOnce(t *testing.T, orders int) {
	t.Helper()
	require.Greater(t, orders, 50)
	await(t, startLimit, "every order has its VNs", func() bool {
		// The last ones are not completed.
		var a assigned
		return s.api(t.Context(), s.allocators.pick(), "GET", fmt.Sprintf("/v1/orders/bus-%d", orders-1), "", &a) == nil
	})
	told := map[string]int{}
	readStream(t, s.NATS.URL()[len("nats://"):], "VN", 0, func(subject string, data []byte) {
		var e assigned
		answer{body: string(data)}.decode(t, &e)
		require.NotEqual(t, "vn.failed", subject, e.OrderID)
		if subject == "vn.assigned" {
			told[e.OrderID]++
		}
	})
	overtaken := 0
	for n := range orders {
		id := fmt.Sprintf("bus-%d", n)
		if told[id] == 0 && n < orders-10 {
			overtaken++ // its `assigned` came back from an allocator that ended, after its `completed`
			continue
		}
		require.Equal(t, 1, told[id], "order %s", id)
	}
	require.Less(t, overtaken, orders/10)
}
