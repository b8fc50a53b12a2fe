package allocator

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

func message(event, data string) events.Message {
	return events.Message{Subject: "orders." + event, Data: []byte(data), Delivered: 1, Published: time.Now(), Sequence: 1}
}

const assignedEvent = `{"order_id":"o-1","pool":"jakarta","parties":[` +
	`{"role":"customer","number":"` + customer + `"},{"role":"agent","number":"` + agent + `"}]}`

var (
	assignSteps = []string{"allocate", "record assigned", "order", "vn.assigned", "settle assigned"}
	endSteps    = []string{"release", "record released", "vn.released", "settle released"}
)

// Redis, ledger, app, settle, and only then the acknowledgement: with any other
// order a crash in between could announce what a rebuild does not know.
func TestStepsComeInTheirOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned", assignedEvent)))
	require.Equal(t, assignSteps, w.trace.take())
	require.Equal(t, events.Done(), w.onEnded(t.Context(), message("completed", `{"order_id":"o-1"}`)))
	require.Equal(t, endSteps, w.trace.take())

	_, created, err := w.Assign(t.Context(), order("o-2"))
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, assignSteps, w.trace.take())
	_, err = w.Extend(t.Context(), "o-2", 2*time.Hour)
	require.NoError(t, err)
	require.Equal(t, []string{"order", "extend", "record assigned", "order", "vn.assigned", "settle assigned"}, w.trace.take())
	require.NoError(t, w.End(t.Context(), "o-2", vn.Cancelled))
	require.Equal(t, endSteps, w.trace.take())
}

// A process may die before or after each step took effect. The event comes again,
// and in the end the order has one assignment, announced once and settled.
func TestACrashAtAnyStepOfAnAssignmentIsHealedByTheSameEventAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 40)
	eachCrash(t, assignSteps, func(id, when, step string, fault error) {
		m := message("assigned", strings.Replace(assignedEvent, "o-1", id, 1))
		w.trace.failOnce(when, step, fault)
		first := w.onAssigned(t.Context(), m)
		require.NotEqual(t, events.Done(), first, "it must not be acknowledged")
		require.Equal(t, errors.Is(fault, errFault), first.Err() != nil, "only a fault of ours counts as a failed delivery")
		require.Equal(t, events.Done(), w.onAssigned(t.Context(), m))
		w.oneAssignment(t, id)
		w.trace.take() // settled: the event again does nothing
		require.Equal(t, events.Done(), w.onAssigned(t.Context(), m))
		require.Equal(t, []string{"allocate"}, w.trace.take())
		w.oneAssignment(t, id)
	})
	require.Equal(t, PoolStock{Name: "jakarta", Leased: 40, Total: 40}, w.stock(t))
}

func TestACrashAtAnyStepOfAnEndIsHealedByTheSameEventAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 40)
	eachCrash(t, endSteps, func(id, when, step string, fault error) {
		_, _, err := w.Assign(t.Context(), order(id))
		require.NoError(t, err)
		m := message("completed", `{"order_id":"`+id+`"}`)
		w.trace.failOnce(when, step, fault)
		require.NotEqual(t, events.Done(), w.onEnded(t.Context(), m))
		require.Equal(t, events.Done(), w.onEnded(t.Context(), m))
		require.Equal(t, events.VNReleased{OrderID: id, Reason: "completed"}, w.bus.released[len(w.bus.released)-1])
		w.trace.take()
		require.Equal(t, events.Done(), w.onEnded(t.Context(), m))
		require.Equal(t, []string{"release"}, w.trace.take())
	})
	require.Len(t, w.bus.released, 16)
	s := w.stock(t)
	require.Equal(t, []int{0, 40, 40}, []int{s.Leased, s.Total, s.Free + s.Cooling})
	for _, rec := range w.bus.last {
		require.NotEqual(t, events.KindAssigned, rec.Kind)
	}
}

func eachCrash(t *testing.T, steps []string, try func(id, when, step string, fault error)) {
	t.Helper()
	n := 0
	for _, when := range []string{"before", "after"} {
		for _, fault := range []error{errFault, vn.ErrUnavailable} {
			for _, step := range steps {
				n++
				t.Logf("%s %s: %v", when, step, fault)
				try("o-"+strconv.Itoa(n), when, step, fault)
			}
		}
	}
}

