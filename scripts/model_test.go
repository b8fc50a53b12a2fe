package scripts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// The model: what the Store promises, in plain Go with a clock of its own.
type model struct {
	now    time.Time
	vns    map[vn.Number]*modelVN
	orders map[string]*modelOrder
}

type modelVN struct {
	carrier  string
	state    string // free, leased, cooling, draining
	reusable time.Time
	last     string // the last order that ended on it
}

type modelOrder struct {
	parties   []vn.Number
	carrier   string
	numbers   []vn.Number
	active    bool
	end       time.Time // lease end, or when it ended
	lease     time.Time
	reason    vn.EndReason
	settled   bool
	due       time.Time // of an unsettled end: when the reaper brings it back
	tombstone time.Time // when it is forgotten
	retired   []vn.Number
}

const modelTombstone = 25 * time.Hour

func (m *model) lapsed(o *modelOrder) bool { return o.active && !o.end.After(m.now) }

// forget drops what time has ended in Redis itself.
func (m *model) forget() {
	maps.DeleteFunc(m.orders, func(_ string, o *modelOrder) bool {
		return !o.active && !o.tombstone.After(m.now)
	})
}

// end ends an active order.
func (m *model) end(id string, reason vn.EndReason) {
	o := m.orders[id]
	at := m.now
	if m.lapsed(o) {
		reason, at = vn.Expired, o.end
	}
	o.lease, o.end, o.active, o.reason, o.settled = o.end, at, false, reason, false
	o.due, o.tombstone = m.now.Add(30*time.Second), m.now.Add(modelTombstone)
	for _, n := range o.numbers {
		v := m.vns[n]
		v.last = id
		if v.state == "draining" {
			delete(m.vns, n)
			o.retired = append(o.retired, n)
			continue
		}
		v.state, v.reusable = "cooling", o.lease.Add(cooldown)
	}
}

// reap ends and returns what is due; the model has far fewer orders than one call ends.
func (m *model) reap(again time.Duration) []string {
	due := []string{}
	for id, o := range m.orders {
		switch {
		case m.lapsed(o):
			m.end(id, vn.Expired)
		case !o.active && !o.settled && !o.due.After(m.now):
		default:
			continue
		}
		o.due = m.now.Add(again)
		due = append(due, id)
	}
	for _, v := range m.vns {
		if v.state == "cooling" && !v.reusable.After(m.now) {
			v.state = "free"
		}
	}
	sort.Strings(due)
	return due
}

// free lists the carrier's VNs that an order may take.
func (m *model) free(carrier string) []vn.Number {
	var out []vn.Number
	for n, v := range m.vns {
		if v.carrier == carrier && (v.state == "free" || v.state == "cooling" && !v.reusable.After(m.now)) {
			out = append(out, n)
		}
	}
	return out
}

// machine drives the Store and the model side by side.
type machine struct {
	f *fixture
	model
	allocations []Allocation // some settled, some stale
	releases    []Release
}

var (
	modelIDs     = []string{"a", "b", "c", "d", "e", "f"}
	modelPeople  = []vn.Number{customer, agent, merchant, stranger}
	modelNumbers = vns(9)
)

