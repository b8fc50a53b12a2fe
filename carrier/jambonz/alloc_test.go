//go:build !race

package jambonz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestAppendAnswerDoesNotAllocate(t *testing.T) {
	say := codec(t, Config{Refusal: Say, Text: `The "number"`, Language: "id-ID"})
	c := codec(t, Config{Trunk: "carrier1", StatusURL: "https://calls.example.com/v1/carriers/jambonz/status"})
	connect := vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
	refuse := vn.Decision{Reason: vn.OrderEnded}
	dst := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		c.AppendAnswer(dst, nil, &connect)
		c.AppendAnswer(dst, nil, &refuse)
		say.AppendAnswer(dst, nil, &refuse)
		c.AppendProgressAnswer(dst)
	}))
}

func BenchmarkDecode(b *testing.B) {
	c := codec(b, Config{})
	ctx := post("/v1/carriers/jambonz/voice", good)
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, nil, &call) != nil {
			b.Fatal("refused")
		}
	}
}
