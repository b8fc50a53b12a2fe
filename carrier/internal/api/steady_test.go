package api

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
)

func TestAListOfSeveralPagesIsReadUntilTwoReadingsAgree(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		readings []string // the ids that each finds; "!" fails
		pages    int
		want     string
		err      string
	}{
		"one page":                  {[]string{"ab", "x"}, 1, "ab", ""},
		"the same twice":            {[]string{"abc", "bca"}, 2, "bca", ""},
		"one that was missed":       {[]string{"ac", "abc", "abc"}, 2, "abc", ""},
		"as many, but others":       {[]string{"ab", "ac", "ac"}, 2, "ac", ""},
		"always another":            {[]string{"a", "b", "c", "d", "d"}, 2, "", "changes while it is read"},
		"a reading that goes wrong": {[]string{"ab", "!"}, 2, "", "broken"},
		"nothing, on two pages":     {[]string{"", ""}, 2, "", ""},
	} {
		reading := -1
		all, err := Steady(func() (all []carrier.Bought, pages int, err error) {
			reading++
			for _, ref := range test.readings[reading] {
				if ref == '!' {
					return nil, 0, broken
				}
				all = append(all, carrier.Bought{Ref: string(ref)})
			}
			return all, test.pages, nil
		})
		got := ""
		for _, b := range all {
			got += b.Ref
		}
		require.Equal(t, test.want, got, name)
		if test.err != "" {
			require.ErrorContains(t, err, test.err, name)
		} else {
			require.NoError(t, err, name)
		}
	}
}
