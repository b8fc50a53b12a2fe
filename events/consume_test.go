package events_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
)

const orderWithNumber = `{"order_id":"o-1","pool":"p","parties":[{"role":"customer","number":"` + real1 + `"}]}`

// collect hands every message on and acknowledges it.
func collect(to chan<- events.Message) func(context.Context, events.Message) events.Result {
	return func(_ context.Context, m events.Message) events.Result {
		to <- m
		return events.Done()
	}
}

// orders is a consumer of orders.assigned that is quick to deliver again.
func orders(change ...func(*events.Consumer)) events.Consumer {
	c := events.Consumer{
		Stream: "ORDERS", Durable: "allocator", Subjects: []string{"orders.assigned"}, Workers: 2, MaxDeliver: 3,
		AckWait: 3 * time.Second, BackOff: []time.Duration{10 * time.Millisecond}, Dead: sealed,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// sealed stands for a keyset: what it returns has nothing of the payload in it.
func sealed(data []byte) ([]byte, error) { return fmt.Appendf(nil, "box of %d bytes", len(data)), nil }

// pending returns how many messages the consumer has not brought to an end.
func pending(t *testing.T, js jetstream.JetStream, stream, durable string) int {
	t.Helper()
	c, err := js.Consumer(t.Context(), stream, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return -1
	}
	require.NoError(t, err)
	return int(c.CachedInfo().NumPending) + c.CachedInfo().NumAckPending
}

func TestAMessageIsDeliveredWithItsMetadataAndOnlyOfTheSubjectsAskedFor(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.placed", `{}`)
	seq := publish(t, js, "orders.assigned", orderWithNumber)
	got := make(chan events.Message, 10)
	stop := consume(t, b, orders(), collect(got))
	m := receive(t, got, "the message")
	require.Equal(t, "orders.assigned", m.Subject)
	require.Equal(t, orderWithNumber, string(m.Data))
	require.Equal(t, seq, m.Sequence)
	require.Equal(t, 1, m.Delivered)
	require.WithinDuration(t, time.Now(), m.Published, time.Minute)
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.NoError(t, b.Ping(t.Context()))
	require.NoError(t, stop())
	require.Empty(t, got)
}

func TestRetryDeliversAgainAndThenMakesADeadLetterWithoutClearPayload(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	var log bytes.Buffer
	b, srv := newBus(t, func(c *events.Config) { c.Registerer, c.Logger = reg, zerolog.New(zerolog.SyncWriter(&log)) })
	js := client(t, srv)
	seq := publish(t, js, "orders.assigned", orderWithNumber)
	deliveries := make(chan int, 10)
	stop := consume(t, b, orders(), func(_ context.Context, m events.Message) events.Result {
		deliveries <- m.Delivered
		return events.Retry(errors.New("no good: " + real1))
	})
	letter, msg := deadLetter(t, js, "orders.assigned")
	require.WithinDuration(t, time.Now(), letter.At, time.Minute)
	require.WithinDuration(t, letter.At, letter.Published, time.Minute)
	letter.At, letter.Published = time.Time{}, time.Time{}
	require.Equal(t, events.DeadLetter{
		Stream: "ORDERS", Sequence: seq, Subject: "orders.assigned", OrderID: "o-1", Consumer: "allocator",
		Reason: "no good: +•••", Deliveries: 3, Payload: []byte(fmt.Sprintf("box of %d bytes", len(orderWithNumber))),
	}, letter)
	require.NotContains(t, string(msg.Data), real1[1:])
	require.Contains(t, msg.Header.Get(jetstream.MsgIDHeader), fmt.Sprintf("dead:ORDERS:allocator:%d:", seq))
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.NoError(t, stop())
	close(deliveries)
	var got []int
	for d := range deliveries {
		got = append(got, d)
	}
	require.Equal(t, []int{1, 2, 3}, got)
	require.EqualValues(t, 1, count(t, js, "DEAD"))
	require.InDelta(t, 1, metric(t, reg, "callmask_events_dead_letters_total"), 0)
	require.NotContains(t, log.String(), real1[1:], "the log never holds a number")
	require.Contains(t, log.String(), "a message became a dead letter")
}

func TestDeadMakesADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", "not JSON "+real1)
	var calls atomic.Int32
	consume(t, b, orders(), func(_ context.Context, m events.Message) events.Result {
		calls.Add(1)
		var o events.OrderAssigned
		return events.Dead(events.Decode(m.Data, &o).Error())
	})
	letter, msg := deadLetter(t, js, "orders.assigned")
	require.Equal(t, "message is not valid JSON", letter.Reason)
	require.Equal(t, 1, letter.Deliveries)
	require.NotContains(t, string(msg.Data), real1[1:])
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.EqualValues(t, 1, calls.Load())
}

func TestAPayloadThatCannotBeSealedIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, seal := range map[string]func([]byte) ([]byte, error){
		"no function": nil,
		"an error":    func(data []byte) ([]byte, error) { return data, errors.New("no key") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, srv := newBus(t)
			js := client(t, srv)
			publish(t, js, "orders.assigned", orderWithNumber)
			consume(t, b, orders(func(c *events.Consumer) { c.Dead = seal }),
				func(context.Context, events.Message) events.Result { return events.Dead("invalid") })
			_, msg := deadLetter(t, js, "orders.assigned")
			require.NotContains(t, string(msg.Data), "payload")
		})
	}
}

