package allocator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func TestMain(m *testing.M) {
	if cluster.RunNode() {
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	customer = "+12025550101"
	agent    = "+12025550102"
	token    = "a token for tests"
	firstVN  = vn.Number(12025550150)
)

var errFault = errors.New("planted fault")

// trace notes the steps of store and bus in their order, and lets one fail: before
// it takes effect, or after, as when a process dies or an answer is lost.
type trace struct {
	mu     sync.Mutex
	steps  []string
	before string
	after  string
	err    error
}

func (tr *trace) do(step string, work func() error) error {
	tr.mu.Lock()
	tr.steps = append(tr.steps, step)
	before, after, fault := tr.before == step, tr.after == step, tr.err
	if before {
		tr.before = ""
	}
	if after {
		tr.after = ""
	}
	tr.mu.Unlock()
	if before {
		return fault
	}
	err := work()
	if after {
		return fault
	}
	return err
}

func (tr *trace) take() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	steps := tr.steps
	tr.steps = nil
	return steps
}

// failOnce plants a fault: it strikes once, "before" or "after" the step's effect.
func (tr *trace) failOnce(when, step string, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.before, tr.after, tr.err = "", "", err
	if when == "before" {
		tr.before = step
	} else {
		tr.after = step
	}
}

// store is the real one, traced.
type store struct {
	*scripts.Store

	trace *trace
}

func traced[T any](tr *trace, step string, work func() (T, error)) (v T, err error) {
	err = tr.do(step, func() (err error) {
		v, err = work()
		return err
	})
	return v, err
}

func (s *store) Allocate(ctx context.Context, r scripts.AllocateRequest) (scripts.Allocation, error) {
	return traced(s.trace, "allocate", func() (scripts.Allocation, error) { return s.Store.Allocate(ctx, r) })
}

func (s *store) Release(ctx context.Context, id string, reason vn.EndReason) (scripts.Release, error) {
	return traced(s.trace, "release", func() (scripts.Release, error) { return s.Store.Release(ctx, id, reason) })
}

func (s *store) Extend(ctx context.Context, id string, ttl time.Duration) (scripts.Allocation, error) {
	return traced(s.trace, "extend", func() (scripts.Allocation, error) { return s.Store.Extend(ctx, id, ttl) })
}

func (s *store) Order(ctx context.Context, id string) (vn.Assignment, error) {
	return traced(s.trace, "order", func() (vn.Assignment, error) { return s.Store.Order(ctx, id) })
}

func (s *store) Stock(ctx context.Context) ([]scripts.Stock, error) {
	return traced(s.trace, "stock", func() ([]scripts.Stock, error) { return s.Store.Stock(ctx) })
}

func (s *store) Refill(ctx context.Context, pool, carrier string, n []scripts.Owned) (scripts.Refilled, error) {
	return traced(s.trace, "refill", func() (scripts.Refilled, error) { return s.Store.Refill(ctx, pool, carrier, n) })
}

func (s *store) Drain(ctx context.Context, pool string, n vn.Number) (scripts.Drained, error) {
	return traced(s.trace, "drain", func() (scripts.Drained, error) { return s.Store.Drain(ctx, pool, n) })
}

func (s *store) SettleAssigned(ctx context.Context, a *scripts.Allocation, fences []uint64) error {
	return s.trace.do("settle assigned", func() error { return s.Store.SettleAssigned(ctx, a, fences) })
}

func (s *store) SettleReleased(ctx context.Context, r *scripts.Release, fences []uint64) error {
	return s.trace.do("settle released", func() error { return s.Store.SettleReleased(ctx, r, fences) })
}

// bus is an in-memory ledger and a list of what was announced. Like JetStream it
// drops a second message with the same id.
type bus struct {
	trace *trace

	mu       sync.Mutex
	seq      uint64
	last     map[string]events.Record
	seqs     map[string]uint64
	assigned []events.VNAssigned
	released []events.VNReleased
	failed   []events.VNFailed
	low      []events.PoolLow
	seen     map[string]bool
}

func newBus(tr *trace) *bus {
	return &bus{trace: tr, last: map[string]events.Record{}, seqs: map[string]uint64{}, seen: map[string]bool{}}
}

func (b *bus) Record(_ context.Context, recs ...events.Record) (seqs []uint64, refused []int, err error) {
	seqs, err = traced(b.trace, "record "+recs[0].Kind, func() ([]uint64, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		seqs := make([]uint64, len(recs))
		for i, r := range recs {
			if b.seqs[r.VN] != r.After {
				refused = append(refused, i)
				continue
			}
			b.seq++
			r.After = 0
			b.last[r.VN], b.seqs[r.VN], seqs[i] = r, b.seq, b.seq
		}
		return seqs, nil
	})
	return seqs, refused, err
}

func (b *bus) LastRecord(_ context.Context, n vn.Number) (events.Record, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last[n.Digits()], b.seqs[n.Digits()], nil
}

