//go:build faults

package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
)

func TestANATSClusterOutlivesItsLeaders(t *testing.T) {
	t.Parallel()
	c := testkit.NATSNodes(t, 3)
	// A frozen server keeps its connections: only missing pongs tell.
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.CreateStream(bounded(t), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3})
	require.NoError(t, err)

	published := 0
	publish := func() {
		published++
		id := fmt.Sprint(published)
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := js.Publish(ctx, "s.1", []byte(id), jetstream.WithMsgID(id))
			return err == nil
		}, within, 20*time.Millisecond)
	}
	for _, fault := range []struct {
		begin, end func(n *cluster.NATSNode) error
	}{
		{func(n *cluster.NATSNode) error { n.Kill(); return nil }, func(n *cluster.NATSNode) error { return n.Restart(bounded(t)) }},
		{func(n *cluster.NATSNode) error { return n.Freeze() }, func(n *cluster.NATSNode) error { return n.Thaw() }},
	} {
		publish()
		leader, err := c.StreamLeader(bounded(t), "S")
		require.NoError(t, err)
		require.NoError(t, fault.begin(leader))
		require.False(t, leader.Alive())
		publish()
		next, err := c.StreamLeader(bounded(t), "S")
		require.NoError(t, err)
		require.NotEqual(t, leader.Name(), next.Name())
		require.NoError(t, fault.end(leader))
		require.NoError(t, c.WaitHealthy(bounded(t)))
	}
	info, err := stream.Info(bounded(t))
	require.NoError(t, err)
	require.Equal(t, uint64(published), info.State.Msgs)
}
