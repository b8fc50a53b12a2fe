package events_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

func TestTheHistoryOfAnOrderANumberAndACall(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	began := time.Now().Add(-time.Minute)
	publish(t, js, "orders.placed", `{"order_id":"o-1","pool":"jakarta"}`)
	publish(t, js, "orders.assigned", `{"order_id":"o-1","parties":[{"role":"customer","number":"`+real1+`"}]}`)
	publish(t, js, "orders.completed", `{"order_id":"o-1"}`)
	number, _ := vn.ParseDigits(vn1)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	require.NoError(t, b.Assigned(t.Context(), events.VNAssigned{
		OrderID: "o-1", Pool: "jakarta", ExpiresAt: until, Parties: []events.VNParty{{Role: "customer", VN: "+" + vn1}, {Role: "agent", VN: "+" + vn2}},
	}))
	const odd = `CA<1>&"x`
	b.Decided(&events.Decision{Carrier: "sim", CallID: []byte(odd), VN: number, OrderID: []byte("o-1"), Reason: vn.Connected, At: time.Now()})
	b.Decided(&events.Decision{Carrier: "sim", CallID: []byte("CA2"), VN: number, Reason: vn.CallerNotAllowed, At: time.Now()})
	b.Decided(&events.Decision{Carrier: "sim", CallID: []byte("CA3"), OrderID: []byte("o-11"), Reason: vn.OrderEnded, At: time.Now()})
	b.Status(&events.CallStatus{Carrier: "sim", CallID: odd, OrderID: "o-1", Leg: "callee", Status: "answered", At: time.Now()})
	b.Message(&events.MessageDecided{Carrier: "sim", MessageID: "M1", VN: "+" + vn1, Reason: "connected", Verdict: "relayed", At: time.Now()})
	require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-1", Reason: "completed"}))

	history := func(of events.Sought) (subjects []string, h events.History) {
		h, err := b.History(t.Context(), of, began)
		require.NoError(t, err)
		for _, e := range h.Events {
			subjects = append(subjects, e.Subject)
		}
		return subjects, h
	}
	require.Eventually(t, func() bool { _, h := history(events.Sought{VN: number}); return len(h.Events) == 4 }, within, tick)
	subjects, h := history(events.Sought{OrderID: "o-1"})
	require.True(t, h.Whole)
	require.ElementsMatch(t, []string{"orders.placed", "orders.completed", "vn.assigned", "vn.released", "calls.decided", "calls.status"}, subjects)
	for i, e := range h.Events {
		require.Equal(t, "o-1", e.OrderID)
		require.False(t, i > 0 && e.At.Before(h.Events[i-1].At), "oldest first")
		switch e.Subject {
		case "vn.assigned":
			require.Equal(t, until, e.Until)
			require.Len(t, e.Parties, 2)
		case "vn.released":
			require.Equal(t, "completed", e.Reason)
		}
	}
	subjects, _ = history(events.Sought{VN: number})
	require.ElementsMatch(t, []string{"vn.assigned", "calls.decided", "calls.decided", "calls.message"}, subjects)
	subjects, _ = history(events.Sought{CallID: odd})
	require.ElementsMatch(t, []string{"calls.decided", "calls.status"}, subjects)
	subjects, h = history(events.Sought{OrderID: "o-12"})
	require.Empty(t, subjects)
	require.Equal(t, 9, h.Read)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	h, err := b.History(ended, events.Sought{OrderID: "o-1"}, began)
	require.NoError(t, err)
	require.False(t, h.Whole, "what it had time for")
}

func TestATailReadsTheNewestCallsAndCountsTheRest(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	call := func(i int) {
		publish(t, js, events.SubjectDecided, `{"carrier":"sim","call_id":"`+strconv.Itoa(i)+`","reason":"connected"}`)
	}
	for i := range 7 {
		call(i)
	}
	tail := b.TailCalls()
	ids := func(most uint64) (ids []string, batch events.CallBatch) {
		batch, err := tail.Next(t.Context(), most)
		require.NoError(t, err)
		for _, d := range batch.Decided {
			ids = append(ids, d.CallID)
		}
		return ids, batch
	}
	got, batch := ids(3)
	require.Equal(t, []string{"4", "5", "6"}, got)
	require.Equal(t, []uint64{0, 3}, []uint64{batch.Stored, batch.Read}, "what was there before does not count")
	got, batch = ids(3)
	require.Empty(t, got)
	require.Zero(t, batch.Stored)
	publish(t, js, events.SubjectDecided, `not ours`)
	publish(t, js, events.SubjectStatus, `{"carrier":"sim","call_id":"6","leg":"callee","status":"busy"}`)
	got, batch = ids(3)
	require.Empty(t, got)
	require.Equal(t, "busy", batch.Told[0].Status)
	for i := range 50 {
		call(100 + i)
	}
	got, batch = ids(3)
	require.Equal(t, []string{"147", "148", "149"}, got)
	require.Equal(t, []uint64{50, 3}, []uint64{batch.Stored, batch.Read})
}

