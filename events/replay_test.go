package events_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
)

// letters returns the dead letters that there are.
func letters(t *testing.T, b *events.Bus) []events.StoredLetter {
	t.Helper()
	list, unreadable, err := b.DeadLetters(t.Context())
	require.NoError(t, err)
	require.Zero(t, unreadable)
	return list
}

// neverOpened stands for a keyset that must not be needed.
func neverOpened([]byte) ([]byte, error) { return nil, errors.New("the box was opened") }

// clearBox is a Consumer.Dead that keeps a payload as it is, so that a test can open it.
func clearBox(data []byte) ([]byte, error) { return append([]byte("box"), data...), nil }

func openClear(box []byte) ([]byte, error) { return bytes.TrimPrefix(box, []byte("box")), nil }

func TestADeadLetterIsReplayedOnceAndNotedAsDone(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	broken := make(chan bool, 1)
	broken <- true
	got := make(chan events.Message, 10)
	consume(t, b, orders(), func(_ context.Context, m events.Message) events.Result {
		bad := <-broken
		broken <- bad
		if bad {
			return events.Retry(errors.New("the shop is closed"))
		}
		got <- m
		return events.Done()
	})
	require.Empty(t, letters(t, b))
	seq := publish(t, js, "orders.assigned", orderWithNumber)
	deadLetter(t, js, "orders.assigned")
	<-broken
	broken <- false

	list := letters(t, b)
	require.Len(t, list, 1)
	l := list[0]
	require.Equal(t, []any{"ORDERS", seq, "orders.assigned", "o-1", "allocator", 3, "the shop is closed"},
		[]any{l.Stream, l.Sequence, l.Subject, l.OrderID, l.Consumer, l.Deliveries, l.Reason})
	require.True(t, l.Replayed.IsZero())
	require.Empty(t, l.Payload)

	require.NoError(t, b.Replay(t.Context(), &l, neverOpened), "the stream still holds the message")
	m := receive(t, got, "the replay")
	require.Equal(t, orderWithNumber, string(m.Data))
	require.Equal(t, 1, m.Delivered)
	list = letters(t, b)
	require.Len(t, list, 1, "the note is no letter")
	require.WithinDuration(t, time.Now(), list[0].Replayed, time.Minute)
	require.NoError(t, b.Replay(t.Context(), &list[0], neverOpened), "a repeat at once, as by another process")
	require.Eventually(t, func() bool { return pending(t, js, "ORDERS", "allocator") == 0 }, within, tick)
	require.Empty(t, got)
	require.EqualValues(t, 2, count(t, js, "ORDERS"))
}

func TestAReplayThatFailsAgainIsALetterOfItsOwnWithTheFirstTime(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", orderWithNumber)
	consume(t, b, orders(), func(context.Context, events.Message) events.Result { return events.Dead("no good") })
	deadLetter(t, js, "orders.assigned")
	first := letters(t, b)[0]
	require.NoError(t, b.Replay(t.Context(), &first, neverOpened))
	require.Eventually(t, func() bool { return len(letters(t, b)) == 2 }, within, tick)
	second := letters(t, b)[1]
	require.NotEqual(t, first.ID, second.ID)
	require.Equal(t, first.Published, second.Published, "a chain of replays does not make an event younger")
	require.True(t, second.Replayed.IsZero())
}

func TestASealedPayloadIsOpenedOnlyWhenTheMessageIsGone(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	publish(t, js, "orders.assigned", orderWithNumber)
	consume(t, b, orders(func(c *events.Consumer) { c.Dead = clearBox }),
		func(context.Context, events.Message) events.Result { return events.Dead("no good") })
	deadLetter(t, js, "orders.assigned")
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	l := letters(t, b)[0]
	require.ErrorContains(t, b.Replay(t.Context(), &l, neverOpened), "cannot be opened: the box was opened")
	require.Zero(t, count(t, js, "ORDERS"))
	require.NoError(t, b.Replay(t.Context(), &l, openClear))
	require.Equal(t, orderWithNumber, string(last(t, js, "ORDERS", "orders.assigned").Data))
}

