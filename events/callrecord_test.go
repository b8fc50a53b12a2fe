package events_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

var callTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func status(leg vn.Leg, s vn.LegStatus, after time.Duration, seconds int) events.CallStatus {
	return events.CallStatus{
		Carrier: "twilio", CallID: "CA1", OrderID: "o-1", Leg: leg.String(), Status: s.String(),
		At: callTime.Add(after), DurationS: seconds,
	}
}

type callEvent struct {
	subject string
	payload any
}

func TestARecordIsTheSameInWhateverOrderItsEventsCome(t *testing.T) {
	t.Parallel()
	all := []callEvent{
		{events.SubjectDecided, events.CallDecided{Carrier: "twilio", CallID: "CA1", OrderID: "o-1", VN: "+12025550101", Reason: "connected", At: callTime}},
		{events.SubjectDecided, events.CallDecided{Carrier: "twilio", CallID: "CA1", Reason: "unavailable", At: callTime.Add(-time.Second)}},
		{events.SubjectStatus, status(vn.CallerLeg, vn.LegAnswered, time.Second, 0)},
		{events.SubjectStatus, status(vn.CalleeLeg, vn.LegRinging, 2*time.Second, 0)},
		{events.SubjectStatus, status(vn.CalleeLeg, vn.LegAnswered, 5*time.Second, 0)},
		{events.SubjectStatus, status(vn.CalleeLeg, vn.LegCompleted, 65*time.Second, 60)},
		{events.SubjectStatus, status(vn.CalleeLeg, vn.LegCompleted, 67*time.Second, 0)}, // told twice, once without the duration
		{events.SubjectStatus, status(vn.CalleeLeg, vn.LegNoAnswer, 64*time.Second, 0)},  // and in another word
		{events.SubjectStatus, status(vn.CallerLeg, vn.LegCompleted, 66*time.Second, 65)},
	}
	want := events.CallRecord{
		Carrier: "twilio", CallID: "CA1", OrderID: "o-1", VN: "+12025550101", Reason: "connected", DecidedAt: callTime,
		Connected: true, Outcome: "completed", AnsweredAt: callTime.Add(5 * time.Second), EndedAt: callTime.Add(65 * time.Second), DurationS: 60,
	}
	rapid.Check(t, func(t *rapid.T) {
		var got events.CallRecord
		shuffled := rapid.Permutation(append(all, rapid.SliceOfN(rapid.SampledFrom(all), 0, 5).Draw(t, "repeats")...)).Draw(t, "events")
		for _, e := range shuffled {
			data, err := json.Marshal(e.payload)
			require.NoError(t, err)
			require.NoError(t, got.Add(e.subject, data))
		}
		require.Equal(t, want, got)
	})
}

func TestConnectedMeansThatTheCalleeAnswered(t *testing.T) {
	t.Parallel()
	for _, s := range []vn.LegStatus{vn.LegBusy, vn.LegNoAnswer, vn.LegCancelled, vn.LegFailed} {
		var r events.CallRecord
		for _, e := range []events.CallStatus{
			status(vn.CallerLeg, vn.LegAnswered, 0, 0), status(vn.CalleeLeg, s, time.Second, 0), status(vn.CallerLeg, vn.LegCompleted, 0, 9),
		} {
			data, err := json.Marshal(e)
			require.NoError(t, err)
			require.NoError(t, r.Add(events.SubjectStatus, data))
		}
		require.False(t, r.Connected)
		require.Equal(t, s.String(), r.Outcome)
		require.Zero(t, r.DurationS)
	}
	var r events.CallRecord
	require.Error(t, r.Add("pools.low", []byte(`{}`)))
	require.Error(t, r.Add(events.SubjectStatus, []byte(`{`)))
	require.Error(t, r.Add(events.SubjectDecided, []byte(`[]`)))
}

func TestCallsAreReadBackAsRecords(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	for _, id := range []string{"CA1", "CA2", ""} {
		b.Decided(&events.Decision{Carrier: "twilio", CallID: []byte(id), VN: 12025550101, OrderID: []byte("o-1"), At: callTime})
	}
	s := status(vn.CalleeLeg, vn.LegCompleted, time.Minute, 42)
	b.Status(&s)
	b.Status(&s) // told twice
	b.Message(&events.MessageDecided{Carrier: "twilio", MessageID: "SM1", Verdict: "relayed"})
	b.Message(&events.MessageDecided{Carrier: "twilio", MessageID: "SM1", Verdict: "relayed"})
	require.Eventually(t, func() bool { return count(t, js, "CALLS") == 5 }, within, tick)

	calls, err := b.Calls(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Len(t, calls, 2)
	require.Equal(t, "CA1", calls[0].CallID)
	require.True(t, calls[0].Connected)
	require.Equal(t, 42, calls[0].DurationS)
	require.Equal(t, "connected", calls[0].Reason)
	require.Equal(t, "CA2", calls[1].CallID)
	require.False(t, calls[1].Connected, "put through, and nobody told of an answer")
	calls, err = b.Calls(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, calls)
}