func TestATailOfPoolsKeepsToWhatIsBought(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	tail := b.TailPools()
	require.NoError(t, b.PoolLow(t.Context(), events.PoolLow{Pool: "jakarta"}))
	require.NoError(t, b.PoolBought(t.Context(), events.PoolBought{Pool: "jakarta", VN: "+" + vn1, Carrier: "sim", Price: "1.15", Currency: "USD", Reason: "low_water"}, time.Now()))
	require.NoError(t, b.AskTopUp(t.Context(), events.TopUp{ID: "1", Pool: "jakarta", Numbers: 5, By: "ana"}, 0))
	news, err := tail.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, news, 2)
	require.WithinDuration(t, time.Now(), news[0].At, time.Minute)
	news[0].At, news[1].At = time.Time{}, time.Time{}
	require.Equal(t, []events.PoolNews{
		{Kind: "bought", Pool: "jakarta", VN: "+" + vn1, Carrier: "sim", Price: "1.15", Currency: "USD", Reason: "low_water"},
		{Kind: "top_up", Pool: "jakarta", Numbers: 5, By: "ana"},
	}, news)
	news, err = tail.Next(t.Context())
	require.NoError(t, err)
	require.Empty(t, news)
}

func TestOfTwoWhoAskAtOnceOneIsHeard(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	_, seq, err := b.LastTopUp(t.Context(), "jakarta")
	require.NoError(t, err)
	require.Zero(t, seq)
	ask := events.TopUp{ID: "1", Pool: "jakarta", Numbers: 5, By: "ana"}
	require.NoError(t, b.AskTopUp(t.Context(), ask, 0))
	require.NoError(t, b.AskTopUp(t.Context(), ask, 0), "the same once more is a repeat")
	other := events.TopUp{ID: "2", Pool: "jakarta", Numbers: 5, By: "ben"}
	require.ErrorIs(t, b.AskTopUp(t.Context(), other, 0), events.ErrAskedSince)
	got, seq, err := b.LastTopUp(t.Context(), "jakarta")
	require.NoError(t, err)
	require.Equal(t, ask, got)
	require.NoError(t, b.AskTopUp(t.Context(), other, seq))

	p, seq, err := b.CarrierPause(t.Context(), "sim")
	require.NoError(t, err)
	require.Equal(t, []any{false, uint64(0)}, []any{p.Paused, seq})
	require.NoError(t, b.PutPause(t.Context(), events.Pause{Carrier: "sim", Paused: true, By: "ana"}, 0))
	require.ErrorIs(t, b.PutPause(t.Context(), events.Pause{Carrier: "sim", By: "ben"}, 0), events.ErrAskedSince)
	p, _, err = b.CarrierPause(t.Context(), "sim")
	require.NoError(t, err)
	require.Equal(t, events.Pause{Carrier: "sim", Paused: true, By: "ana"}, p)
	require.Error(t, b.PutPause(t.Context(), events.Pause{Carrier: "a.b"}, 0))
	require.Error(t, b.AskTopUp(t.Context(), events.TopUp{Pool: "a.b"}, 0))
}

func TestNothingIsTakenOutOfTheAudit(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	for i, outcome := range []string{events.AuditAsked, events.AuditDone} {
		e := events.AuditEntry{ID: "1", Who: "ana", Role: "operator", Action: events.AuditReleaseOrder, Target: "o-1", Outcome: outcome}
		require.NoError(t, b.Audit(t.Context(), e))
		require.NoError(t, b.Audit(t.Context(), e), "a repeat is the same entry")
		trail, err := b.AuditTrail(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, trail, i+1)
		require.WithinDuration(t, time.Now(), trail[0].At, time.Minute)
		e.At = trail[0].At
		require.Equal(t, e, trail[0], "the newest first")
	}
	trail, err := b.AuditTrail(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, trail, 1)
	s, err := client(t, srv).Stream(t.Context(), "AUDIT")
	require.NoError(t, err)
	require.Error(t, s.DeleteMsg(t.Context(), 1))
	require.Error(t, s.Purge(t.Context()))
}
