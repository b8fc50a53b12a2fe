package events_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/embedded"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

func TestPublishedEventsHaveTheDocumentedShapeAndAMessageID(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	end := time.Date(2026, 3, 1, 14, 0, 0, 0, time.FixedZone("WIB", 7*3600))
	for _, c := range []struct {
		publish         func() error
		stream, subject string
		json, id        string
	}{
		{
			func() error {
				return b.Assigned(t.Context(), events.VNAssigned{
					OrderID: "o-1", Pool: "jakarta", ExpiresAt: end,
					Parties: []events.VNParty{{Role: "customer", VN: "+" + vn1}, {Role: "agent", VN: "+" + vn2}},
				})
			},
			"VN", "vn.assigned",
			`{"order_id":"o-1","pool":"jakarta","parties":[{"role":"customer","vn":"+12025550150"},{"role":"agent","vn":"+12025550151"}],"expires_at":"2026-03-01T07:00:00Z"}`,
			"assigned:o-1:1772348400000",
		},
		{
			func() error { return b.Released(t.Context(), events.VNReleased{OrderID: "o-1", Reason: "completed"}) },
			"VN", "vn.released", `{"order_id":"o-1","reason":"completed"}`, "released:o-1",
		},
		{
			func() error {
				return b.Failed(t.Context(), events.VNFailed{OrderID: "o-2", Reason: events.FailedInvalid}, 7)
			},
			"VN", "vn.failed", `{"order_id":"o-2","reason":"invalid"}`, "failed:o-2:invalid:7",
		},
		{
			func() error { return b.PoolLow(t.Context(), events.PoolLow{Pool: "jakarta", Free: 3, Target: 40}) },
			"POOLS", "pools.low", `{"pool":"jakarta","free":3,"target":40}`, "low:jakarta:",
		},
	} {
		require.NoError(t, c.publish(), c.subject)
		msg := last(t, js, c.stream, c.subject)
		require.NotNil(t, msg, c.subject)
		require.JSONEq(t, c.json, string(msg.Data))
		require.Contains(t, msg.Header.Get(jetstream.MsgIDHeader), c.id)
		isCloudEvent(t, msg)
	}
}

// isCloudEvent holds a message against CloudEvents 1.0 in binary mode.
func isCloudEvent(t *testing.T, msg *jetstream.RawStreamMsg) {
	t.Helper()
	attribute := func(name string) string {
		require.Len(t, msg.Header["ce-"+name], 1, "%s: ce-%s", msg.Subject, name)
		return msg.Header["ce-"+name][0]
	}
	require.Equal(t, "1.0", attribute("specversion"))
	require.Equal(t, "/callmask", attribute("source"))
	require.Equal(t, msg.Header.Get(jetstream.MsgIDHeader), attribute("id"))
	require.Equal(t, events.EventType(msg.Subject), attribute("type"))
	require.NotRegexp(t, `\d{7}`, attribute("type"), "a type names no number")
	_, err := time.Parse(time.RFC3339Nano, attribute("time"))
	require.NoError(t, err)
}

func TestARepeatedEventIsStoredOnce(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	end := time.Now().Add(time.Hour)
	a := events.VNAssigned{OrderID: "o-1", Pool: "p", ExpiresAt: end}
	for range 3 {
		require.NoError(t, b.Assigned(t.Context(), a))
		require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-1", Reason: "completed"}))
	}
	a.ExpiresAt = end.Add(time.Minute) // a prolonged lease is news
	require.NoError(t, b.Assigned(t.Context(), a))
	require.EqualValues(t, 3, count(t, client(t, srv), "VN"))
}

func TestCallsAreStoredInTheBackgroundAndRepeatsOnce(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	call := events.Decision{Carrier: "twilio", CallID: []byte("CA1\r\nX: y"), VN: 12025550101, OrderID: []byte("o-1"), At: time.Now(), Took: time.Millisecond}
	b.Decided(&call)
	b.Decided(&call)
	call.CallID = nil
	b.Decided(&call)
	b.Decided(&call) // without an id nothing is a repeat
	require.Eventually(t, func() bool { return count(t, js, "CALLS") == 3 }, within, tick)
	msg := last(t, js, "CALLS", "calls.decided")
	isCloudEvent(t, msg)
	require.Equal(t, call.At.UTC().Format(time.RFC3339Nano), msg.Header["ce-time"][0])
	require.Equal(t, "connected", decode[events.CallDecided](t, msg.Data).Reason)
}

