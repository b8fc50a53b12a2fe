package twiml

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestTheActionCarriesTheOrder(t *testing.T) {
	t.Parallel()
	cfg := Config{StatusURL: `https://calls.example.com/a&b/"s3cret'`}
	require.Equal(t, head+`<Response><Dial callerId="+12025550102" timeout="30" timeLimit="3600" `+
		`action="https://calls.example.com/a&amp;b/&#34;s3cret&#39;?order_id=order:1.2_3-x" method="POST">`+
		`<Number>+447700900123</Number></Dial></Response>`,
		dial(t, cfg, vn.Decision{OrderID: []byte("order:1.2_3-x"), RingTimeout: 30 * time.Second, MaxDuration: time.Hour}))
	require.NotContains(t, dial(t, Config{}, vn.Decision{OrderID: []byte("order-1")}), "order")
}

// element is one element of an answer.
type element struct {
	name       string
	attributes map[string]string
	text       string
}

// read lists the elements of an answer, depth first.
func read(t *testing.T, body []byte) (elements []element) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(string(body)))
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		require.NoError(t, err, "%q", body)
		switch tok := tok.(type) {
		case xml.StartElement:
			e := element{name: tok.Name.Local, attributes: map[string]string{}}
			for _, a := range tok.Attr {
				require.NotContains(t, e.attributes, a.Name.Local, "an attribute twice")
				e.attributes[a.Name.Local] = a.Value
			}
			elements = append(elements, e)
		case xml.CharData:
			elements[len(elements)-1].text += string(tok)
		case xml.Comment, xml.Directive:
			t.Fatalf("neither is ever written: %q", body)
		}
	}
}

// shown is how a text reads in XML: what XML cannot hold is U+FFFD.
func shown(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, xml.EscapeText(&b, []byte(s)))
	var back struct {
		Text string `xml:",chardata"`
	}
	require.NoError(t, xml.Unmarshal([]byte("<x>"+b.String()+"</x>"), &back))
	return back.Text
}

var hostile = []string{
	`"><Dial>+12025550199</Dial><Number x="`, "</Say></Message></Number><Hangup/>", "]]><![CDATA[", "<!-- -->", "<!DOCTYPE x>", "&lt;&#0;&x;",
	"\x00\x01\x1b\x7f", "\xff\xfe\xc3", "\ufffe\uffff\u202e", "' onload='", "\r\n\t", strings.Repeat("<", 100_000),
}

// FuzzAnswers reads everything that is written with encoding/xml: whatever the settings
// and the decision hold, there are exactly the elements and attributes expected, with
// exactly those values.
func FuzzAnswers(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, s, s, s, uint64(447700900123), uint64(12025550102), int64(time.Minute))
	}
	f.Add("order-1", "https://calls.example.com/status", "Not here", "id-ID", uint64(0), uint64(12025550102), int64(-1))
	f.Add("order-1", "https://calls.example.com/status", "Not here", "id-ID", uint64(447700900123), uint64(0), int64(-1))
	f.Add("order-1", "https://calls.example.com/status", "Not here", "id-ID", uint64(447700900123), uint64(12025550102), int64(-1))
	f.Fuzz(func(t *testing.T, order, statusURL, words, language string, destination, callerID uint64, most int64) {
		cfg := Config{Refusal: Say, Text: words, Language: language, StatusURL: statusURL}
		w, err := NewWriter(cfg)
		if err != nil {
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			cfg = Config{StatusURL: "https://calls.example.com/status"}
			w, err = NewWriter(cfg)
			require.NoError(t, err)
		}
		d := vn.Decision{
			Destination: vn.Number(destination), CallerID: vn.Number(callerID), OrderID: []byte(order), MaxDuration: time.Duration(most),
		}
		body, _, status := w.AppendAnswer(nil, &d)
		if d.Destination.Valid() && d.CallerID.Valid() {
			require.Equal(t, http.StatusOK, status)
			got := read(t, body)
			require.Len(t, got, 3)
			require.Equal(t, "Dial", got[1].name)
			want := 3
			if cfg.StatusURL != "" {
				require.Equal(t, shown(t, cfg.StatusURL+"?order_id="+order), got[1].attributes["action"])
				want = 5
			}
			require.Len(t, got[1].attributes, want)
			require.Equal(t, d.CallerID.E164(), got[1].attributes["callerId"])
			require.Equal(t, element{"Number", map[string]string{}, d.Destination.E164()}, got[2])
			got = read(t, AppendMessage(nil, d.CallerID, d.Destination, words))
			require.Len(t, got, 2)
			require.Equal(t, element{"Message", map[string]string{"from": d.CallerID.E164(), "to": d.Destination.E164()}, shown(t, words)}, got[1])
		} else {
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Empty(t, body)
		}
		body, _, _ = w.AppendAnswer(nil, &vn.Decision{Reason: vn.CallerNotAllowed, OrderID: []byte(order)})
		got := read(t, body)
		if cfg.Refusal != Say {
			require.Equal(t, element{"Reject", map[string]string{"reason": "rejected"}, ""}, got[1])
			return
		}
		require.Len(t, got, 3)
		if words == "" {
			words = DefaultText
		}
		require.Equal(t, shown(t, words), got[1].text)
		require.Equal(t, shown(t, language), got[1].attributes["language"])
	})
}

func TestEveryOrderIDReadsBackFromTheAction(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "Z9._:-", "...", strings.Repeat("x", 64), "6f1d8c9e-2a0b-4b61-9d0e-3f5a7c1b2d4e"} {
		answer := read(t, []byte(dial(t, Config{StatusURL: "https://calls.example.com/status/s3cret"}, vn.Decision{OrderID: []byte(id)})))
		u, err := url.Parse(answer[1].attributes["action"])
		require.NoError(t, err)
		got, err := orderID([]byte(u.RequestURI()))
		require.NoError(t, err)
		require.Equal(t, id, string(got))
	}
}

func TestNothingIsOneEmptyElement(t *testing.T) {
	t.Parallel()
	require.Equal(t, []element{{"Response", map[string]string{}, ""}}, read(t, AppendNothing(nil)))
	body, _ := AppendProgressAnswer(nil)
	require.True(t, utf8.Valid(body))
	require.Equal(t, "Hangup", read(t, body)[1].name)
}
