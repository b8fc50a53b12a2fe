package events

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// FuzzCallJSON pins that the hand-written JSON of a call reads back as the same call.
func FuzzCallJSON(f *testing.F) {
	f.Add("twilio", []byte("CA1"), uint64(12025550101), []byte("order-1"), uint8(vn.Connected), int64(1), int64(250))
	f.Add("", []byte("\"\\\x00\n\u2028<&>é"), uint64(0), []byte(""), uint8(vn.Unavailable), int64(-1), int64(-1))
	f.Add("\xff\xfe", []byte("a\xc3"), uint64(0), []byte(nil), uint8(1), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, carrier string, call []byte, number uint64, order []byte, reason uint8, at, took int64) {
		d := Decision{
			Carrier: carrier, CallID: call, VN: vn.Number(number), OrderID: order, Reason: vn.Reason(reason % vn.Reasons),
			At: time.Unix(0, at%1e18).UTC(), Took: time.Duration(took),
		}
		c := CallDecided{
			Carrier: carrier, CallID: string(call), OrderID: string(order), Reason: d.Reason.String(), At: d.At, TookUS: d.Took.Microseconds(),
		}
		if d.VN != 0 {
			c.VN = d.VN.E164()
		}
		var want, got CallDecided
		reference, err := json.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(reference, &want))
		require.NoError(t, json.Unmarshal(d.appendJSON(nil), &got))
		require.Equal(t, want, got)
	})
}

// TestABatchKeepsWhatItWasGiven pins that a batch copies: the router uses its buffers
// again at once.
func TestABatchKeepsWhatItWasGiven(t *testing.T) {
	t.Parallel()
	var q callBatch
	for round := range 2 {
		id, order := []byte("call-x"), []byte("order-x")
		for i := range 100 {
			id[5], order[6] = byte(i), byte(100+i)
			q.add(&Decision{CallID: id, OrderID: order})
		}
		for i := range 100 {
			require.Equal(t, "call-"+string([]byte{byte(i)}), string(q.calls[i].CallID), round)
			require.Equal(t, "order-"+string([]byte{byte(100 + i)}), string(q.calls[i].OrderID), round)
		}
		q.reset()
	}
}
