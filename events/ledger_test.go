package events_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

func assignedRecord(order, number string, end time.Time) events.Record {
	return events.Record{
		Kind: events.KindAssigned, VN: number, Pool: "jakarta", Carrier: "sim", Ref: "ref-1", OrderID: order,
		ExpiresAt: end, Cooldown: 10 * time.Minute, KeyID: 7, Party: 1, Roles: []string{"customer", "agent"},
		VNs: []string{vn2, number}, Tokens: [][]byte{{1, 2}, {3, 4}}, Sealed: [][]byte{{5, 6}, nil},
	}
}

func TestAFreshLedgerHasSequenceZeroAndNoRecord(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	seq, err := b.LedgerLastSeq(t.Context())
	require.NoError(t, err)
	require.Zero(t, seq)
	rec, seq, err := b.LastRecord(t.Context(), 12025550150)
	require.NoError(t, err)
	require.Zero(t, seq)
	require.Equal(t, events.Record{}, rec)
}

func TestLastRecordReturnsWhatWasRecordedLast(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	want := assignedRecord("o-1", vn1, end)
	require.EqualValues(t, 1, record(t, b, events.Record{Kind: events.KindOwned, VN: vn1, Pool: "jakarta", Carrier: "sim"}))
	want.After = 1
	require.EqualValues(t, 2, record(t, b, want))
	want.After = 0 // it is not kept

	got, seq, err := b.LastRecord(t.Context(), 12025550150)
	require.NoError(t, err)
	require.EqualValues(t, 2, seq)
	require.Equal(t, want, got)

	msg := last(t, client(t, srv), "LEDGER", "ledger.vn."+vn1)
	require.Contains(t, string(msg.Data), `"cooldown":"10m0s"`)
	require.EqualValues(t, 1, count(t, client(t, srv), "LEDGER"), "the ledger keeps the last record only")
	seq, err = b.LedgerLastSeq(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, seq)
}

// record writes one record, which must be stored.
func record(t *testing.T, b *events.Bus, r events.Record) uint64 {
	t.Helper()
	seqs, refused, err := b.Record(t.Context(), r)
	require.NoError(t, err)
	require.Empty(t, refused)
	return seqs[0]
}

// The fence: a record is stored only behind the one that it follows, so of two that
// follow the same one wins, and what is late changes nothing.
func TestARecordIsStoredOnlyBehindTheOneThatItFollows(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	refuses := func(r events.Record) {
		t.Helper()
		before, seq, err := b.LastRecord(t.Context(), 12025550150)
		require.NoError(t, err)
		seqs, refused, err := b.Record(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, []int{0}, refused)
		require.Equal(t, []uint64{0}, seqs)
		after, now, err := b.LastRecord(t.Context(), 12025550150)
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.Equal(t, seq, now)
	}
	assigned := assignedRecord("o-1", vn1, time.Now().Add(time.Hour))
	assigned.After = 1
	refuses(assigned)
	assigned.After = 0
	first := record(t, b, assigned)
	refuses(assigned) // the repeat of one's own
	other := assignedRecord("o-2", vn1, time.Now().Add(time.Hour))
	refuses(other)
	released := events.Record{Kind: events.KindReleased, VN: vn1, OrderID: "o-1", Reason: "completed", EndedAt: time.Now(), After: first}
	second := record(t, b, released)
	refuses(assigned)
	other.After = second
	record(t, b, other)
	refuses(released)
}

func TestOneOfManyWritersOfANumberWins(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	const writers, rounds = 8, 20
	after := uint64(0)
	for round := range rounds {
		var group sync.WaitGroup
		won := make(chan uint64, writers)
		for w := range writers {
			group.Go(func() {
				r := assignedRecord(fmt.Sprintf("o-%d-%d", round, w), vn1, time.Now().Add(time.Hour))
				r.After = after
				seqs, refused, err := b.Record(t.Context(), r)
				if err != nil {
					t.Error(err)
				}
				if len(refused) == 0 {
					won <- seqs[0]
				}
			})
		}
		group.Wait()
		require.Len(t, won, 1)
		after = <-won
	}
}

func TestRecordsOfManyCallersAreAllAcknowledged(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	const callers, each, numbers = 16, 20, 4
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			after := make([]uint64, numbers)
			for i := range each {
				recs := make([]events.Record, numbers)
				for n := range recs {
					recs[n] = assignedRecord(fmt.Sprintf("o-%d-%d", c, i), fmt.Sprintf("1202555%02d%02d", c, n+10), time.Now().Add(time.Hour))
					recs[n].After = after[n]
				}
				seqs, _, err := b.Record(t.Context(), recs...)
				if err != nil {
					t.Error(err)
					return
				}
				after = seqs
				mu.Lock()
				for _, s := range seqs {
					seen[s] = true
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	require.Len(t, seen, callers*each*numbers)
	require.False(t, seen[0])
	got := make(map[string]string)
	require.NoError(t, b.Records(t.Context(), func(rec events.Record, seq uint64) error {
		require.True(t, seen[seq])
		got[rec.VN] = rec.OrderID
		return nil
	}))
	require.Len(t, got, callers*numbers)
	require.Equal(t, "o-3-19", got["12025550310"])
	stop := errors.New("stop")
	require.ErrorIs(t, b.Records(t.Context(), func(events.Record, uint64) error { return stop }), stop)
}

func TestARecordWithoutANumberIsRefused(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	for _, number := range []string{"", "*", ">", "+" + vn1, "1.2", "123"} {
		_, _, err := b.Record(t.Context(), events.Record{Kind: events.KindOwned, VN: number})
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, number)
	}
	seqs, _, err := b.Record(t.Context())
	require.NoError(t, err)
	require.Empty(t, seqs)
}
