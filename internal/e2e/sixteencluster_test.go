//go:build faults

package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// TestSixteenAllocatorsOnAClusterAssignEveryOrderOnce sends every order three times at the
// same time, through three of sixteen allocators, over sixteen partitions on three masters
// with a replica each. There are hardly more VNs than the orders need, so that the last
// orders must find the partitions that still have some. CALLMASK_E2E_CROWD=full takes
// 15,000 VNs and 7,400 orders, else it is a tenth. The seed is printed.
func TestSixteenAllocatorsOnAClusterAssignEveryOrderOnce(t *testing.T) {
	numbers, count := 1_500, 732
	if os.Getenv("CALLMASK_E2E_CROWD") == "full" {
		numbers, count = 15_000, 7_400
	}
	r := random(t)
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: 10 * time.Second})
	c := newCrowd(t, 16, func() redis.UniversalClient { return testkit.ClusterClient(t, nodes) })
	require.Equal(t, 16, c.store.Partitions())
	c.stock(t, numbers)
	orders := makeOrders(t, r, count, 0)

	began := time.Now()
	var g errgroup.Group
	g.SetLimit(48)
	for i := range orders {
		first := r.IntN(len(c.allocators))
		g.Go(func() error { return c.send(t.Context(), &orders[i], first) })
	}
	require.NoError(t, g.Wait())
	t.Logf("%d orders, each sent three times: %s; %d calls made again", count, time.Since(began), c.again.Load())

	owner := map[vn.Number]string{}
	for i := range orders {
		s := &orders[i]
		for j := range s.got {
			require.NoError(t, s.errs[j], "an order found no VNs, or none in time")
			require.Equal(t, s.got[0], s.got[j], "an order has one assignment")
		}
		for _, p := range s.got[0].Parties {
			require.Empty(t, owner[p.VN], "a VN is in two orders")
			owner[p.VN] = s.order.ID
		}
		o, err := c.store.Order(t.Context(), s.order.ID)
		require.NoError(t, err)
		require.Equal(t, s.got[0], o)
		c.requireBothWays(t, s, o)
	}
	require.Len(t, owner, 2*count)
	audit, err := c.store.Audit(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
	require.Equal(t, [2]int{numbers, count}, [2]int{audit.VNs, audit.Orders})
}
