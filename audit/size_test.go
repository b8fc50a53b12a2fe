package audit_test

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// TestTheSizeOfAnAudit audits many numbers, half of them leased, at the default rate while
// calls are looked up, and tells how long it took, what it kept in memory, and what it cost
// the calls. CALLMASK_AUDIT_NUMBERS=1000000 go test -run TestTheSizeOfAnAudit -v ./audit
// gives the figures of docs/performance.md.
func TestTheSizeOfAnAudit(t *testing.T) {
	numbers := 2000
	if text := os.Getenv("CALLMASK_AUDIT_NUMBERS"); text != "" {
		var err error
		numbers, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	// Nothing rests on the disk here, and loading a million records takes long enough.
	nats := testkit.NATSWith(t, "jetstream { max_memory_store: 0 }")
	w := newWorldOn(t, 1, "nats://"+nats.Addr)
	began := time.Now()
	w.load(numbers)
	t.Logf("loaded in %s", time.Since(began).Round(time.Second))

	quiet := w.lookups(t, time.Duration(min(numbers, 20_000))*100*time.Microsecond)
	before := heap()
	var most atomic.Uint64
	a := audit.New(audit.Config{Suspects: 1}, w.store, w.bus)
	type ended struct {
		report audit.Report
		err    error
	}
	done := make(chan ended, 1)
	go func() {
		r, err := a.Round(t.Context(), func(_ string, done, _ int) {
			if done%20_000 < 1000 {
				most.Store(max(most.Load(), inUse()))
			}
		})
		done <- ended{r, err}
	}()
	var beside []time.Duration
	var end *ended
	for end == nil {
		beside = append(beside, w.lookups(t, 200*time.Millisecond)...)
		select {
		case e := <-done:
			end = &e
		default:
		}
	}
	require.NoError(t, end.err)
	r := &end.report
	require.Empty(t, r.Redis.Problems)
	require.Empty(t, r.Differences)
	require.Equal(t, numbers+1, r.Redis.VNs)
	require.Equal(t, numbers+1, r.Records)
	kept := heap() - min(before, heap())
	began = time.Now()
	again, err := a.Round(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, again.Differences)
	t.Logf("%d numbers, %d orders: first round %s, next %s; heap at most %d MB, kept between rounds %d MB",
		numbers, r.Redis.Orders, r.Took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond),
		(most.Load()-min(before, most.Load()))>>20, kept>>20)
	t.Logf("look-ups one at a time: quiet p50 %s p99 %s, beside the audit p50 %s p99 %s",
		quantile(quiet, 0.5), quantile(quiet, 0.99), quantile(beside, 0.5), quantile(beside, 0.99))
	if numbers >= 1_000_000 {
		require.Less(t, r.Took, 2*time.Minute)
		require.Less(t, most.Load()-min(before, most.Load()), uint64(1000*numbers), "a thousand bytes a number")
	}
}

func heap() uint64 {
	runtime.GC()
	return inUse()
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func quantile(took []time.Duration, q float64) time.Duration {
	slices.Sort(took)
	return took[int(q*float64(len(took)-1))].Round(time.Microsecond)
}

// lookups reads bindings, one after the other, as a router does for a call.
func (w *world) lookups(t *testing.T, lasts time.Duration) (took []time.Duration) {
	t.Helper()
	for until := time.Now().Add(lasts); time.Now().Before(until); {
		began := time.Now()
		require.NoError(t, w.redis.HGet(t.Context(), key("vn:%s", vnOf(1).Digits()), token(1)).Err())
		took = append(took, time.Since(began))
	}
	return took
}

func token(party int) string { return "token of party " + string('0'+rune(party)) }

// load puts numbers into Redis and the ledger as they would be after a while: half of them
// free, half leased two to an order.
func (w *world) load(numbers int) {
	w.t.Helper()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	const page = 250
	for from := 1; from <= numbers; from += page {
		to := min(from+page, numbers+1)
		recs := make([]events.Record, 0, page)
		for i := from; i < to; i++ {
			r := events.Record{Kind: events.KindOwned, VN: vnOf(i).Digits(), Pool: pool, Carrier: carrier, Ref: vnOf(i).Digits()}
			if a, b, id := pair(i, numbers); id != "" {
				r.Kind, r.OrderID, r.ExpiresAt, r.Cooldown, r.KeyID = events.KindAssigned, id, end, 10*time.Minute, 1
				r.Roles, r.VNs = []string{"customer", "agent"}, []string{a.Digits(), b.Digits()}
				r.Tokens, r.Sealed = [][]byte{[]byte(token(0)), []byte(token(1))}, [][]byte{nil, make([]byte, 36)}
			}
			recs = append(recs, r)
		}
		seqs, refused, err := w.bus.Record(w.t.Context(), recs...)
		require.NoError(w.t, err)
		for _, i := range refused { // a repeat of what was stored but answered too late
			n, _ := vn.ParseDigits(recs[i].VN)
			_, seqs[i], err = w.bus.LastRecord(w.t.Context(), n)
			require.NoError(w.t, err)
		}
		_, err = w.redis.Pipelined(w.t.Context(), func(pipe redis.Pipeliner) error {
			for i := from; i < to; i++ {
				w.put(w.t.Context(), pipe, i, numbers, seqs[i-from], end)
			}
			pipe.HIncrBy(w.t.Context(), key("total"), pool+":"+carrier, int64(to-from))
			return nil
		})
		require.NoError(w.t, err)
	}
}

// pair returns the VNs and the id of the order that has number i; none has a free one.
func pair(i, numbers int) (a, b vn.Number, id string) {
	first := i - (i+1)%2 // 1 and 2, 3 and 4, …
	if i > numbers/2 || first+1 > numbers/2 {
		return 0, 0, ""
	}
	return vnOf(first), vnOf(first + 1), "order-" + strconv.Itoa(first)
}

func (w *world) put(ctx context.Context, pipe redis.Pipeliner, i, numbers int, seq uint64, end time.Time) {
	digits, fence := vnOf(i).Digits(), strconv.FormatUint(seq, 10)
	pipe.HSet(ctx, key("inventory"), digits, pool+" "+carrier+" "+fence+" ")
	a, b, id := pair(i, numbers)
	if id == "" {
		pipe.SAdd(ctx, key("free:%s:%s", pool, carrier), digits)
		return
	}
	party, other := 0, b
	if vnOf(i) == b {
		party, other = 1, a
	}
	binding := append([]byte{1, 1, 7, byte(party)}, make([]byte, 48)...)
	binding = append(binding, id...)
	binary.BigEndian.PutUint32(binding[4:], uint32(end.Unix()))
	binary.BigEndian.PutUint64(binding[8:], uint64(other))
	pipe.HSet(ctx, key("vn:%s", digits), token(1-party), binding)
	pipe.PExpireAt(ctx, key("vn:%s", digits), end)
	if party == 1 {
		return
	}
	pipe.HSet(ctx, key("order:%s", id), "terms", pool+" "+carrier+" 7 1 600000", "roles", "customer,agent", "tokens", token(0)+token(1),
		"numbers", a.Digits()+","+b.Digits(), "fences", "1,1", "end", end.UnixMilli(), "settled", "1")
	pipe.ZAdd(ctx, key("leases"), redis.Z{Member: id, Score: float64(end.UnixMilli())})
}
