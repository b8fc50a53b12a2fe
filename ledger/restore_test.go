package ledger

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

var sim = scripts.Carrier{Name: "sim", ID: 7}

const (
	customer vn.Number = 12025550101
	agent    vn.Number = 12025550102
	poolName           = "jakarta"
)

// lossy is a Store on a Redis that can lose what it was told last, and the whole of what
// a user of callmask was promised meanwhile.
type lossy struct {
	*scripts.Store

	client   *redis.Client
	stream   *stream
	ledger   *Ledger
	restorer *Restorer
	rng      *rand.Rand

	promised map[string]vn.Assignment // live orders, as they were acknowledged
	begun    map[string]bool          // orders whose outcome the caller does not know
	ending   map[string]bool          // orders whose end was delivered and not acknowledged
	ended    map[string]bool          // orders whose end was acknowledged
	retired  map[vn.Number]bool
	next     int
}

func newLossy(t *testing.T, seed uint64, partitions, numbers int) *lossy {
	t.Helper()
	l := &lossy{
		client: testkit.Redis(t).Client(t), stream: newStream(), rng: rand.New(rand.NewPCG(seed, 0)),
		promised: map[string]vn.Assignment{}, begun: map[string]bool{}, ending: map[string]bool{}, ended: map[string]bool{}, retired: map[vn.Number]bool{},
	}
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	l.Store, err = scripts.New(scripts.Config{Partitions: partitions, Timeout: 10 * time.Second}, l.client, keys)
	require.NoError(t, err)
	require.NoError(t, l.Start(t.Context()))
	require.NoError(t, l.MarkReady(t.Context()))
	l.ledger = New(l.Store, l.stream, nil, zerolog.Nop())
	l.restorer = NewRestorer(l.ledger, l.Store, l.stream, []scripts.Carrier{sim})
	owned := make([]scripts.Owned, numbers)
	for i := range owned {
		owned[i] = scripts.Owned{VN: vn.Number(447700900000 + i), Ref: "PN" + strconv.Itoa(i)}
	}
	done, err := l.ledger.Own(t.Context(), poolName, sim.Name, owned)
	require.NoError(t, err)
	require.Equal(t, numbers, done.Added)
	return l
}

// assign is what the allocator does with an order; with crash it dies on the way.
func (l *lossy) assign(t *testing.T, id string, ttl time.Duration, crash bool) {
	t.Helper()
	r := scripts.AllocateRequest{
		Order: vn.Order{ID: id, Pool: poolName, TTL: ttl, Parties: []vn.Party{
			{Role: "customer", Number: customer}, {Role: "agent", Number: agent},
		}},
		Cooldown: time.Millisecond, Carriers: []scripts.Carrier{sim},
	}
	l.begun[id] = true
	for range 10 {
		a, err := l.Allocate(t.Context(), r)
		if errors.Is(err, vn.ErrPoolExhausted) || errors.Is(err, vn.ErrOrderEnded) {
			return
		}
		require.NoError(t, err)
		if crash {
			if l.rng.IntN(2) == 0 {
				recs, err := l.ledger.assignedRecords(t.Context(), &a)
				require.NoError(t, err)
				_, _, err = l.ledger.write(t.Context(), recs[:1+l.rng.IntN(2)], l.ledger.overAssigned)
				require.NoError(t, err)
			}
			return
		}
		err = l.ledger.Assign(t.Context(), &a)
		var race *LostError
		if errors.As(err, &race) {
			r.Lost, r.Won = race.Lost, race.Won
			for _, n := range race.Lost {
				_, err := l.restorer.Restore(t.Context(), n, false)
				require.NoError(t, err)
			}
			continue
		}
		if errors.Is(err, vn.ErrOrderEnded) {
			return
		}
		require.NoError(t, err)
		delete(l.begun, id)
		l.promised[id] = a.Assignment
		return
	}
	// As long as Redis is not repaired it may keep losing; the event comes again.
}

func (l *lossy) end(t *testing.T, id string, crash bool) {
	t.Helper()
	l.ending[id] = true
	delete(l.promised, id)
	r, err := l.Release(t.Context(), id, vn.Completed)
	require.NoError(t, err)
	if crash {
		return // the event comes again
	}
	require.NoError(t, l.ledger.End(t.Context(), &r))
	delete(l.begun, id)
	delete(l.ending, id)
	l.ended[id] = true
}

// some returns one of a map's keys, and false when there is none.
func some[V any](l *lossy, m map[string]V) (string, bool) {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 {
		return "", false
	}
	return keys[l.rng.IntN(len(keys))], true
}

