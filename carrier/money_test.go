package carrier_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/carrier"
)

func TestMoneyIsReadExactly(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"500.00 USD":            "500.00 USD",
		"500 USD":               "500.00 USD",
		"500. USD":              "500.00 USD",
		"0 EUR":                 "0.00 EUR",
		"1.15 GBP":              "1.15 GBP",
		"0.8000000000 USD":      "0.80 USD",
		"0.0085 USD":            "0.0085 USD",
		"0.000001 INR":          "0.000001 INR",
		"007.5 USD":             "7.50 USD",
		"9223372036854.775 USD": "9223372036854.775 USD",
	} {
		m, err := carrier.ParseMoney(s)
		require.NoError(t, err, s)
		require.Equal(t, want, m.String())
		require.False(t, m.IsZero())
	}
	require.True(t, carrier.Money{}.IsZero())
	require.Equal(t, "none", carrier.Money{}.String())
}

func TestWhatIsNoMoneyIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "500", "USD", " USD", "500 ", "500 usd", "500 US", "500 USDT", "500 US$", "-1 USD", "+1 USD", "1,15 USD", "1.2.3 USD",
		".5 USD", ". USD", "1e3 USD", "0x1 USD", "0.0000001 USD", "9223372036855 USD", "99999999999999999999 USD", "1  USD", "1 USD ",
		"١ USD", "NaN USD",
	} {
		_, err := carrier.ParseMoney(s)
		require.Error(t, err, "%q", s)
	}
}

// TestMoneyAddsUp holds that sums are those of whole numbers, however many prices.
func TestMoneyAddsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		cents := rapid.SliceOfN(rapid.Int64Range(0, 1_000_000), 0, 50).Draw(rt, "cents")
		sum, err := carrier.ParsePrice("0", "USD")
		require.NoError(rt, err)
		whole := int64(0)
		price := func(c int64) carrier.Money {
			m, err := carrier.ParsePrice(strconv.FormatInt(c/100, 10)+"."+strconv.FormatInt(100+c%100, 10)[1:], "USD")
			require.NoError(rt, err)
			return m
		}
		for _, c := range cents {
			sum = sum.Plus(price(c))
			whole += c
		}
		require.Equal(rt, price(whole), sum)
		require.InDelta(rt, float64(whole)/100, sum.Units(), 1e-6)
		more := rapid.Int64Range(0, 1_000_000).Draw(rt, "more")
		require.Equal(rt, more > whole, price(more).Exceeds(sum))
		require.Equal(rt, price(max(0, whole-more)), sum.Minus(price(more)))
		again, err := carrier.ParseMoney(sum.String())
		require.NoError(rt, err)
		require.Equal(rt, sum, again)
	})
}

func TestASumThatDoesNotFitIsAboveEveryLimit(t *testing.T) {
	t.Parallel()
	most, err := carrier.ParseMoney("9223372036854 USD")
	require.NoError(t, err)
	require.InEpsilon(t, float64(math.MaxInt64)/1e6, most.Plus(most).Units(), 1e-9)
	require.True(t, most.Plus(most).Exceeds(most))
}
