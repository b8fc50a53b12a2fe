package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	vnA vn.Number = 12025550150
	vnB vn.Number = 12025550151
	vnC vn.Number = 12025550152
)

var (
	leaseEnd = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	errFault = errors.New("planted fault")
)

// world is a Store and a Bus that note each step and fail where told to.
type world struct {
	mu        sync.Mutex
	steps     []string
	failAt    string
	seq       uint64
	records   []events.Record
	last      map[string]uint64 // VN → sequence
	byVN      map[string]events.Record
	fences    []uint64
	inventory map[vn.Number]scripts.Inventory
	orders    map[string]vn.Assignment
	ended     *scripts.Release
	drained   map[vn.Number]bool // → Left
	refills   []scripts.Owned
	assigned  []events.VNAssigned
	released  []events.VNReleased
}

func newWorld() *world {
	w := &world{
		last: map[string]uint64{}, byVN: map[string]events.Record{}, inventory: map[vn.Number]scripts.Inventory{},
		orders: map[string]vn.Assignment{"o-1": allocation().Assignment}, drained: map[vn.Number]bool{}, seq: 100,
	}
	for _, n := range []vn.Number{vnA, vnB} {
		w.inventory[n] = inventory(n, "jakarta", "sim", 7)
		w.stands(n, 7, events.Record{Kind: events.KindOwned})
	}
	return w
}

// stands puts a record of jakarta's and sim's into the ledger.
func (w *world) stands(n vn.Number, seq uint64, r events.Record) {
	r.VN, r.Pool, r.Carrier = n.Digits(), "jakarta", "sim"
	w.byVN[r.VN], w.last[r.VN] = r, seq
}

func inventory(n vn.Number, pool, carrier string, fence uint64) scripts.Inventory {
	return scripts.Inventory{Owned: scripts.Owned{VN: n, Ref: "ref-" + n.Digits(), Fence: fence}, Pool: pool, Carrier: carrier}
}

func (w *world) ledger() *Ledger { return New(w, w, nil, zerolog.Nop()) }

func (w *world) step(name string) error {
	w.steps = append(w.steps, name)
	if name == w.failAt {
		return errFault
	}
	return nil
}

func (w *world) Record(_ context.Context, recs ...events.Record) (seqs []uint64, refused []int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seqs = make([]uint64, len(recs))
	if err := w.step(fmt.Sprintf("record %d %s", len(recs), recs[0].Kind)); err != nil {
		return seqs, nil, err
	}
	for i, r := range recs {
		if w.last[r.VN] != r.After {
			refused = append(refused, i)
			continue
		}
		w.seq++
		r.After = 0
		seqs[i], w.last[r.VN], w.byVN[r.VN] = w.seq, w.seq, r
		w.records = append(w.records, r)
	}
	return seqs, refused, nil
}

func (w *world) LastRecord(_ context.Context, n vn.Number) (events.Record, uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failAt == "last record" {
		return events.Record{}, 0, errFault
	}
	return w.byVN[n.Digits()], w.last[n.Digits()], nil
}

func (w *world) Assigned(_ context.Context, e events.VNAssigned) error {
	w.assigned = append(w.assigned, e)
	return w.step("vn.assigned")
}

func (w *world) Released(_ context.Context, e events.VNReleased) error {
	w.released = append(w.released, e)
	return w.step("vn.released")
}

func (w *world) SettleAssigned(_ context.Context, _ *scripts.Allocation, fences []uint64) error {
	w.fences = fences
	return w.step("settle assigned")
}

func (w *world) SettleReleased(_ context.Context, _ *scripts.Release, fences []uint64) error {
	w.fences = fences
	return w.step("settle released")
}

func (w *world) Release(context.Context, string, vn.EndReason) (scripts.Release, error) {
	return *w.ended, w.step("release")
}

func (w *world) Order(_ context.Context, id string) (vn.Assignment, error) {
	if w.failAt == "order" {
		return vn.Assignment{}, errFault
	}
	o, ok := w.orders[id]
	if !ok {
		return o, vn.ErrOrderUnknown
	}
	return o, nil
}

