package allocator

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// system is several Allocators on one Redis and one JetStream, and an app that
// publishes orders and listens, with nothing but a NATS client.
type system struct {
	allocators []*Allocator
	store      *scripts.Store
	bus        *events.Bus
	keys       *seal.Keyset
	logs       *logs
	js         jetstream.JetStream
	app        *nats.Conn

	mu    sync.Mutex
	heard map[string][]string // subject → payloads
}

func newSystem(t *testing.T, allocators, numbers int, p Pool) *system {
	t.Helper()
	return newSystemOn(t, testkit.NATS(t).URL, allocators, numbers, p)
}

// newSystemOn is newSystem with the NATS server, or the servers, at url.
func newSystemOn(t *testing.T, url string, allocators, numbers int, p Pool) *system {
	t.Helper()
	redis := testkit.Redis(t)
	s := &system{logs: &logs{}, heard: map[string][]string{}}
	log := zerolog.New(s.logs)
	var err error
	s.keys, err = seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	for i := range allocators {
		store, err := scripts.New(scripts.Config{}, redis.Client(t), s.keys)
		require.NoError(t, err)
		require.NoError(t, store.Start(t.Context()))
		bus, err := events.Connect(t.Context(), events.Config{URL: url, Registerer: prometheus.NewRegistry(), Logger: log})
		require.NoError(t, err)
		t.Cleanup(bus.Close)
		require.NoError(t, bus.EnsureStreams(t.Context()))
		c := config(p)
		c.Workers = 8
		a, err := New(c, store, bus, s.keys, prometheus.NewRegistry(), log)
		require.NoError(t, err)
		s.allocators = append(s.allocators, a)
		if i == 0 {
			s.store, s.bus = store, bus
			a.look(t.Context())
		}
	}
	if numbers > 0 {
		_, err = s.allocators[0].Import(t.Context(), "jakarta", "sim", vns(numbers))
		require.NoError(t, err)
	}
	s.listen(t, url)
	for _, a := range s.allocators {
		g.Go(func() error { return a.Run(ctx) })
	}
	t.Cleanup(func() { // before the connections are closed
		stop()
		require.NoError(t, g.Wait())
	})
	return s
}

func (s *system) listen(t *testing.T, url string) {
	t.Helper()
	var err error
	s.app, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.PingInterval(time.Second))
	require.NoError(t, err)
	t.Cleanup(s.app.Close)
	s.js, err = jetstream.New(s.app)
	require.NoError(t, err)
	for _, subject := range []string{"vn.>", "dead.>", "ledger.>", "pools.>"} {
		_, err := s.app.Subscribe(subject, func(m *nats.Msg) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.heard[m.Subject] = append(s.heard[m.Subject], string(m.Data))
		})
		require.NoError(t, err)
	}
	require.NoError(t, s.app.Flush())
}

func (s *system) publish(t *testing.T, subject, payload string) {
	t.Helper()
	_, err := s.js.Publish(t.Context(), subject, []byte(payload))
	require.NoError(t, err)
}

// hears waits until n messages came on subject, and returns them.
func (s *system) hears(t *testing.T, subject string, n int) []string {
	t.Helper()
	var got []string
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = append([]string(nil), s.heard[subject]...)
		return len(got) >= n
	}, 15*time.Second, 5*time.Millisecond, subject)
	require.Len(t, got, n)
	return got
}

func TestAnOrderEventIsAnsweredOnTheBus(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 1, 2, jakarta())
	s.publish(t, "orders.assigned", assignedEvent)
	var e events.VNAssigned
	require.NoError(t, json.Unmarshal([]byte(s.hears(t, "vn.assigned", 1)[0]), &e))
	o, err := s.allocators[0].Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, "o-1", e.OrderID)
	require.True(t, o.ExpiresAt.Equal(e.ExpiresAt))
	for i, p := range o.Parties {
		require.Equal(t, events.VNParty{Role: p.Role, VN: p.VN.E164()}, e.Parties[i])
		rec, seq, err := s.bus.LastRecord(t.Context(), p.VN)
		require.NoError(t, err)
		require.Equal(t, []any{"o-1", events.KindAssigned, i}, []any{rec.OrderID, rec.Kind, rec.Party})
		require.Eventually(t, func() bool {
			inv, err := s.store.Inventory(t.Context(), p.VN)
			return err == nil && inv.Fence == seq
		}, 5*time.Second, 5*time.Millisecond, "settled with the record's sequence")
	}

	// The pool is empty now: the next order waits, and is served when one ends.
	s.publish(t, "orders.assigned", strings.Replace(assignedEvent, "o-1", "o-2", 1))
	s.hears(t, "pools.low", 1)
	s.publish(t, "orders.completed", `{"order_id":"o-1"}`)
	require.JSONEq(t, `{"order_id":"o-1","reason":"completed"}`, s.hears(t, "vn.released", 1)[0])
	require.NoError(t, json.Unmarshal([]byte(s.hears(t, "vn.assigned", 2)[1]), &e))
	require.Equal(t, "o-2", e.OrderID)

	s.publish(t, "orders.assigned", `{"order_id":"o-3","pool":"jakarta","parties":[]}`)
	require.JSONEq(t, `{"order_id":"o-3","reason":"invalid"}`, s.hears(t, "vn.failed", 1)[0])
	s.noNumberAnywhere(t)
}

