package replenisher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const simWebhook = "http://127.0.0.1:8080/v1/carriers/sim/voice"

// keeper returns a replenisher that does not run: what it does is called by the test,
// and its clock goes before the real one by what later says.
func (g *rig) keeper(t *testing.T, numbers Numbers, later *time.Duration) *Replenisher {
	t.Helper()
	pool := jakarta
	pool.Fixed = true
	r, err := New(Config{
		Pools: []Pool{pool}, Carriers: map[string]CarrierConfig{"sim": {Numbers: numbers, WebhookURL: simWebhook}},
		CarrierCall: time.Second, SettleAfter: 3 * time.Second,
	}, g.store, g.bus, g.ledger, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	r.now = func() time.Time { return time.Now().Add(*later) }
	return r
}

// bought fills the pool through a replenisher that runs until the pool is full.
func (g *rig) bought(t *testing.T) {
	t.Helper()
	require.NoError(t, g.store.MarkReady(t.Context()))
	pool := jakarta
	pool.Fixed = true
	stop := g.replenisher(t, Config{Pools: []Pool{pool}, Sweep: 100 * time.Millisecond})
	g.filled(t, 60, 60)
	stop()
}

// agree holds that the carrier has what the inventory has, all attached to us.
func (g *rig) agree(t *testing.T, n int) {
	t.Helper()
	inventory, err := g.store.InventoryOf(t.Context(), "sim")
	require.NoError(t, err)
	list, err := g.client.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, n)
	held := map[vn.Number]string{}
	for _, b := range list {
		require.Equal(t, simWebhook, b.WebhookURL)
		held[b.Number] = b.Ref
	}
	have := map[vn.Number]string{}
	for number, inv := range inventory {
		have[number] = inv.Ref
	}
	require.True(t, maps.Equal(held, have), "the carrier has %d numbers, the inventory %d", len(held), len(have))
	audit, err := g.store.Audit(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, audit.Problems)
}