func (w *world) Inventory(_ context.Context, n vn.Number) (scripts.Inventory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failAt == "inventory" {
		return scripts.Inventory{}, errFault
	}
	inv, ok := w.inventory[n]
	if !ok {
		return inv, vn.ErrNumberUnknown
	}
	return inv, nil
}

func (w *world) Refill(_ context.Context, pool, carrier string, numbers []scripts.Owned) (scripts.Refilled, error) {
	if err := w.step(fmt.Sprintf("refill %d", len(numbers))); err != nil {
		return scripts.Refilled{}, err
	}
	w.refills = append(w.refills, numbers...)
	var out scripts.Refilled
	for _, n := range numbers {
		switch inv, ok := w.inventory[n.VN]; {
		case !ok:
			out.Added++
			w.inventory[n.VN] = scripts.Inventory{Owned: n, Pool: pool, Carrier: carrier}
		case inv.Pool == pool && inv.Carrier == carrier:
			out.Present++
		default:
			out.Foreign = append(out.Foreign, n.VN)
		}
	}
	return out, nil
}

func (w *world) Drain(_ context.Context, pool string, n vn.Number) (scripts.Drained, error) {
	if err := w.step("drain"); err != nil {
		return scripts.Drained{}, err
	}
	inv, ok := w.inventory[n]
	if !ok || inv.Pool != pool {
		return scripts.Drained{}, vn.ErrNumberUnknown
	}
	if w.drained[n] {
		delete(w.inventory, n)
	}
	return scripts.Drained{Inventory: inv, Left: w.drained[n]}, nil
}

func (w *world) DrainFree(ctx context.Context, pool string, n vn.Number) (scripts.Drained, error) {
	if inv, ok := w.inventory[n]; ok && inv.Pool == pool && !w.drained[n] {
		return scripts.Drained{}, scripts.ErrBusy
	}
	return w.Drain(ctx, pool, n)
}

func sealed(fill byte) (s seal.Sealed) {
	for i := range s {
		s[i] = fill
	}
	return s
}

func allocation() *scripts.Allocation {
	return &scripts.Allocation{
		Assignment: vn.Assignment{
			OrderID: "o-1", Pool: "jakarta", State: vn.Active, ExpiresAt: leaseEnd,
			Parties: []vn.AssignedParty{{Role: "customer", VN: vnA}, {Role: "agent", VN: vnB}},
		},
		Carrier: "sim", Cooldown: 10 * time.Minute, KeyID: 3, Tokens: []seal.Token{{1}, {2}},
		Numbers: []scripts.LeasedNumber{
			{VN: vnA, Fence: 7, Sealed: []seal.Sealed{{}, sealed(0xa1)}},
			{VN: vnB, Fence: 7, Sealed: []seal.Sealed{sealed(0xb0), {}}},
		},
	}
}

func release(retired ...vn.Number) *scripts.Release {
	r := &scripts.Release{
		OrderID: "o-1", Known: true, Pool: "jakarta", Carrier: "sim", Reason: vn.Completed, EndedAt: leaseEnd,
		Numbers: []scripts.ReleasedNumber{{VN: vnA, Fence: 7}, {VN: vnB, Fence: 7}}, Cooldown: 10 * time.Minute,
	}
	for i := range r.Numbers {
		for _, n := range retired {
			r.Numbers[i].Retired = r.Numbers[i].Retired || r.Numbers[i].VN == n
		}
	}
	return r
}

func TestAssignRecordsThenAnnouncesThenSettles(t *testing.T) {
	t.Parallel()
	w := newWorld()
	require.NoError(t, w.ledger().Assign(t.Context(), allocation()))
	require.Equal(t, []string{"record 2 assigned", "vn.assigned", "settle assigned"}, w.steps)
	require.Equal(t, []uint64{101, 102}, w.fences)
	require.Equal(t, []events.VNAssigned{{
		OrderID: "o-1", Pool: "jakarta", ExpiresAt: leaseEnd,
		Parties: []events.VNParty{{Role: "customer", VN: "+12025550150"}, {Role: "agent", VN: "+12025550151"}},
	}}, w.assigned)
}