func (x *machine) Allocate(t *rapid.T) {
	id := rapid.SampledFrom(modelIDs).Draw(t, "order")
	parties := rapid.Permutation(modelPeople).Draw(t, "parties")[:rapid.IntRange(2, 3).Draw(t, "count")]
	lease := time.Duration(rapid.IntRange(1, 120).Draw(t, "minutes")) * time.Minute
	r := request(id, parties...)
	r.Order.TTL = lease
	got, err := x.f.Allocate(context.Background(), r)

	o := x.orders[id]
	switch {
	case o != nil && (!o.active || x.lapsed(o)):
		require.ErrorIs(t, err, vn.ErrOrderEnded)
		return
	case o != nil:
		// Roles go by place, so other places are other parties.
		if !slices.Equal(o.parties, parties) {
			require.ErrorIs(t, err, vn.ErrOrderConflict)
			return
		}
		require.NoError(t, err)
		require.True(t, got.Replayed)
		require.Equal(t, o.end, got.Assignment.ExpiresAt)
	default:
		enough := func(c Carrier) bool { return len(x.free(c.Name)) >= len(parties) }
		at := slices.IndexFunc(r.Carriers, enough)
		if at < 0 {
			x.reap(time.Second) // the Store reaps once before it gives up
			if at = slices.IndexFunc(r.Carriers, enough); at < 0 {
				require.ErrorIs(t, err, vn.ErrPoolExhausted)
				return
			}
		}
		require.NoError(t, err)
		require.False(t, got.Replayed)
		require.Equal(t, r.Carriers[at].Name, got.Carrier)
		o = &modelOrder{parties: parties, carrier: got.Carrier, active: true, end: x.now.Add(lease)}
		for _, n := range got.Numbers {
			require.Contains(t, x.free(got.Carrier), n.VN, "only a free VN may be given")
			x.vns[n.VN].state = "leased"
			o.numbers = append(o.numbers, n.VN)
		}
		x.orders[id] = o
		require.Equal(t, len(x.free("sim"))+len(x.free("twilio")), got.Free)
	}
	var numbers []vn.Number
	for _, n := range got.Numbers {
		numbers = append(numbers, n.VN)
	}
	require.Equal(t, o.numbers, numbers)
	x.allocations = append(x.allocations, got)
}

func (x *machine) Release(t *rapid.T) {
	id := rapid.SampledFrom(modelIDs).Draw(t, "order")
	reason := rapid.SampledFrom([]vn.EndReason{vn.Completed, vn.Cancelled}).Draw(t, "reason")
	got, err := x.f.Release(context.Background(), id, reason)
	require.NoError(t, err)
	o := x.orders[id]
	switch {
	case o == nil:
		require.False(t, got.Known)
		x.orders[id] = &modelOrder{reason: reason, end: x.now, settled: true, tombstone: x.now.Add(modelTombstone)}
		return
	case o.active:
		x.end(id, reason)
	}
	require.Equal(t, o.reason, got.Reason)
	require.Equal(t, o.settled, got.Settled)
	require.Equal(t, o.end, got.EndedAt)
	require.Equal(t, len(o.numbers) > 0, got.Known)
	if got.Known {
		x.releases = append(x.releases, got)
	}
}

func (x *machine) SettleAssigned(t *rapid.T) {
	if len(x.allocations) == 0 {
		t.Skip("nothing was allocated")
	}
	a := rapid.SampledFrom(x.allocations).Draw(t, "allocation")
	err := x.f.SettleAssigned(context.Background(), &a, make([]uint64, len(a.Numbers)))
	o := x.orders[a.Assignment.OrderID]
	for _, n := range a.Numbers {
		if o == nil || !slices.Contains(o.numbers, n.VN) { // the id has begun another life
			require.ErrorIs(t, err, ErrBehind)
			return
		}
	}
	require.NoError(t, err)
	if o != nil && o.active && o.end.Equal(a.Assignment.ExpiresAt) {
		o.settled = true
	}
}

func (x *machine) SettleReleased(t *rapid.T) {
	if len(x.releases) == 0 {
		t.Skip("nothing was released")
	}
	r := rapid.SampledFrom(x.releases).Draw(t, "release")
	err := x.f.SettleReleased(context.Background(), &r, make([]uint64, len(r.Numbers)))
	o := x.orders[r.OrderID]
	if o != nil && o.active {
		require.ErrorIs(t, err, ErrBehind)
		return
	}
	require.NoError(t, err)
	if o == nil || o.active || !o.end.Equal(r.EndedAt) || len(o.numbers) == 0 {
		return
	}
	o.settled = true
	for _, n := range o.numbers {
		if v := x.vns[n]; v != nil && v.state == "cooling" && v.reusable.Equal(o.lease.Add(cooldown)) {
			v.reusable = o.end.Add(cooldown)
		}
	}
}