func TestAnOrderThatWaitedTooLongFails(t *testing.T) {
	t.Parallel()
	p := jakarta()
	p.AssignWait = 400 * time.Millisecond
	s := newSystem(t, 1, 0, p)
	began := time.Now()
	s.publish(t, "orders.assigned", assignedEvent)
	require.JSONEq(t, `{"order_id":"o-1","reason":"pool_exhausted"}`, s.hears(t, "vn.failed", 1)[0])
	require.GreaterOrEqual(t, time.Since(began), p.AssignWait)
}

func TestADeadLetterIsSealed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, 1, 0, jakarta())
	payload := strings.Replace(assignedEvent, "o-1", "{o-1}", 1)
	s.publish(t, "orders.assigned", payload)
	var letter struct {
		Reason  string `json:"reason"`
		Payload []byte `json:"payload"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.hears(t, "dead.orders.assigned", 1)[0]), &letter))
	require.Equal(t, "order_id may hold only A-Z a-z 0-9 . _ : -", letter.Reason)
	plain, err := s.keys.OpenBytes(letter.Payload, []byte(DeadContext))
	require.NoError(t, err)
	require.JSONEq(t, payload, string(plain))
	s.noNumberAnywhere(t)
}

func (s *system) noNumberAnywhere(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, payloads := range s.heard {
		noNumber(t, strings.Join(payloads, "\n"))
	}
	noNumber(t, s.logs.String())
}

// Each order is sent three times to three allocators, every second is completed
// as well, some before they are assigned.
func TestManyAllocatorsGiveEachOrderOneAssignment(t *testing.T) {
	t.Parallel()
	const orders = 120
	s := newSystem(t, 3, 2*orders, jakarta())
	for n := range orders {
		for range 3 {
			payload := strings.Replace(assignedEvent, "o-1", fmt.Sprintf("o-%d", n), 1)
			if n%20 == 0 {
				s.publish(t, "orders.completed", fmt.Sprintf(`{"order_id":"o-%d"}`, n))
			}
			s.publish(t, "orders.assigned", payload)
			if n%2 == 0 && n%20 != 0 {
				s.publish(t, "orders.completed", fmt.Sprintf(`{"order_id":"o-%d"}`, n))
			}
		}
	}
	// Everything is handled when every consumer has nothing left.
	require.Eventually(t, func() bool {
		for _, durable := range []string{Durable, DurableEnds} {
			c, err := s.js.Consumer(t.Context(), "ORDERS", durable)
			if err != nil || c.CachedInfo().NumPending+uint64(c.CachedInfo().NumAckPending) > 0 {
				return false
			}
		}
		return true
	}, 20*time.Second, 20*time.Millisecond)

	live, held := 0, map[vn.Number]string{}
	announced := map[string]map[string]bool{}
	s.mu.Lock()
	for _, payload := range s.heard["vn.assigned"] {
		var e events.VNAssigned
		require.NoError(t, json.Unmarshal([]byte(payload), &e))
		if announced[e.OrderID] == nil {
			announced[e.OrderID] = map[string]bool{}
		}
		announced[e.OrderID][fmt.Sprint(e.Parties)] = true
	}
	require.Empty(t, s.heard["vn.failed"])
	s.mu.Unlock()
	for n := range orders {
		id := fmt.Sprintf("o-%d", n)
		require.LessOrEqual(t, len(announced[id]), 1, "one assignment of %s", id)
		o, err := s.store.Order(t.Context(), id)
		require.NoError(t, err)
		if n%2 == 0 {
			require.Equal(t, vn.Ended, o.State, id)
			continue
		}
		live++
		require.Equal(t, vn.Active, o.State, id)
		require.Len(t, announced[id], 1)
		for _, p := range o.Parties {
			require.Empty(t, held[p.VN], "no number in two orders")
			held[p.VN] = id
		}
	}
	// A rebuild would bring back what the ledger says is assigned: just what is live.
	recorded := 0
	require.NoError(t, s.bus.Records(t.Context(), func(rec events.Record, _ uint64) error {
		if rec.Kind == events.KindAssigned {
			number, ok := vn.ParseDigits(rec.VN)
			require.True(t, ok)
			require.Equal(t, held[number], rec.OrderID)
			recorded++
		}
		return nil
	}))
	require.Equal(t, 2*live, recorded)
	rows, err := s.allocators[0].Pools(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2*live, rows[0].Leased)
	require.Equal(t, 2*orders, rows[0].Total)
	require.Equal(t, 2*orders, rows[0].Leased+rows[0].Free+rows[0].Cooling)
	s.noNumberAnywhere(t)
}