// What a rebuild needs of an order must be in the records, whatever is lost besides.
func TestAssignedRecordsHoldAllThatARebuildNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld()
	require.NoError(t, w.ledger().Assign(t.Context(), allocation()))
	first := events.Record{
		Kind: events.KindAssigned, VN: "12025550150", Pool: "jakarta", Carrier: "sim", Ref: "ref-12025550150",
		OrderID: "o-1", ExpiresAt: leaseEnd, Cooldown: 10 * time.Minute, KeyID: 3, Party: 0,
		Roles: []string{"customer", "agent"}, VNs: []string{"12025550150", "12025550151"},
		Tokens: [][]byte{allocation().Tokens[0][:], allocation().Tokens[1][:]},
		Sealed: [][]byte{nil, allocation().Numbers[0].Sealed[1][:]},
	}
	second := first
	second.VN, second.Ref, second.Party = "12025550151", "ref-12025550151", 1
	second.Sealed = [][]byte{allocation().Numbers[1].Sealed[0][:], nil}
	require.Empty(t, cmp.Diff([]events.Record{first, second}, w.records))
}

func TestEndRecordsThenRetiresThenAnnouncesThenSettles(t *testing.T) {
	t.Parallel()
	f := func(name string, r *scripts.Release, steps []string, fences []uint64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			require.NoError(t, w.ledger().End(t.Context(), r))
			require.Equal(t, steps, w.steps)
			require.Equal(t, fences, w.fences)
			require.Equal(t, []events.VNReleased{{OrderID: "o-1", Reason: "completed"}}, w.released)
			require.Equal(t, "ref-12025550150", w.records[0].Ref, "the carrier's id must outlive the order")
			require.Equal(t, leaseEnd, w.records[0].EndedAt)
		})
	}
	f("all rest", release(), []string{"record 2 released", "vn.released", "settle released"}, []uint64{101, 102})
	f("one retires", release(vnB),
		[]string{"record 2 released", "vn.released", "settle released"}, []uint64{101, 102})
	f("both retire", release(vnA, vnB),
		[]string{"record 2 retired", "vn.released", "settle released"}, []uint64{101, 102})
}

func TestSettledOrUnknownPublishesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, r, unknown := allocation(), release(), &scripts.Release{OrderID: "o-2"}
	a.Settled, r.Settled = true, true
	require.NoError(t, w.ledger().Assign(t.Context(), a))
	require.NoError(t, w.ledger().End(t.Context(), r))
	require.NoError(t, w.ledger().End(t.Context(), unknown))
	require.Empty(t, w.steps)
}

func TestAFailedStepStopsAllThatFollow(t *testing.T) {
	t.Parallel()
	assign := func(l *Ledger, ctx context.Context) error { return l.Assign(ctx, allocation()) }
	end := func(l *Ledger, ctx context.Context) error { return l.End(ctx, release(vnB)) }
	f := func(at string, do func(*Ledger, context.Context) error, steps int) {
		t.Helper()
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.failAt = at
			require.ErrorIs(t, do(w.ledger(), t.Context()), errFault)
			require.Len(t, w.steps, steps)
		})
	}
	f("inventory", assign, 0)
	f("record 2 assigned", assign, 1)
	f("order", assign, 1)
	f("vn.assigned", assign, 2)
	f("settle assigned", assign, 3)
	f("record 2 released", end, 1)
	f("vn.released", end, 2)
	f("settle released", end, 3)
}

// An end by another process may reach the ledger first. Then the assignment must not
// stand there as the last word, nor be announced.
func TestAnAssignmentThatItsEndOvertookIsNotAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.orders["o-1"] = vn.Assignment{OrderID: "o-1", State: vn.Ended}
	w.stands(vnA, 60, events.Record{Kind: events.KindReleased, OrderID: "o-1", EndedAt: time.Now()})
	require.ErrorIs(t, w.ledger().Assign(t.Context(), allocation()), vn.ErrOrderEnded)
	require.Empty(t, w.assigned)
	require.Equal(t, events.KindReleased, w.byVN[vnA.Digits()].Kind)
	require.NoError(t, w.ledger().End(t.Context(), release()))
	require.Equal(t, events.KindReleased, w.byVN[vnB.Digits()].Kind, "the end is written over what came late")
}

