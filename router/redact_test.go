package router

import (
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRedactTakesOutWhatCouldBeATelephoneNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                   "",
		"no numbers here":                    "no numbers here",
		"ring 2025550147":                    "ring ***",
		"+12025550147":                       "***",
		"(202) 555-0147.":                    "***.",
		"+1 (202) 555 - 0147 ok":             "*** ok",
		"2.0.2.5.5.5.0.1.4.7":                "***",
		"2 0 2 - 5 5 5 - 0 1 4 7":            "***",
		"a2025550147b":                       "a***b",
		"2025550147, 2025550148":             "***",
		"२०२५५५०१४७":                         "***",
		"２０２５５５０１４７":                         "***",
		"house 12, flat 304":                 "house 12, flat 304",
		"code 123456":                        "code 123456",
		"$12.50 at 18:30":                    "$12.50 at 18:30",
		"1 + 1":                              "1 + 1",
		"++++":                               "++++",
		"+":                                  "+",
		"(":                                  "(",
		"5 eggs, 6 onions, 7 limes, 8 pears": "5 eggs, 6 onions, 7 limes, 8 pears",
		"202\n555\t01:47":                    "***",
		"202\u2010555\u20140147":             "***",
		"2\u200b0\u200b2\u200b5\u200b5\u200b5\u200b0\u200b1\u200b4\u200b7":                             "***",
		"2\ufe0f\u20e30\ufe0f\u20e32\ufe0f\u20e35\ufe0f\u20e35\ufe0f\u20e35\ufe0f\u20e30\ufe0f\u20e31": "***",
		"\u2461\u24ea\u2461\u2464\u2464\u2464\u24ea\u2460":                                             "***",
		"202    555    0147":       "***",
		"2*0*2*5*5*5*0*1":          "***",
		"on 2026-11-25":            "on ***",
		"\xff\xfe 2025550147":      "\xff\xfe ***",
		"2025550147 and then some": "*** and then some",
	} {
		require.Equal(t, want, string(appendRedacted(nil, []byte(text))), "%q", text)
	}
	require.Equal(t, "kept ***", string(appendRedacted([]byte("kept "), []byte("2025550147"))))
}

func TestRedactLeavesNoSevenDigitsInARow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("0123456789 +-().ab")), 0, 60, -1).Draw(t, "text")
		got := string(appendRedacted(nil, []byte(text)))
		run := 0
		for _, r := range got {
			if run++; !unicode.IsDigit(r) {
				run = 0
			}
			require.Less(t, run, redactFrom, got)
		}
	})
}
