package text

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func FuzzAppendJSONReadsBackAsTheSameText(f *testing.F) {
	for _, seed := range []string{"", "order-1", `"quoted" \ back`, "a\nb\x00\x1f\x7f", "é😀\u2028", "\xff\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendJSON(nil, s)
		require.Equal(t, got, AppendJSON(nil, []byte(s)))
		var back string
		require.NoError(t, json.Unmarshal(got, &back), "%q", got)
		require.Equal(t, valid(s), back)
	})
}

// valid is s as encoding/json reads it back: every byte that is no UTF-8 is U+FFFD.
func valid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

func FuzzAppendXMLReadsBackAsTheSameText(f *testing.F) {
	for _, seed := range []string{"", "a < b & c > d", `"'`, "a\t\n\rb", "\x00\x1b", "é😀\ufffe", "\xff", "]]>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back struct {
			Attr string `xml:"a,attr"`
			Text string `xml:",chardata"`
		}
		escaped := string(AppendXML(nil, s))
		require.NoError(t, xml.Unmarshal([]byte(`<x a="`+escaped+`">`+escaped+`</x>`), &back), "%q", escaped)
		var want strings.Builder
		require.NoError(t, xml.EscapeText(&want, []byte(s)))
		var std struct {
			Text string `xml:",chardata"`
		}
		require.NoError(t, xml.Unmarshal([]byte("<x>"+want.String()+"</x>"), &std))
		require.Equal(t, std.Text, back.Text)
		require.Equal(t, std.Text, back.Attr)
	})
}

func TestAppendSecondsIsNeverZero(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "1", 0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", 30 * time.Second: "30", time.Hour: "3600",
	} {
		require.Equal(t, want, string(AppendSeconds(nil, d)), d)
	}
}

func TestPrintableIsShortPrintableASCII(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"a b~": true, "12345": true, "": false, "123456": false, "a\n": false, "\x7f": false, "é": false} {
		require.Equal(t, want, Printable(s, 5), "%q", s)
	}
}

func TestWithheldKnowsTheWordsInAnyCase(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"anonymous", "Anonymous", "RESTRICTED", "unknown", "withheld", "unavailable", "private", "blocked"} {
		require.True(t, Withheld(s), s)
	}
	for _, s := range []string{"", "anonymous ", "anon", "anonymou\u017f", "+12025550100"} {
		require.False(t, Withheld(s), s)
	}
}
