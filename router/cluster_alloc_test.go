//go:build faults && !race

package router

import (
	"testing"
	"time"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
)

// TestASignedCallOverAClusterAllocatesAtMostTwice counts the same as on a single Redis, with
// a replica to fall back to, which is looked at beside the calls.
func TestASignedCallOverAClusterAllocatesAtMostTwice(t *testing.T) {
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: 5 * time.Second})
	client := testkit.ClusterClient(t, nodes)
	reader := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 10 * time.Second, Replicas: replicaClient(t, nodes)})
	atMostTwoAllocations(t, stockedStore(t, client, reader, 64))
}
