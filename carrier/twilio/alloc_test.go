//go:build !race

package twilio

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestDecodeDoesNotAllocate(t *testing.T) {
	c := codec(t, Config{})
	ctx := post(t, "/v1/carriers/twilio/voice", fields())
	forged := post(t, "/v1/carriers/twilio/voice", fields())
	forged.Request.Header.Set(signatureHeader, sign("wrong", public, nil))
	var call vn.Call
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if c.Decode(ctx, nil, &call) != nil {
			t.Error("refused")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if c.Decode(forged, nil, &call) == nil {
			t.Error("accepted")
		}
	}))
}

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

func TestDecodeMessageAndAppendMessageDoNotAllocate(t *testing.T) {
	c := codec(t, Config{})
	ctx := post(t, "/v1/carriers/twilio/sms", texting("plain"))
	d := vn.Decision{Destination: 447700900123, CallerID: 12025550102}
	dst := make([]byte, 0, 512)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		var m vn.Message
		if c.DecodeMessage(ctx, nil, &m) != nil {
			t.Error("refused")
		}
		c.AppendMessage(dst, &m, &d, vn.Relay)
		c.AppendMessage(dst, &m, &d, vn.RefuseMedia)
		c.AppendMessage(dst, &m, &d, vn.Drop)
	}))
}

func BenchmarkDecode(b *testing.B) {
	c, err := New(Config{AccountSID: account, AuthTokens: []string{token}, PublicURL: public})
	require.NoError(b, err)
	ctx := post(&testing.T{}, "/v1/carriers/twilio/voice", fields())
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, nil, &call) != nil {
			b.Fatal("refused")
		}
	}
}
