package plivo

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// golden holds an answer against a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name + ".xml")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), name)
}

func TestConnectedCallsAreDialledWithTheVNAsCallerID(t *testing.T) {
	t.Parallel()
	d := vn.Decision{
		Destination: 447700900123, CallerID: 12025550102, OrderID: []byte("order-1"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour,
	}
	body, mediaType, status := codec(t, Config{}).AppendAnswer([]byte("before"), new(vn.Call), &d)
	golden(t, "connect", body[len("before"):])
	require.Equal(t, "before", string(body[:6]))
	require.Equal(t, "application/xml", mediaType)
	require.Equal(t, http.StatusOK, status)

	body, _, _ = codec(t, Config{StatusURL: statusURL}).AppendAnswer(nil, new(vn.Call), &d)
	golden(t, "connect_status", body)
}

func TestRefusalsAreValidAnswersAndAllAlike(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"reject":      {StatusURL: statusURL},
		"busy":        {Refusal: Busy},
		"say":         {Refusal: Say},
		"say_escaped": {Refusal: Say, Text: `A <b> & "c"`, Language: "es-ES"},
	} {
		c := codec(t, cfg)
		for reason := range vn.Reason(vn.Reasons) {
			if reason == vn.Connected || reason == vn.Unavailable {
				continue
			}
			d := vn.Decision{Reason: reason, OrderID: []byte("order-1")}
			body, mediaType, status := c.AppendAnswer(nil, &vn.Call{Called: 12025550101}, &d)
			golden(t, want, body)
			require.Equal(t, "application/xml", mediaType)
			require.Equal(t, http.StatusOK, status)
		}
	}
}

func TestOurOwnFailureSendsPlivoToItsFallback(t *testing.T) {
	t.Parallel()
	for _, d := range []vn.Decision{
		{Reason: vn.Unavailable},
		{Reason: vn.Connected, Destination: 447700900123},
		{Reason: vn.Connected, CallerID: 12025550102},
		{Reason: vn.Connected, CallerID: 12025550102, Destination: 911},
	} {
		body, _, status := codec(t, Config{Refusal: Say, StatusURL: statusURL}).AppendAnswer([]byte("before"), new(vn.Call), &d)
		require.Equal(t, "before", string(body))
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
}

// FuzzAnswer reads answers with encoding/xml: whatever is decided, they hold exactly
// the elements expected and the text that was set.
func FuzzAnswer(f *testing.F) {
	f.Add(uint64(447700900123), uint64(12025550102), int64(30), int64(3600), "The <number> & \"more\"", "en-GB", uint8(0))
	f.Add(uint64(0), uint64(12025550102), int64(0), int64(-1), "</Speak><Dial>12025550199</Dial><Speak>", `"><Dial>`, uint8(1))
	f.Add(uint64(1234567), uint64(999999999999999), int64(1), int64(1), "\x00\xff]]>", "", uint8(3))
	f.Fuzz(func(t *testing.T, destination, callerID uint64, ring, most int64, words, language string, reason uint8) {
		c, err := New(Config{
			AuthID: account, AuthTokens: []string{token}, PublicURL: public, StatusURL: public + "/a&b'\"<c>/status",
			Refusal: Say, Text: words, Language: language,
		})
		if err != nil {
			require.True(t, len(words) > maxText || strings.TrimSpace(words) == "")
			return
		}
		d := vn.Decision{
			Reason: vn.Reason(reason % vn.Reasons), Destination: vn.Number(destination), CallerID: vn.Number(callerID),
			OrderID: []byte("order-1"), RingTimeout: time.Duration(ring), MaxDuration: time.Duration(most),
		}
		body, _, status := c.AppendAnswer(nil, new(vn.Call), &d)
		if status == http.StatusServiceUnavailable {
			require.Empty(t, body)
			require.True(t, d.Reason == vn.Unavailable || !d.Destination.Valid() || !d.CallerID.Valid())
			return
		}
		elements, attributes, text := read(t, body)
		if d.Reason == vn.Connected {
			require.Equal(t, []string{"<Response", "<Dial", "<Number", "Number>", "Dial>", "Response>"}, elements)
			require.Equal(t, d.Destination.Digits(), text)
			require.Equal(t, d.CallerID.Digits(), attributes["callerId"])
			require.Equal(t, "+"+d.CallerID.Digits(), attributes["callerName"], "left out, it is the caller's own name")
			require.Equal(t, public+"/a&b'\"<c>/status?order_id=order-1&stop=1", attributes["action"])
			require.Equal(t, attributes["action"], attributes["callbackUrl"])
			require.Len(t, attributes, 9)
			return
		}
		require.Equal(t, []string{"<Response", "<Speak", "Speak>", "<Hangup", "Hangup>", "Response>"}, elements)
		if words != "" && printable(words) {
			require.Equal(t, words, text)
		}
	})
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// read lists the elements as they open and close, their attributes, and the text.
func read(t *testing.T, body []byte) (elements []string, attributes map[string]string, text string) {
	t.Helper()
	attributes = map[string]string{}
	dec := xml.NewDecoder(strings.NewReader(string(body)))
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return elements, attributes, text
		}
		require.NoError(t, err, "%q", body)
		switch tok := tok.(type) {
		case xml.StartElement:
			elements = append(elements, "<"+tok.Name.Local)
			for _, a := range tok.Attr {
				attributes[a.Name.Local] = a.Value
			}
		case xml.EndElement:
			elements = append(elements, tok.Name.Local+">")
		case xml.CharData:
			text += string(tok)
		}
	}
}
