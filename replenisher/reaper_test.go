package replenisher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// graves holds ended orders as Redis does: an order that was handed out and is not
// settled comes again 30 s later.
type graves struct {
	mu      sync.Mutex
	due     map[string]time.Time
	fail    error           // of Reap
	failEnd map[string]bool // orders that cannot be made known
	endings int
	running int
	most    int
	slow    time.Duration
	reaps   []time.Time
}

func newGraves(n int) *graves {
	g := &graves{due: map[string]time.Time{}, failEnd: map[string]bool{}}
	for i := range n {
		g.due[fmt.Sprintf("o-%d", i)] = time.Now()
	}
	return g
}

// left and rounds read under the lock what the Reaper goes on to change.
func (g *graves) left() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.due)
}

func (g *graves) rounds() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.reaps)
}

func (g *graves) Reap(context.Context) (ended []scripts.Release, more bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reaps = append(g.reaps, time.Now())
	if g.fail != nil {
		return nil, false, g.fail
	}
	for id, at := range g.due {
		if len(ended) == 50 {
			return ended, true, nil
		}
		if !time.Now().Before(at) {
			ended = append(ended, scripts.Release{OrderID: id, Known: true, Reason: vn.Expired})
			g.due[id] = time.Now().Add(30 * time.Second)
		}
	}
	return ended, false, nil
}

func (g *graves) End(ctx context.Context, r *scripts.Release) error {
	g.mu.Lock()
	g.running++
	g.most = max(g.most, g.running)
	slow := g.slow
	g.mu.Unlock()
	defer func() { g.mu.Lock(); g.running--; g.mu.Unlock() }()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endings++
	if g.failEnd[r.OrderID] {
		return vn.ErrUnavailable
	}
	delete(g.due, r.OrderID)
	return nil
}

func reaping(t *testing.T, g *graves) (*Reaper, func()) {
	t.Helper()
	r, err := NewReaper(ReaperConfig{}, g, g, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() { cancel(); require.NoError(t, <-ended) }
}

func TestTheReaperEndsEveryLeaseInOneRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraves(120)
		r, stop := reaping(t, g)
		synctest.Wait()
		require.Zero(t, g.left(), "again at once while a call was full")
		require.Equal(t, 3, g.rounds())
		require.LessOrEqual(t, g.most, 16)
		require.InDelta(t, 120, testutil.ToFloat64(r.ended), 0)
		<-time.After(3500 * time.Millisecond) // of the bubble: it takes no time
		synctest.Wait()
		require.Equal(t, 6, g.rounds(), "then once a second")
		stop()
	})
}

func TestAnEndThatFailsComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraves(60)
		g.failEnd["o-7"] = true
		r, stop := reaping(t, g)
		synctest.Wait()
		require.Equal(t, 1, g.left(), "one failure holds no other back")
		require.InDelta(t, 1, testutil.ToFloat64(r.failures.WithLabelValues("end")), 0)
		g.mu.Lock()
		g.failEnd["o-7"] = false
		g.mu.Unlock()
		<-time.After(31 * time.Second) // of the bubble: it takes no time
		synctest.Wait()
		require.Zero(t, g.left())
		stop()
	})
}

func TestWithTheLedgerAwayTheReaperTriesOneBatchARound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraves(500)
		for id := range g.due {
			g.failEnd[id] = true
		}
		_, stop := reaping(t, g)
		synctest.Wait()
		require.Equal(t, 50, g.endings)
		stop()
	})
}

func TestTheReaperOutlivesARedisThatIsAway(t *testing.T) {
	t.Parallel()
	for _, away := range []error{vn.ErrUnavailable, vn.ErrCold} {
		synctest.Test(t, func(t *testing.T) {
			g := newGraves(1)
			g.fail = away
			r, stop := reaping(t, g)
			<-time.After(5500 * time.Millisecond) // of the bubble: it takes no time
			synctest.Wait()
			require.Equal(t, 6, g.rounds())
			want := 6.0
			if errors.Is(away, vn.ErrCold) {
				want = 0 // a state, not a failure
			}
			require.InDelta(t, want, testutil.ToFloat64(r.failures.WithLabelValues("reap")), 0)
			g.mu.Lock()
			g.fail = nil
			g.mu.Unlock()
			<-time.After(time.Second) // of the bubble: it takes no time
			synctest.Wait()
			require.Zero(t, g.left())
			stop()
		})
	}
}

func TestTheReaperFinishesWhatItHasBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraves(16)
		g.slow = 3 * time.Second
		_, stop := reaping(t, g)
		synctest.Wait()
		stop()
		require.Zero(t, g.left())
	})
	synctest.Test(t, func(t *testing.T) {
		g := newGraves(16)
		g.slow = time.Hour
		_, stop := reaping(t, g)
		synctest.Wait()
		begun := time.Now()
		stop()
		require.Equal(t, 5*time.Second, time.Since(begun), "but not for ever")
	})
}

func TestWrongReaperSettingsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := NewReaper(ReaperConfig{Every: -1}, nil, nil, prometheus.NewRegistry(), zerolog.Nop())
	require.ErrorContains(t, err, "must not be negative")
	reg := prometheus.NewRegistry()
	_, err = NewReaper(ReaperConfig{}, nil, nil, reg, zerolog.Nop())
	require.NoError(t, err)
	_, err = NewReaper(ReaperConfig{}, nil, nil, reg, zerolog.Nop())
	require.ErrorContains(t, err, "duplicate")
}
