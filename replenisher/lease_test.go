package replenisher

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
)

// others returns a further process of the world.
func (w *world) others(t *testing.T) (*process, *Replenisher) {
	t.Helper()
	p := &process{w: w}
	return p, p.start(t, 1)
}

func acting(r *Replenisher) float64 {
	return testutil.ToFloat64(r.metrics.acting.WithLabelValues("london"))
}

func TestOneProcessActsUntilItIsGone(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	first := p.start(t, 1)
	_, second := w.others(t)
	look(t, first, "london")
	require.Len(t, w.inventory, 5)
	for n := range w.inventory {
		w.leased[n] = true
	}
	look(t, second, "london")
	require.Len(t, w.inventory, 5, "the pool needs more, and the first one buys")
	require.Equal(t, []float64{1, 0}, []float64{acting(first), acting(second)})

	w.advance(14 * time.Second) // nothing heard of the first: not yet
	look(t, second, "london")
	require.Len(t, w.inventory, 5)
	w.advance(time.Second)
	look(t, second, "london")
	require.Len(t, w.inventory, 8)
	require.InDelta(t, 1, acting(second), 0)

	look(t, first, "london") // it finds out
	require.InDelta(t, 0, acting(first), 0)
	require.NoError(t, second.workers["london"].lease.giveUp(t.Context()))
	look(t, first, "london")
	require.InDelta(t, 1, acting(first), 0, "given up: at once")
	w.settled(t)
}

func TestARenewedLeaseIsTheSameTerm(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 1)
	look(t, r, "london")
	l := r.workers["london"].lease
	term := l.term()
	w.advance(time.Minute) // long over, and nobody took it
	require.False(t, l.held())
	require.NoError(t, l.sure(t.Context()))
	require.True(t, l.held())
	require.Equal(t, term, l.term())
	w.advance(13 * time.Second) // others may take it in 2 s: not without asking any more
	require.False(t, l.held())

	w.lease("london", events.Lease{Owner: "other", Until: w.now.Add(time.Minute)})
	require.ErrorIs(t, l.sure(t.Context()), errDeposed)
	require.ErrorIs(t, l.renew(t.Context()), errDeposed)
	require.NoError(t, l.giveUp(t.Context()), "there is nothing to give up")
	require.Equal(t, "other", w.leases["london"].Owner)
}

func TestAWriteWhoseAnswerWasLostIsOursAllTheSame(t *testing.T) {
	t.Parallel()
	for _, f := range []fate{lost, unheard} {
		w, p := stocked(london)
		r := p.start(t, 1)
		p.next = oneShot("hold", 1, f)
		require.Error(t, r.look(t.Context(), r.workers["london"]))
		require.Empty(t, w.inventory)
		look(t, r, "london")
		require.Len(t, w.inventory, 5, "no other process: there is nothing to wait for")

		// The same for a renewal, which the next intents then name.
		p.next = oneShot("hold", 1, f)
		require.Error(t, r.workers["london"].lease.renew(t.Context()))
		for n := range w.inventory {
			w.leased[n] = true
		}
		look(t, r, "london")
		require.Len(t, w.inventory, 8)
	}
}

func TestAWrongClockDelaysATakeOverOnce(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	w.lease("london", events.Lease{Owner: "of the future", Until: w.now.Add(1000 * time.Hour)})
	r := p.start(t, 1)
	for range 2 {
		look(t, r, "london")
		require.Empty(t, w.inventory)
		w.advance(8 * time.Second)
	}
	look(t, r, "london")
	require.Len(t, w.inventory, 5)
}

// TestADeposedProcessBuysNothing takes the lease away before each call of a look in
// turn. What the process had begun is left to the one that acts now.
func TestADeposedProcessBuysNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"search", "inventory", "intent", "buy", "configure", "own", "announce", "close"} {
		w, p := stocked(london)
		r := p.start(t, 1)
		deposed := false
		p.next = func(s string) fate {
			if s == step && !deposed {
				deposed = true
				w.mu.Lock()
				w.lease("london", events.Lease{Owner: "other", Until: w.now.Add(time.Minute)})
				w.now = w.now.Add(13 * time.Second)
				w.mu.Unlock()
			}
			return fine
		}
		err := r.look(t.Context(), r.workers["london"])
		require.ErrorIs(t, err, errDeposed, step)
		switch step {
		case "search", "inventory", "intent":
			require.Zero(t, w.shops["first"].bought, step)
		case "buy", "configure", "own", "announce":
			require.Equal(t, 1, w.shops["first"].bought, "%s: one was under way", step)
		}
		_, next := w.others(t)
		for range 4 {
			w.advance(time.Minute)
			look(t, next, "london")
		}
		w.settled(t)
		free, _, _ := w.level("london")
		require.Equal(t, 5, free, step)
	}
}