func (l *lossy) act(t *testing.T) {
	t.Helper()
	id, live := some(l, l.promised)
	begun, open := some(l, l.begun)
	switch n := l.rng.IntN(20); {
	case n < 8:
		l.next++
		l.assign(t, "o-"+strconv.Itoa(l.next), time.Hour, n == 0)
	case n < 10 && open:
		l.assign(t, begun, time.Hour, false)
	case n < 14 && live:
		l.end(t, id, n == 13)
	case n == 14 && live:
		a, err := l.Extend(t.Context(), id, 2*time.Hour)
		if errors.Is(err, vn.ErrOrderUnknown) || errors.Is(err, vn.ErrOrderEnded) {
			return // lost, or its end is under way
		}
		require.NoError(t, err)
		err = l.ledger.Assign(t.Context(), &a)
		var race *LostError
		if errors.As(err, &race) {
			l.assign(t, id, time.Hour, false)
			return
		}
		require.NoError(t, err)
		l.promised[id] = a.Assignment
	case n == 15:
		number := vn.Number(447700900000 + l.rng.IntN(40))
		if d, err := l.ledger.Retire(t.Context(), poolName, number); err == nil && d.Left {
			l.retired[number] = true
		}
	case n == 16:
		l.next++
		id := "short-" + strconv.Itoa(l.next)
		l.assign(t, id, time.Millisecond, false)
		delete(l.promised, id)
		delete(l.begun, id)
		require.NoError(t, l.restorer.reapAll(t.Context()))
	}
}

// image is all that a partition's keys hold.
type image map[string]struct {
	dump string
	ttl  time.Duration
}

func (l *lossy) keysOf(t *testing.T, tag string) []string {
	t.Helper()
	keys, err := l.client.Keys(t.Context(), "cm1:{"+tag+"}:*").Result()
	require.NoError(t, err)
	return keys
}

func (l *lossy) tags(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	keys, err := l.client.Keys(t.Context(), "cm1:{*").Result()
	require.NoError(t, err)
	for _, k := range keys {
		tag, _, _ := strings.Cut(strings.TrimPrefix(k, "cm1:{"), "}")
		found[tag] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func (l *lossy) picture(t *testing.T, tag string) image {
	t.Helper()
	img := image{}
	for _, k := range l.keysOf(t, tag) {
		dump, err := l.client.Dump(t.Context(), k).Result()
		if errors.Is(err, redis.Nil) {
			continue // it has just expired
		}
		require.NoError(t, err)
		e := img[k]
		e.dump, e.ttl = dump, max(0, l.client.PTTL(t.Context(), k).Val())
		img[k] = e
	}
	return img
}

// revert makes a partition what it was: a replica that had not heard of the rest is its
// master now.
func (l *lossy) revert(t *testing.T, tag string, to image) {
	t.Helper()
	if keys := l.keysOf(t, tag); len(keys) > 0 {
		require.NoError(t, l.client.Del(t.Context(), keys...).Err())
	}
	for k, e := range to {
		require.NoError(t, l.client.RestoreReplace(t.Context(), k, e.ttl, e.dump).Err())
	}
}

// finish has every order come to an end that the caller knows: what is not acknowledged
// is delivered again.
func (l *lossy) finish(t *testing.T) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(l.begun)) {
		l.assign(t, id, time.Hour, false)
	}
	for _, id := range slices.Sorted(maps.Keys(l.ending)) {
		l.end(t, id, false)
	}
}

// story tells what the ledger says of an order's numbers.
func (l *lossy) story(id string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "order %s, promised %v\n", id, l.promised[id].Parties)
	for _, r := range l.stream.history {
		for _, p := range l.promised[id].Parties {
			if r.VN == p.VN.Digits() || r.OrderID == id {
				fmt.Fprintf(&b, "  %d %s %s of %s after %d %s\n", r.seq, r.VN, r.Kind, r.OrderID, r.After, r.Reason)
			}
		}
	}
	return b.String()
}

