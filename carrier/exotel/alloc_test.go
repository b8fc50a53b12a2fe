//go:build !race

package exotel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestDecodeAndAppendAnswerDoNotAllocate(t *testing.T) {
	c := codec(t, Config{StatusURL: status})
	ctx := get(query().Encode())
	right, plus, wrong := []byte(secret), query(), []byte("not-the-secret-of-ours")
	plus.Set("CallFrom", "+915555510000")
	foreign := get(plus.Encode())
	connect, refuse := connected(), &vn.Decision{Reason: vn.OrderEnded}
	connect.OrderID = []byte(strings.Repeat("x", 64))
	dst := make([]byte, 0, 1024)
	var call vn.Call
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if c.Decode(ctx, right, &call) != nil || c.Decode(foreign, right, &call) != nil || c.Decode(ctx, wrong, &call) == nil {
			t.Error("a request was judged wrongly")
		}
		c.AppendAnswer(dst, &call, connect)
		c.AppendAnswer(dst, &call, refuse)
	}))
}

func BenchmarkDecode(b *testing.B) {
	c := codec(b, Config{})
	ctx := get(query().Encode())
	key := []byte(secret)
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, key, &call) != nil {
			b.Fatal("refused")
		}
	}
}
