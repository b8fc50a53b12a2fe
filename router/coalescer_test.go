package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

func newTestCoalescer(t *testing.T, client redis.UniversalClient, cfg CoalescerConfig) *Coalescer {
	t.Helper()
	c, err := NewCoalescer(client, cfg, prometheus.NewRegistry())
	require.NoError(t, err)
	return c
}

// readOne reads one field and returns its value.
func readOne(t *testing.T, c *Coalescer, key, field string) (string, error) {
	t.Helper()
	values := [][]byte{nil}
	err := c.Read(t.Context(), []byte(key), [][]byte{[]byte(field)}, values)
	return string(values[0]), err
}

func flushes(t *testing.T, c *Coalescer) (count uint64, reads float64) {
	t.Helper()
	var m dto.Metric
	require.NoError(t, c.metrics.size.Write(&m))
	return m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
}

// flushing tells whether a flush is in flight and nobody waits for the next.
func (l *lane) flushing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy && len(l.queue) == 0
}

func TestEveryReadGetsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]redis.UniversalClient{
		"single": testkit.Redis(t).Client(t), "cluster": testkit.RedisCluster(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const keys = 50
			for i := range keys {
				k := strconv.Itoa(i)
				require.NoError(t, client.HSet(t.Context(), "h{"+k+"}", "a", "a of "+k, "b", "b of "+k).Err())
			}
			c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 10 * time.Second})
			var wg sync.WaitGroup
			for range 32 {
				wg.Go(func() {
					values := [][]byte{[]byte("old"), nil, nil}
					for range 200 {
						k := strconv.Itoa(rand.IntN(keys + 5))
						fields := [][]byte{[]byte("a"), []byte("none"), []byte("b")}
						used := 1 + rand.IntN(3)
						if err := c.Read(t.Context(), []byte("h{"+k+"}"), fields[:used], values[:used]); err != nil {
							t.Errorf("read: %v", err)
							return
						}
						want := []string{"a of " + k, "", "b of " + k}
						if n, _ := strconv.Atoi(k); n >= keys {
							want = []string{"", "", ""}
						}
						for i := range used {
							if string(values[i]) != want[i] {
								t.Errorf("got %q, want %q", values[i], want[i])
							}
						}
					}
				})
			}
			wg.Wait()
			count, reads := flushes(t, c)
			require.InDelta(t, 32*200, reads, 0, "each read is in one flush")
			require.Less(t, count, uint64(32*200), "and flushes are shared")
		})
	}
}

func TestReadsThatComeDuringAFlushShareTheNext(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	client := server.Client(t)
	require.NoError(t, client.HSet(t.Context(), "h", "f", "value").Err())
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: time.Minute, MaxBatch: 30})
	_, err := readOne(t, c, "h", "f") // the connection is there
	require.NoError(t, err)
	server.Pause(t)
	var wg sync.WaitGroup
	read := func() {
		value, err := readOne(t, c, "h", "f")
		if err != nil || value != "value" {
			t.Errorf("got %q, %v", value, err)
		}
	}
	wg.Go(read)
	require.Eventually(t, c.masters.all.flushing, 5*time.Second, time.Millisecond)
	for range 40 {
		wg.Go(read)
	}
	require.Eventually(t, func() bool { return c.masters.waiting() == 40 }, 5*time.Second, time.Millisecond)
	server.Resume(t)
	wg.Wait()
	count, reads := flushes(t, c)
	require.EqualValues(t, 4, count, "one alone, one alone, 30 and 10 together")
	require.InDelta(t, 42, reads, 0)
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	c := newTestCoalescer(t, server.Client(t), CoalescerConfig{MaxQueue: 3, FlushTimeout: time.Minute})
	server.Pause(t)
	var wg sync.WaitGroup
	read := func() { _, _ = readOne(t, c, "h", "f") }
	wg.Go(read)
	require.Eventually(t, c.masters.all.flushing, 5*time.Second, time.Millisecond)
	for range 3 {
		wg.Go(read)
	}
	require.Eventually(t, func() bool { return c.masters.waiting() == 3 }, 5*time.Second, time.Millisecond)
	_, err := readOne(t, c, "h", "f")
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.refused), 0)
	server.Resume(t)
	wg.Wait()
}

func TestAFrozenRedisFailsTheWholeBatchInTimeAndItRecovers(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	client := server.Client(t)
	require.NoError(t, client.HSet(t.Context(), "h", "f", "value").Err())
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 100 * time.Millisecond})
	server.Pause(t)
	began := time.Now()
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range 20 {
		wg.Go(func() {
			if _, err := readOne(t, c, "h", "f"); err != nil {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 20, refused.Load())
	require.Less(t, time.Since(began), 5*time.Second, "far below a client's own time-outs and retries")
	server.Resume(t)
	require.Eventually(t, func() bool {
		value, err := readOne(t, c, "h", "f")
		return err == nil && value == "value"
	}, 10*time.Second, 5*time.Millisecond)
}

// panicking is a hook of the client that panics while it is told to.
type panicking struct{ on atomic.Bool }

func (*panicking) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *panicking) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if p.on.Load() {
			panic("planted")
		}
		return next(ctx, cmd)
	}
}

func (p *panicking) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if p.on.Load() {
			panic("planted")
		}
		return next(ctx, cmds)
	}
}

func TestAPanickingLeaderFailsItsBatchOnly(t *testing.T) {
	t.Parallel()
	client := testkit.Redis(t).Client(t)
	require.NoError(t, client.HSet(t.Context(), "h", "f", "value").Err())
	hook := &panicking{}
	client.AddHook(hook)
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 10 * time.Second})
	hook.on.Store(true)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, err := readOne(t, c, "h", "f")
			require.ErrorIs(t, err, vn.ErrUnavailable)
		})
	}
	wg.Wait()
	hook.on.Store(false)
	value, err := readOne(t, c, "h", "f")
	require.NoError(t, err)
	require.Equal(t, "value", value)
	require.Positive(t, testutil.ToFloat64(c.metrics.panicked))
}

func TestAnAnswerTooLongForABindingIsAnErrorOfThatReadOnly(t *testing.T) {
	t.Parallel()
	client := testkit.Redis(t).Client(t)
	require.NoError(t, client.HSet(t.Context(), "h", "long", make([]byte, 4*maxValue), "f", "value").Err())
	c := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 10 * time.Second})
	_, err := readOne(t, c, "h", "long")
	require.Error(t, err)
	value, err := readOne(t, c, "h", "f")
	require.NoError(t, err)
	require.Equal(t, "value", value)
	require.Error(t, c.Read(t.Context(), []byte("h"), [][]byte{[]byte("f"), []byte("long")}, [][]byte{nil, nil}))
}

func TestCoalescerSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]CoalescerConfig{
		"MaxQueue": {MaxQueue: -1}, "MaxBatch": {MaxBatch: -1}, "FlushTimeout": {FlushTimeout: time.Microsecond},
	} {
		_, err := NewCoalescer(nil, cfg, prometheus.NewRegistry())
		require.ErrorContains(t, err, want)
	}
}

func BenchmarkCoalescer(b *testing.B) {
	client := testkit.Redis(b).Client(b)
	require.NoError(b, client.HSet(b.Context(), "h", "f", make([]byte, 64)).Err())
	c, err := NewCoalescer(client, CoalescerConfig{FlushTimeout: time.Minute}, prometheus.NewRegistry())
	require.NoError(b, err)
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				key, fields, values := []byte("h"), [][]byte{[]byte("f")}, [][]byte{make([]byte, 0, 128)}
				for pb.Next() {
					if err := c.Read(b.Context(), key, fields, values); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