// check holds Redis and the ledger against what was promised.
func (l *lossy) check(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for _, id := range slices.Sorted(maps.Keys(l.promised)) {
		o, err := l.Order(ctx, id)
		require.NoError(t, err, l.story(id))
		require.Equal(t, l.promised[id].Parties, o.Parties, l.story(id))
		require.WithinDuration(t, l.promised[id].ExpiresAt, o.ExpiresAt, time.Millisecond, id)
		var d vn.Decision
		_, err = l.Lookup(ctx, o.Parties[1].VN, customer, &d)
		require.NoError(t, err)
		require.Equal(t, vn.Connected, d.Reason, l.story(id))
		require.Equal(t, agent, d.Destination)
		require.Equal(t, id, string(d.OrderID), l.story(id)+l.story(string(d.OrderID)))
	}
	for id := range l.ended {
		o, err := l.Order(ctx, id)
		if err == nil {
			require.Equal(t, vn.Ended, o.State, id)
		} else {
			require.ErrorIs(t, err, vn.ErrOrderUnknown)
		}
	}
	audit, err := l.Audit(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
	held := map[string]events.Record{}
	for _, r := range l.stream.history {
		before, ok := held[r.VN]
		if r.Kind == events.KindAssigned && ok && before.OrderID != r.OrderID {
			require.True(t, r.ExpiresAt.After(before.ExpiresAt) && time.Now().After(before.ExpiresAt),
				"%s was given to %s while %s had it", r.VN, r.OrderID, before.OrderID)
		}
		if delete(held, r.VN); r.Kind == events.KindAssigned {
			held[r.VN] = r.Record
		}
	}
}

// TestTheLossOfRedisKeepsNoEndUnannounced loses Redis between the record of an end and its
// announcement: the apps hear of it all the same, and the order stays ended.
func TestTheLossOfRedisKeepsNoEndUnannounced(t *testing.T) {
	t.Parallel()
	l := newLossy(t, 1, 4, 10)
	l.assign(t, "o-1", time.Hour, false)
	r, err := l.Release(t.Context(), "o-1", vn.Cancelled)
	require.NoError(t, err)
	recs, err := l.ledger.endedRecords(t.Context(), &r)
	require.NoError(t, err)
	_, _, err = l.ledger.write(t.Context(), recs, overEnded)
	require.NoError(t, err)
	for _, tag := range l.tags(t) {
		l.revert(t, tag, nil)
	}
	_, err = l.restorer.Replay(t.Context(), nil, true, nil)
	require.NoError(t, err)
	require.Equal(t, "cancelled", l.stream.released["o-1"].Reason)
	o, err := l.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, vn.Ended, o.State)
}

// TestRestoreRepairsEveryFailover has a Redis lose its last writes, in some partitions or
// all, or everything, at any moment of a busy day. After a replay of the ledger each
// acknowledged order has its numbers and its calls, no ended one has any, no number is
// lost or in two places. CALLMASK_RESTORE_ROUNDS makes it longer; CALLMASK_RESTORE_SEED
// begins with the same numbers (which VNs Redis takes is left to its chance).
func TestRestoreRepairsEveryFailover(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if s := os.Getenv("CALLMASK_RESTORE_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	rounds := 6
	if s := os.Getenv("CALLMASK_RESTORE_ROUNDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	for i := range uint64(4) {
		partitions := []int{1, 4}[i%2]
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			t.Parallel()
			t.Logf("CALLMASK_RESTORE_SEED=%d (run %d)", seed, i)
			l := newLossy(t, seed+i, partitions, 40)
			for range rounds {
				l.round(t)
			}
			l.close(t)
		})
	}
}

// round acts, loses some of it, and restores.
func (l *lossy) round(t *testing.T) {
	t.Helper()
	for range l.rng.IntN(30) {
		l.act(t)
	}
	tags := l.tags(t)
	images := make(map[string]image)
	for _, tag := range tags {
		images[tag] = l.picture(t, tag)
	}
	for range l.rng.IntN(20) {
		l.act(t)
	}
	cold := l.rng.IntN(3) == 0
	if cold {
		for _, tag := range tags {
			l.revert(t, tag, nil)
		}
	} else {
		for _, tag := range tags {
			if l.rng.IntN(2) == 0 {
				l.revert(t, tag, images[tag])
			}
		}
		for range l.rng.IntN(6) { // until somebody notices
			l.act(t)
		}
	}
	_, err := l.restorer.Replay(t.Context(), nil, cold, nil)
	require.NoError(t, err)
	l.finish(t)
	l.settle(t)
	l.check(t)
}

// settle restores what was under way when it was lost: nothing is any more.
func (l *lossy) settle(t *testing.T) {
	t.Helper()
	done, err := l.restorer.Replay(t.Context(), nil, false, nil)
	require.NoError(t, err)
	for _, n := range done.Busy {
		_, err := l.restorer.Restore(t.Context(), n, true)
		require.NoError(t, err)
	}
	// An order that was never recorded is in no ledger: where its own partition forgot that
	// it was to be in another one, only `callmask check --repair` finds what it left there.
	audit, err := l.Audit(t.Context(), nil)
	require.NoError(t, err)
	for _, p := range audit.Problems {
		if p.Kind == scripts.ProblemForward {
			_, err := l.restorer.Restore(t.Context(), p.VN, true)
			require.NoError(t, err)
		}
	}
}

// close ends every order; then every number is back.
func (l *lossy) close(t *testing.T) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(l.promised)) {
		l.end(t, id, false)
	}
	for _, id := range slices.Sorted(maps.Keys(l.begun)) { // that found no numbers
		l.end(t, id, false)
	}
	require.NoError(t, l.restorer.reapAll(t.Context()))
	l.settle(t)
	stock, err := l.Stock(t.Context())
	require.NoError(t, err)
	require.Len(t, stock, 1)
	require.Equal(t, stock[0].Total, stock[0].Free+stock[0].Cooling, "a number is leaked: %+v", stock[0])
	left := 0
	for _, r := range l.stream.last {
		if r.Kind != events.KindRetired {
			left++
		}
	}
	require.Equal(t, left, stock[0].Total)
}
