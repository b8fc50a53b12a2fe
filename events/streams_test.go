package events_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
)

func TestStreamsAreCreatedAsDocumented(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	require.NoError(t, b.EnsureStreams(t.Context()), "a second call changes nothing")
	require.NoError(t, b.Ping(t.Context()))
	js := client(t, srv)
	config := func(name string) jetstream.StreamConfig {
		s, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		return s.CachedInfo().Config
	}
	require.Equal(t, 24*time.Hour, config("ORDERS").MaxAge)
	require.Equal(t, []string{"orders.>"}, config("ORDERS").Subjects)
	require.Equal(t, 90*24*time.Hour, config("VN").MaxAge)
	ledger := config("LEDGER")
	require.EqualValues(t, 1, ledger.MaxMsgsPerSubject)
	require.False(t, ledger.AllowDirect)
	require.True(t, ledger.DenyDelete)
	require.Zero(t, ledger.MaxAge)
	require.Equal(t, jetstream.AsyncPersistMode, config("CALLS").PersistMode)
	require.Equal(t, jetstream.DefaultPersistMode, ledger.PersistMode)
	require.Equal(t, []string{"dead.>"}, config("DEAD").Subjects)
	require.Equal(t, []string{"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"}, config("ADVISORIES").Subjects)
	age, err := b.OrdersMaxAge(t.Context())
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, age)
}

func TestManyProcessesMayCreateTheStreamsAtOnce(t *testing.T) {
	t.Parallel()
	srv := testkit.NATS(t)
	var group sync.WaitGroup
	for range 4 {
		b := connectBus(t, srv)
		group.Go(func() {
			if err := b.EnsureStreams(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestAnOperatorsOwnStreamIsUsedAndNeverAltered(t *testing.T) {
	t.Parallel()
	srv := testkit.NATS(t)
	js := client(t, srv)
	own, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "SHOP", Subjects: []string{"shop.order.*"}, Storage: jetstream.MemoryStorage, MaxAge: time.Hour,
	})
	require.NoError(t, err)
	b := connectBus(t, srv, func(c *events.Config) { c.OrdersStream, c.OrdersPrefix = "SHOP", "shop.order" })
	require.NoError(t, b.EnsureStreams(t.Context()))
	require.NoError(t, b.Ping(t.Context()))
	now, err := own.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, own.CachedInfo().Config, now.Config)
	require.Equal(t, "shop.order.assigned", b.OrderSubject(events.EventAssigned))
	require.Equal(t, "SHOP", b.OrdersStream())
	age, err := b.OrdersMaxAge(t.Context())
	require.NoError(t, err)
	require.Equal(t, time.Hour, age)
	_, err = js.Stream(t.Context(), "ORDERS")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)

	got := make(chan events.Message, 1)
	consume(t, b, events.Consumer{
		Stream: b.OrdersStream(), Durable: "allocator", Subjects: []string{b.OrderSubject(events.EventAssigned)},
	}, collect(got))
	publish(t, js, "shop.order.assigned", `{}`)
	require.Equal(t, events.EventAssigned, receive(t, got, "the operator's event").Event())
}

func TestAStreamThatDoesNotFitIsAClearError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		exists jetstream.StreamConfig
		change func(*events.Config)
		want   string
	}{
		"orders without completed": {
			jetstream.StreamConfig{Name: "SHOP", Subjects: []string{"orders.placed", "orders.assigned"}},
			func(c *events.Config) { c.OrdersStream = "SHOP" },
			"stream SHOP: exists but does not capture orders.completed",
		},
		"orders under another prefix": {
			jetstream.StreamConfig{Name: "SHOP", Subjects: []string{"shop.>"}},
			func(c *events.Config) { c.OrdersStream, c.OrdersPrefix = "SHOP", "shopping" },
			"does not capture shopping.placed",
		},
		"the subjects are another stream's": {
			jetstream.StreamConfig{Name: "SHOP", Subjects: []string{"orders.>"}},
			nil,
			"stream ORDERS: the subjects orders.> belong to a stream of another name",
		},
		"a ledger that keeps more": {
			jetstream.StreamConfig{Name: "LEDGER", Subjects: []string{"ledger.>"}}, nil, "max_msgs_per_subject",
		},
		"a ledger read from anywhere": {
			jetstream.StreamConfig{Name: "LEDGER", Subjects: []string{"ledger.>"}, MaxMsgsPerSubject: 1, AllowDirect: true},
			nil, "allow_direct",
		},
		"a ledger that forgets": {
			jetstream.StreamConfig{Name: "LEDGER", Subjects: []string{"ledger.>"}, MaxMsgsPerSubject: 1, MaxAge: time.Hour},
			nil, "limit of age",
		},
		"a ledger in memory": {
			jetstream.StreamConfig{Name: "LEDGER", Subjects: []string{"ledger.>"}, Storage: jetstream.MemoryStorage},
			nil, "memory storage",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := testkit.NATS(t)
			_, err := client(t, srv).CreateStream(t.Context(), c.exists)
			require.NoError(t, err)
			change := c.change
			if change == nil {
				change = func(*events.Config) {}
			}
			require.ErrorContains(t, connectBus(t, srv, change).EnsureStreams(t.Context()), c.want)
		})
	}
}

func TestPingTellsWhichStreamIsMissing(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	require.NoError(t, client(t, srv).DeleteStream(t.Context(), "POOLS"))
	require.ErrorContains(t, b.Ping(t.Context()), "stream POOLS")
}