// Everything that can differ, over real servers, with a carrier that fails at each step.
func TestRealComparisonPutsRightWhatDiffers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.bought(t)
	var later time.Duration
	r := g.keeper(t, g.client, &later)
	ctx := t.Context()
	list, err := g.client.List(ctx)
	require.NoError(t, err)

	// Two orders hold numbers, and the carrier has lost one of those.
	a, err := g.store.Allocate(ctx, scripts.AllocateRequest{
		Order: vn.Order{ID: "o-1", Pool: "jakarta", TTL: time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: 6281100000001}, {Role: "agent", Number: 6281100000002},
		}},
		Cooldown: time.Second, Carriers: []scripts.Carrier{{Name: "sim", ID: 1}},
	})
	require.NoError(t, err)
	require.NoError(t, g.ledger.Assign(ctx, &a))
	leased := a.Numbers[0].VN
	inUse := []vn.Number{a.Numbers[0].VN, a.Numbers[1].VN}
	ours := slices.DeleteFunc(slices.Clone(list), func(b carrier.Bought) bool { return slices.Contains(inUse, b.Number) })
	at := slices.IndexFunc(list, func(b carrier.Bought) bool { return b.Number == leased })
	require.NoError(t, g.client.Release(ctx, list[at].Ref))
	require.NoError(t, g.client.Release(ctx, ours[0].Ref)) // a free ghost
	for _, b := range ours[1:4] {
		require.NoError(t, g.client.Configure(ctx, b, "https://old.example.com/v1/carriers/sim/voice"))
	}
	// A late purchase, a stray, another installation's number and somebody else's.
	offers, err := g.client.Search(ctx, "ID", 4)
	require.NoError(t, err)
	late := events.PurchaseIntent{VN: offers[0].Number.Digits(), Pool: "jakarta", Carrier: "sim", At: stamp(time.Now())}
	require.NoError(t, g.bus.Intent(ctx, late))
	require.NoError(t, g.bus.CloseIntent(ctx, late, events.OutcomeNotBought))
	buy := func(i int, ref, url string) {
		b, err := g.client.Buy(ctx, offers[i].Number, ref)
		require.NoError(t, err)
		if url != "" {
			require.NoError(t, g.client.Configure(ctx, b, url))
		}
	}
	buy(0, tag(late), "")
	buy(1, "callmask:somehow", "")
	buy(2, "callmask:other", "https://other.example.com/v1/carriers/sim/voice")
	buy(3, "hot line", "https://pbx.example.com")

	dry, err := r.Reconcile(ctx, "sim", ReconcileOptions{DryRun: true, Pool: "jakarta"})
	require.NoError(t, err)
	require.Equal(t, []int{62, 60, 1}, []int{dry.Listed, dry.Ours, dry.Foreign})
	require.Equal(t, 62, g.shop.Owned())

	for _, f := range []sim.Fault{
		{Op: sim.OpConfigure, Kind: sim.HangUp},
		{Op: sim.OpList, Kind: sim.Garble},
		{Op: sim.OpConfigure, Kind: sim.Fail},
		{Op: sim.OpList, Kind: sim.Throttle},
		{Op: sim.OpList, Kind: sim.Hang},
		{Op: sim.OpConfigure, Kind: sim.Throttle},
	} {
		g.shop.Inject(f)
	}
	var d Diff
	require.Eventually(t, func() bool { // a failure is put right by the next comparison
		later += 6 * time.Minute
		d, err = r.Reconcile(ctx, "sim", ReconcileOptions{Pool: "jakarta"})
		return err == nil && d.Failed == 0 && len(d.Rows) == 2
	}, 20*time.Second, time.Millisecond)
	actions := map[Action]int{}
	for _, row := range d.Rows {
		actions[row.Action]++
	}
	require.Equal(t, map[Action]int{Remove: 1, Report: 1}, actions, "the leased ghost, and the other installation's number: %+v", d.Rows)
	row := g.stock(ctx)
	require.Equal(t, []int{61, 59, 1, 1}, []int{row.Total, row.Free, row.Leased, row.Draining})

	// The order ends, and with it the ghost.
	ended, err := g.store.Release(ctx, "o-1", vn.Completed)
	require.NoError(t, err)
	require.NoError(t, g.ledger.End(ctx, &ended))
	d, err = r.Reconcile(ctx, "sim", ReconcileOptions{Pool: "jakarta", Force: true}) // takes the other's number too
	require.NoError(t, err)
	require.Zero(t, d.Failed)
	require.NoError(t, g.client.Release(ctx, refOf(t, g, offers[3].Number)))
	g.agree(t, 61)
	rec, _, err := g.bus.LastRecord(ctx, leased)
	require.NoError(t, err)
	require.Equal(t, events.KindRetired, rec.Kind)
}

func refOf(t *testing.T, g *rig, n vn.Number) string {
	t.Helper()
	list, err := g.client.List(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(list, func(b carrier.Bought) bool { return b.Number == n })
	require.NotEqual(t, -1, i)
	return list[i].Ref
}

// halfList is a carrier whose list changes while it is read, or breaks off.
type halfList struct {
	Numbers

	half func([]carrier.Bought) ([]carrier.Bought, error)
}

func (h halfList) List(ctx context.Context) ([]carrier.Bought, error) {
	all, err := h.Numbers.List(ctx)
	if err != nil {
		return nil, err
	}
	return h.half(all)
}

func TestRealListsThatLieRemoveNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.bought(t)
	var later time.Duration
	turn := 0
	broke := errors.New("the second page did not come")
	r := g.keeper(t, halfList{g.client, func(all []carrier.Bought) ([]carrier.Bought, error) {
		switch turn++; turn % 4 {
		case 0:
			return nil, broke
		case 1: // pages that shift while numbers go skip one here, another one there
			return append(all[:turn%50:turn%50], all[turn%50+1:]...), nil
		case 2:
			return all[:30], nil
		}
		return nil, nil
	}}, &later)
	for range 12 {
		later += time.Hour
		_, err := r.Reconcile(t.Context(), "sim", ReconcileOptions{})
		var brake *BrakeError
		if err != nil && !errors.As(err, &brake) {
			require.ErrorIs(t, err, broke)
		}
	}
	// A number that two lists lacked, with a braked one between them, is a ghost all the
	// same only when the lists agree on it; these did not.
	require.Equal(t, 60, g.stock(t.Context()).Total)
	g.agree(t, 60)
}

