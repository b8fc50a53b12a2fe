package events_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

const vnNumber vn.Number = 12025550150

func TestAnIntentIsMarkedOnlyByWhoKnowsTheLastOne(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	at := time.Now().UTC().Truncate(time.Millisecond)
	in := events.PurchaseIntent{VN: vn1, Pool: "jakarta", Carrier: "sim", Ref: "PN1", Price: "1.15", Currency: "USD", At: at}
	none, seq, err := b.LastIntent(t.Context(), "jakarta", vnNumber)
	require.NoError(t, err)
	require.Zero(t, seq)
	require.Zero(t, none)

	require.NoError(t, b.Intent(t.Context(), in))
	require.NoError(t, b.CloseIntent(t.Context(), in, events.OutcomeBought))
	got, bought, err := b.LastIntent(t.Context(), "jakarta", vnNumber)
	require.NoError(t, err)
	require.Equal(t, events.OutcomeBought, got.Outcome)
	require.Equal(t, at, got.At)

	got.Outcome, got.Reason = events.OutcomeReleasing, events.ReleasedSurplus
	releasing, err := b.MarkIntent(t.Context(), got, bought)
	require.NoError(t, err)
	require.Greater(t, releasing, bought)
	again, err := b.MarkIntent(t.Context(), got, bought) // the answer was lost, and it is sent once more
	require.NoError(t, err)
	require.Equal(t, releasing, again)

	got.Outcome = events.OutcomeBought
	_, err = b.MarkIntent(t.Context(), got, bought)
	require.ErrorIs(t, err, events.ErrOvertaken)
	other := got
	other.Pool = "lima" // another pool's intent of the same number is another one
	_, err = b.MarkIntent(t.Context(), other, 0)
	require.NoError(t, err)
	_, err = b.MarkIntent(t.Context(), other, 0)
	require.NoError(t, err, "the same again")
	other.Outcome = events.OutcomeReleased
	_, err = b.MarkIntent(t.Context(), other, 0)
	require.ErrorIs(t, err, events.ErrOvertaken)
	last, seq, err := b.LastIntent(t.Context(), "jakarta", vnNumber)
	require.NoError(t, err)
	require.Equal(t, releasing, seq)
	require.Equal(t, events.OutcomeReleasing, last.Outcome)
	require.Equal(t, events.ReleasedSurplus, last.Reason)

	open, err := testkit.OpenIntents(t.Context(), b)
	require.NoError(t, err)
	require.Empty(t, open)
}

func TestAMarkWithoutItsNumberPoolOrTimeIsRefused(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	good := events.PurchaseIntent{VN: vn1, Pool: "jakarta", At: time.Now(), ClosedAt: time.Now()}
	for _, change := range []func(*events.PurchaseIntent){
		func(in *events.PurchaseIntent) { in.VN = "+" + vn1 },
		func(in *events.PurchaseIntent) { in.Pool = "*" },
		func(in *events.PurchaseIntent) { in.ClosedAt = time.Time{} },
	} {
		in := good
		change(&in)
		_, err := b.MarkIntent(t.Context(), in, 0)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field)
		require.NotContains(t, err.Error(), vn1)
	}
	_, _, err := b.LastIntent(t.Context(), "a.b", vnNumber)
	require.Error(t, err)
}

func TestAReleaseIsAnnouncedOnce(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	at := time.Now()
	e := events.PoolReleased{
		Pool: "jakarta", VN: "+" + vn1, Carrier: "sim", Price: "1.15", Currency: "USD", Reason: events.ReleasedGhost,
		At: time.Date(2026, 5, 1, 12, 0, 0, 0, time.FixedZone("WIB", 7*3600)),
	}
	require.NoError(t, b.PoolReleased(t.Context(), e, at))
	require.NoError(t, b.PoolReleased(t.Context(), e, at))
	require.Equal(t, uint64(1), count(t, js, "POOLS"))
	require.JSONEq(t, `{"pool":"jakarta","vn":"+12025550150","carrier":"sim","price":"1.15","currency":"USD","reason":"ghost","at":"2026-05-01T05:00:00Z"}`,
		string(last(t, js, "POOLS", "pools.released").Data))
	require.NoError(t, b.PoolReleased(t.Context(), e, at.Add(time.Second)))
	require.Equal(t, uint64(2), count(t, js, "POOLS"), "bought and given back once more is news")
}
