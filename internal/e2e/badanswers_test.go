//go:build !race

package e2e

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
)

// bad is a state of Redis or NATS in which they answer something else than they should.
type bad struct {
	name   string
	impose func(ctx context.Context, t *testing.T)
	lift   func(ctx context.Context, t *testing.T)
	calls  bool // calls are put through meanwhile
	orders bool // new orders get their numbers meanwhile
	ends   bool // orders can be ended meanwhile
}

// TestEveryBadAnswerHasItsAnswer has Redis and NATS answer everything that they answer on
// bad days, on the way to a running callmask. At both ends there is the documented answer,
// in bounded time; afterwards all goes on, and nothing is lost or half done. What a
// Cluster answers besides (MOVED, ASK, TRYAGAIN, CLUSTERDOWN) the tests of live changes do.
func TestEveryBadAnswerHasItsAnswer(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	client := server.Client(t)
	bus := testkit.NATSWith(t, "jetstream: {max_file_store: 32MB}")
	busURL := "nats://" + bus.Addr
	p := startAll(t, rebuildConfig, "--redis-url", server.URL(), "--nats-url", busURL, "--resolve-timeout", "1s")
	p.env = append(p.env, "CALLMASK_REDIS_URL="+server.URL(), "CALLMASK_NATS_URL="+busURL)
	standing := settledIn(t, p, 9)

	set := func(name, value string) func(context.Context, *testing.T) {
		return func(ctx context.Context, t *testing.T) {
			t.Helper()
			require.NoError(t, client.ConfigSet(ctx, name, value).Err())
		}
	}
	do := func(args ...any) func(context.Context, *testing.T) {
		return func(ctx context.Context, t *testing.T) {
			t.Helper()
			require.NoError(t, client.Do(ctx, args...).Err())
		}
	}
	fill, empty := ballast(t, busURL)
	for i, b := range []bad{
		{"NOSCRIPT", do("SCRIPT", "FLUSH"), do("PING"), true, true, true},
		{"OOM", set("maxmemory", "1mb"), set("maxmemory", "0"), true, false, true},
		{"NOREPLICAS", set("min-replicas-to-write", "1"), set("min-replicas-to-write", "0"), true, false, false},
		{"READONLY", do("REPLICAOF", "127.0.0.1", "1"), do("REPLICAOF", "NO", "ONE"), true, false, false},
		{"BUSY", spin(client), do("SCRIPT", "KILL"), false, false, false},
		{
			"frozen", func(_ context.Context, t *testing.T) { t.Helper(); server.Pause(t) },
			func(_ context.Context, t *testing.T) { t.Helper(); server.Resume(t) }, false, false, false,
		},
		{"the disk of NATS is full", fill, empty, true, false, false},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		began := time.Now()
		b.impose(ctx, t)
		s := standing[len(standing)-1]
		r := p.resolve(t, p.Token, s.agentVN, s.customer)
		if b.calls {
			require.Equal(t, [2]string{"connect", s.agent}, [2]string{r.Action, r.Destination}, "%s: %s", b.name, r.Reason)
		} else {
			require.Equal(t, [2]string{"reject", "unavailable"}, [2]string{r.Action, r.Reason}, b.name)
			require.Empty(t, r.Destination)
		}
		put := func() answer {
			return p.api(t, http.MethodPut, "/v1/orders/bad-"+strconv.Itoa(i), `{"pool": "jakarta", "ttl": "1h", "parties": [`+
				`{"role": "customer", "number": "+12025550177"}, {"role": "agent", "number": "+13055550177"}]}`)
		}
		requireAnswer(t, b.name, put(), b.orders)
		end := func() answer { return p.api(t, http.MethodDelete, "/v1/orders/"+standing[i].id, "") }
		requireAnswer(t, b.name, end(), b.ends)
		require.Less(t, time.Since(began), 25*time.Second, "%s: an answer took too long", b.name)
		b.lift(ctx, t)
		cancel()

		await(t, 20*time.Second, b.name+": the order gets its numbers afterwards", func() bool { return put().status < 300 })
		await(t, 20*time.Second, b.name+": the other one ends", func() bool { return end().status < 300 })
		p.requireConnected(t, s.agentVN, s.customer, s.agent, s.customerVN)
	}
	p.requireClean(t)
}

func requireAnswer(t *testing.T, when string, got answer, good bool) {
	t.Helper()
	if good {
		require.Less(t, got.status, 300, "%s: %s", when, got.body)
		return
	}
	require.Equal(t, http.StatusServiceUnavailable, got.status, "%s: %s", when, got.body)
	require.NotEmpty(t, got.header.Get("Retry-After"), when)
	require.Contains(t, got.body, "unavailable", when)
}

// spin has a script run that does not end.
func spin(client *redis.Client) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		t.Helper()
		require.NoError(t, client.ConfigSet(ctx, "busy-reply-threshold", "50").Err())
		other := redis.NewClient(&redis.Options{Addr: client.Options().Addr, ReadTimeout: -1, MaxRetries: -1, DisableIdentity: true})
		go func() {
			_ = other.Eval(ctx, "while true do end", nil).Err() // it is killed
			_ = other.Close()
		}()
		await(t, 10*time.Second, "the script runs", func() bool {
			err := client.Ping(ctx).Err()
			return err != nil && strings.HasPrefix(err.Error(), "BUSY")
		})
	}
}

// ballast fills all the room that NATS has, and empties it.
func ballast(t *testing.T, url string) (fill, empty func(context.Context, *testing.T)) {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	fill = func(ctx context.Context, t *testing.T) {
		t.Helper()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "BALLAST", Subjects: []string{"ballast"}})
		require.NoError(t, err)
		for size := 512 << 10; size >= 1; size /= 4 {
			for err = nil; err == nil; {
				_, err = js.Publish(ctx, "ballast", make([]byte, size))
			}
			require.NoError(t, ctx.Err(), err)
		}
	}
	empty = func(ctx context.Context, t *testing.T) {
		t.Helper()
		require.NoError(t, js.DeleteStream(ctx, "BALLAST"))
	}
	return fill, empty
}