// A consumer that gives up while no process runs leaves an advisory and no letter yet.
func TestWhatNoProcessMadeALetterOfYetIsListedAndReplayed(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	stop := consume(t, b, orders(), func(context.Context, events.Message) events.Result { return events.Done() })
	require.Eventually(t, func() bool { return b.Ping(t.Context()) == nil }, within, tick)
	require.NoError(t, stop())
	seq := publish(t, js, "orders.assigned", orderWithNumber)
	useUp(t, js, "allocator", 3)
	useUp(t, js, "somebody-elses", 3)
	require.Eventually(t, func() bool { return len(letters(t, b)) == 1 }, within, tick, "the server's advisory")
	l := letters(t, b)[0]
	require.Equal(t, []any{seq, "o-1", uint64(0), 3}, []any{l.Sequence, l.OrderID, l.Stored, l.Deliveries})
	require.NoError(t, b.Replay(t.Context(), &l, neverOpened))

	got := make(chan events.Message, 10)
	consume(t, b, orders(), collect(got))
	require.Greater(t, receive(t, got, "the replay").Sequence, seq)
	deadLetter(t, js, "orders.assigned") // which the advisory becomes now
	list := letters(t, b)
	require.Len(t, list, 1)
	require.NotZero(t, list[0].Stored)
	require.False(t, list[0].Replayed.IsZero(), "the letter written later is known as done")
}

// useUp takes every delivery of what waits for a consumer and answers none.
func useUp(t *testing.T, js jetstream.JetStream, durable string, deliveries int) {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{
		Durable: durable, FilterSubjects: []string{"orders.assigned"}, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: 20 * time.Millisecond, MaxDeliver: deliveries,
	})
	require.NoError(t, err)
	for range deliveries {
		_, err := c.Next(jetstream.FetchMaxWait(within))
		require.NoError(t, err)
	}
	// The server gives up when it would have to deliver once more.
	_, err = c.Next(jetstream.FetchMaxWait(200 * time.Millisecond))
	require.ErrorIs(t, err, nats.ErrTimeout)
}

func TestAReplayIsRefusedWhenItCouldDoHarm(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	old := time.Now().Add(-23*time.Hour - time.Second).UTC()
	letter := func(subject string) *events.StoredLetter {
		return &events.StoredLetter{ID: "dead:x", DeadLetter: events.DeadLetter{Stream: "ORDERS", Sequence: 1, Subject: subject, Published: old}}
	}
	require.ErrorIs(t, b.Replay(t.Context(), letter("orders.assigned"), neverOpened), events.ErrReplayTooLate)
	require.ErrorIs(t, b.Replay(t.Context(), letter("orders.completed"), neverOpened), events.ErrReplayNoPayload,
		"an end may come as late as it likes")
	lease := letter("ledger.lease.p")
	lease.Stream = "LEDGER"
	require.ErrorIs(t, b.Replay(t.Context(), lease, neverOpened), events.ErrReplayLedger)

	// One that was in time and then waited in its stream for too long is not handled.
	msg := nats.NewMsg("orders.assigned")
	msg.Data = []byte(orderWithNumber)
	msg.Header.Set("Callmask-First-Published", old.Format(time.RFC3339Nano))
	_, err := js.PublishMsg(t.Context(), msg)
	require.NoError(t, err)
	got := make(chan events.Message, 1)
	consume(t, b, orders(), collect(got))
	dead, _ := deadLetter(t, js, "orders.assigned")
	require.Contains(t, dead.Reason, "replay_too_late")
	require.Empty(t, got)
}

func TestForeignMessagesAmongDeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	publish(t, client(t, srv), "dead.orders.assigned", "hello")
	list, unreadable, err := b.DeadLetters(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, 1, unreadable)
}
