package replenisher

import (
	"bytes"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
)

func money(t *testing.T, s string) carrier.Money {
	t.Helper()
	m, err := carrier.ParseMoney(s)
	require.NoError(t, err)
	return m
}

// capped is london with a monthly cap.
func capped(t *testing.T, limit string) Pool {
	t.Helper()
	p := london
	p.MonthlyCap = money(t, limit)
	return p
}

func gauge(g *prometheus.GaugeVec, labels ...string) float64 {
	return testutil.ToFloat64(g.WithLabelValues(labels...))
}

func TestNoNumberIsBoughtBeyondTheCap(t *testing.T) {
	t.Parallel()
	w, p := stocked(capped(t, "3.50 USD"))
	var logs bytes.Buffer
	r := p.startLogged(t, 1, prometheus.NewRegistry(), zerolog.New(&logs))
	look(t, r, "london")
	w.settled(t)
	require.Len(t, w.inventory, 3, "at 1.00 USD each")
	require.Equal(t, []events.PoolCapReached{{Pool: "london", Cap: "3.50", Committed: "3.00", Currency: "USD", Missing: 2}}, w.capped)
	require.InDelta(t, 1, gauge(r.metrics.capReached, "london"), 0)
	require.InDelta(t, 3, gauge(r.metrics.committed, "london", "USD"), 0)
	require.Contains(t, logs.String(), "monthly cap is reached")

	searched := 0
	p.next = func(step string) fate {
		if step == "search" {
			searched++
		}
		return fine
	}
	for range 10 {
		w.advance(10 * time.Second)
		look(t, r, "london")
	}
	require.Len(t, w.capped, 1, "it is announced once")
	require.Zero(t, searched, "and nobody is asked every ten seconds for what we may not pay")
	w.shops["second"].price = "0.25"
	w.advance(capRest)
	look(t, r, "london")
	w.settled2(t, 3.50)
	require.Len(t, w.inventory, 5, "the second carrier sells for less")
	require.InDelta(t, 0, gauge(r.metrics.capReached, "london"), 0)
	require.Equal(t, "0.25", w.bought[len(w.bought)-1].Price)
}

// settled2 checks what the pool has cost, where prices changed meanwhile.
func (w *world) settled2(t *testing.T, cost float64) {
	t.Helper()
	require.Empty(t, w.openIntents())
	require.LessOrEqual(t, w.spent("london"), cost)
}

// spent adds up the pool's intents.
func (w *world) spent(pool string) float64 {
	b := newBudget(carrier.Money{}, w.now)
	for _, in := range w.intents {
		if in.Pool == pool && b.bills(&in) {
			b.add(&in)
		}
	}
	return b.committed["USD"].Units()
}

func TestAnOfferAboveWhatIsLeftLeadsToTheNextCarrier(t *testing.T) {
	t.Parallel()
	w, p := stocked(capped(t, "5.00 USD"))
	w.shops["first"].price = "2.00"
	r := p.start(t, 1)
	look(t, r, "london")
	require.Equal(t, 2, w.shops["first"].bought)
	require.Equal(t, 1, w.shops["second"].bought)
	require.InDelta(t, 5, w.spent("london"), 0)
	require.Len(t, w.capped, 1)
}

func TestWithACapAPriceMustBeNamedInItsCurrency(t *testing.T) {
	t.Parallel()
	for name, price := range map[string]string{"none": "", "not a price": "free"} {
		w, p := stocked(capped(t, "500.00 USD"))
		w.shops["first"].price = price
		var logs bytes.Buffer
		r := p.startLogged(t, 1, prometheus.NewRegistry(), zerolog.New(&logs))
		look(t, r, "london")
		require.Zero(t, w.shops["first"].bought, name)
		require.Equal(t, 5, w.shops["second"].bought, name)
		require.NotContains(t, logs.String(), "passed over", "another carrier had them")
	}
	w, p := stocked(capped(t, "500.00 EUR"))
	var logs bytes.Buffer
	r := p.startLogged(t, 1, prometheus.NewRegistry(), zerolog.New(&logs))
	look(t, r, "london")
	require.Empty(t, w.inventory)
	require.Contains(t, logs.String(), `"other_currency":100`)
	require.Contains(t, logs.String(), "only those are bought whose price is named in its currency")
	require.Empty(t, w.capped, "it is not the cap that is reached")

	free, q := stocked(london)
	free.shops["first"].price = ""
	look(t, q.start(t, 1), "london")
	require.Len(t, free.inventory, 5, "without a cap the price does not matter")
	require.Zero(t, free.spent("london"))
}

func TestWhatIsNotBoughtCostsNothing(t *testing.T) {
	t.Parallel()
	w, p := stocked(capped(t, "5.00 USD"))
	p.next = func(step string) fate { return map[string]fate{"buy": sold}[step] }
	r := p.start(t, 1)
	look(t, r, "london") // every number is sold to somebody else
	require.Empty(t, w.inventory)
	require.InDelta(t, 0, gauge(r.metrics.committed, "london", "USD"), 0)
	require.Empty(t, w.capped)
}

func TestTheMonthCountsWhatWasGivenBackInIt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC)
	in := func(outcome string, closed time.Time) events.PurchaseIntent {
		return events.PurchaseIntent{Price: "2.00", Currency: "USD", At: closed.AddDate(0, -5, 0), ClosedAt: closed, Outcome: outcome}
	}
	intents := []events.PurchaseIntent{
		in("", time.Time{}),                                                     // open: counts as bought
		in(events.OutcomeBought, now.AddDate(-1, 0, 0)),                         // rented since last year
		in(events.OutcomeReleased, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)), // billed for March
		in(events.OutcomeReleased, time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)),
		in(events.OutcomeNotBought, now),
		{Outcome: events.OutcomeBought, ClosedAt: now}, // no price
		{Outcome: events.OutcomeBought, ClosedAt: now, Price: "9.00", Currency: "EUR"},
	}
	sum := func(now time.Time) (usd, eur float64) {
		b := newBudget(money(t, "100.00 USD"), now)
		for i := range intents {
			if b.bills(&intents[i]) {
				b.add(&intents[i])
			}
		}
		return b.spent().Units(), b.committed["EUR"].Units()
	}
	usd, eur := sum(now)
	require.Equal(t, []float64{6, 9}, []float64{usd, eur})
	usd, _ = sum(now.Add(time.Hour))
	require.InDelta(t, 4, usd, 0, "in April March's is over")
	usd, _ = sum(now.Add(time.Hour).In(time.FixedZone("west", -8*3600)))
	require.InDelta(t, 4, usd, 0, "months are of UTC")
}