func (x *machine) Extend(t *rapid.T) {
	id := rapid.SampledFrom(modelIDs).Draw(t, "order")
	lease := time.Duration(rapid.IntRange(1, 120).Draw(t, "minutes")) * time.Minute
	got, err := x.f.Extend(context.Background(), id, lease)
	o := x.orders[id]
	switch {
	case o == nil:
		require.ErrorIs(t, err, vn.ErrOrderUnknown)
	case !o.active || x.lapsed(o):
		require.ErrorIs(t, err, vn.ErrOrderEnded)
	default:
		require.NoError(t, err)
		o.end, o.settled = x.now.Add(lease), false
		require.Equal(t, o.end, got.Assignment.ExpiresAt)
		x.allocations = append(x.allocations, got)
	}
}

func (x *machine) Refill(t *rapid.T) {
	n := rapid.SampledFrom(modelNumbers).Draw(t, "VN")
	carrier := rapid.SampledFrom([]string{"sim", "twilio"}).Draw(t, "carrier")
	got, err := x.f.Refill(context.Background(), pool, carrier, []Owned{{VN: n, Ref: "ref", Fence: 1}})
	require.NoError(t, err)
	switch v := x.vns[n]; {
	case v == nil:
		require.Equal(t, Refilled{Added: 1}, got)
		x.vns[n] = &modelVN{carrier: carrier, state: "free"}
	case v.carrier != carrier:
		require.Equal(t, Refilled{Foreign: []vn.Number{n}}, got)
	default:
		require.Equal(t, Refilled{Present: 1}, got)
		if v.state == "draining" {
			v.state = "leased"
		}
	}
}

func (x *machine) Drain(t *rapid.T) {
	n := rapid.SampledFrom(modelNumbers).Draw(t, "VN")
	drain, free := x.f.Drain, rapid.Bool().Draw(t, "only if free")
	if free {
		drain = x.f.DrainFree
	}
	got, err := drain(context.Background(), pool, n)
	v := x.vns[n]
	if v == nil {
		require.ErrorIs(t, err, vn.ErrNumberUnknown)
		return
	}
	if free && v.state != "free" {
		require.ErrorIs(t, err, ErrBusy)
		return
	}
	require.NoError(t, err)
	require.Equal(t, v.state == "free" || v.state == "cooling", got.Left)
	if !got.Left {
		v.state = "draining"
		return
	}
	if o := x.orders[v.last]; v.state == "cooling" && o != nil && !o.active && !o.settled && slices.Contains(o.numbers, n) {
		o.retired = append(o.retired, n)
	}
	delete(x.vns, n)
}

func (x *machine) Reap(t *rapid.T) {
	ended, more, err := x.f.Reap(context.Background())
	require.NoError(t, err)
	require.False(t, more)
	ids := make([]string, 0, len(ended))
	for _, r := range ended {
		ids = append(ids, r.OrderID)
		x.releases = append(x.releases, r)
	}
	sort.Strings(ids)
	require.Equal(t, x.reap(unsettledAgain), ids)
	for _, r := range ended {
		for _, n := range r.Numbers {
			require.Equal(t, slices.Contains(x.orders[r.OrderID].retired, n.VN), n.Retired)
		}
	}
}

func (x *machine) Wait(t *rapid.T) {
	d := time.Duration(rapid.SampledFrom([]int{1, 29, 30, 60, 599, 600, 3600, 7200, 90_000}).Draw(t, "seconds")) * time.Second
	x.now = x.now.Add(d)
	x.f.set(t, x.now)
	x.forget()
}

