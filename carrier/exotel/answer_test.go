package exotel

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const status = "https://calls.example.com/v1/carriers/exotel/status/" + secret

// golden returns an answer as it was pinned.
func golden(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.True(t, json.Valid(data))
	return string(bytes.TrimSuffix(data, []byte{'\n'}))
}

func connected() *vn.Decision {
	return &vn.Decision{
		Destination: 915555510001, CallerID: 918055550002, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
}

func TestConnectedCallsAreDialledWithTheVNAsCallerID(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{"connect.json": {}, "connect_status.json": {StatusURL: status}} {
		body, mediaType, code := codec(t, cfg).AppendAnswer([]byte("before"), new(vn.Call), connected())
		require.Equal(t, "before"+golden(t, name), string(body))
		require.Equal(t, "application/json", mediaType)
		require.Equal(t, http.StatusOK, code)
	}
}

func TestRefusalsAreValidAnswersAndAllAlike(t *testing.T) {
	t.Parallel()
	for _, fallback := range []bool{false, true} {
		c := codec(t, Config{Fallback: fallback, StatusURL: status})
		for reason := range vn.Reason(vn.Reasons) {
			if reason == vn.Connected || reason == vn.Unavailable {
				continue
			}
			d := connected() // what is left in it must not matter
			d.Reason = reason
			body, mediaType, code := c.AppendAnswer(nil, &vn.Call{Called: 918055550001}, d)
			require.Equal(t, golden(t, "refusal.json"), string(body), reason)
			require.Equal(t, "application/json", mediaType)
			require.Equal(t, http.StatusOK, code)
		}
	}
}

func TestOurOwnFailureSendsExotelToItsFallbackIfThereIsOne(t *testing.T) {
	t.Parallel()
	for _, d := range []vn.Decision{
		{Reason: vn.Unavailable},
		{Reason: vn.Connected, Destination: 915555510001},
		{Reason: vn.Connected, CallerID: 918055550002},
	} {
		body, _, code := codec(t, Config{Fallback: true}).AppendAnswer([]byte("before"), new(vn.Call), &d)
		require.Equal(t, "before", string(body))
		require.Equal(t, http.StatusServiceUnavailable, code)
		body, mediaType, code := codec(t, Config{}).AppendAnswer(nil, new(vn.Call), &d)
		require.Equal(t, golden(t, "refusal.json"), string(body))
		require.Equal(t, "application/json", mediaType)
		require.Equal(t, http.StatusOK, code)
	}
}

// FuzzAnswer reads answers with encoding/json: whatever is decided, they hold exactly the
// two numbers, or none.
func FuzzAnswer(f *testing.F) {
	f.Add(uint64(915555510001), uint64(918055550002), int64(30), int64(3600), "order-1", uint8(0))
	f.Add(uint64(0), uint64(918055550002), int64(0), int64(-1), `","destination":{"numbers":["+915555510009"]},"x":"`, uint8(0))
	f.Add(uint64(1234567), uint64(999999999999999), int64(1), int64(1), "\x00\xff", uint8(0))
	f.Add(uint64(915555510001), uint64(918055550002), int64(30), int64(3600), "order-1", uint8(3))
	c := codec(f, Config{StatusURL: status})
	f.Fuzz(func(t *testing.T, destination, callerID uint64, ring, most int64, order string, reason uint8) {
		d := vn.Decision{
			Reason: vn.Reason(reason % vn.Reasons), Destination: vn.Number(destination), CallerID: vn.Number(callerID),
			OrderID: []byte(order), RingTimeout: time.Duration(ring), MaxDuration: time.Duration(most),
		}
		body, _, code := c.AppendAnswer(nil, new(vn.Call), &d)
		require.Equal(t, http.StatusOK, code)
		var got struct {
			Again       *bool `json:"fetch_after_attempt"`
			Destination struct {
				Numbers []string `json:"numbers"`
			} `json:"destination"`
			CallerID string         `json:"outgoing_phone_number"`
			Record   bool           `json:"record"`
			Ring     int64          `json:"max_ringing_duration"`
			Most     int64          `json:"max_conversation_duration"`
			Music    map[string]any `json:"music_on_hold"`
			Parallel map[string]any `json:"parallel_ringing"`
			Status   string         `json:"dial_passthru_event_url"`
		}
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&got))
		require.False(t, dec.More())
		require.False(t, *got.Again)
		require.False(t, got.Record)
		if d.Reason != vn.Connected || !d.Destination.Valid() || !d.CallerID.Valid() {
			require.Equal(t, refusal, string(body))
			return
		}
		require.Equal(t, []string{d.Destination.E164()}, got.Destination.Numbers)
		require.Equal(t, d.CallerID.E164(), got.CallerID)
		require.Positive(t, got.Ring)
		require.Positive(t, got.Most)
		if vn.CheckOrderID(order) == nil {
			require.Equal(t, status+"?order_id="+order, got.Status)
		} else {
			require.Equal(t, status, got.Status)
		}
	})
}
