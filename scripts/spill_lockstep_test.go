package scripts

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// homeOf returns an order id that belongs to the partition.
func homeOf(l *layout, partition int) string { return homesOf(l, partition, 1)[0] }

// homesOf returns n such ids.
func homesOf(l *layout, partition, n int) []string {
	var ids []string
	for i := 0; len(ids) < n; i++ {
		if id := "order-" + strconv.Itoa(i); l.home(id) == partition {
			ids = append(ids, id)
		}
	}
	return ids
}

// vnsIn returns n VNs of a partition.
func vnsIn(l *layout, partition, n int) []vn.Number {
	var out []vn.Number
	for _, v := range vns(1000) {
		if len(out) < n && l.ofVN(v) == l.prefixes[partition] {
			out = append(out, v)
		}
	}
	return out
}

// lockstep drives the scripts in a real Redis and the model side by side.
type lockstep struct {
	f     *fixture
	world spillWorld
	order AllocateRequest
	lent  [modelPartitions][]string
}

func (l *lockstep) request() *allocation {
	key := l.f.keys.Primary()
	w := &allocation{store: l.f.Store, request: &l.order, keyID: key.ID()}
	w.roles, w.tokens = joinParties(l.order.Order.Parties, key)
	w.sealed, _ = sealParties(l.order.Order.ID, l.order.Order.Parties, key, w.tokens)
	return w
}

// step runs the next script of worker i in both, and goes on in the model by one of its ways.
func (l *lockstep) step(t *rapid.T, i int) {
	ctx, k, before := context.Background(), l.world.workers[i], l.world.spillState
	if k.finish {
		p, want := int8(0), int8(0)
		if k.pc == 1 {
			p = k.at
		}
		want = before.release(p)
		l.release(t, int(p), int(want))
	} else {
		p, next, where := int8(0), k.next, nowhere
		switch {
		case k.pc == 1:
			p, next, where = k.at, toHere, here
		case next != toNowhere:
			where = strconv.Itoa(int(next))
		}
		want := before.allocate(p, k.mark, next, sound)
		a, m, err := l.request().step(ctx, int(p), strconv.FormatInt(k.mark, 10), where)
		switch want.kind {
		case allocatedHere, replayedHere:
			require.NoError(t, err)
			require.Nil(t, m)
			require.Equal(t, want.kind == replayedHere, a.Replayed)
			require.Equal(t, int(p), a.Partition)
		case endedHere:
			require.ErrorIs(t, err, vn.ErrOrderEnded)
		case exhaustedHere:
			require.ErrorIs(t, err, vn.ErrPoolExhausted)
		case forwardedThere:
			require.NoError(t, err)
			require.Equal(t, &mark{made: strconv.FormatInt(want.mark, 10), at: int(want.at)}, m)
		}
	}
	ways := l.world.step(i, sound)
	l.world = ways[rapid.IntRange(0, len(ways)-1).Draw(t, "way")]
}

func (l *lockstep) release(t *rapid.T, partition, points int) {
	ctx := context.Background()
	rec, err := l.f.releaseIn(ctx, partition, l.order.Order.ID, vn.Completed)
	require.NoError(t, err)
	require.Equal(t, vn.Ended, rec.state)
	require.Equal(t, points >= 0, rec.forward != nil)
	if points >= 0 {
		require.Equal(t, points, rec.forward.at)
	}
	// The model knows no rest: what cools is free again.
	p := l.f.layout.prefixes[partition]
	for _, number := range l.f.client.ZRange(ctx, coolingKey(p, pool, sim.Name), 0, -1).Val() {
		require.NoError(t, l.f.client.ZRem(ctx, coolingKey(p, pool, sim.Name), number).Err())
		require.NoError(t, l.f.client.SAdd(ctx, freeKey(p, pool, sim.Name), number).Err())
	}
}

