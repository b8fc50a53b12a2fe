package audit_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

func TestRedisAndLedgerAgreeThroughAnOrdersLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	a := w.auditor()
	calm := func(records, inFlight int) {
		t.Helper()
		r := w.round(a)
		require.Empty(t, r.Redis.Problems)
		require.Empty(t, r.Differences)
		require.Empty(t, r.History)
		require.Equal(t, records, r.Records)
		require.Equal(t, 8, r.Redis.VNs)
		require.Equal(t, inFlight, r.InFlight)
	}
	calm(8, 0)
	first := w.order("o-1", time.Hour)
	calm(8, 0)
	half := w.allocate("o-2", time.Hour) // its allocator has died before the ledger heard of it
	calm(8, 2)
	require.NoError(t, w.ledger.Assign(t.Context(), &half))
	w.end("o-1")
	_, err := w.store.Release(t.Context(), "o-2", vn.Cancelled) // nor has the ledger heard of this end
	require.NoError(t, err)
	calm(8, 2)
	_, err = w.ledger.Retire(t.Context(), pool, first.Numbers[0].VN)
	require.NoError(t, err)
	r := w.round(a)
	require.Empty(t, r.Differences)
	require.Equal(t, 7, r.Redis.VNs)

	fresh := w.round(w.auditor()) // one that has seen nothing of it
	require.Empty(t, fresh.Differences)
	require.Empty(t, fresh.History)
}

// TestEveryDifferenceIsFound breaks Redis behind everybody's back, one way at a time.
func TestEveryDifferenceIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 40)
	ctx := t.Context()
	inventory, free := key("inventory"), key("free:%s:%s", pool, carrier)
	number := func(id string) (vn.Number, string) {
		n := w.order(id, time.Hour).Numbers[0].VN
		return n, n.Digits()
	}
	want := map[vn.Number]audit.DifferenceKind{}

	missing, digits := vnOf(0), vnOf(0).Digits()
	require.NoError(t, w.redis.HDel(ctx, inventory, digits).Err())
	require.NoError(t, w.redis.SRem(ctx, free, digits).Err())
	want[missing] = audit.Missing

	require.NoError(t, w.redis.HSet(ctx, inventory, "447700909001", "london sim 3 ").Err())
	want[447700909001] = audit.Unrecorded

	gone := w.redis.SRandMember(ctx, free).Val()
	goneVN, _ := vn.ParseDigits(gone)
	entry := w.redis.HGet(ctx, inventory, gone).Val()
	_, err := w.ledger.Retire(ctx, pool, goneVN)
	require.NoError(t, err)
	require.NoError(t, w.redis.HSet(ctx, inventory, gone, entry).Err())
	want[goneVN] = audit.Gone

	elsewhere, digits := number("o-elsewhere")
	require.NoError(t, w.redis.HSet(ctx, inventory, digits, "paris sim 99 ").Err())
	want[elsewhere] = audit.Elsewhere

	lost := w.order("o-lost", time.Hour)
	require.NoError(t, w.redis.Del(ctx, key("order:o-lost")).Err())
	for _, n := range lost.Numbers {
		want[n.VN] = audit.Lost
	}

	taken := w.order("o-first", time.Hour)
	require.NoError(t, w.redis.Copy(ctx, key("order:o-first"), key("order:o-second"), 0, false).Err())
	require.NoError(t, w.redis.Del(ctx, key("order:o-first")).Err())
	for _, n := range taken.Numbers {
		want[n.VN] = audit.Taken
	}

	revived := w.order("o-over", time.Hour)
	require.NoError(t, w.redis.Copy(ctx, key("order:o-over"), key("kept"), 0, false).Err())
	w.end("o-over")
	require.NoError(t, w.redis.Copy(ctx, key("kept"), key("order:o-over"), 0, true).Err())
	for _, n := range revived.Numbers {
		want[n.VN] = audit.Revived
	}

	behind, digits := number("o-behind")
	require.NoError(t, w.redis.HSet(ctx, inventory, digits, "london sim 1 ").Err())
	want[behind] = audit.Behind

	ahead, digits := number("o-ahead")
	require.NoError(t, w.redis.HSet(ctx, inventory, digits, "london sim 999999 ").Err())
	want[ahead] = audit.Ahead

	a := w.auditor()
	r := w.round(a)
	require.Equal(t, want, kinds(&r))
	require.Equal(t, 3, r.Violations()[audit.Durable])
	for _, d := range r.Differences {
		require.NotEmpty(t, d.Redis)
		require.NotEmpty(t, d.Ledger)
		require.NotEmpty(t, d.Repair)
		require.NotContains(t, d.Redis+d.Ledger+d.Repair, "447700")
	}
	again := w.round(a)
	require.Equal(t, want, kinds(&again), "later rounds find what is still so")
}

