//go:build !race

package scripts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// TestAConnectedLookupAllocatesNothingOfItsOwn pins that between the Reader's answer and
// the decision, tokens and the opening of the sealed number included, nothing is
// allocated.
func TestAConnectedLookupAllocatesNothingOfItsOwn(t *testing.T) {
	f := newFixture(t, testkit.Redis(t).Client(t))
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "order-000001", customer, agent)
	value, err := f.client.HGet(t.Context(), vnKey(f.prefix, a.Numbers[0].VN), string(a.Tokens[1][:])).Bytes()
	require.NoError(t, err)
	f.reader = canned(value)
	d := vn.Decision{OrderID: make([]byte, 0, 64)}
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := f.Lookup(ctx, a.Numbers[0].VN, agent, &d); err != nil || d.Reason != vn.Connected {
			t.Errorf("%v, %v", d.Reason, err)
		}
	}))
	require.Equal(t, customer, d.Destination)
}