func publish[T any](b *bus, step, id string, list *[]T, e T) error {
	return b.trace.do(step, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if id = step + ":" + id; !b.seen[id] {
			b.seen[id] = true
			*list = append(*list, e)
		}
		return nil
	})
}

func (b *bus) Assigned(_ context.Context, e events.VNAssigned) error {
	return publish(b, "vn.assigned", fmt.Sprint(e.OrderID, e.ExpiresAt.UnixMilli()), &b.assigned, e)
}

func (b *bus) Released(_ context.Context, e events.VNReleased) error {
	return publish(b, "vn.released", e.OrderID, &b.released, e)
}

func (b *bus) Failed(_ context.Context, e events.VNFailed, _ uint64) error {
	return publish(b, "vn.failed", e.OrderID+e.Reason, &b.failed, e)
}

func (b *bus) PoolLow(_ context.Context, e events.PoolLow) error {
	return publish(b, "pools.low", fmt.Sprint(len(b.low)), &b.low, e)
}

func (b *bus) LedgerLastSeq(context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq, nil
}

func (b *bus) OrdersStream() string             { return "ORDERS" }
func (b *bus) OrderSubject(event string) string { return "orders." + event }

func (b *bus) Consume(ctx context.Context, _ events.Consumer, _ func(context.Context, events.Message) events.Result) error {
	<-ctx.Done()
	return nil
}

// logs collects what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// world is an Allocator on a real Redis of its own and a traced bus.
type world struct {
	*Allocator

	redis *redis.Client
	real  *scripts.Store
	bus   *bus
	trace *trace
	logs  *logs
	keys  *seal.Keyset
}

// jakarta is the pool of the tests: two numbers to an order, and hardly any rest.
func jakarta() Pool {
	return Pool{
		Name: "jakarta", Region: "US", Carriers: []string{"sim"}, LowWater: 0, Target: 4, Max: 20_000,
		Cooldown: time.Second, TTLDefault: time.Hour, TTLMax: 24 * time.Hour, AssignWait: time.Minute,
		Destinations: []string{"US", "GB"},
	}
}

func config(pools ...Pool) Config {
	if len(pools) == 0 {
		pools = []Pool{jakarta()}
	}
	return Config{Pools: pools, Carriers: []scripts.Carrier{{Name: "sim", ID: 1}, {Name: "twilio", ID: 2}}}
}

// newWorld is a system as after its first look at Redis, with numbers VNs imported
// into jakarta and the steps of that forgotten.
func newWorld(t *testing.T, numbers int, pools ...Pool) *world {
	t.Helper()
	w := coldWorld(t, pools...)
	w.look(t.Context())
	require.NoError(t, w.Check(t.Context()))
	if numbers > 0 {
		done, err := w.Import(t.Context(), "jakarta", "sim", vns(numbers))
		require.NoError(t, err)
		require.Equal(t, Imported{Added: numbers}, done)
	}
	w.trace.take()
	return w
}

// coldWorld is a system that has not looked at Redis yet.
func coldWorld(t *testing.T, pools ...Pool) *world {
	t.Helper()
	client := testkit.Redis(t).Client(t)
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	real, err := scripts.New(scripts.Config{Timeout: 10 * time.Second}, client, keys)
	require.NoError(t, err)
	require.NoError(t, real.Start(t.Context()))
	w := &world{redis: client, real: real, trace: &trace{}, logs: &logs{}, keys: keys}
	w.bus = newBus(w.trace)
	w.Allocator, err = New(config(pools...), &store{real, w.trace}, w.bus, keys, prometheus.NewRegistry(), zerolog.New(w.logs))
	require.NoError(t, err)
	return w
}

// vns are n numbers of ours, in E.164.
func vns(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = (firstVN + vn.Number(i)).E164()
	}
	return list
}

func order(id string) vn.Order {
	return vn.Order{ID: id, Pool: "jakarta", Parties: []vn.Party{
		{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102},
	}}
}

// snapshot is everything that Redis holds but the clock's mark.
func (w *world) snapshot(t *testing.T) map[string]string {
	t.Helper()
	state := make(map[string]string)
	keys, err := w.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		if strings.HasSuffix(key, ":meta") {
			continue
		}
		state[key], err = w.redis.Dump(t.Context(), key).Result()
		require.NoError(t, err)
	}
	return state
}

// stock is the row of pool jakarta.
func (w *world) stock(t *testing.T) PoolStock {
	t.Helper()
	rows, err := w.Pools(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(rows, func(p PoolStock) bool { return p.Name == "jakarta" })
	require.GreaterOrEqual(t, i, 0)
	return rows[i]
}

// noNumber fails when text holds a real number of the tests, in any of its forms.
func noNumber(t *testing.T, text string) {
	t.Helper()
	for _, digits := range []string{"2025550101", "2025550102", "2025550103", "7700900", "81155501", "555 01"} {
		require.NotContains(t, text, digits)
	}
}
