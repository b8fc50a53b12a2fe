package events_test

import (
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

func TestARecordIsTheSameInWhateverOrderItsEventsCome(t *testing.T) {
	t.Parallel()
	words := []string{"ringing", "answered", "completed", "busy", "no_answer", "cancelled", "failed", "unheard of"}
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Custom(func(t *rapid.T) time.Time {
			return callTime.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "s")) * time.Second)
		})
		decided := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.CallDecided {
			return events.CallDecided{
				Carrier: "twilio", CallID: "CA1", OrderID: rapid.SampledFrom([]string{"o-1", "o-2"}).Draw(t, "order"),
				Reason: rapid.SampledFrom([]string{"connected", "unavailable", "order_ended"}).Draw(t, "reason"), At: at.Draw(t, "at"),
			}
		}), 0, 4).Draw(t, "decided")
		told := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.CallStatus {
			return events.CallStatus{
				Carrier: "twilio", CallID: "CA1", OrderID: rapid.SampledFrom([]string{"", "o-1", "o-3"}).Draw(t, "order"),
				Leg: rapid.SampledFrom([]string{"caller", "callee"}).Draw(t, "leg"), Status: rapid.SampledFrom(words).Draw(t, "status"),
				Cause: rapid.SampledFrom([]string{"", "486", "busy"}).Draw(t, "cause"), DurationS: rapid.IntRange(0, 2).Draw(t, "duration"), At: at.Draw(t, "at"),
			}
		}), 0, 8).Draw(t, "told")
		want := events.FoldCall(decided, told)
		shuffled := rapid.Permutation(append(told, rapid.SliceOfN(rapid.SampledFrom(append(told, events.CallStatus{Carrier: "twilio", CallID: "CA1", Leg: "caller"})), 0, 3).Draw(t, "repeats")...)).Draw(t, "order")
		if len(decided)+len(told) > 0 {
			require.Equal(t, want, events.FoldCall(rapid.Permutation(decided).Draw(t, "decisions"), shuffled))
		}
		if want.Connected && want.Outcome != "" {
			require.Equal(t, "completed", want.Outcome)
		}
	})
}

func TestARecordSaysWhatBecameOfACall(t *testing.T) {
	t.Parallel()
	decided := []events.CallDecided{
		{Carrier: "twilio", CallID: "CA1", Reason: "unavailable", At: callTime.Add(-time.Second)},
		{Carrier: "twilio", CallID: "CA1", OrderID: "o-1", VN: "+12025550101", Reason: "connected", At: callTime},
		{Carrier: "twilio", CallID: "CA1", OrderID: "o-1", VN: "+12025550101", Reason: "connected", At: callTime.Add(time.Minute)},
	}
	told := []events.CallStatus{
		status(vn.CallerLeg, vn.LegAnswered, time.Second, 0),
		status(vn.CalleeLeg, vn.LegRinging, 2*time.Second, 0),
		status(vn.CalleeLeg, vn.LegAnswered, 5*time.Second, 0),
		status(vn.CalleeLeg, vn.LegNoAnswer, 64*time.Second, 0), // in another word
		status(vn.CalleeLeg, vn.LegCompleted, 65*time.Second, 60),
		status(vn.CalleeLeg, vn.LegCompleted, 67*time.Second, 0), // told twice, once without the duration
		status(vn.CallerLeg, vn.LegCompleted, 66*time.Second, 65),
	}
	require.Equal(t, events.CallRecord{
		Carrier: "twilio", CallID: "CA1", OrderID: "o-1", VN: "+12025550101", Reason: "connected", DecidedAt: callTime,
		Connected: true, Outcome: "completed", AnsweredAt: callTime.Add(5 * time.Second), EndedAt: callTime.Add(65 * time.Second), DurationS: 60,
	}, events.FoldCall(decided, told))
}

func TestConnectedMeansThatTheCalleeAnswered(t *testing.T) {
	t.Parallel()
	for _, s := range []vn.LegStatus{vn.LegBusy, vn.LegNoAnswer, vn.LegCancelled, vn.LegFailed} {
		r := events.FoldCall(nil, []events.CallStatus{
			status(vn.CallerLeg, vn.LegAnswered, 0, 0), status(vn.CalleeLeg, s, time.Second, 0), status(vn.CallerLeg, vn.LegCompleted, 0, 9),
		})
		require.False(t, r.Connected)
		require.Equal(t, s.String(), r.Outcome)
		require.Zero(t, r.DurationS)
	}
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

	_, err := js.Publish(t.Context(), "calls.status", []byte("not JSON"))
	require.NoError(t, err)
	calls, unreadable, err := b.Calls(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, 1, unreadable)
	require.Len(t, calls, 2)
	require.Equal(t, "CA1", calls[0].CallID)
	require.True(t, calls[0].Connected)
	require.Equal(t, 42, calls[0].DurationS)
	require.Equal(t, "connected", calls[0].Reason)
	require.Equal(t, "CA2", calls[1].CallID)
	require.False(t, calls[1].Connected, "put through, and nobody told of an answer")
	calls, _, err = b.Calls(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, calls)
}
