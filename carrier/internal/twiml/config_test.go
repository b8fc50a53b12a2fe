package twiml

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		field string
		cfg   Config
	}{
		"unknown refusal":  {"refusal", Config{Refusal: "shout"}},
		"endless speaking": {"text", Config{Refusal: Say, Text: strings.Repeat("x", 3001)}},
		"nothing to say":   {"text", Config{Refusal: Say, Text: " \n"}},
		"no address":       {"public_url", Config{StatusURL: "calls.example.com/status"}},
		"another scheme":   {"public_url", Config{StatusURL: "ftp://calls.example.com"}},
		"no host":          {"public_url", Config{StatusURL: "https:///status"}},
		"empty port":       {"public_url", Config{StatusURL: "https://h:"}},
		"broken":           {"public_url", Config{StatusURL: "https://h/%zz"}},
		"no UTF-8":         {"public_url", Config{StatusURL: "https://h/\xff"}},
		"a control":        {"public_url", Config{StatusURL: "https://h/\n"}},
		"a query":          {"public_url", Config{StatusURL: "https://h/status?a=b"}},
		"an empty query":   {"public_url", Config{StatusURL: "https://h/status?"}},
		"a fragment":       {"public_url", Config{StatusURL: "https://h/status#a"}},
		"an empty one":     {"public_url", Config{StatusURL: "https://h/status#"}},
		"a password":       {"public_url", Config{StatusURL: "https://u:p@h/status"}},
	} {
		_, err := NewWriter(test.cfg)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, test.field, field.Field, name)
		require.NotContains(t, err.Error(), "p@h", "a secret in a setting is not repeated")
	}
	for _, cfg := range []Config{
		{}, {Refusal: Busy}, {Refusal: Say, Text: strings.Repeat("x", 3000)}, {StatusURL: "http://[2001:db8::1]:8080/a/s3cret"},
	} {
		_, err := NewWriter(cfg)
		require.NoError(t, err)
	}
}

// dial returns the answer to a connected call.
func dial(t *testing.T, cfg Config, d vn.Decision) string {
	t.Helper()
	w, err := NewWriter(cfg)
	require.NoError(t, err)
	d.Destination, d.CallerID = 447700900123, 12025550102
	body, _, status := w.AppendAnswer(nil, &d)
	require.Equal(t, http.StatusOK, status)
	return string(body)
}

func TestDurationsAreKeptWithinWhatTheCarrierTakes(t *testing.T) {
	t.Parallel()
	cfg := Config{Ring: Span{5 * time.Second, 2 * time.Minute}, Talk: Span{time.Minute, 4 * time.Hour}}
	for _, test := range []struct {
		ring, talk time.Duration
		want       string
	}{
		{0, 0, ` timeout="5" timeLimit="60"`},
		{-time.Hour, 59 * time.Second, ` timeout="5" timeLimit="60"`},
		{5 * time.Second, time.Minute, ` timeout="5" timeLimit="60"`},
		{30 * time.Second, time.Hour, ` timeout="30" timeLimit="3600"`},
		{2*time.Minute + 1, 4*time.Hour + 1, ` timeout="120" timeLimit="14400"`},
	} {
		require.Contains(t, dial(t, cfg, vn.Decision{RingTimeout: test.ring, MaxDuration: test.talk}), test.want)
	}
	require.Contains(t, dial(t, Config{}, vn.Decision{RingTimeout: time.Second, MaxDuration: 9 * time.Hour}), ` timeout="1" timeLimit="32400"`)
}
