//go:build !race

package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// TestTheWebhookStaysCheap: the simulated carrier may use encoding/json, but load
// runs go through it too, so its cost has a ceiling.
func TestTheWebhookStaysCheap(t *testing.T) {
	c := codec(t, "one", "two")
	ctx := post(good, Sign("two", noon, []byte(good)))
	var call vn.Call
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if c.Decode(ctx, nil, &call) != nil {
			t.Error("refused")
		}
	}), 70.0)
	d := vn.Decision{Destination: 447700900123, CallerID: 12025550102, RingTimeout: 30 * time.Second, MaxDuration: time.Hour}
	dst := make([]byte, 0, 512)
	require.Zero(t, testing.AllocsPerRun(100, func() { c.AppendAnswer(dst, &call, &d) }))
}
