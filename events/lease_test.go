package events_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

func intent(number string) events.PurchaseIntent {
	return events.PurchaseIntent{
		VN: number, Pool: "jakarta", Carrier: "sim", For: events.ReasonLowWater, Price: "1.15", Currency: "USD", At: time.Now().UTC(),
	}
}

func TestAnIntentIsOpenUntilItIsClosed(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	open := func() []events.PurchaseIntent {
		in, err := testkit.OpenIntents(t.Context(), b)
		require.NoError(t, err)
		return in
	}
	require.Empty(t, open())
	one, two := intent(vn1), intent(vn2)
	require.NoError(t, b.Intent(t.Context(), one))
	require.NoError(t, b.Intent(t.Context(), two))
	require.NoError(t, b.Intent(t.Context(), two))
	require.Equal(t, []events.PurchaseIntent{one, two}, open())
	require.NoError(t, b.CloseIntent(t.Context(), one, events.OutcomeBought))
	require.Equal(t, []events.PurchaseIntent{two}, open())
	require.NoError(t, b.CloseIntent(t.Context(), one, events.OutcomeReleased), "no repeat of its first closing")
	other := intent(vn1)
	other.Pool = "bandung"
	require.NoError(t, b.Intent(t.Context(), other))
	require.Equal(t, []events.PurchaseIntent{two, other}, open())

	var outcomes []string
	require.NoError(t, b.Intents(t.Context(), func(in events.PurchaseIntent, seq uint64) error {
		require.NotZero(t, seq)
		outcomes = append(outcomes, in.Pool+" "+in.Outcome)
		if in.Outcome != "" {
			require.WithinDuration(t, time.Now(), in.ClosedAt, time.Minute)
			require.Equal(t, one.Price+one.Currency+one.For, in.Price+in.Currency+in.For, "closing keeps what it cost")
		}
		return nil
	}))
	require.Equal(t, []string{"jakarta ", "jakarta released", "bandung "}, outcomes, "each pool has its own intent of a number")
	stop := errors.New("stop")
	require.ErrorIs(t, b.Intents(t.Context(), func(events.PurchaseIntent, uint64) error { return stop }), stop)
	require.NoError(t, b.Records(t.Context(), func(events.Record, uint64) error { return errors.New("intents are no records") }))
}

func TestAnIntentWithoutANumberOrAPoolIsRefused(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	var field *vn.FieldError
	for _, number := range []string{"", "*", ">", "+" + vn1, "1.2", "123"} {
		require.ErrorAs(t, b.Intent(t.Context(), events.PurchaseIntent{VN: number, Pool: "jakarta"}), &field, number)
	}
	for _, pool := range []string{"", "*", ">", "a.b", "Jakarta"} {
		require.ErrorAs(t, b.Intent(t.Context(), events.PurchaseIntent{VN: vn1, Pool: pool}), &field, pool)
		_, err := b.PutLease(t.Context(), pool, events.Lease{Owner: "a"}, 0)
		require.ErrorAs(t, err, &field, pool)
	}
}

// TestADeposedProcessIsRefusedByTheStream pins what the safety of buying rests on: the
// server takes an intent, and its closing, only while the lease record that it names is
// the pool's last one.
func TestADeposedProcessIsRefusedByTheStream(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	ctx := t.Context()
	l, seq, err := b.Lease(ctx, "jakarta")
	require.NoError(t, err)
	require.Zero(t, seq)
	require.Equal(t, events.Lease{}, l)

	until := time.Now().Add(time.Minute).UTC()
	first, err := b.PutLease(ctx, "jakarta", events.Lease{Owner: "a", Until: until}, 0)
	require.NoError(t, err)
	l, seq, err = b.Lease(ctx, "jakarta")
	require.NoError(t, err)
	require.Equal(t, first, seq)
	require.Equal(t, events.Lease{Owner: "a", Until: until}, l)
	_, err = b.PutLease(ctx, "jakarta", events.Lease{Owner: "b", Until: until}, 0)
	require.ErrorIs(t, err, events.ErrFenced, "two cannot take it")

	one, two := intent(vn1), intent(vn2)
	one.Fence, two.Fence = first, first
	require.NoError(t, b.Intent(ctx, one))
	other := intent(vn2)
	other.Pool, other.Fence = "bandung", first
	require.ErrorIs(t, b.Intent(ctx, other), events.ErrFenced, "a lease is of one pool")

	// Renewed by its owner: the old sequence is void, the new one holds.
	second, err := b.PutLease(ctx, "jakarta", events.Lease{Owner: "a", Until: until.Add(time.Minute)}, first)
	require.NoError(t, err)
	require.ErrorIs(t, b.Intent(ctx, two), events.ErrFenced)
	two.Fence = second
	require.NoError(t, b.Intent(ctx, two))

	// Taken over: nothing of the one before is stored any more.
	third, err := b.PutLease(ctx, "jakarta", events.Lease{Owner: "b", Until: until}, second)
	require.NoError(t, err)
	late := intent("12025550152")
	late.Fence = second
	require.ErrorIs(t, b.Intent(ctx, late), events.ErrFenced)
	require.ErrorIs(t, b.CloseIntent(ctx, two, events.OutcomeNotBought), events.ErrFenced)
	require.NotErrorIs(t, b.Intent(ctx, late), vn.ErrUnavailable, "the answer is known")
	two.Fence = third
	require.NoError(t, b.CloseIntent(ctx, two, events.OutcomeBought))
	open, err := testkit.OpenIntents(ctx, b)
	require.NoError(t, err)
	one.Fence = 0
	require.Equal(t, []events.PurchaseIntent{one}, open)

	given, err := b.PutLease(ctx, "jakarta", events.Lease{Owner: "b"}, third)
	require.NoError(t, err)
	l, _, err = b.Lease(ctx, "jakarta")
	require.NoError(t, err)
	require.Equal(t, events.Lease{Owner: "b"}, l)
	require.NotContains(t, string(last(t, client(t, srv), "LEDGER", "ledger.lease.jakarta").Data), "until")
	require.Greater(t, given, third)
	pool, ok := events.LeasePool("ledger.lease.jakarta")
	require.True(t, ok)
	require.Equal(t, "jakarta", pool)
	_, ok = events.LeasePool("pools.low")
	require.False(t, ok)
}

