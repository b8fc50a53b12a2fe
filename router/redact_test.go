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
		"\xff\xfe 2025550147":                "\xff\xfe ***",
		"2025550147 and then some":           "*** and then some",
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
		require.Equal(t, got, string(appendRedacted(nil, []byte(got))), "a second time changes nothing")
	})
}
