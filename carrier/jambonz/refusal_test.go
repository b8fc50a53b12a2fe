package jambonz

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// spoken reads the one text that a refusal speaks, and its language, with encoding/json.
func spoken(t *testing.T, cfg Config) (words, language string) {
	t.Helper()
	body, _, _ := codec(t, cfg).AppendAnswer(nil, nil, &vn.Decision{Reason: vn.OrderEnded})
	var verbs []map[string]any
	require.NoError(t, json.Unmarshal(body, &verbs), "%q", body)
	require.Len(t, verbs, 2)
	require.Equal(t, map[string]any{"verb": "hangup"}, verbs[1])
	words, _ = verbs[0]["text"].(string)
	want := map[string]any{"verb": "say", "text": words}
	if cfg.Language != "" {
		synthesizer, _ := verbs[0]["synthesizer"].(map[string]any)
		language, _ = synthesizer["language"].(string)
		want["synthesizer"] = map[string]any{"vendor": "default", "language": language}
	}
	require.Equal(t, want, verbs[0])
	return words, language
}

func TestATextIsSpokenAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		`"},{"verb":"dial","callerId":"+12025550199"`, `x","loop":0,"y":"`, `\`, `\"`, `\u0022`, "a\x00\x1b\x7f\r\n\tb", "é😀\u2028", "\xff\xc3",
		"<speak>Dear <sub alias=\"x\">caller</sub>: sorry</speak>", strings.Repeat("é", maxText),
		"Dear caller: no", "1st: no", ": no", "no", "é: no", "\xff: no",
	} {
		got, language := spoken(t, Config{Refusal: Say, Text: words, Language: words})
		require.Equal(t, string([]rune(words)), got)
		require.Equal(t, string([]rune(words)), language)
	}
	got, _ := spoken(t, Config{Refusal: Say})
	require.Equal(t, DefaultText, got)
}

// TestATextThatJambonzWouldPlayIsRefused: new URL(text) of Node takes each but the last.
func TestATextThatJambonzWouldPlayIsRefused(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"https://files.example.com/x.wav", "Sorry: not available", "sorry:", "x-1+y.z: no", "\x01 Sorry: no", "Dear\ncaller: no", "\t\r\nSo\trry: no",
		"silence_stream://1000",
	} {
		_, err := New(Config{Secrets: []string{secret}, Refusal: Say, Text: words})
		var wrong *vn.FieldError
		require.ErrorAs(t, err, &wrong, "%q", words)
		require.Equal(t, "text", wrong.Field)
	}
}

// FuzzSay: whatever is set, a refusal speaks exactly that.
func FuzzSay(f *testing.F) {
	f.Add(`The "number" \`, "en-GB")
	f.Add(`"},{"verb":"dial"`, `","vendor":"`)
	f.Add("\x00\xff", "\n")
	f.Add("Sorry: no", "")
	f.Fuzz(func(t *testing.T, words, language string) {
		cfg := Config{Secrets: []string{secret}, Refusal: Say, Text: words, Language: language}
		if _, err := New(cfg); err != nil {
			require.True(t, strings.TrimSpace(words) == "" || utf8.RuneCountInString(words) > maxText || strings.Contains(words, ":"))
			return
		}
		if words == "" {
			words = DefaultText
		}
		gotWords, gotLanguage := spoken(t, cfg)
		require.Equal(t, string([]rune(words)), gotWords)
		require.Equal(t, string([]rune(language)), gotLanguage)
	})
}
