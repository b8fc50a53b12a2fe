//go:build !race

package softswitch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestDecodeAndAppendAnswerDoNotAllocate(t *testing.T) {
	c := codec(t, "another")
	ctx := request("called=%2B12025550101&calling=%2B12025550100&call_id=abc", "Bearer "+token)
	connect := vn.Decision{Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour}
	refuse := vn.Decision{Reason: vn.OrderEnded}
	dst := make([]byte, 0, 512)
	var call vn.Call
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if c.Decode(ctx, nil, &call) != nil {
			t.Error("refused")
		}
		c.AppendAnswer(dst, &call, &connect)
		c.AppendAnswer(dst, &call, &refuse)
	}))
}

func BenchmarkDecode(b *testing.B) {
	c := codec(b)
	ctx := request("called=%2B12025550101&calling=%2B12025550100&call_id=abc", "Bearer "+token)
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, nil, &call) != nil {
			b.Fatal("refused")
		}
	}
}
