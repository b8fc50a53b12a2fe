package sizing_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/cmd/callmask/sizing"
	"github.com/callmask/callmask/vn"
)

func load() sizing.Load {
	return sizing.Load{
		LiveOrders: 100_000, CallsPerOrder: 2, EventsPerCall: 5, Average: 0.5, Parties: 2, IDLength: 12, Length: 1000 * time.Second,
		Cooldown: time.Second, Tombstone: 25 * time.Hour, Replicas: 1, MasterMemory: 16 << 30, Headroom: 2,
	}
}

func TestAPlanInFigures(t *testing.T) {
	t.Parallel()
	p, err := sizing.For(load(), sizing.Measured())
	require.NoError(t, err)
	require.InDelta(t, 100, p.OrdersPerSecond, 1e-9) // 100,000 of 1000 s each
	require.InDelta(t, 200, p.CallsPerSecond, 1e-9)
	require.InDelta(t, 87.6e6, p.OfLive, 1)           // 876 bytes each
	require.InDelta(t, 50*90_000*774.0, p.OfEnded, 1) // half the rate, for 25 h
	require.InDelta(t, 0.0463, p.RedisCores, 1e-6)    // 200 × 27.5 µs + 100 × 408 µs
	require.InDelta(t, 0.03784, p.RouterCores, 1e-6)  // 200 × 94.6 µs, twice
	require.InDelta(t, 1900, p.Messages, 1e-9)        // 9 an order, 5 a call
	require.InDelta(t, 50*86_400*342.0, p.Orders, 1)  // a day of them
	require.GreaterOrEqual(t, p.VNs, 200_200)         // live ones and those that rest
	require.Equal(t, []int{1, 1, 2}, []int{p.Masters, p.Partitions, p.RedisServers})
	require.InDelta(t, p.Memory*2, p.PerMaster, 1e-3)
}

func TestEveryMasterOfAPlanHasRoomAndTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := load()
		l.LiveOrders = math.Pow(10, rapid.Float64Range(1, 5).Draw(rt, "exponent"))
		l.Parties = rapid.IntRange(vn.MinParties, 4).Draw(rt, "parties")
		l.Headroom = rapid.Float64Range(1, 4).Draw(rt, "headroom")
		p, err := sizing.For(l, sizing.Measured())
		require.NoError(rt, err)
		fullest := sizing.Fullest(p.Partitions, p.Masters)
		require.LessOrEqual(rt, p.PerMaster, l.MasterMemory)
		require.LessOrEqual(rt, p.RedisCores*fullest*l.Headroom, 1.0)
		require.NotEqual(rt, 2, p.Masters, "no Cluster of two survives a death")
		l.LiveOrders *= 2
		more, err := sizing.For(l, sizing.Measured())
		require.NoError(rt, err)
		require.GreaterOrEqual(rt, more.Masters, p.Masters)
		require.Greater(rt, more.RouterCores, p.RouterCores)
	})
}

// The goal for the load of the fullest through that of the emptiest master.
func TestTheAdvisedPartitionsShareTheLoadEvenly(t *testing.T) {
	t.Parallel()
	for masters := 3; masters <= 256; masters++ {
		n := sizing.Partitions(masters)
		emptiest := float64(n/masters) / float64(n)
		require.LessOrEqual(t, sizing.Fullest(n, masters)/emptiest, 1.35, "%d partitions on %d masters", n, masters)
	}
}

func TestWhatCannotBePlannedIsSaidByName(t *testing.T) {
	t.Parallel()
	for field, spoil := range map[string]func(*sizing.Load){
		"live orders": func(l *sizing.Load) { l.LiveOrders = 0 }, "headroom": func(l *sizing.Load) { l.Headroom = 0.5 },
		"parties": func(l *sizing.Load) { l.Parties = 9 }, "average": func(l *sizing.Load) { l.Average = 1.1 },
		"tombstone": func(l *sizing.Load) { l.Tombstone = time.Hour }, "id length": func(l *sizing.Load) { l.IDLength = 65 },
		"calls": func(l *sizing.Load) { l.Calls = math.NaN() }, "events per call": func(l *sizing.Load) { l.EventsPerCall = 0 },
		"pools": func(l *sizing.Load) { l.LiveOrders, l.Pools = 1e8, 1 },
	} {
		l := load()
		spoil(&l)
		_, err := sizing.For(l, sizing.Measured())
		var wrong *vn.FieldError
		require.ErrorAs(t, err, &wrong, field)
		require.Equal(t, field, wrong.Field)
	}
}
