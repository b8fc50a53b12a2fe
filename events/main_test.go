package events_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	within = 20 * time.Second
	tick   = 5 * time.Millisecond
	real1  = "+12025550123" // a party's number: reserved for fiction
	vn1    = "12025550150"
	vn2    = "12025550151"
)

// connectBus connects to the server; change may alter the configuration.
func connectBus(t *testing.T, srv *testkit.NATSServer, change ...func(*events.Config)) *events.Bus {
	t.Helper()
	cfg := events.Config{URL: srv.URL, Logger: zerolog.Nop()}
	for _, c := range change {
		c(&cfg)
	}
	b, err := events.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// newBus starts a server and connects to it, with all streams.
func newBus(t *testing.T, change ...func(*events.Config)) (*events.Bus, *testkit.NATSServer) {
	t.Helper()
	srv := testkit.NATS(t)
	b := connectBus(t, srv, change...)
	require.NoError(t, b.EnsureStreams(t.Context()))
	return b, srv
}

// client is a plain NATS client, as another program would use.
func client(t *testing.T, srv *testkit.NATSServer) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(srv.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func publish(t *testing.T, js jetstream.JetStream, subject, data string) uint64 {
	t.Helper()
	ack, err := js.Publish(t.Context(), subject, []byte(data))
	require.NoError(t, err)
	return ack.Sequence
}

// last returns the last message of a subject, or nil.
func last(t *testing.T, js jetstream.JetStream, stream, subject string) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	msg, err := s.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		require.ErrorIs(t, err, jetstream.ErrMsgNotFound)
		return nil
	}
	return msg
}

func count(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	return s.CachedInfo().State.Msgs
}

// consume runs Consume in the background; the returned function stops it and gives
// what it returned. It is stopped at the end of the test at the latest.
func consume(t *testing.T, b *events.Bus, c events.Consumer, handle func(context.Context, events.Message) events.Result) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- b.Consume(ctx, c, handle) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * within):
			t.Error("Consume did not end")
			return nil
		}
	}
	t.Cleanup(func() {
		if !stopped {
			require.NoError(t, stop())
		}
	})
	return stop
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(within):
		require.Fail(t, "nothing came", what)
		panic("unreachable")
	}
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(data, &v))
	return v
}

// deadLetter waits for the dead letter of a subject.
func deadLetter(t *testing.T, js jetstream.JetStream, subject string) (events.DeadLetter, *jetstream.RawStreamMsg) {
	t.Helper()
	var msg *jetstream.RawStreamMsg
	require.Eventually(t, func() bool {
		msg = last(t, js, "DEAD", "dead."+subject)
		return msg != nil
	}, within, tick, "no dead letter came")
	return decode[events.DeadLetter](t, msg.Data), msg
}