// Check compares all of Redis, and what every pair of numbers gets, with the model.
func (x *machine) Check(t *rapid.T) {
	ctx := context.Background()
	for _, c := range []Carrier{sim, twilio} {
		sets := map[string][]string{}
		for n, v := range x.vns {
			if v.carrier == c.Name {
				sets[v.state] = append(sets[v.state], n.Digits())
			}
		}
		same := func(state, command, key string) {
			t.Helper()
			var have []string
			var err error
			if command == "set" {
				have, err = x.f.client.SMembers(ctx, key).Result()
			} else {
				have, err = x.f.client.ZRange(ctx, key, 0, -1).Result()
			}
			require.NoError(t, err)
			require.ElementsMatch(t, sets[state], have, "%s VNs of %s", state, c.Name)
		}
		same("free", "set", freeKey(x.f.prefix, pool, c.Name))
		same("cooling", "zset", coolingKey(x.f.prefix, pool, c.Name))
		same("draining", "set", drainingKey(x.f.prefix, pool, c.Name))
		for _, z := range x.f.client.ZRangeWithScores(ctx, coolingKey(x.f.prefix, pool, c.Name), 0, -1).Val() {
			n, _ := vn.ParseDigits(fmt.Sprint(z.Member))
			require.Equal(t, x.vns[n].reusable.UnixMilli(), int64(z.Score))
		}
		total, err := x.f.client.HGet(ctx, totalKey(x.f.prefix), pool+":"+c.Name).Result()
		if !errors.Is(err, redis.Nil) {
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(len(sets["free"])+len(sets["leased"])+len(sets["cooling"])+len(sets["draining"])), total)
		}
	}
	for _, id := range modelIDs {
		got, err := x.f.Order(ctx, id)
		o := x.orders[id]
		if o == nil {
			require.ErrorIs(t, err, vn.ErrOrderUnknown)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, o.active && !x.lapsed(o), got.State == vn.Active)
	}
	x.checkRouting(t)
}

func (x *machine) checkRouting(t *rapid.T) {
	for _, called := range modelNumbers {
		var holder *modelOrder
		var holderID string
		for id, o := range x.orders {
			if o.active && !x.lapsed(o) && slices.Contains(o.numbers, called) {
				require.Nil(t, holder, "two live orders on one VN")
				holder, holderID = o, id
			}
		}
		for _, calling := range modelPeople {
			var d vn.Decision
			_, err := x.f.Lookup(context.Background(), called, calling, &d)
			require.NoError(t, err)
			if holder == nil || !slices.Contains(holder.parties, calling) ||
				holder.parties[slices.Index(holder.numbers, called)] == calling {
				require.NotEqual(t, vn.Connected, d.Reason, "a stranger was connected")
				continue
			}
			require.Equal(t, vn.Connected, d.Reason)
			require.Equal(t, holderID, string(d.OrderID))
			require.Equal(t, holder.parties[slices.Index(holder.numbers, called)].Digits(), d.Destination.Digits())
			require.Equal(t, holder.numbers[slices.Index(holder.parties, calling)], d.CallerID)
		}
	}
}

// TestStoreDoesWhatTheModelSays drives the Store through random verbs and a virtual
// clock and compares it with the model after each. rapid prints the seed of a failure.
func TestStoreDoesWhatTheModelSays(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	client := server.Client(t)
	base := newFixture(t, client)
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		require.NoError(rt, client.FlushAll(ctx).Err())
		require.NoError(rt, base.MarkReady(ctx))
		x := &machine{f: base, model: model{now: epoch, vns: map[vn.Number]*modelVN{}, orders: map[string]*modelOrder{}}}
		base.set(rt, epoch)
		for i, n := range modelNumbers[:6] {
			carrier := []string{"sim", "twilio"}[i%2]
			_, err := base.Refill(ctx, pool, carrier, []Owned{{VN: n, Ref: "ref", Fence: 1}})
			require.NoError(rt, err)
			x.vns[n] = &modelVN{carrier: carrier, state: "free"}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"allocate": x.Allocate, "release": x.Release, "extend": x.Extend,
			"settle assigned": x.SettleAssigned, "settle released": x.SettleReleased,
			"refill": x.Refill, "drain": x.Drain, "reap": x.Reap, "wait": x.Wait,
			"": x.Check,
		})
	})
}
