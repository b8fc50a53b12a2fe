//go:build !race

package telnyx

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestAppendAnswerDoesNotAllocate(t *testing.T) {
	connect := vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
	refuse := vn.Decision{Reason: vn.OrderEnded}
	dst := make([]byte, 0, 512)
	for _, cfg := range []Config{{Refusal: Say}, {StatusURL: statusURL}} {
		c := codec(t, cfg)
		require.Zero(t, testing.AllocsPerRun(200, func() {
			c.AppendAnswer(dst, nil, &connect)
			c.AppendAnswer(dst, nil, &refuse)
		}))
	}
}

// TestDecodeAllocatesOnlyTheID: Telnyx's ids hold a colon, which a form escapes, so
// the decoded id is a copy.
func TestDecodeAllocatesOnlyTheID(t *testing.T) {
	c := codec(t, Config{})
	escaped := post(voicePath, fields().Encode())
	plain := post(voicePath, "CallSid=v3:x&From=%2B12025550100&To=%2B12025550101")
	var call vn.Call
	require.Equal(t, 1.0, testing.AllocsPerRun(50, func() {
		if c.Decode(escaped, nil, &call) != nil {
			t.Error("refused")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(50, func() {
		if c.Decode(plain, nil, &call) != nil {
			t.Error("refused")
		}
	}))
}

func BenchmarkDecode(b *testing.B) {
	c := codec(b, Config{})
	ctx := post(voicePath, fields().Encode())
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, nil, &call) != nil {
			b.Fatal("refused")
		}
	}
}