// oneAssignment holds an order in Redis, ledger and announcements against each other.
func (w *world) oneAssignment(t *testing.T, id string) {
	t.Helper()
	o, err := w.Order(t.Context(), id)
	require.NoError(t, err)
	var announced []events.VNAssigned
	for _, e := range w.bus.assigned {
		if e.OrderID == id {
			announced = append(announced, e)
		}
	}
	require.Len(t, announced, 1)
	require.Len(t, o.Parties, 2)
	for i, p := range o.Parties {
		require.Equal(t, events.VNParty{Role: p.Role, VN: p.VN.E164()}, announced[0].Parties[i])
		rec := w.bus.last[p.VN.Digits()]
		require.Equal(t, events.KindAssigned, rec.Kind)
		require.Equal(t, id, rec.OrderID)
		require.True(t, o.ExpiresAt.Equal(rec.ExpiresAt))
		inv, err := w.real.Inventory(t.Context(), p.VN)
		require.NoError(t, err)
		require.Equal(t, w.bus.seqs[p.VN.Digits()], inv.Fence, "the fence is the record's sequence")
		require.Equal(t, inv.Ref, rec.Ref)
	}
}

// What the ledger holds of an order must open with the keyset, and give the numbers.
func TestLedgerRecordsOpenWithTheKeyset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	_, _, err := w.Assign(t.Context(), order("o-1"))
	require.NoError(t, err)
	for _, rec := range w.bus.last {
		key, ok := w.keys.ByID(rec.KeyID)
		require.True(t, ok)
		calling := 1 - rec.Party
		require.Equal(t, rec.VN, rec.VNs[rec.Party])
		require.Empty(t, rec.Sealed[rec.Party])
		caller := key.Token(order("").Parties[calling].Number)
		require.Equal(t, caller[:], rec.Tokens[calling])
		n, err := key.Open(rec.Sealed[calling], []byte("o-1"), caller, byte(rec.Party))
		require.NoError(t, err)
		require.True(t, order("").Parties[rec.Party].Number == n)
		require.Equal(t, []string{"customer", "agent"}, rec.Roles)
	}
}

func TestALateAssignedChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	require.Equal(t, events.Done(), w.onEnded(t.Context(), message("cancelled", `{"order_id":"o-1"}`)))
	require.Equal(t, []string{"release"}, w.trace.take())
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned", assignedEvent)))
	require.Equal(t, []string{"allocate"}, w.trace.take())
	require.Empty(t, w.bus.assigned)
	require.Empty(t, w.bus.failed)
	o, err := w.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, vn.Assignment{OrderID: "o-1", State: vn.Ended, EndReason: vn.Cancelled}, o)
}

func TestAnExpiredOrderIsEndedForEveryVerbThoughNobodyReapedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	o := order("o-1")
	o.TTL = 300 * time.Millisecond
	_, _, err := w.Assign(t.Context(), o)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		got, err := w.Order(t.Context(), "o-1")
		return err == nil && got.State == vn.Ended && got.EndReason == vn.Expired && len(got.Parties) == 0
	}, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 2, w.stock(t).Leased, "nobody has reaped it")

	_, _, err = w.Assign(t.Context(), o)
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	_, err = w.Extend(t.Context(), "o-1", time.Hour)
	require.ErrorIs(t, err, vn.ErrOrderEnded)
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned", assignedEvent)))
	require.Empty(t, w.bus.failed)
	require.NoError(t, w.End(t.Context(), "o-1", vn.Completed))
	require.Equal(t, []events.VNReleased{{OrderID: "o-1", Reason: "expired"}}, w.bus.released)
	require.Equal(t, 0, w.stock(t).Leased)
}

func TestCarriersAreTriedInThePoolsOrderThenByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	other := []string{"+12025550170", "+12025550171"}
	_, err := w.Import(t.Context(), "jakarta", "twilio", other)
	require.NoError(t, err)
	first, _, err := w.Assign(t.Context(), order("o-1"))
	require.NoError(t, err)
	second, _, err := w.Assign(t.Context(), order("o-2"))
	require.NoError(t, err)
	for i := range 2 {
		require.Contains(t, vns(2), first.Parties[i].VN.E164())
		require.Contains(t, other, second.Parties[i].VN.E164())
	}
}