func TestOfManyWhoTakeALeaseOneGetsIt(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	var (
		mu    sync.Mutex
		wins  int
		group sync.WaitGroup
	)
	for i := range 16 {
		group.Go(func() {
			_, err := b.PutLease(t.Context(), "jakarta", events.Lease{Owner: string(rune('a' + i)), Until: time.Now()}, 0)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				wins++
			} else if !errors.Is(err, events.ErrFenced) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Equal(t, 1, wins)
}

func TestWhatHappensToPoolsIsAnnounced(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	bought := events.PoolBought{
		Pool: "jakarta", VN: "+" + vn1, Carrier: "sim", Price: "1.15", Currency: "USD", Reason: events.ReasonForecast, At: at,
	}
	require.NoError(t, b.PoolBought(t.Context(), bought, at))
	require.NoError(t, b.PoolBought(t.Context(), bought, at), "a repeat is dropped")
	require.EqualValues(t, 1, count(t, js, "POOLS"))
	require.JSONEq(t, `{"pool":"jakarta","vn":"+12025550150","carrier":"sim","price":"1.15","currency":"USD","reason":"forecast",`+
		`"at":"2026-03-01T12:00:00Z"}`, string(last(t, js, "POOLS", "pools.bought").Data))
	require.NoError(t, b.PoolCapReached(t.Context(), events.PoolCapReached{
		Pool: "jakarta", Cap: "500.00", Committed: "499.10", Currency: "USD", Missing: 12,
	}))
	require.JSONEq(t, `{"pool":"jakarta","cap":"500.00","committed":"499.10","currency":"USD","missing":12}`,
		string(last(t, js, "POOLS", "pools.cap_reached").Data))
	require.NoError(t, b.PoolRunningOut(t.Context(), events.PoolRunningOut{Pool: "jakarta", Minutes: 2.5}))
	require.JSONEq(t, `{"pool":"jakarta","minutes":2.5}`, string(last(t, js, "POOLS", "pools.running_out").Data))
}

func TestEachProcessHearsEveryHintFromNowOn(t *testing.T) {
	t.Parallel()
	one, srv := newBus(t)
	two := connectBus(t, srv)
	js := client(t, srv)
	publish(t, js, "orders.placed", `{"pool":"before"}`)
	hint := events.Consumer{Stream: "ORDERS", Durable: "replenisher", Each: true, Subjects: []string{"orders.placed"}, Dead: sealed}
	first, second := make(chan events.Message, 10), make(chan events.Message, 10)
	stopFirst := consume(t, one, hint, collect(first))
	consume(t, two, hint, func(_ context.Context, m events.Message) events.Result { second <- m; return events.Dead("no good") })
	require.Eventually(t, func() bool { return one.Ping(t.Context()) == nil && two.Ping(t.Context()) == nil }, within, tick)
	seq := publish(t, js, "orders.placed", `{"pool":"now"}`)
	require.Equal(t, seq, receive(t, first, "the hint").Sequence)
	require.Equal(t, seq, receive(t, second, "the hint").Sequence)
	letter, _ := deadLetter(t, js, "orders.placed")
	require.Equal(t, "replenisher", letter.Consumer, "whichever process it was")
	require.Empty(t, first, "nothing of before")

	consumers := func() int {
		s, err := js.Stream(t.Context(), "ORDERS")
		require.NoError(t, err)
		return s.CachedInfo().State.Consumers
	}
	require.Equal(t, 2, consumers())
	require.NoError(t, stopFirst())
	require.Equal(t, 1, consumers(), "a process that ends leaves no consumer")
}