func TestAPanicCountsAsRetry(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b, srv := newBus(t, func(c *events.Config) { c.Logger = zerolog.New(zerolog.SyncWriter(&log)) })
	js := client(t, srv)
	publish(t, js, "orders.assigned", orderWithNumber)
	got := make(chan events.Message, 1)
	stop := consume(t, b, orders(), func(_ context.Context, m events.Message) events.Result {
		if m.Delivered == 1 {
			panic("cannot call " + real1)
		}
		got <- m
		return events.Done()
	})
	require.Equal(t, 2, receive(t, got, "the second delivery").Delivered)
	require.NoError(t, stop())
	require.Contains(t, log.String(), "TestAPanicCountsAsRetry")
	require.NotContains(t, log.String(), real1[1:])
}

func TestWaitingUsesUpNoDeliveryAndDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b, srv := newBus(t, func(c *events.Config) { c.Registerer = reg })
	js := client(t, srv)
	const waiting = 20 // far more than workers
	for range waiting {
		publish(t, js, "orders.assigned", "wait")
	}
	var open atomic.Bool
	var delivered, waits atomic.Int32
	others := make(chan events.Message, 1)
	soon := func(c *events.Consumer) { c.AckWait = time.Second }
	stop := consume(t, b, orders(soon), func(_ context.Context, m events.Message) events.Result {
		if string(m.Data) != "wait" {
			others <- m
			return events.Done()
		}
		delivered.Store(max(delivered.Load(), int32(m.Delivered)))
		if !open.Load() {
			waits.Add(1)
			return events.Wait(50 * time.Millisecond)
		}
		return events.Done()
	})
	require.Eventually(t, func() bool { return waits.Load() > 2*waiting }, within, tick)
	publish(t, js, "orders.assigned", "go")
	receive(t, others, "a message behind those that wait")
	start := time.Now() // much longer than AckWait, many more waits than MaxDeliver
	require.Eventually(t, func() bool { return time.Since(start) > 2200*time.Millisecond }, within, tick)
	require.GreaterOrEqual(t, metric(t, reg, "callmask_events_waiting"), 1.0)
	open.Store(true)
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.EqualValues(t, 1, delivered.Load())
	require.NoError(t, stop())
	require.InDelta(t, 0, metric(t, reg, "callmask_events_waiting"), 0)
	require.Zero(t, count(t, js, "DEAD"))
}

func TestAMessageThatKillsItsProcessAtEveryDeliveryBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", "harmless")
	seq := publish(t, js, "orders.assigned", orderWithNumber)
	// The same consumer, used up by a process that fetches and never answers.
	victim, err := js.CreateOrUpdateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{
		Durable: "allocator", FilterSubjects: []string{"orders.assigned"}, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: 50 * time.Millisecond, MaxDeliver: 3,
	})
	require.NoError(t, err)
	for deliveries := 0; deliveries < 4; deliveries++ {
		m, err := victim.Next(jetstream.FetchMaxWait(within))
		require.NoError(t, err)
		if string(m.Data()) == "harmless" {
			require.NoError(t, m.DoubleAck(t.Context()))
		}
	}
	got := make(chan events.Message, 1)
	consume(t, b, orders(), collect(got))
	letter, msg := deadLetter(t, js, "orders.assigned")
	require.Equal(t, seq, letter.Sequence)
	require.Equal(t, 3, letter.Deliveries)
	require.Equal(t, "allocator", letter.Consumer)
	require.Contains(t, letter.Reason, "no delivery was answered")
	require.Equal(t, fmt.Sprintf("box of %d bytes", len(orderWithNumber)), string(letter.Payload))
	require.NotContains(t, string(msg.Data), real1[1:])
	require.Empty(t, got)
	require.Eventually(t, func() bool { return pending(t, js, "ADVISORIES", "ORDERS-allocator-advisories") == 0 }, within, tick)
}

