package testkit

import (
	"context"

	"github.com/callmask/callmask/events"
)

// OpenIntents returns the purchase intents that were not closed, oldest first.
func OpenIntents(ctx context.Context, bus *events.Bus) ([]events.PurchaseIntent, error) {
	var open []events.PurchaseIntent
	err := bus.Intents(ctx, func(in events.PurchaseIntent, _ uint64) error {
		if in.ClosedAt.IsZero() {
			open = append(open, in)
		}
		return nil
	})
	return open, err
}
