//go:build !race

package vonage

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// Reading a token and a JSON body allocates; answering does not.
func TestAppendAnswerDoesNotAllocate(t *testing.T) {
	c := codec(t, Config{StatusURL: status})
	connect, refuse := connected(), &vn.Decision{Reason: vn.OrderEnded}
	connect.OrderID = []byte(strings.Repeat("x", 64))
	dst := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		c.AppendAnswer(dst, nil, connect)
		c.AppendAnswer(dst, nil, refuse)
	}))
}

func BenchmarkDecode(b *testing.B) {
	c := codec(b, Config{})
	ctx := signed(voice, answer)
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, nil, &call) != nil {
			b.Fatal("refused")
		}
	}
}