func TestOneDurableNameMayBeUsedOnSeveralStreams(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	pools := events.Consumer{Stream: events.StreamPools, Durable: "allocator", AckWait: time.Second}
	got := make(chan events.Message, 1)
	consume(t, b, orders(), collect(got))
	consume(t, b, pools, collect(got))
	require.NoError(t, b.PoolLow(t.Context(), events.PoolLow{Pool: "p"}))
	require.Equal(t, events.SubjectPoolLow, receive(t, got, "the pool's event").Subject)
	publish(t, js, "orders.assigned", orderWithNumber)
	require.Equal(t, "orders.assigned", receive(t, got, "the order's event").Subject)
	require.Eventually(t, func() bool { return b.Ping(t.Context()) == nil }, within, tick)
	for name, subject := range map[string]string{"ORDERS": "ORDERS.allocator", "POOLS": "POOLS.allocator"} {
		c, err := js.Consumer(t.Context(), "ADVISORIES", name+"-allocator-advisories")
		require.NoError(t, err)
		require.Equal(t, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."+subject, c.CachedInfo().Config.FilterSubject)
	}
}

func TestAServerRestartUnderARunningConsumeLosesNothing(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	var mu sync.Mutex
	seen := make(map[string]int)
	consume(t, b, orders(func(c *events.Consumer) { c.Workers = 4 }), func(_ context.Context, m events.Message) events.Result {
		mu.Lock()
		defer mu.Unlock()
		seen[string(m.Data)]++
		return events.Done()
	})
	total := 0
	batch := func() {
		for range 50 {
			publish(t, js, "orders.assigned", fmt.Sprint("m", total))
			total++
		}
	}
	for range 2 {
		batch()
		srv.Restart(t)
		require.Eventually(t, func() bool { return js.Conn().IsConnected() && b.Ping(t.Context()) == nil }, within, tick)
	}
	batch()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == total
	}, within, tick)
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.Zero(t, count(t, js, "DEAD"))
}

func TestMessagesThatWaitSurviveAServerRestart(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", "x")
	var open atomic.Bool
	waited := make(chan struct{}, 1000)
	done := make(chan events.Message, 10)
	consume(t, b, orders(), func(_ context.Context, m events.Message) events.Result {
		if !open.Load() {
			waited <- struct{}{}
			return events.Wait(20 * time.Millisecond)
		}
		done <- m
		return events.Done()
	})
	receive(t, waited, "the first wait")
	srv.Restart(t)
	require.Eventually(t, func() bool { return js.Conn().IsConnected() && b.Ping(t.Context()) == nil }, within, tick)
	open.Store(true)
	receive(t, done, "the message after the restart")
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
}

func TestAVanishedConsumerIsCreatedAgain(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	got := make(chan events.Message, 10)
	consume(t, b, orders(), collect(got))
	publish(t, js, "orders.assigned", "before")
	receive(t, got, "the first message")
	require.NoError(t, js.DeleteConsumer(t.Context(), "ORDERS", "allocator"))
	seq := publish(t, js, "orders.assigned", "after")
	for receive(t, got, "the message after the consumer was deleted").Sequence != seq {
		continue // a consumer created again delivers all that the stream holds
	}
	require.Eventually(t, func() bool { return b.Ping(t.Context()) == nil }, within, tick)
}

func TestALongHandlerIsNotDeliveredTwice(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", "long")
	var calls atomic.Int32
	c := orders(func(c *events.Consumer) { c.AckWait, c.Timeout = 200*time.Millisecond, 5*time.Second })
	consume(t, b, c, func(ctx context.Context, _ events.Message) events.Result {
		calls.Add(1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return events.Done()
	})
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 && calls.Load() > 0 }, within, tick)
	require.EqualValues(t, 1, calls.Load())
	info, err := js.Consumer(t.Context(), "ORDERS", "allocator")
	require.NoError(t, err)
	require.EqualValues(t, 1, info.CachedInfo().Delivered.Consumer, "the server must not have delivered it again")
}