func TestALowPoolIsReportedOnceASecond(t *testing.T) {
	t.Parallel()
	p := jakarta()
	p.LowWater = 3
	w := newWorld(t, 6, p)
	for _, id := range []string{"o-1", "o-1", "o-2", "o-3", "o-4"} {
		if id == "o-2" {
			require.Empty(t, w.bus.low, "4 are free; a repeat does not count them")
			w.trace.take()
		}
		_, _, err := w.Assign(t.Context(), order(id))
		require.Equal(t, id == "o-4", errors.Is(err, vn.ErrPoolExhausted))
	}
	require.Equal(t, []events.PoolLow{{Pool: "jakarta", Free: 2, Target: 4}}, w.bus.low)
	steps := w.trace.take()
	require.Greater(t, slices.Index(steps, "pools.low"), slices.Index(steps, "settle assigned"),
		"an order finds it low after its own assignment is settled")
	require.Eventually(t, func() bool {
		_, _, err := w.Assign(t.Context(), order("o-4"))
		return errors.Is(err, vn.ErrPoolExhausted) && len(w.bus.low) == 2
	}, 5*time.Second, 50*time.Millisecond)
	require.Equal(t, events.PoolLow{Pool: "jakarta", Free: 0, Target: 4}, w.bus.low[1])
}

// A hint that cannot be given is no reason to refuse an order.
func TestAnOrderIsServedThoughTheLowHintFails(t *testing.T) {
	t.Parallel()
	p := jakarta()
	p.LowWater = 3
	w := newWorld(t, 4, p)
	w.trace.failOnce("before", "pools.low", vn.ErrUnavailable)
	_, created, err := w.Assign(t.Context(), order("o-1"))
	require.NoError(t, err)
	require.True(t, created)
	require.Contains(t, w.logs.String(), "cannot announce that a pool is low")
}

func TestChangesOfOneOrderWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	done, err := w.orders.hold(t.Context(), "o-1")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, err = w.Assign(ctx, order("o-1"))
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Empty(t, w.trace.take())
	done()
	_, _, err = w.Assign(t.Context(), order("o-1"))
	require.NoError(t, err)
}

func TestNothingIsAcceptedBeforeOurOwnNumbersAreKnown(t *testing.T) {
	t.Parallel()
	w := coldWorld(t)
	require.Error(t, w.Check(t.Context()))
	_, _, err := w.Assign(t.Context(), order("o-1"))
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Empty(t, w.trace.take())
}

// An emptied Redis must never look like a new one.
func TestAColdRedisIsMarkedReadyOnlyWhenTheLedgerNeverHeldARecord(t *testing.T) {
	t.Parallel()
	w := coldWorld(t)
	w.bus.seq = 1
	for range 3 {
		w.look(t.Context())
	}
	require.ErrorIs(t, w.Check(t.Context()), vn.ErrCold)
	require.Regexp(t, `^[^\n]*not ready to allocate[^\n]*\n$`, w.logs.String(), "one line, however often it looks")
	require.Contains(t, w.logs.String(), "callmask rebuild")
	ready, err := w.real.Ready(t.Context())
	require.NoError(t, err)
	require.False(t, ready)

	_, _, err = w.Assign(t.Context(), order("o-1"))
	require.ErrorIs(t, err, vn.ErrCold)
	_, err = w.Import(t.Context(), "jakarta", "sim", vns(2))
	require.ErrorIs(t, err, vn.ErrCold)
	require.Equal(t, uint64(1), w.bus.seq, "nothing may be recorded")
	require.Equal(t, events.Wait(waitLeast), w.onAssigned(t.Context(), message("assigned", assignedEvent)))

	require.NoError(t, w.real.MarkReady(t.Context())) // as a rebuild does
	w.look(t.Context())
	require.NoError(t, w.Check(t.Context()))

	fresh := coldWorld(t)
	fresh.look(t.Context())
	require.NoError(t, fresh.Check(t.Context()))
}