func TestCallsThatWaitAreFlushedAtClose(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	for range 500 {
		b.Decided(&events.Decision{Carrier: "sim"})
	}
	b.Close()
	js := client(t, srv) // the server has them all; its stream may still be storing the last
	require.Eventually(t, func() bool { return count(t, js, "CALLS") == 500 }, within, tick)
}

func TestCallsAreDroppedAndCountedWhenTheQueueIsFullAndTheCallerNeverWaits(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b, srv := newBus(t, func(c *events.Config) { c.Registerer, c.CallsQueue, c.Timeout = reg, 10, time.Second })
	srv.Stop(t)
	require.Eventually(t, func() bool { return !b.Connected() }, within, tick)
	start := time.Now()
	for range 1000 {
		b.Decided(&events.Decision{Carrier: "sim"})
	}
	require.Less(t, time.Since(start), time.Second)
	dropped := func() int {
		return int(metric(t, reg, "callmask_events_calls_dropped_total"))
	}
	require.GreaterOrEqual(t, dropped(), 1000-11) // 10 in the queue, one in hand
	srv.Start(t)
	js := client(t, srv)
	require.Eventually(t, func() bool { return int(count(t, js, "CALLS"))+dropped() == 1000 }, within, tick,
		"every call is either stored or counted as dropped")
	require.Positive(t, count(t, js, "CALLS"), "what waited goes out after the outage")
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Fail(t, "no such metric", name)
	return 0
}

func TestMetricsKeepToTheirNames(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	_, srv := newBus(t, func(c *events.Config) { c.Registerer = reg })
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.InDelta(t, 1, metric(t, reg, "callmask_events_connected"), 0)
	_, err = events.Connect(t.Context(), events.Config{URL: srv.URL, Registerer: reg})
	require.ErrorContains(t, err, "registering the metrics")
}

func TestNothingIsBufferedWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t, func(c *events.Config) { c.Timeout = 2 * time.Second })
	require.NoError(t, b.Ping(t.Context()))
	srv.Stop(t)
	require.Eventually(t, func() bool { return !b.Connected() }, within, tick)
	ctx := t.Context()
	require.ErrorIs(t, b.Released(ctx, events.VNReleased{OrderID: "o-1"}), vn.ErrUnavailable)
	_, _, err := b.Record(ctx, events.Record{Kind: events.KindOwned, VN: vn1})
	require.ErrorIs(t, err, vn.ErrUnavailable)
	_, _, err = b.LastRecord(ctx, 12025550150)
	require.ErrorIs(t, err, vn.ErrUnavailable)
	_, err = b.LedgerLastSeq(ctx)
	require.ErrorIs(t, err, vn.ErrUnavailable)
	_, err = testkit.OpenIntents(ctx, b)
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.ErrorIs(t, b.Ping(ctx), vn.ErrUnavailable)

	srv.Start(t)
	require.Eventually(t, func() bool { return b.Ping(ctx) == nil }, within, tick)
	seq, err := b.LedgerLastSeq(ctx)
	require.NoError(t, err)
	require.Zero(t, seq, "what failed must not appear later")
	require.Zero(t, count(t, client(t, srv), "VN"))
}

func TestAServerThatDoesNotAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	start := time.Now()
	_, err := events.Connect(t.Context(), events.Config{URL: "nats://127.0.0.1:1", Timeout: 200 * time.Millisecond})
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Less(t, time.Since(start), 5*time.Second)

	b, err := events.Connect(t.Context(), events.Config{URL: "nats://127.0.0.1:1", Timeout: 200 * time.Millisecond, Lazy: true})
	require.NoError(t, err)
	require.ErrorIs(t, b.Ping(t.Context()), vn.ErrUnavailable)
	b.Close()
}

func TestWrongCredentialsAreAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	srv, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Addr: "127.0.0.1:0", Dir: t.TempDir(), Token: "s3cret"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Stop(context.WithoutCancel(t.Context()))) })
	for _, token := range []string{"", "wrong"} {
		start := time.Now()
		_, err = events.Connect(t.Context(), events.Config{URL: srv.URL(), Token: token, Timeout: within})
		require.ErrorContains(t, err, "refused the credentials")
		require.Less(t, time.Since(start), within/2)
	}
	b, err := events.Connect(t.Context(), events.Config{URL: srv.URL(), Token: "s3cret"})
	require.NoError(t, err)
	b.Close()
}

func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]events.Config{
		"nats url":              {},
		"orders stream":         {URL: "x", OrdersStream: "a.b"},
		"orders subject prefix": {URL: "x", OrdersPrefix: "shop.*"},
		"nats credentials file": {URL: "x", CredsFile: "/does/not/exist"},
		"nats replicas":         {URL: "x", Replicas: 2},
		"nats timeout":          {URL: "x", Timeout: -1},
	} {
		_, err := events.Connect(t.Context(), cfg)
		require.ErrorContains(t, err, want)
	}
}

func TestDecodeSaysWhatIsWrongWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"", "message is empty"},
		{" \n", "message is empty"},
		{"hello " + real1, "message is not valid JSON"},
		{`{"order_id":`, "message is not valid JSON"},
		{`"` + real1 + `"`, "message is not a JSON object"},
		{`{"order_id":12025550123}`, "order_id is not of JSON type string"},
		{`{"order_id":"o","parties":{"customer":"` + real1 + `"}}`, "parties is not of JSON type array"},
		{`{"parties":[{"role":"a","number":12025550123}]}`, "parties.number is not of JSON type string"},
		{`{"order_id":"o"} {"order_id":"p"}`, "message goes on after its JSON object"},
	} {
		var o events.OrderAssigned
		err := events.Decode([]byte(c.in), &o)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, c.in)
		require.EqualError(t, err, c.want)
		require.False(t, strings.Contains(err.Error(), "2025550123"))
	}
	var o events.OrderAssigned
	require.NoError(t, events.Decode([]byte(`{"order_id":"o","later":1}`), &o))
	require.Equal(t, "o", o.OrderID)
}

// A plain subscriber that does not keep up loses messages (stream VN has them), and nobody
// who publishes waits for it.
func TestASubscriberThatDoesNotKeepUpHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	nc, err := nats.Connect(srv.URL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	gate := make(chan struct{})
	sub, err := nc.Subscribe("vn.>", func(*nats.Msg) { <-gate })
	require.NoError(t, err)
	t.Cleanup(func() { close(gate) })
	require.NoError(t, sub.SetPendingLimits(1, 1024))
	require.NoError(t, nc.Flush())
	slowest := time.Duration(0)
	for i := range 300 {
		start := time.Now()
		require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-" + strconv.Itoa(i), Reason: "completed"}))
		slowest = max(slowest, time.Since(start))
	}
	require.Less(t, slowest, within/2)
	require.EqualValues(t, 300, count(t, client(t, srv), "VN"))
	dropped, err := sub.Dropped()
	require.NoError(t, err)
	require.Positive(t, dropped, "it did not keep up")
}

// What a consumer of ours has in hand is bounded however much waits in the stream.
func TestAConsumerTakesNoMoreInHandThanItCanHandle(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	for range 200 {
		publish(t, js, "orders.assigned", "x")
	}
	gate := make(chan struct{})
	stop := consume(t, b, orders(), func(ctx context.Context, _ events.Message) events.Result {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return events.Done()
	})
	held := func() int {
		c, err := js.Consumer(t.Context(), "ORDERS", "allocator")
		if err != nil {
			return -1
		}
		return c.CachedInfo().NumAckPending
	}
	require.Eventually(t, func() bool { return held() == 4 }, within, tick, "two a worker")
	require.Never(t, func() bool { return held() > 4 }, 300*time.Millisecond, 20*time.Millisecond)
	close(gate)
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.NoError(t, stop())
}
