package scripts

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

func testExplainTellsWhatADecisionRestsOn(t *testing.T, f *fixture) {
	t.Helper()
	explain := func(called, calling vn.Number) *Facts {
		before := f.dump(t, nil)
		facts, err := f.Explain(t.Context(), called, calling)
		require.NoError(t, err)
		require.Equal(t, f.lookup(t, called, calling), facts.Decision)
		require.Equal(t, before, f.dump(t, nil), "it changes nothing")
		require.Equal(t, []any{0, 1, true, []byte{1}}, []any{facts.Partition, facts.Partitions, facts.Ready, facts.Keys})
		require.NotEmpty(t, facts.Node)
		require.Equal(t, f.now, facts.Clock)
		return facts
	}

	unknown := explain(vns(1)[0], customer)
	require.Nil(t, unknown.Inventory)
	require.Equal(t, []any{NumberState(""), vn.NumberNotAssigned}, []any{unknown.State, unknown.Decision.Reason})

	f.refill(t, sim, vns(3)...)
	a := f.allocate(t, "o", customer, agent)
	toCustomer, toAgent := a.Numbers[0].VN, a.Numbers[1].VN
	free, err := f.SomeFree(t.Context(), pool, "sim", 1)
	require.NoError(t, err)
	idle := explain(free[0], customer)
	require.Equal(t, StateFree, idle.State)
	require.Equal(t, &Inventory{Pool: pool, Carrier: "sim", Owned: Owned{VN: free[0], Ref: "PN1", Fence: 5}}, idle.Inventory)
	require.Nil(t, idle.Order)

	hit := explain(toAgent, customer)
	require.Equal(t, []any{StateLeased, vn.Connected, 1, sim.ID}, []any{hit.State, hit.Decision.Reason, hit.Callers, hit.Carrier})
	require.Equal(t, agent, hit.Decision.Destination)
	require.Equal(t, &BindingFacts{KeyID: 1, LeaseEnd: epoch.Add(ttl)}, hit.Binding)
	require.Equal(t, &OrderFacts{
		ID: "o", Pool: pool, LeaseEnd: epoch.Add(ttl), KeyID: 1, Own: 1, Caller: 0,
		Parties: []vn.AssignedParty{{Role: "customer", VN: toCustomer}, {Role: "agent", VN: toAgent}},
	}, hit.Order)

	own := explain(toAgent, agent) // a party that dials its own number
	require.Equal(t, []any{vn.CallerNotAllowed, 1, 1}, []any{own.Decision.Reason, own.Order.Caller, own.Order.Own})
	other := explain(toAgent, stranger)
	require.Equal(t, []any{vn.CallerNotAllowed, -1}, []any{other.Decision.Reason, other.Order.Caller})
	require.Nil(t, other.Binding)
	require.NotContains(t, fmt.Sprintf("%+v", hit), agent.Digits())

	_, err = f.Drain(t.Context(), pool, toAgent)
	require.NoError(t, err)
	require.Equal(t, StateDraining, explain(toAgent, customer).State)

	_, err = f.Release(t.Context(), "o", vn.Completed)
	require.NoError(t, err)
	ended := explain(toCustomer, agent)
	require.Equal(t, []any{StateCooling, vn.OrderEnded, epoch.Add(ttl + cooldown)}, []any{ended.State, ended.Decision.Reason, ended.ReusableAt})
	require.Equal(t, &EndedFacts{OrderID: "o", Reason: vn.Completed, At: epoch}, ended.Ended)
	require.Equal(t, vn.NumberNotAssigned, explain(toCustomer, stranger).Decision.Reason)
	retired := explain(toAgent, customer)
	require.Nil(t, retired.Inventory, "the drained number has left")
	require.Equal(t, vn.OrderEnded, retired.Decision.Reason, "and its former party is told so all the same")

	f.advance(t, ttl+cooldown)
	require.Equal(t, StateFree, explain(toCustomer, agent).State, "a number that has rested is free, moved or not")
}

func TestExplainWithSeveralPartitions(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, testkit.Redis(t).Client(t), 4)
	f.refill(t, sim, vns(40)...)
	seen := map[int]bool{}
	for i := range 6 {
		a := f.allocate(t, fmt.Sprintf("o-%d", i), customer, agent)
		facts, err := f.Explain(t.Context(), a.Numbers[1].VN, customer)
		require.NoError(t, err)
		require.Equal(t, []any{vn.Connected, 4, a.Assignment.OrderID, 0}, []any{facts.Decision.Reason, facts.Partitions, facts.Order.ID, facts.Order.Caller})
		require.Equal(t, f.layout.ofVN(a.Numbers[1].VN), f.layout.prefixes[facts.Partition])
		require.Equal(t, f.now, facts.Clock)
		seen[facts.Partition] = true
	}
	require.Greater(t, len(seen), 1)
}

func testExplainOfALeaseThatHasRunOut(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "o", customer, agent)
	f.advance(t, ttl)
	facts, err := f.Explain(t.Context(), a.Numbers[1].VN, customer)
	require.NoError(t, err)
	require.Equal(t, []any{StateLeased, 0, vn.NumberNotAssigned}, []any{facts.State, facts.Callers, facts.Decision.Reason})
	require.Nil(t, facts.Order)
}

func testTheClockIsThatOfRedis(t *testing.T, f *fixture) {
	t.Helper()
	now, err := f.Clock(t.Context())
	require.NoError(t, err)
	require.Less(t, now, f.now, "not the high-water mark")
}
