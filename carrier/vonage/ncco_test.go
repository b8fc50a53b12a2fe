package vonage

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const status = "https://calls.example.com/v1/carriers/vonage/status"

func connected() *vn.Decision {
	return &vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
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

func TestACallIsNoLongerThanVonageAllows(t *testing.T) {
	t.Parallel()
	d := connected()
	d.MaxDuration = 24 * time.Hour
	body, _, _ := codec(t, Config{}).AppendAnswer(nil, new(vn.Call), d)
	require.Equal(t, strings.Replace(golden(t, "connect.json"), `"limit":3600`, `"limit":7200`, 1), string(body))
}

func TestRefusalsAreValidAnswersAndAllAlike(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"refusal.json": {StatusURL: status}, "refusal_language.json": {Text: "Nomor \"ini\" tidak tersedia.\n\\", Language: "id-ID"},
	} {
		c := codec(t, cfg)
		for reason := range vn.Reason(vn.Reasons) {
			if reason == vn.Connected || reason == vn.Unavailable {
				continue
			}
			d := connected() // what is left in it must not matter
			d.Reason = reason
			body, mediaType, code := c.AppendAnswer(nil, &vn.Call{Called: 442079460000}, d)
			require.Equal(t, golden(t, name), string(body), reason)
			require.Equal(t, "application/json", mediaType)
			require.Equal(t, http.StatusOK, code)
		}
	}
}

func TestOurOwnFailureSendsVonageToItsFallback(t *testing.T) {
	t.Parallel()
	for _, d := range []vn.Decision{
		{Reason: vn.Unavailable},
		{Reason: vn.Connected, Destination: 447700900123},
		{Reason: vn.Connected, CallerID: 12025550102},
	} {
		body, _, code := codec(t, Config{}).AppendAnswer([]byte("before"), new(vn.Call), &d)
		require.Equal(t, "before", string(body))
		require.Equal(t, http.StatusServiceUnavailable, code)
	}
}

// FuzzNCCO reads answers with encoding/json: whatever is decided and set, they hold
// exactly one action with exactly the two numbers, or the text that was set.
func FuzzNCCO(f *testing.F) {
	f.Add(uint64(447700900123), uint64(12025550102), int64(30), int64(3600), "order-1", "The \"number\" \\", "en-GB", uint8(0))
	f.Add(uint64(0), uint64(12025550102), int64(0), int64(-1), "x", `"},{"action":"connect"`, `","x":"`, uint8(1))
	f.Add(uint64(1234567), uint64(999999999999999), int64(1), int64(1), `"],"endpoint":[]`, "\x00\xff", "", uint8(0))
	f.Fuzz(func(t *testing.T, destination, callerID uint64, ring, most int64, order, words, language string, reason uint8) {
		c, err := New(Config{APIKey: apiKey, Secrets: []string{secret}, StatusURL: status, Text: words, Language: language})
		if err != nil {
			require.True(t, len(words) > maxText || strings.TrimSpace(words) == "")
			return
		}
		d := vn.Decision{
			Reason: vn.Reason(reason % vn.Reasons), Destination: vn.Number(destination), CallerID: vn.Number(callerID),
			OrderID: []byte(order), RingTimeout: time.Duration(ring), MaxDuration: time.Duration(most),
		}
		body, _, code := c.AppendAnswer(nil, new(vn.Call), &d)
		if code == http.StatusServiceUnavailable {
			require.Empty(t, body)
			require.True(t, d.Reason == vn.Unavailable || !d.Destination.Valid() || !d.CallerID.Valid())
			return
		}
		var actions []struct {
			Action   string `json:"action"`
			From     string `json:"from"`
			Timeout  int64  `json:"timeout"`
			Limit    int64  `json:"limit"`
			Endpoint []struct {
				Type   string `json:"type"`
				Number string `json:"number"`
			} `json:"endpoint"`
			EventURL []string `json:"eventUrl"`
			Text     string   `json:"text"`
			Language string   `json:"language"`
		}
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&actions), "%q", body)
		require.False(t, dec.More())
		require.Len(t, actions, 1)
		a := actions[0]
		if d.Reason != vn.Connected {
			require.Equal(t, "talk", a.Action)
			require.Empty(t, a.Endpoint)
			if words != "" {
				require.Equal(t, string([]rune(words)), a.Text)
			}
			require.Equal(t, string([]rune(language)), a.Language)
			return
		}
		require.Equal(t, "connect", a.Action)
		require.Equal(t, d.CallerID.Digits(), a.From)
		require.Len(t, a.Endpoint, 1)
		require.Equal(t, "phone", a.Endpoint[0].Type)
		require.Equal(t, d.Destination.Digits(), a.Endpoint[0].Number)
		require.Positive(t, a.Timeout)
		require.Positive(t, a.Limit)
		require.LessOrEqual(t, a.Limit, int64(7200))
		require.Len(t, a.EventURL, 1)
		require.True(t, strings.HasPrefix(a.EventURL[0], status))
	})
}
