//go:build !race

package plivo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestDecodeDoesNotAllocate(t *testing.T) {
	c := codec(t, Config{AuthTokens: []string{"old", token}})
	var call vn.Call
	forged := post(voiceURI, fields())
	forged.Request.Header.Set(signatureHeader, sign("wrong", "POST", public+voiceURI, nonce, fields()))
	for name, ctx := range map[string]*requestCtx{"POST": post(voiceURI, fields()), "GET": get(voiceURI, fields())} {
		require.Zero(t, testing.AllocsPerRun(200, func() {
			if c.Decode(ctx, nil, &call) != nil {
				t.Error("refused")
			}
		}), name)
	}
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if c.Decode(forged, nil, &call) == nil {
			t.Error("accepted")
		}
	}))
}

func TestAppendAnswerDoesNotAllocate(t *testing.T) {
	c := codec(t, Config{Refusal: Say, StatusURL: statusURL})
	connect := vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
	refuse := vn.Decision{Reason: vn.OrderEnded}
	dst := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		c.AppendAnswer(dst, nil, &connect)
		c.AppendAnswer(dst, nil, &refuse)
	}))
}

func BenchmarkDecode(b *testing.B) {
	c, err := New(Config{AuthID: account, AuthTokens: []string{token}, PublicURL: public})
	require.NoError(b, err)
	ctx := post(voiceURI, fields())
	var call vn.Call
	b.ReportAllocs()
	for b.Loop() {
		if c.Decode(ctx, nil, &call) != nil {
			b.Fatal("refused")
		}
	}
}
