package events_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// What is told of a number at a moment: by the events of stream VN while the ledger has no
// record from before it, by the ledger's otherwise, and honestly when neither goes back far
// enough.
func TestWhoHeldANumberAtAMoment(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	number, _ := vn.ParseDigits(vn1)
	parties := []events.VNParty{{Role: "customer", VN: "+" + vn1}, {Role: "agent", VN: "+" + vn2}}
	stored := func(stream, subject string) time.Time { return last(t, js, stream, subject).Time }
	held := func(at time.Time) events.Held {
		t.Helper()
		h, err := b.HeldAt(t.Context(), number, at, 24*time.Hour)
		require.NoError(t, err)
		return h
	}
	began := time.Now()
	require.Equal(t, events.Held{Known: true}, held(began), "nothing was ever announced")
	assign := func(order string, lease time.Duration) time.Time {
		until := time.Now().Add(lease).UTC().Truncate(time.Millisecond)
		require.NoError(t, b.Assigned(t.Context(), events.VNAssigned{OrderID: order, Pool: "jakarta", Parties: parties, ExpiresAt: until}))
		return until
	}
	assign("o-1", time.Hour)
	assigned := stored("VN", "vn.assigned")
	require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-11", Reason: "completed"}))
	require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-1", Reason: "completed"}))
	released := stored("VN", "vn.released")
	assign("o-2", 30*time.Minute)
	second := stored("VN", "vn.assigned")
	until := assign("o-2", time.Hour) // its lease was moved
	moved := stored("VN", "vn.assigned")

	require.Equal(t, events.Held{Known: true}, held(assigned.Add(-time.Nanosecond)), "before")
	h := held(assigned)
	require.Equal(t, events.Holding{OrderID: "o-1", Pool: "jakarta", Parties: parties, From: assigned, Until: released, Reason: "completed"}, *h.Holding)
	require.Equal(t, "customer", h.Holding.Role(number))
	require.Nil(t, held(released).Holding, "between the two")
	h = held(moved)
	require.Equal(t, events.Holding{OrderID: "o-2", Pool: "jakarta", Parties: parties, From: second, Until: until}, *h.Holding)
	require.Nil(t, held(until).Holding, "a lease that has run out holds nothing")

	// The ledger has a record from before: it is asked alone.
	rec := events.Record{
		Kind: events.KindAssigned, VN: vn1, Pool: "jakarta", Carrier: "sim", OrderID: "o-3", ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Second),
		Roles: []string{"customer", "agent"}, VNs: []string{vn1, vn2},
	}
	seqs, _, err := b.Record(t.Context(), rec)
	require.NoError(t, err)
	at := stored("LEDGER", "ledger.vn."+vn1)
	h = held(at)
	require.Equal(t, events.Holding{OrderID: "o-3", Pool: "jakarta", Parties: parties, From: at, Until: rec.ExpiresAt}, *h.Holding)
	got, ok, err := b.AssignedRecord(t.Context(), number, "o-3")
	require.NoError(t, err)
	require.Equal(t, []any{true, "o-3"}, []any{ok, got.OrderID})
	end := events.Record{
		Kind: events.KindReleased, VN: vn1, Pool: "jakarta", Carrier: "sim", OrderID: "o-3", Reason: "completed", EndedAt: time.Now(), After: seqs[0],
	}
	_, _, err = b.Record(t.Context(), end)
	require.NoError(t, err)
	require.Equal(t, events.Held{Known: true}, held(stored("LEDGER", "ledger.vn."+vn1)))
	_, ok, err = b.AssignedRecord(t.Context(), number, "o-3")
	require.NoError(t, err)
	require.False(t, ok, "its end has replaced it")

	// What is older than the streams nobody can tell.
	s, err := js.Stream(t.Context(), "VN")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeKeep(1)))
	h = held(released)
	require.False(t, h.Known)
	require.Nil(t, h.Holding)
	require.Equal(t, moved.Add(24*time.Hour).UTC(), h.Since)
	h = held(moved)
	require.True(t, h.Known, "whoever is found held it")
	require.Equal(t, "o-2", h.Holding.OrderID)
}
