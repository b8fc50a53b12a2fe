package events

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzCallJSON pins that the hand-written JSON of a call reads back as the same call.
func FuzzCallJSON(f *testing.F) {
	f.Add("twilio", "CA1", "+12025550101", "order-1", "connected", int64(1), int64(250))
	f.Add("", "\"\\\x00\n\u2028<&>é", "", "", "", int64(-1), int64(-1))
	f.Add("\xff\xfe", "a\xc3", "", "", "", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, carrier, call, vn, order, reason string, at, took int64) {
		c := CallDecided{
			Carrier: carrier, CallID: call, VN: vn, OrderID: order, Reason: reason,
			At: time.Unix(0, at%1e18).UTC(), TookUS: took,
		}
		var want, got CallDecided
		reference, err := json.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(reference, &want))
		require.NoError(t, json.Unmarshal(c.appendJSON(nil), &got))
		require.Equal(t, want, got)
	})
}
