package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/allocator"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
)

// killedAtEveryDelivery publishes orders while an allocator that dies on each of them is
// all there is: the server gives up on them.
func killedAtEveryDelivery(t *testing.T, js jetstream.JetStream, orders ...string) {
	t.Helper()
	const deliveries = 10 // the allocator's consumer's
	for _, id := range orders {
		_, err := js.Publish(t.Context(), "orders.assigned", fmt.Appendf(nil,
			`{"order_id":%q,"pool":"demo","parties":[{"role":"customer","number":"+12025550123"},{"role":"agent","number":"+12025550145"}]}`, id))
		require.NoError(t, err)
	}
	c, err := js.CreateOrUpdateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{
		Durable: allocator.Durable, FilterSubjects: []string{"orders.assigned"}, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: 20 * time.Millisecond, MaxDeliver: deliveries,
	})
	require.NoError(t, err)
	for range deliveries * len(orders) {
		_, err := c.Next(jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
	}
	_, err = c.Next(jetstream.FetchMaxWait(200 * time.Millisecond))
	require.ErrorIs(t, err, nats.ErrTimeout)
}

func (e *terminal) deadRows(t *testing.T, args ...string) []deadRow {
	t.Helper()
	var rows []deadRow
	for line := range strings.Lines(e.done(t, append([]string{"dead", "list", "-o", "jsonl"}, args...)...)) {
		var r deadRow
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		rows = append(rows, r)
	}
	return rows
}

// Three orders became dead letters under a version that a fault in it killed. The next
// version can handle them; meanwhile one of them was completed.
func TestDeadLettersAreReplayedWhenTheFaultIsMended(t *testing.T) {
	srv := testkit.NATS(t)
	bus, err := events.Connect(t.Context(), events.Config{URL: srv.URL, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(bus.Close)
	require.NoError(t, bus.EnsureStreams(t.Context()))
	nc, err := nats.Connect(srv.URL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	killedAtEveryDelivery(t, js, "o-lives", "o-ended", "o-purged")

	e := systemOn(t, srv.URL)
	require.Eventually(t, func() bool {
		rows := e.deadRows(t)
		return len(rows) == 3 && rows[2].State == "dead"
	}, patience, tick)
	_, err = js.Publish(t.Context(), "orders.completed", []byte(`{"order_id":"o-ended"}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(e.run(t, "order", "get", "o-ended").out, "ended") }, patience, tick)

	table := e.done(t, "dead", "list")
	require.Regexp(t, `dead +orders.assigned +o-lives +allocator +10 +no delivery was answered`, table)
	require.Len(t, e.deadRows(t, "--order", "o-lives"), 1)
	require.Len(t, e.deadRows(t, "--subject", "orders.*"), 3)
	require.Empty(t, e.deadRows(t, "--subject", "pools.>"))

	require.Contains(t, e.run(t, "dead", "replay").err, "--order, --subject, or --all")
	require.Equal(t, "3 of 3 would be replayed\n", e.done(t, "dead", "replay", "--all", "--dry-run"))
	require.Len(t, e.deadRows(t), 3, "a dry run changes nothing")
	require.Equal(t, ExitNo, e.run(t, "order", "get", "o-lives").code)

	require.Equal(t, "1 of 1 replayed\n", e.done(t, "dead", "replay", "--order", "o-lives"))
	var o orderAnswer
	require.Eventually(t, func() bool {
		r := e.run(t, "order", "get", "o-lives", "--json")
		return r.code == ExitDone && json.Unmarshal([]byte(r.out), &o) == nil && o.State == "active"
	}, patience, tick)
	require.Len(t, o.Parties, 2)

	// What the stream of orders lost is in the letter, sealed.
	orders, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	require.NoError(t, orders.Purge(t.Context()))
	other := &terminal{env: map[string]string{"CALLMASK_NATS_URL": srv.URL, "CALLMASK_KEYSET": "/nowhere/keyset.json"}}
	r := other.run(t, "dead", "replay", "--all")
	require.Equal(t, ExitNo, r.code)
	require.Equal(t, "0 of 2 replayed\n", r.out)
	require.Contains(t, r.err, "2 not replayed: 2 × the letter's payload cannot be opened: CALLMASK_KEYSET: ")

	require.Equal(t, "2 of 2 replayed\n", e.done(t, "dead", "replay", "--subject", "orders.assigned"))
	require.Equal(t, "0 of 0 replayed\n", e.done(t, "dead", "replay", "--all"), "each once")
	require.Eventually(t, func() bool { return strings.Contains(e.run(t, "order", "get", "o-purged").out, "active") }, patience, tick)
	require.Eventually(t, func() bool {
		c, err := js.Consumer(t.Context(), "ORDERS", allocator.Durable)
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0
	}, patience, tick)
	require.Contains(t, e.done(t, "order", "get", "o-ended"), "ended", "an order that has ended stays ended")
	require.NotContains(t, table+e.done(t, "dead", "list", "--all")+r.err, "2025550")
	for _, row := range e.deadRows(t, "--all") {
		require.Equal(t, "replayed", row.State)
	}
	vn, err := js.Stream(t.Context(), "VN")
	require.NoError(t, err)
	info, err := vn.Info(t.Context(), jetstream.WithSubjectFilter("vn.assigned"))
	require.NoError(t, err)
	require.EqualValues(t, 2, info.State.Subjects["vn.assigned"], "nothing was announced for the ended order")
}