// TestWhatStandsInTheLedgerDecidesARace holds every record that can stand where an
// assignment is to be written.
func TestWhatStandsInTheLedgerDecidesARace(t *testing.T) {
	t.Parallel()
	soon, past := leaseEnd, time.Now().Add(-11*time.Minute)
	f := func(name string, last events.Record, wins bool, stands string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.stands(vnB, 70, last)
			err := w.ledger().Assign(t.Context(), allocation())
			require.Equal(t, stands, w.byVN[vnB.Digits()].Kind+" "+w.byVN[vnB.Digits()].OrderID)
			if wins {
				require.NoError(t, err)
				require.Len(t, w.assigned, 1)
				require.Equal(t, []uint64{w.last[vnA.Digits()], w.last[vnB.Digits()]}, w.fences)
				return
			}
			var race *LostError
			require.ErrorAs(t, err, &race)
			require.ErrorIs(t, err, vn.ErrUnavailable)
			require.Empty(t, w.assigned)
			require.Equal(t, []vn.Number{vnB}, race.Lost)
			require.Equal(t, []scripts.Fenced{{VN: vnA, Fence: w.last[vnA.Digits()]}}, race.Won)
			back := w.byVN[vnA.Digits()]
			require.Equal(t, events.KindReleased, back.Kind, "what was won is given back before the order takes others")
			require.Equal(t, "o-1", back.OrderID)
			require.NotContains(t, err.Error(), vnB.Digits())
		})
	}
	assigned := func(id string, end time.Time) events.Record {
		return events.Record{Kind: events.KindAssigned, OrderID: id, ExpiresAt: end, Cooldown: 10 * time.Minute}
	}
	released := func(id string, at time.Time) events.Record {
		return events.Record{Kind: events.KindReleased, OrderID: id, EndedAt: at, Cooldown: 10 * time.Minute}
	}
	f("its own", assigned("o-1", soon), true, "assigned o-1")
	f("its own before an extension", assigned("o-1", soon.Add(-time.Hour)), true, "assigned o-1")
	f("another order's", assigned("o-2", soon), false, "assigned o-2")
	f("another order's that ran out and rested", assigned("o-2", past), true, "assigned o-1")
	f("another order's that ran out a moment ago", assigned("o-2", time.Now().Add(-time.Minute)), false, "assigned o-2")
	f("released and rested", released("o-2", past), true, "assigned o-1")
	f("released a moment ago", released("o-2", time.Now()), false, "released o-2")
	f("given back by itself", released("o-1", past), false, "released o-1")
	f("owned anew", events.Record{Kind: events.KindOwned}, true, "assigned o-1")
	f("retired", events.Record{Kind: events.KindRetired}, false, "retired ")
}

// Two processes: one assigned, one extended, and the extension came first.
func TestAnAssignmentThatWasExtendedMeanwhileDoesNotShortenIt(t *testing.T) {
	t.Parallel()
	w, later := newWorld(), leaseEnd.Add(time.Hour)
	o := w.orders["o-1"]
	o.ExpiresAt = later
	w.orders["o-1"] = o
	for _, n := range []vn.Number{vnA, vnB} {
		w.stands(n, 70, events.Record{Kind: events.KindAssigned, OrderID: "o-1", ExpiresAt: later})
	}
	require.NoError(t, w.ledger().Assign(t.Context(), allocation()))
	require.Equal(t, later, w.byVN[vnA.Digits()].ExpiresAt)
	require.Len(t, w.assigned, 1)
	require.Equal(t, later, w.assigned[0].ExpiresAt)
}

// A stream that refuses for ever must not keep anybody busy for ever.
func TestAFenceThatNeverOpensIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld()
	busy := &busyBus{world: w}
	err := New(w, busy, nil, zerolog.Nop()).Assign(t.Context(), allocation())
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Equal(t, fenceTries, busy.tries)
	require.Empty(t, w.assigned)
}

type busyBus struct {
	*world
	tries int
}

func (b *busyBus) Record(_ context.Context, recs ...events.Record) (seqs []uint64, refused []int, err error) {
	b.tries++
	for i := range recs {
		refused = append(refused, i)
	}
	return make([]uint64, len(recs)), refused, nil
}

func TestAnOrderThatRedisForgotIsNotAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld()
	delete(w.orders, "o-1")
	require.ErrorIs(t, w.ledger().Assign(t.Context(), allocation()), vn.ErrUnavailable)
	require.Empty(t, w.assigned)
}
