package e2e

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// redelivery is how long an event that a killed process had in hand may take to come
// again: the consumer's time for an acknowledgement, and room for a loaded machine.
const redelivery = 90 * time.Second

func TestKill9OfCallmaskUnderLoadLosesDoublesAndLeaksNothing(t *testing.T) {
	t.Parallel()
	r := random(t)
	p := startAll(t, stormConfig)
	watch := watchServers(t, p)
	s := newStorm(t, p, r)
	for round := range 4 {
		s.rage(t, r)
		orphan := p.redisServer(t)
		p.kill()
		require.Equal(t, []int{orphan}, p.redisServers(t), "redis-server outlives its killed parent")
		p.restart(t)
		require.NotEqual(t, orphan, p.redisServer(t), "the orphan was ended and replaced")
		kept := s.requireKept(t)
		t.Logf("round %d: %d orders kept; so far %d stored, %d calls connected, %d undecided",
			round, kept, s.stored.Load(), s.connected.Load(), s.outages.Load())
		require.Positive(t, kept)
	}
	s.requireHealed(t, redelivery)
	require.Equal(t, 1, watch(), "redis-servers on one AOF at a time")
}

func TestKill9OfRedisAloneUnderLoadLosesDoublesAndLeaksNothing(t *testing.T) {
	t.Parallel()
	r := random(t)
	p := startAll(t, stormConfig)
	watch := watchServers(t, p)
	s := newStorm(t, p, r)
	for round := range 4 {
		s.rage(t, r)
		killed := p.redisServer(t)
		require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
		await(t, startLimit, "another redis-server serves", func() bool {
			pids := p.redisServers(t)
			return len(pids) == 1 && pids[0] != killed && p.ready()
		})
		await(t, startLimit, "calls are decided again", func() bool {
			return mustResolve(t, p, p.Token, "+19075550100", stranger).status == http.StatusOK
		})
		kept := s.requireKept(t)
		t.Logf("round %d: %d orders kept; so far %d stored, %d calls connected, %d undecided",
			round, kept, s.stored.Load(), s.connected.Load(), s.outages.Load())
		require.Positive(t, kept)
	}
	s.requireHealed(t, redelivery)
	require.Equal(t, 1, watch(), "redis-servers on one AOF at a time")
}

// rage lets the storm go on for a random while: some more orders and some more calls
// after them.
func (s *storm) rage(t *testing.T, r *rand.Rand) {
	t.Helper()
	orders, calls := s.stored.Load()+10+r.Int64N(60), int64(0)
	await(t, startLimit, "orders are stored", func() bool { return s.stored.Load() >= orders })
	calls = s.connected.Load() + 10 + r.Int64N(100)
	await(t, startLimit, "calls are connected", func() bool { return s.connected.Load() >= calls })
	moment := time.NewTimer(time.Duration(r.IntN(30_000)) * time.Microsecond)
	defer moment.Stop()
	<-moment.C
}

// watchServers looks all the time how many redis-servers run on the data directory;
// the function that it returns ends that and tells the most ever seen.
func watchServers(t *testing.T, p *process) func() int {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	most := 0
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, len(p.redisServers(t)))
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	end := func() int {
		stop()
		done.Wait()
		return most
	}
	t.Cleanup(func() { end() })
	return end
}