func TestRunEndsWhenToldTo(t *testing.T) {
	t.Parallel()
	w := coldWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	require.Eventually(t, func() bool { return w.Check(ctx) == nil }, 5*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func TestConfigErrorsNameTheSetting(t *testing.T) {
	t.Parallel()
	f := func(setting string, change func(*Config, *Pool)) {
		t.Helper()
		c := config()
		change(&c, &c.Pools[0])
		_, err := New(c, nil, nil, nil, prometheus.NewRegistry(), zerolog.Nop())
		require.ErrorContains(t, err, setting)
		require.Regexp(t, "^"+regexp.QuoteMeta(setting)+"[: ]", err.Error())
	}
	f("workers", func(c *Config, _ *Pool) { c.Workers = -1 })
	f("timeout", func(c *Config, _ *Pool) { c.Timeout = 1 })
	f("import_timeout", func(c *Config, _ *Pool) { c.ImportTimeout = time.Second })
	f("carriers", func(c *Config, _ *Pool) { c.Carriers = nil })
	f("carriers[1].name", func(c *Config, _ *Pool) { c.Carriers[1].Name = "sim" })
	f("carriers[1].name", func(c *Config, _ *Pool) { c.Carriers[1].Name = "{}" })
	f("carriers[1].id", func(c *Config, _ *Pool) { c.Carriers[1].ID = 1 })
	f("pools[0].name", func(_ *Config, p *Pool) { p.Name = "" })
	f("pools[0].name", func(_ *Config, p *Pool) { p.Name = "Jakarta" })
	f("pools[1].name", func(c *Config, p *Pool) { c.Pools = append(c.Pools, *p) })
	f("pools[0].region", func(_ *Config, p *Pool) { p.Region = "XX" })
	f("pools[0].carriers[1]", func(_ *Config, p *Pool) { p.Carriers = []string{"sim", "vonage"} })
	f("pools[0].carriers[1]", func(_ *Config, p *Pool) { p.Carriers = []string{"sim", "sim"} })
	f("pools[0].low_water", func(_ *Config, p *Pool) { p.LowWater = -1 })
	f("pools[0].low_water", func(_ *Config, p *Pool) { p.LowWater = p.Target + 1 })
	f("pools[0].target", func(_ *Config, p *Pool) { p.Target = p.Max + 1 })
	f("pools[0].cooldown", func(_ *Config, p *Pool) { p.Cooldown = MinCooldown - 1 })
	f("pools[0].ttl.default", func(_ *Config, p *Pool) { p.TTLDefault = 0 })
	f("pools[0].ttl.default", func(_ *Config, p *Pool) { p.TTLDefault = p.TTLMax + 1 })
	f("pools[0].assign_wait", func(_ *Config, p *Pool) { p.AssignWait = 0 })
	f("pools[0].destinations[1]", func(_ *Config, p *Pool) { p.Destinations = []string{"US", "ZZ"} })

	p := jakarta()
	p.Carriers, p.Destinations, p.LowWater, p.Target = nil, nil, 0, 0
	c := config(p)
	c.Carriers = append(c.Carriers, scripts.Carrier{Name: "exotel", ID: 3})
	pools, err := c.pools()
	require.NoError(t, err)
	require.Equal(t, []string{"US"}, pools["jakarta"].Destinations)
	require.Equal(t, []scripts.Carrier{{Name: "exotel", ID: 3}, {Name: "sim", ID: 1}, {Name: "twilio", ID: 2}}, pools["jakarta"].carriers)
}

// A Redis that has lost data offers VNs that another order has in the ledger: the fence
// refuses them, and the order gets others. Nobody hears of the VNs that it did not get.
func TestAnOrderNeverGetsANumberThatAnotherHasInTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 24)
	held := vns(4)
	for _, e164 := range held {
		n, ok := vn.ParseE164(e164)
		require.True(t, ok)
		w.bus.seq++
		w.bus.seqs[n.Digits()] = w.bus.seq
		w.bus.last[n.Digits()] = events.Record{
			Kind: events.KindAssigned, VN: n.Digits(), Pool: "jakarta", Carrier: "sim", OrderID: "o-forgotten",
			ExpiresAt: time.Now().Add(time.Hour), Cooldown: time.Minute,
		}
	}
	require.Eventually(t, func() bool {
		got, _, err := w.Assign(t.Context(), order("o-1"))
		if err != nil {
			require.ErrorIs(t, err, vn.ErrUnavailable)
			require.Empty(t, w.bus.assigned)
			return false
		}
		for _, p := range got.Parties {
			require.NotContains(t, held, p.VN.E164())
		}
		return true
	}, 5*time.Second, time.Millisecond)
	require.Len(t, w.bus.assigned, 1)
	for _, e164 := range held {
		n, _ := vn.ParseE164(e164)
		require.Equal(t, "o-forgotten", w.bus.last[n.Digits()].OrderID)
	}
}