func TestAHandlersContextEndsBeforeTheMessageIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", "slow")
	left := make(chan time.Duration, 10)
	soon := func(c *events.Consumer) { c.AckWait = 600 * time.Millisecond }
	consume(t, b, orders(soon), func(ctx context.Context, _ events.Message) events.Result {
		end, ok := ctx.Deadline()
		if !ok {
			return events.Dead("no deadline")
		}
		left <- time.Until(end)
		<-ctx.Done()
		return events.Retry(ctx.Err())
	})
	require.Less(t, receive(t, left, "the handler's deadline"), 600*time.Millisecond)
	letter, _ := deadLetter(t, js, "orders.assigned")
	require.Equal(t, context.DeadlineExceeded.Error(), letter.Reason)
}

func TestConsumeFinishesWhatIsInFlightAndHandsBackTheRest(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	for i := range 4 {
		publish(t, js, "orders.assigned", fmt.Sprint(i))
	}
	started, finish := make(chan struct{}, 10), make(chan struct{})
	var finished atomic.Int32
	c := orders(func(c *events.Consumer) { c.AckWait = 30 * time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Consume(ctx, c, func(ctx context.Context, m events.Message) events.Result {
			if string(m.Data) == "0" {
				return events.Wait(time.Minute)
			}
			started <- struct{}{}
			<-finish
			if ctx.Err() == nil {
				finished.Add(1)
			}
			return events.Done()
		})
	}()
	receive(t, started, "the first handler")
	receive(t, started, "the second handler")
	cancel()
	select {
	case err := <-ended:
		require.Fail(t, "Consume ended before its handlers", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	require.NoError(t, receive(t, ended, "the end of Consume"))
	require.EqualValues(t, 2, finished.Load())
	info, err := js.Consumer(t.Context(), "ORDERS", "allocator")
	require.NoError(t, err)
	require.EqualValues(t, 2, pending(t, js, "ORDERS", "allocator"), "%+v", info.CachedInfo())

	got := make(chan events.Message, 10) // another process gets what was not started, long before AckWait
	consume(t, b, c, collect(got))
	require.Equal(t, "3", string(receive(t, got, "the message handed back").Data))
}

func TestAConsumerThatIsNotPossibleIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	for name, c := range map[string]events.Consumer{
		"unknown stream":    orders(func(c *events.Consumer) { c.Stream = "NOPE" }),
		"no stream":         orders(func(c *events.Consumer) { c.Stream = "" }),
		"bad durable":       orders(func(c *events.Consumer) { c.Durable = "a b" }),
		"long durable":      orders(func(c *events.Consumer) { c.Durable = string(bytes.Repeat([]byte("x"), 49)) }),
		"negative workers":  orders(func(c *events.Consumer) { c.Workers = -1 }),
		"negative back-off": orders(func(c *events.Consumer) { c.BackOff = []time.Duration{-1} }),
	} {
		err := b.Consume(t.Context(), c, func(context.Context, events.Message) events.Result { return events.Done() })
		require.ErrorContains(t, err, "consumer", name)
	}
}

func TestManyMessagesAreHandledOnceEachByTwoProcesses(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	const total = 500
	var mu sync.Mutex
	seen := make(map[uint64]int)
	handle := func(_ context.Context, m events.Message) events.Result {
		mu.Lock()
		defer mu.Unlock()
		seen[m.Sequence]++
		return events.Done()
	}
	c := orders(func(c *events.Consumer) { c.Workers, c.AckWait = 8, 30*time.Second })
	consume(t, b, c, handle)
	consume(t, connectBus(t, srv), c, handle)
	start := time.Now()
	for range total {
		_, err := js.PublishAsync("orders.assigned", []byte("x"))
		require.NoError(t, err)
	}
	receive(t, js.PublishAsyncComplete(), "the acknowledgements")
	t.Logf("%d messages stored in %s", total, time.Since(start))
	require.EqualValues(t, total, count(t, js, "ORDERS"))
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == total
	}, within, tick)
	t.Logf("%d messages handled in %s", total, time.Since(start))
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	for seq, n := range seen {
		require.Equal(t, 1, n, seq)
	}
}
