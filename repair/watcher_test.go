package repair

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const number vn.Number = 12025550150

// world is a Store, a Restorer and a Bus of which the test says what they answer.
type world struct {
	mu       sync.Mutex
	servers  []scripts.PartitionServer
	last     uint64 // sequence of the ledger
	fail     error  // of Replay
	busy     []vn.Number
	status   []scripts.RestoreStatus // of one Restore after the other, then RestoreDone
	replays  []replayed
	restores []restored
}

type replayed struct {
	partitions []int
	cold       bool
}

type restored struct {
	at   time.Time
	idle bool
}

func (w *world) Servers(context.Context) ([]scripts.PartitionServer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]scripts.PartitionServer(nil), w.servers...), nil
}

func (w *world) MarkWhole(_ context.Context, servers []scripts.PartitionServer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range servers {
		w.servers[s.Partition].WholeOn, w.servers[s.Partition].Ready = s.Server, true
	}
	return nil
}

func (w *world) LedgerLastSeq(context.Context) (uint64, error) { return w.last, nil }

func (w *world) Replay(_ context.Context, partitions []int, cold bool, _ ledger.Progress) (ledger.Replayed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replays = append(w.replays, replayed{partitions, cold})
	return ledger.Replayed{Restored: 1, Busy: w.busy}, w.fail
}

// restorer notes each Restore.
type restorer struct{ *world }

func (r restorer) Restore(_ context.Context, _ vn.Number, idle bool) (scripts.RestoreStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restores = append(r.restores, restored{time.Now(), idle})
	if len(r.status) == 0 {
		return scripts.RestoreDone, nil
	}
	status := r.status[0]
	r.status = r.status[1:]
	return status, nil
}

// seen returns what was done so far.
func (w *world) seen() ([]replayed, []restored) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]replayed(nil), w.replays...), append([]restored(nil), w.restores...)
}

func watch(t *testing.T, cfg Config, w *world) *Watcher {
	t.Helper()
	watcher, err := New(cfg, w, restorer{w}, w, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = watcher.Run(ctx) // it has no error
	}()
	t.Cleanup(func() { stop(); <-done })
	return watcher
}

func TestAPartitionOnAnotherServerIsReplayedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{last: 9, servers: []scripts.PartitionServer{
			{Partition: 0, Server: "a", WholeOn: "a", Ready: true}, {Partition: 1, Server: "b", WholeOn: "a", Ready: true},
		}}
		watcher := watch(t, Config{Poll: true, Rebuild: true}, w)
		<-time.After(5 * time.Second)
		replays, _ := w.seen()
		require.Equal(t, []replayed{{partitions: []int{1}}}, replays)
		require.NoError(t, watcher.Check(t.Context()))
		require.InDelta(t, 1, testutil.ToFloat64(watcher.metrics.runs.WithLabelValues(triggerChanged, outcomeDone)), 0)
	})
}

func TestAPartitionThatLostEverythingIsRestoredUnlessThatIsTurnedOff(t *testing.T) {
	t.Parallel()
	f := func(name string, cfg Config, last uint64, replays []replayed, says string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{last: last, servers: []scripts.PartitionServer{{Partition: 0, Server: "a"}}}
				watcher := watch(t, cfg, w)
				<-time.After(3 * time.Second)
				got, _ := w.seen()
				require.Equal(t, replays, got)
				if says == "" {
					require.NoError(t, watcher.Check(t.Context()))
				} else {
					require.ErrorContains(t, watcher.Check(t.Context()), says)
				}
			})
		})
	}
	f("restored", Config{Poll: true, Rebuild: true}, 9, []replayed{{partitions: []int{0}, cold: true}}, "")
	f("by hand", Config{Poll: true}, 9, nil, "run callmask rebuild")
	f("nothing was ever recorded", Config{Poll: true, Rebuild: true}, 0, nil, "")
	f("not the one that looks", Config{Rebuild: true}, 9, nil, "")
}

func TestAReplayThatFailsIsTriedAgainEverMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{last: 9, fail: errors.New("planted"), servers: []scripts.PartitionServer{{Partition: 0, Server: "a", Ready: true}}}
		watcher := watch(t, Config{Poll: true, Rebuild: true}, w)
		<-time.After(2 * time.Minute)
		w.mu.Lock()
		require.Less(t, len(w.replays), 10)
		require.Greater(t, len(w.replays), 4)
		w.fail = nil
		w.mu.Unlock()
		require.Error(t, watcher.Check(t.Context()))
		<-time.After(time.Minute)
		require.NoError(t, watcher.Check(t.Context()))
	})
}

// A number that is being changed is looked at again until it is known that nobody changes
// it any more.
func TestAConflictIsRestoredWhenNobodyIsAtIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := scripts.RestoreBusy
		w := &world{status: []scripts.RestoreStatus{busy, busy, busy, busy}}
		watcher := watch(t, Config{}, w)
		began := time.Now()
		watcher.Conflict(number)
		<-time.After(5 * time.Minute)
		_, restores := w.seen()
		require.Len(t, restores, 5)
		for i, r := range restores {
			require.Equal(t, i == 4, r.idle, "only the last may be sure that nothing is under way")
		}
		require.Greater(t, restores[4].at.Sub(began), watcher.cfg.Idle)
	})
}

func TestWhatSeemedBusyDuringAReplayIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{last: 9, busy: []vn.Number{number}, servers: []scripts.PartitionServer{{Partition: 0, Server: "a", Ready: true}}}
		watcher := watch(t, Config{Poll: true}, w)
		<-time.After(watcher.cfg.Idle - time.Second)
		_, restores := w.seen()
		require.Empty(t, restores)
		<-time.After(2 * time.Second)
		_, restores = w.seen()
		require.Len(t, restores, 1)
		require.True(t, restores[0].idle)
	})
}

func TestTooManyConflictsBlockNobody(t *testing.T) {
	t.Parallel()
	w := &world{}
	watcher, err := New(Config{}, w, restorer{w}, w, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	for range mostConflicts + 3 {
		watcher.Conflict(number)
	}
	require.InDelta(t, 3, testutil.ToFloat64(watcher.metrics.dropped), 0)
}
