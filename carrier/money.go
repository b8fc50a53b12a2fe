package carrier

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Money is an exact amount of one currency. The zero Money has no currency: it stands
// for "none given" and is not the same as an amount of 0.
type Money struct {
	micros   int64 // millionths, so that prices such as 0.0085 are exact; never negative
	currency string
}

const microsPerUnit = 1_000_000

// ParseMoney reads an amount and its currency (ISO 4217), such as "500.00 USD".
func ParseMoney(s string) (Money, error) {
	amount, currency, ok := strings.Cut(s, " ")
	if !ok {
		return Money{}, errors.New(`must be an amount and a currency, such as "500.00 USD"`)
	}
	return ParsePrice(amount, currency)
}

// ParsePrice reads an amount such as "1.15", with up to six decimals that count, in a
// currency of ISO 4217, such as "USD".
func ParsePrice(amount, currency string) (Money, error) {
	if len(currency) != 3 || strings.Trim(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return Money{}, errors.New("the currency must be three capital letters, such as USD")
	}
	units, decimals, _ := strings.Cut(amount, ".")
	decimals = strings.TrimRight(decimals, "0")
	if units == "" || len(decimals) > 6 || strings.Trim(units+decimals, "0123456789") != "" {
		return Money{}, errors.New("the amount must be digits with a point before the decimals, six at most, such as 1.15")
	}
	micros, err := strconv.ParseInt(units+decimals+strings.Repeat("0", 6-len(decimals)), 10, 64)
	if err != nil {
		return Money{}, errors.New("the amount is too large")
	}
	return Money{micros: micros, currency: currency}, nil
}

// IsZero tells whether there is no amount at all; 0 in a currency is one.
func (m Money) IsZero() bool { return m.currency == "" }

// Currency returns the currency, in ISO 4217.
func (m Money) Currency() string { return m.currency }

// Amount returns the amount in decimals, two at least, such as "1.15".
func (m Money) Amount() string {
	decimals := strconv.FormatInt(microsPerUnit+m.micros%microsPerUnit, 10)[1:]
	return strconv.FormatInt(m.micros/microsPerUnit, 10) + "." + decimals[:2] + strings.TrimRight(decimals[2:], "0")
}

// String returns amount and currency as ParseMoney reads them.
func (m Money) String() string {
	if m.IsZero() {
		return "none"
	}
	return m.Amount() + " " + m.currency
}

// Units returns the amount for a metric, where exactness does not matter.
func (m Money) Units() float64 { return float64(m.micros) / microsPerUnit }

// Plus returns the sum of two amounts of one currency. One that would not fit is the
// largest amount there is, which is above every limit.
func (m Money) Plus(other Money) Money {
	if m.micros > math.MaxInt64-other.micros {
		m.micros = math.MaxInt64
	} else {
		m.micros += other.micros
	}
	return m
}

// Minus returns what is left of an amount without another one of its currency, 0 at
// least.
func (m Money) Minus(other Money) Money {
	m.micros = max(0, m.micros-other.micros)
	return m
}

// Exceeds tells whether the amount is greater than another one of its currency.
func (m Money) Exceeds(other Money) bool { return m.micros > other.micros }