// TestWhatIsInFlightIsNoDifference audits beside traffic that takes every step of an order and
// of a number as fast as it can.
func TestWhatIsInFlightIsNoDifference(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 60)
	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	for worker := range 3 {
		traffic.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := "o-" + strconv.Itoa(worker) + "-" + strconv.Itoa(i)
				w.order(id, time.Millisecond)
				w.end(id)
			}
		})
	}
	traffic.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			free, err := w.store.SomeFree(t.Context(), pool, carrier, 1)
			if err == nil && len(free) == 1 {
				if d, err := w.ledger.RetireFree(t.Context(), pool, free[0]); err == nil && d.Left {
					_, err = w.ledger.Own(t.Context(), pool, carrier, owned(free[0]))
					require.NoError(t, err)
				}
			}
		}
	})
	a := audit.New(audit.Config{Patience: 200 * time.Millisecond}, w.store, w.bus)
	inFlight := 0
	for range 8 {
		r := w.round(a)
		require.Empty(t, r.Redis.Problems)
		require.Empty(t, r.Differences)
		require.Empty(t, r.History)
		inFlight += r.InFlight
	}
	stop()
	traffic.Wait()
	require.Positive(t, inFlight, "there were changes in flight")
	require.Zero(t, w.round(a).InFlight)
}

// TestWhatTheStreamsTellIsAudited pins that announcements, calls, records and intents of the
// real streams reach the rules.
func TestWhatTheStreamsTellIsAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	a := w.order("o-1", time.Hour)
	now := time.Now()
	decided := func(id string, n vn.Number, at time.Time) {
		w.bus.Decided(&events.Decision{Carrier: carrier, OrderID: []byte(id), VN: n, Reason: vn.Connected, At: at})
	}
	stranger := vnOf(0)
	for i := 0; stranger == a.Numbers[0].VN || stranger == a.Numbers[1].VN; i++ {
		stranger = vnOf(i)
	}
	decided("o-1", a.Numbers[0].VN, now)
	decided("o-1", stranger, now)
	decided("o-1", a.Numbers[1].VN, now.Add(2*time.Hour))
	require.NoError(t, w.bus.Assigned(t.Context(), events.VNAssigned{
		OrderID: "o-2", Pool: pool, ExpiresAt: now.Add(time.Hour), Parties: []events.VNParty{{Role: "customer", VN: a.Numbers[0].VN.E164()}},
	}))
	require.NoError(t, w.bus.Intent(t.Context(), events.PurchaseIntent{VN: "447700909001", Pool: pool, Carrier: carrier, At: now}))
	for _, bought := range []string{"447700909001", "447700909002"} { // the second one has no intent
		_, refused, err := w.bus.Record(t.Context(), events.Record{Kind: events.KindOwned, VN: bought, Pool: pool, Carrier: carrier, Ref: "PN1"})
		require.NoError(t, err)
		require.Empty(t, refused)
	}
	for i, kind := range []string{events.KindAssigned, events.KindAssigned} { // the second one takes the first one's
		_, seq, err := w.bus.LastRecord(t.Context(), stranger)
		require.NoError(t, err)
		_, refused, err := w.bus.Record(t.Context(), events.Record{
			Kind: kind, VN: stranger.Digits(), Pool: pool, Carrier: carrier, OrderID: "o-" + strconv.Itoa(10+i), ExpiresAt: now.Add(time.Hour), After: seq,
		})
		require.NoError(t, err)
		require.Empty(t, refused)
	}
	auditor := audit.New(audit.Config{Patience: time.Millisecond, Terms: audit.Terms{Late: 20 * time.Millisecond}}, w.store, w.bus)
	found := map[audit.Invariant]int{}
	require.Eventually(t, func() bool {
		for _, v := range w.round(auditor).History {
			found[v.Invariant]++
		}
		return found[audit.NoMisroute] == 2 && found[audit.Money] == 1
	}, 10*time.Second, 50*time.Millisecond, "%v", found)
	require.Equal(t, 1, found[audit.Exclusive], "the announcement; of the two records only the last was left to be read")
}

// TestTheLedgerIsJudgedAsItIsWritten pins what a test of faults does: whoever reads the ledger
// while it is written judges nearly every record by the one that it follows.
func TestTheLedgerIsJudgedAsItIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	history, mark := audit.NewHistory(audit.Terms{}), events.Mark{}
	read := func() []audit.Violation {
		t.Helper()
		var err error
		mark, err = w.bus.RecordsFrom(t.Context(), mark, func(r *events.Record, seq uint64, stored time.Time) error {
			e, ok := audit.OfRecord(r, seq, stored)
			require.True(t, ok)
			history.See(&e)
			return nil
		})
		require.NoError(t, err)
		return history.Settle(time.Now())
	}
	for i := range 5 {
		id := "o-" + strconv.Itoa(i)
		w.order(id, time.Millisecond)
		require.Empty(t, read())
		w.end(id)
		require.Empty(t, read())
	}
	require.Zero(t, history.Unjudged())
	held := w.order("o-held", time.Hour).Numbers[0].VN
	require.Empty(t, read())

	steal := func(order string) {
		t.Helper()
		last, seq, err := w.bus.LastRecord(t.Context(), held)
		require.NoError(t, err)
		last.OrderID, last.After = order, seq
		_, refused, err := w.bus.Record(t.Context(), last)
		require.NoError(t, err)
		require.Empty(t, refused)
	}
	steal("o-thief")
	found := read()
	require.Len(t, found, 1)
	require.Equal(t, audit.Exclusive, found[0].Invariant)
	require.Equal(t, held, found[0].VN)
	steal("o-second")
	steal("o-third") // what it was taken from is gone
	require.Empty(t, read())
	require.Equal(t, 1, history.Unjudged())
}
