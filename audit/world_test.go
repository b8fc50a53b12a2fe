package audit_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	pool               = "london"
	carrier            = "sim"
	customer vn.Number = 12025550101
	agent    vn.Number = 12025550102
	prefix             = "cm1:{8209}:" // of the one partition; newWorld checks it
)

// world is a Redis and a JetStream with numbers in a pool.
type world struct {
	t      *testing.T
	redis  *redis.Client
	store  *scripts.Store
	bus    *events.Bus
	ledger *ledger.Ledger
}

func newWorld(t *testing.T, numbers int) *world {
	t.Helper()
	return newWorldOn(t, numbers, testkit.NATS(t).URL)
}

func newWorldOn(t *testing.T, numbers int, natsURL string) *world {
	t.Helper()
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset"))
	require.NoError(t, err)
	w := &world{t: t, redis: testkit.Redis(t).Client(t)}
	w.store, err = scripts.New(scripts.Config{Timeout: 10 * time.Second}, w.redis, keys)
	require.NoError(t, err)
	require.NoError(t, w.store.Start(t.Context()))
	require.NoError(t, w.store.MarkReady(t.Context()))
	w.bus, err = events.Connect(t.Context(), events.Config{URL: natsURL, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(w.bus.Close)
	require.NoError(t, w.bus.EnsureStreams(t.Context()))
	w.ledger = ledger.New(w.store, w.bus, nil, zerolog.Nop())
	all := make([]vn.Number, numbers)
	for i := range all {
		all[i] = vnOf(i)
	}
	_, err = w.ledger.Own(t.Context(), pool, carrier, owned(all...))
	require.NoError(t, err)
	require.EqualValues(t, 1, w.redis.Exists(t.Context(), prefix+"inventory").Val(), "the partition has another tag")
	return w
}

func owned(numbers ...vn.Number) []scripts.Owned {
	list := make([]scripts.Owned, len(numbers))
	for i, n := range numbers {
		list[i] = scripts.Owned{VN: n, Ref: n.Digits()}
	}
	return list
}

func vnOf(i int) vn.Number { return vn.Number(447700900000 + i) }

// order gives an order its VNs, all the way to the apps.
func (w *world) order(id string, cooldown time.Duration) scripts.Allocation {
	w.t.Helper()
	a := w.allocate(id, cooldown)
	require.NoError(w.t, w.ledger.Assign(w.t.Context(), &a))
	return a
}

// allocate is order without a word to anybody.
func (w *world) allocate(id string, cooldown time.Duration) scripts.Allocation {
	w.t.Helper()
	a, err := w.store.Allocate(w.t.Context(), scripts.AllocateRequest{
		Order:    vn.Order{ID: id, Pool: pool, TTL: time.Hour, Parties: []vn.Party{{Role: "customer", Number: customer}, {Role: "agent", Number: agent}}},
		Cooldown: cooldown, Carriers: []scripts.Carrier{{Name: carrier, ID: 7}},
	})
	require.NoError(w.t, err)
	return a
}

func (w *world) end(id string) {
	w.t.Helper()
	r, err := w.store.Release(w.t.Context(), id, vn.Completed)
	require.NoError(w.t, err)
	require.NoError(w.t, w.ledger.End(w.t.Context(), &r))
}

func (w *world) auditor() *audit.Auditor {
	return audit.New(audit.Config{Patience: 20 * time.Millisecond}, w.store, w.bus)
}

func (w *world) round(a *audit.Auditor) audit.Report {
	w.t.Helper()
	r, err := a.Round(w.t.Context(), nil)
	require.NoError(w.t, err)
	return r
}

// kinds returns the differences of a report, by VN.
func kinds(r *audit.Report) map[vn.Number]audit.DifferenceKind {
	all := map[vn.Number]audit.DifferenceKind{}
	for _, d := range r.Differences {
		all[d.VN] = d.Kind
	}
	return all
}

func key(format string, args ...any) string { return prefix + fmt.Sprintf(format, args...) }