// TestAProcessThatStoodStillBuysNothingTwice stops a process before each of its calls
// in turn, lets another one take over and do all that is needed, and then lets the
// first one go on: its clock tells it nothing, only the stream does.
func TestAProcessThatStoodStillBuysNothingTwice(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"stock", "intents", "search", "inventory", "intent", "buy", "configure", "own", "announce", "close"} {
		for n := 1; n <= 6; n++ {
			w, p := stocked(london)
			slices.Reverse(w.shops["first"].forSale) // the other one is offered other numbers
			r := p.start(t, 1)
			_, other := w.others(t)
			still := oneShot(step, n, lost) // any fate but fine: it tells when
			p.next = func(s string) fate {
				if still(s) == lost {
					w.mu.Lock()
					slices.Reverse(w.shops["first"].forSale)
					w.lease("london", events.Lease{Owner: "thief"})
					w.mu.Unlock()
					look(t, other, "london")
				}
				return fine
			}
			_ = r.look(t.Context(), r.workers["london"])
			require.LessOrEqual(t, len(w.inventory), 5, "%s %d", step, n)
			for range 4 {
				w.advance(time.Minute)
				look(t, other, "london")
			}
			w.settled(t)
			require.Len(t, w.inventory, 5, "%s %d", step, n)
		}
	}
}

func TestIntentsOfAForgottenPoolNeedItsLease(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	w.put(events.PurchaseIntent{VN: "447700900999", Pool: "gone", Carrier: "first", At: w.now.Add(-time.Hour)})
	w.lease("gone", events.Lease{Owner: "knows it", Until: w.now.Add(time.Minute)})
	r := p.start(t, 1)
	for range 3 {
		look(t, r, unknownPool)
	}
	require.Len(t, w.openIntents(), 1, "another process still knows the pool")
	for range 4 {
		w.advance(time.Minute)
		look(t, r, unknownPool)
	}
	w.settled(t)
	require.True(t, w.leases["gone"].Until.IsZero(), "its lease is given up")
}

func TestTheLeaseIsKeptDuringALongPurchaseAndGivenUpAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, p := stocked(london)
		r := p.start(t, 4)
		w.clocked(r)
		shop := &slowShop{numbers: numbers{process: p, name: "first"}, takes: 25 * time.Second, begun: make(chan struct{})}
		r.sellers["first"].Numbers = slowBuyer{shop}
		stop := running(t, r)
		<-shop.begun
		for range 4 {
			<-time.After(6 * time.Second)
			w.mu.Lock()
			require.Greater(t, time.Until(w.leases["london"].Until), 9*time.Second)
			w.mu.Unlock()
			require.InDelta(t, 1, acting(r), 0)
		}
		<-time.After(time.Minute)
		stop()
		require.True(t, w.leases["london"].Until.IsZero())
		require.InDelta(t, 0, acting(r), 0)
		w.settled(t)
	})
}

func TestALeaseGivenUpWakesTheOthers(t *testing.T) {
	t.Parallel()
	_, p := stocked(london)
	r := p.start(t, 1)
	hear := func(data string) {
		require.Equal(t, "done", r.handle(t.Context(), events.Message{Subject: "ledger.lease.london", Data: []byte(data)}).String())
	}
	hear(`{"owner":"a","until":"2026-01-01T00:00:00Z"}`)
	hear(`{"owner`)
	require.Empty(t, r.workers["london"].wake)
	hear(`{"owner":"a"}`)
	require.Len(t, r.workers["london"].wake, 1)
}

// busyBus refuses the first writes as a replicated stream does while another is under way.
type busyBus struct {
	*process

	refuse int
}

func (b *busyBus) Intent(ctx context.Context, in events.PurchaseIntent) error {
	if b.refuse--; b.refuse >= 0 {
		return errors.Join(errors.New("wrong last sequence"), events.ErrFenced)
	}
	return b.process.Intent(ctx, in)
}

func TestARefusalWithoutANewRecordIsTriedAgain(t *testing.T) {
	t.Parallel()
	w, p := stocked(london)
	r := p.start(t, 1)
	r.bus = &busyBus{process: p, refuse: 3}
	look(t, r, "london")
	w.settled(t)
	require.Len(t, w.inventory, 5)
}