// other lets another order take two VNs of a partition, or give them back.
func (l *lockstep) other(t *rapid.T, p int) {
	ctx, key := context.Background(), freeKey(l.f.layout.prefixes[p], pool, sim.Name)
	switch w := &l.world; {
	case w.free[p] > 0:
		w.free[p]--
		w.lent[p]++
		taken, err := l.f.client.SPopN(ctx, key, 2).Result()
		require.NoError(t, err)
		l.lent[p] = append(l.lent[p], taken...)
	case w.lent[p] > 0:
		w.free[p]++
		w.lent[p]--
		require.NoError(t, l.f.client.SAdd(ctx, key, l.lent[p][:2]).Err())
		l.lent[p] = l.lent[p][2:]
	}
}

// compare holds all of Redis against the model.
func (l *lockstep) compare(t *rapid.T) {
	ctx := context.Background()
	for i, p := range l.f.layout.prefixes {
		h, err := l.f.client.HGetAll(ctx, orderKey(p, l.order.Order.ID)).Result()
		require.NoError(t, err)
		want := l.world.recs[i]
		kind := map[string]recordKind{"": active, stateForwarded: forwarded, stateRefused: refusedHere, "ended": ended}[h["state"]]
		if len(h) == 0 {
			kind = nothing
		}
		require.Equal(t, want.kind, kind, "partition %d", i)
		if kind == forwarded || kind == refusedHere {
			require.Equal(t, strconv.FormatInt(want.mark, 10), h["mark"])
		}
		free, err := l.f.client.SCard(ctx, freeKey(p, pool, sim.Name)).Result()
		if !errors.Is(err, redis.Nil) {
			require.NoError(t, err)
		}
		require.EqualValues(t, 2*l.world.free[i], free, "free in partition %d", i)
	}
}

// TestTheScriptsSpillOverAsTheModelDoes holds the scripts against the model that is
// explored exhaustively. rapid prints the seed of a failure.
func TestTheScriptsSpillOverAsTheModelDoes(t *testing.T) {
	t.Parallel()
	client := testkit.Redis(t).Client(t)
	f := newFixtureOf(t, client, modelPartitions)
	id := homeOf(f.layout, 0)
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		require.NoError(rt, client.FlushAll(ctx).Err())
		require.NoError(rt, f.MarkReady(ctx))
		f.set(rt, epoch)
		l := &lockstep{f: f, order: request(id, customer, agent)}
		start := spillStart{deliveries: 3, jumps: 2, others: 30}
		for i := range start.free {
			start.free[i] = int8(rapid.IntRange(0, 1).Draw(rt, "pairs"))
			owned := make([]Owned, 0, 2)
			for _, n := range vnsIn(f.layout, i, 2*int(start.free[i])) {
				owned = append(owned, Owned{VN: n, Ref: "ref", Fence: 1})
			}
			_, err := f.Refill(ctx, pool, sim.Name, owned)
			require.NoError(rt, err)
		}
		l.world, _ = start.world()
		for i := range l.world.workers {
			l.world.workers[i].moves *= 4
			l.world.workers[i].done = l.world.workers[i].finish && rapid.Bool().Draw(rt, "never ends")
		}
		l.world.now = epoch.UnixMilli()
		for range rapid.IntRange(10, 60).Draw(rt, "steps") {
			var alive []int
			for i := range l.world.workers {
				if !l.world.workers[i].done {
					alive = append(alive, i)
				}
			}
			switch what := rapid.IntRange(0, 9).Draw(rt, "what"); {
			case what < 5 && len(alive) > 0:
				l.step(rt, rapid.SampledFrom(alive).Draw(rt, "worker"))
			case what == 9 && l.world.jumps > 0:
				l.world.jumps--
				l.world.pass()
				f.set(rt, f.now.Add((refusalLasts+1)*time.Millisecond))
			case l.world.others > 0:
				l.world.others--
				l.other(rt, rapid.IntRange(0, modelPartitions-1).Draw(rt, "partition"))
			}
			l.compare(rt)
		}
	})
}
