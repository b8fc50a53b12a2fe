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
		orders: map[string]vn.Assignment{"o-1": {OrderID: "o-1", State: vn.Active}}, drained: map[vn.Number]bool{}, seq: 100,
	}
	for _, n := range []vn.Number{vnA, vnB} {
		w.inventory[n] = inventory(n, "jakarta", "sim", 7)
	}
	return w
}

func inventory(n vn.Number, pool, carrier string, fence uint64) scripts.Inventory {
	return scripts.Inventory{Owned: scripts.Owned{VN: n, Ref: "ref-" + n.Digits(), Fence: fence}, Pool: pool, Carrier: carrier}
}

func (w *world) ledger() *Ledger { return New(w, w, zerolog.Nop()) }

func (w *world) step(name string) error {
	w.steps = append(w.steps, name)
	if name == w.failAt {
		return errFault
	}
	return nil
}

func (w *world) Record(_ context.Context, recs ...events.Record) ([]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step(fmt.Sprintf("record %d %s", len(recs), recs[0].Kind)); err != nil {
		return make([]uint64, len(recs)), err
	}
	seqs := make([]uint64, len(recs))
	for i, r := range recs {
		w.seq++
		seqs[i], w.last[r.VN], w.byVN[r.VN] = w.seq, w.seq, r
	}
	w.records = append(w.records, recs...)
	return seqs, nil
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
		RestedBy: time.Now().Add(time.Hour),
		Numbers:  []scripts.ReleasedNumber{{VN: vnA, Fence: 8}, {VN: vnB, Fence: 9}},
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
		[]string{"record 2 released", "record 1 retired", "vn.released", "settle released"}, []uint64{101, 103})
	f("both retire", release(vnA, vnB),
		[]string{"record 2 released", "record 2 retired", "vn.released", "settle released"}, []uint64{103, 104})
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
	f("record 1 retired", end, 2)
	f("vn.released", end, 3)
	f("settle released", end, 4)
}

// An end by another process may reach the ledger first. Then the assignment must not
// stand there as the last word, nor be announced.
func TestAnAssignmentThatItsEndOvertookIsTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.orders["o-1"] = vn.Assignment{OrderID: "o-1", State: vn.Ended}
	w.ended = release(vnB)
	w.ended.Settled = true
	require.ErrorIs(t, w.ledger().Assign(t.Context(), allocation()), vn.ErrOrderEnded)
	require.Empty(t, w.assigned)
	require.Len(t, w.steps, 6)
	require.Equal(t, []string{"record 2 assigned", "release"}, w.steps[:2])
	require.ElementsMatch(t, []string{"record 1 released", "record 1 retired"}, w.steps[2:4])
	require.Equal(t, []string{"vn.released", "settle released"}, w.steps[4:])
	require.Equal(t, []uint64{w.last[vnA.Digits()], w.last[vnB.Digits()]}, w.fences)
	for n, kind := range map[vn.Number]string{vnA: events.KindReleased, vnB: events.KindRetired} {
		rec := w.byVN[n.Digits()]
		require.Equal(t, kind, rec.Kind)
		require.Equal(t, "ref-"+n.Digits(), rec.Ref)
		require.NotEqual(t, w.ended.EndedAt, rec.EndedAt, "the stream would drop it as a repeat")
	}

	// The end comes to the ledger after the assignment: nothing is left to do.
	late := newWorld()
	late.orders["o-1"], late.ended = w.orders["o-1"], release()
	require.NoError(t, late.ledger().End(t.Context(), late.ended))
	late.steps = nil
	require.ErrorIs(t, late.ledger().overtaken(t.Context(), "o-1"), vn.ErrOrderEnded)
	require.Equal(t, []string{"release", "vn.released", "settle released"}, late.steps)

	// Another order has the number since.
	late.given(events.Record{Kind: events.KindAssigned, OrderID: "o-2"})
	late.ended.Numbers = []scripts.ReleasedNumber{{VN: vnC, Fence: 3}}
	late.steps = nil
	require.ErrorIs(t, late.ledger().overtaken(t.Context(), "o-1"), vn.ErrOrderEnded)
	require.Equal(t, []string{"release", "vn.released", "settle released"}, late.steps)
	require.Equal(t, []uint64{late.last[vnC.Digits()]}, late.fences, "the newest sequence known of it")
}

func TestAnOrderThatRedisForgotIsNotAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld()
	delete(w.orders, "o-1")
	require.ErrorIs(t, w.ledger().Assign(t.Context(), allocation()), vn.ErrUnavailable)
	require.Empty(t, w.assigned)
}