func TestRealSurplusAndReleasesAddUp(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.bought(t)
	var later time.Duration
	r := g.keeper(t, g.client, &later)
	ctx := t.Context()
	for _, f := range []sim.Fault{
		{Op: sim.OpRelease, Kind: sim.HangUp, Times: 2},
		{Op: sim.OpRelease, Kind: sim.Fail, Status: 403},
		{Op: sim.OpRelease, Kind: sim.Throttle},
		{Op: sim.OpRelease, Kind: sim.Hang},
		{Op: sim.OpRelease, Kind: sim.Garble},
	} {
		g.shop.Inject(f)
	}
	inventory, err := g.store.InventoryOf(ctx, "sim")
	require.NoError(t, err)
	numbers := slices.Sorted(maps.Keys(inventory))
	for _, n := range numbers[:8] {
		if how, err := r.Release(ctx, "jakarta", n); err == nil {
			require.Equal(t, Released, how)
		}
	}
	require.Less(t, g.stock(ctx).Total, 60)
	require.Eventually(t, func() bool {
		later += time.Hour
		d, err := r.Reconcile(ctx, "sim", ReconcileOptions{})
		return err == nil && len(d.Rows) == 0
	}, 20*time.Second, time.Millisecond)
	g.agree(t, 52)
	out := map[string]int{}
	require.NoError(t, g.bus.Intents(ctx, func(in events.PurchaseIntent, _ uint64) error {
		if in.Outcome != events.OutcomeNotBought {
			out[in.Outcome+in.Reason]++
		}
		return nil
	}))
	require.Equal(t, map[string]int{events.OutcomeBought: 52, events.OutcomeReleased + events.ReleasedOperator: 8}, out)
	require.Equal(t, 52, g.shop.Owned())
}

// fatBus has an intent of every number given.
type fatBus struct {
	Bus

	all []events.PurchaseIntent
}

func (b fatBus) Intents(_ context.Context, each func(events.PurchaseIntent, uint64) error) error {
	for i, in := range b.all {
		if err := each(in, uint64(i+1)); err != nil {
			return err
		}
	}
	return nil
}

// Ten thousand numbers, as many as one carrier account may well have.
func TestRealComparisonOfTenThousandNumbers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	require.NoError(t, g.store.MarkReady(t.Context()))
	var owned []scripts.Owned
	var all []carrier.Bought
	var intents []events.PurchaseIntent
	at := time.Now()
	for i := range 10_000 {
		n := vn.Number(621555501_0000 + i)
		owned = append(owned, scripts.Owned{VN: n, Ref: fmt.Sprintf("PN%d", i), Fence: 1})
		all = append(all, carrier.Bought{Number: n, Ref: fmt.Sprintf("PN%d", i), WebhookURL: simWebhook})
		intents = append(intents, events.PurchaseIntent{VN: n.Digits(), Pool: "jakarta", Carrier: "sim", At: at, ClosedAt: at, Outcome: events.OutcomeBought})
	}
	_, err := g.store.Refill(t.Context(), "jakarta", "sim", owned)
	require.NoError(t, err)
	var later time.Duration
	r := g.keeper(t, halfList{g.client, func([]carrier.Bought) ([]carrier.Bought, error) { return all[:9_900], nil }}, &later)
	r.bus = fatBus{g.bus, intents}
	began := time.Now()
	d, err := r.Reconcile(t.Context(), "sim", ReconcileOptions{})
	require.NoError(t, err)
	require.Len(t, d.Rows, 100)
	later = time.Hour
	d, err = r.Reconcile(t.Context(), "sim", ReconcileOptions{})
	require.NoError(t, err)
	require.Zero(t, d.Failed)
	require.Equal(t, 9_900, g.stock(t.Context()).Total)
	require.Less(t, time.Since(began), 30*time.Second)
}
