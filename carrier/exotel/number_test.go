package exotel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

func TestNumbersInEveryFormOfExotels(t *testing.T) {
	t.Parallel()
	for region, forms := range map[string]map[string]vn.Number{
		"": {
			"05555510000": 915555510000, "+915555510000": 915555510000, " 915555510000": 915555510000, "915555510000": 915555510000,
			"5555510000": 915555510000, "0091 55555 10000": 915555510000, "055555-10000": 915555510000,
			"+12025550100": 12025550100, " 12025550100": 12025550100, "0012025550100": 12025550100,
		},
		"ID": {"081100000000": 6281100000000, "+6281100000000": 6281100000000, " 6281100000000": 6281100000000, "6281100000000": 6281100000000, " 915555510000": 915555510000},
		"GB": {"07700900123": 447700900123, "447700900123": 447700900123, "02079460000": 442079460000},
	} {
		c := codec(t, Config{Region: region})
		for form, want := range forms {
			got, err := c.number([]byte(form))
			require.NoError(t, err, form)
			require.True(t, want == got, form)
		}
	}
}

// The quick forms are those of one country: elsewhere 05555510000 is another number.
func TestAnotherRegionsNumbersAreNotReadAsIndian(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"ID", "GB", "SG", "AE"} {
		n, err := codec(t, Config{Region: region}).number([]byte("05555510000"))
		require.True(t, err != nil || !strings.HasPrefix(n.Digits(), "91"), region)
	}
}

// TestIndianNumbersAreReadAsTheLibraryReadsThem holds the quick reader against package
// numbering: what it reads, numbering reads as the same number.
func TestIndianNumbersAreReadAsTheLibraryReadsThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom([]string{"0", "91"}).Draw(t, "prefix") + rapid.StringMatching(`[1-9][0-9]{9}`).Draw(t, "ten digits")
		n, ok := indian([]byte(form))
		if !ok {
			t.Fatal("an Indian number was not read")
		}
		sameAsNumbering(t, form, n)
	})
}

func FuzzIndianReadsWhatNumberingReads(f *testing.F) {
	for _, seed := range []string{
		"05555510000", "915555510000", "05555510000 ", "915555510", "0555551000", "055555100000", "01800123456", "911800123456", "09198055550", "919198055550",
		"0915555510000", "", "0", "91", "00000000000", "05555५10000", "0555551000\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := indian([]byte(s)); ok {
			sameAsNumbering(t, s, n)
		}
	})
}

type failer interface {
	Fatal(args ...any)
}

func sameAsNumbering(t failer, form string, n vn.Number) {
	slow, err := numbering.Parse(form, "IN")
	if err != nil || slow != n {
		t.Fatal("the quick reader and package numbering disagree")
	}
}
