package exotel_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/exotelsim"
)

// Whatever goes wrong, "bought" and "nothing bought" are true, and the list shows what
// was paid for.
func TestWhatABuyerIsToldIsTrue(t *testing.T) {
	t.Parallel()
	s := open(t, exotelsim.Config{}, exotel.NumbersConfig{Limits: carrier.Limits{Timeout: 200 * time.Millisecond, Failures: 1 << 30}})
	ctx, purchase := t.Context(), 0
	rapid.Check(t, func(t *rapid.T) {
		purchase++
		ref := "callmask:" + strconv.Itoa(purchase) + ":x"
		s.Inject(sim.Fault{
			Op: sim.OpBuy,
			Kind: rapid.SampledFrom([]sim.FaultKind{
				"none", sim.Fail, sim.Throttle, sim.HangUp, sim.Hang, sim.Garble, sim.Partial, sim.Snatch,
			}).Draw(t, "kind"),
			Status: rapid.SampledFrom([]int{0, 200, 202, 302, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504}).Draw(t, "status"),
		})
		number := s.Offer("IN", 1)[0]
		got, err := s.Buy(ctx, number, ref)
		bought := s.Purchases()
		paid := len(bought) > 0 && bought[len(bought)-1].Ref == ref
		switch {
		case err == nil:
			require.True(t, paid)
			require.Equal(t, number, got.Number)
		case carrier.NothingBought(err):
			require.False(t, paid, err)
		default:
			require.ErrorIs(t, err, carrier.ErrUnknownOutcome)
		}
		all, err := s.List(ctx)
		require.NoError(t, err)
		listed := false
		for _, b := range all {
			listed = listed || b.Number == number
		}
		require.Equal(t, paid, listed)
	})
	require.Equal(t, len(s.Purchases()), s.Owned())
}
