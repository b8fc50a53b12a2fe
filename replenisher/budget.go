package replenisher

import (
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
)

// budget is what this calendar month costs a pool, counted from its intents, and what
// its cap leaves. A carrier bills a month in full, so a number that was given back in
// it still counts. A number that was imported, or has no price, counts 0.
type budget struct {
	limit     carrier.Money // zero: none
	month     time.Time     // its first moment
	committed map[string]carrier.Money

	// Offers passed over since the last reset.
	above    int // they would pass the cap
	unpriced int // the carrier names no price
	foreign  int // their price is in another currency than the cap
}

// newBudget returns the budget of the month that now is in, with nothing spent.
func newBudget(limit carrier.Money, now time.Time) *budget {
	now = now.UTC()
	b := &budget{
		limit: limit, committed: make(map[string]carrier.Money),
		month: time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC),
	}
	if !limit.IsZero() {
		b.committed[limit.Currency()] = limit.Minus(limit)
	}
	return b
}

// bills tells whether an intent costs something this month: one that may have bought
// its number, unless that was given back before the month began.
func (b *budget) bills(in *events.PurchaseIntent) bool {
	switch in.Outcome {
	case events.OutcomeNotBought:
		return false
	case events.OutcomeReleased:
		return !in.ClosedAt.Before(b.month)
	}
	return true
}

// add commits the price of an intent.
func (b *budget) add(in *events.PurchaseIntent) {
	price, err := carrier.ParsePrice(in.Price, in.Currency)
	if err != nil {
		return // it has none
	}
	b.committed[in.Currency] = price.Plus(b.committed[in.Currency])
}

// remove takes back what add committed, when the number was not bought after all.
func (b *budget) remove(in *events.PurchaseIntent) {
	if price, err := carrier.ParsePrice(in.Price, in.Currency); err == nil {
		b.committed[in.Currency] = b.committed[in.Currency].Minus(price)
	}
}

// affords tells whether a number may be bought beside others that cost sum, and what
// it costs; nothing while there is no cap. It counts those that may not.
func (b *budget) affords(o *carrier.Offer, sum carrier.Money) (carrier.Money, bool) {
	if b.limit.IsZero() {
		return carrier.Money{}, true
	}
	price, err := carrier.ParsePrice(o.Price, o.Currency)
	switch {
	case err != nil:
		b.unpriced++
	case o.Currency != b.limit.Currency():
		b.foreign++
	case price.Plus(b.spent()).Plus(sum).Exceeds(b.limit):
		b.above++
	default:
		return price, true
	}
	return price, false
}

// spent is what is committed in the currency of the cap.
func (b *budget) spent() carrier.Money { return b.committed[b.limit.Currency()] }

func (b *budget) reset() { b.above, b.unpriced, b.foreign = 0, 0, 0 }
