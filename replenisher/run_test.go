package replenisher

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// clocked makes the world follow the bubble's clock.
func (w *world) clocked(r *Replenisher) {
	r.now = time.Now
	w.now = time.Now()
}

// calls counts the calls of each step.
type calls struct {
	mu sync.Mutex
	of map[string]int
}

func (c *calls) next(step string) fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[step]++
	return fine
}

func (c *calls) count(step string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[step]
}

func running(t *testing.T, r *Replenisher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return func() { cancel(); require.NoError(t, <-ended) }
}

func TestRunFillsAtOnceThenSweepsAndListens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, p := stocked(london)
		seen := &calls{of: map[string]int{}}
		p.next = seen.next
		r := p.start(t, 4)
		w.clocked(r)
		stop := running(t, r)
		synctest.Wait()
		w.settled(t)
		require.Len(t, w.inventory, 5, "the first look does not wait for a sweep")

		<-time.After(time.Second)
		synctest.Wait()
		looks := seen.count("ready")
		for range 1000 { // a burst of orders
			r.handle(t.Context(), events.Message{Data: []byte(`{"order_id":"o","pool":"london"}`)})
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		require.LessOrEqual(t, seen.count("ready")-looks, 2, "triggers of one pool are one look, or two")
		require.Greater(t, seen.count("ready"), looks)

		looks = seen.count("ready")
		<-time.After(100 * time.Second)
		synctest.Wait()
		require.InDelta(t, 20, seen.count("ready")-looks, 4, "two workers, each every 10 s or so")
		stop()
	})
}

// slowShop is a carrier that takes its time to sell.
type slowShop struct {
	numbers

	takes  time.Duration
	begun  chan struct{}
	closed sync.Once
}

func (s *slowShop) wait(ctx context.Context) error {
	s.closed.Do(func() { close(s.begun) })
	select {
	case <-time.After(s.takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestStoppingFinishesThePurchaseUnderWay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		takes, most    time.Duration
		bought, opened int
	}{
		{"in time", 3 * time.Second, 3 * time.Second, 2, 0},
		{"not for ever", time.Hour, 5 * time.Second, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, p := stocked(london)
				r := p.start(t, 2)
				w.clocked(r)
				shop := &slowShop{numbers: numbers{process: p, name: "first"}, takes: tt.takes, begun: make(chan struct{})}
				r.sellers["first"].Numbers = slowBuyer{shop}
				stop := running(t, r)
				<-shop.begun
				synctest.Wait()
				asked := time.Now()
				stop()
				require.Equal(t, tt.most, time.Since(asked))
				require.Len(t, w.inventory, tt.bought)
				// What was under way and cut off stays open. What was not begun is withdrawn,
				// or left to the next start when there was no time for that.
				if tt.opened == 0 {
					w.settled(t)
				} else {
					require.GreaterOrEqual(t, len(w.openIntents()), tt.opened)
				}
			})
		})
	}
}

// slowBuyer is a slowShop whose Buy is what takes time.
type slowBuyer struct{ *slowShop }

func (s slowBuyer) Buy(ctx context.Context, number vn.Number, ref string) (carrier.Bought, error) {
	if err := s.wait(ctx); err != nil {
		return carrier.Bought{}, err
	}
	return s.numbers.Buy(ctx, number, ref)
}

// deafBus cannot consume.
type deafBus struct{ *process }

func (deafBus) Consume(context.Context, events.Consumer, func(context.Context, events.Message) events.Result) error {
	return errors.New("no such stream")
}

func TestRunEndsWhenEventsCannotBeConsumed(t *testing.T) {
	t.Parallel()
	_, p := stocked(london)
	r := p.start(t, 1)
	r.bus = deafBus{p}
	require.ErrorContains(t, r.Run(t.Context()), "no such stream")
}
