package replenisher

import (
	"context"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Store is what the replenisher needs of *scripts.Store.
type Store interface {
	// Ready tells whether Redis is marked ready; nothing is bought while it is not.
	Ready(ctx context.Context) (bool, error)
	// Stock counts the VNs of every pool and carrier at this moment.
	Stock(ctx context.Context) ([]scripts.Stock, error)
	// Inventory returns vn.ErrNumberUnknown for a number that is not a VN of ours.
	Inventory(ctx context.Context, number vn.Number) (scripts.Inventory, error)
	// InventoryOf returns every VN of a carrier.
	InventoryOf(ctx context.Context, carrier string) (map[vn.Number]scripts.Inventory, error)
	// SomeFree returns up to n free VNs of a pool and carrier.
	SomeFree(ctx context.Context, pool, carrier string, n int) ([]vn.Number, error)
}

// Bus is what the replenisher needs of *events.Bus.
type Bus interface {
	// Consume handles a durable consumer's messages until ctx ends.
	Consume(ctx context.Context, c events.Consumer, handle func(context.Context, events.Message) events.Result) error
	OrdersStream() string
	OrderSubject(event string) string
	// Intent writes an intent before its number is bought. It gives events.ErrFenced when
	// its fence is not the sequence of the pool's last lease record, as CloseIntent does.
	Intent(ctx context.Context, intent events.PurchaseIntent) error
	// Intents calls each with the last intent of every pool and number, open or closed,
	// oldest first.
	Intents(ctx context.Context, each func(intent events.PurchaseIntent, seq uint64) error) error
	// CloseIntent records what became of an intent.
	CloseIntent(ctx context.Context, intent events.PurchaseIntent, outcome string) error
	// Lease returns the pool's last lease record and its sequence, 0 when there is none.
	Lease(ctx context.Context, pool string) (events.Lease, uint64, error)
	// PutLease writes a lease record over the one with the sequence last, and gives
	// events.ErrFenced when that is not the last one any more.
	PutLease(ctx context.Context, pool string, lease events.Lease, last uint64) (seq uint64, err error)
	// CarrierPause returns the carrier's last pause; its sequence is 0 when it never had one.
	CarrierPause(ctx context.Context, carrier string) (events.Pause, uint64, error)
	// PoolBought announces a purchase whose intent is of the time at; it may be repeated.
	PoolBought(ctx context.Context, bought events.PoolBought, at time.Time) error
	PoolCapReached(ctx context.Context, reached events.PoolCapReached) error
	PoolRunningOut(ctx context.Context, out events.PoolRunningOut) error
	// LastIntent returns a pool's intent of a number and its sequence, 0 when it has none.
	LastIntent(ctx context.Context, pool string, number vn.Number) (intent events.PurchaseIntent, seq uint64, err error)
	// MarkIntent replaces the intent that has this sequence (0: there is none);
	// events.ErrOvertaken when another one has come since.
	MarkIntent(ctx context.Context, intent events.PurchaseIntent, seq uint64) (uint64, error)
	// LastRecord returns a VN's last ledger record and its sequence, 0 when it has none.
	LastRecord(ctx context.Context, number vn.Number) (rec events.Record, seq uint64, err error)
	// PoolReleased announces that a number, whose intent is of the time at, is not paid
	// for any more; it may be repeated.
	PoolReleased(ctx context.Context, released events.PoolReleased, at time.Time) error
}

// Ledger is what the replenisher needs of *ledger.Ledger.
type Ledger interface {
	// Own records that the numbers are ours and puts them into the pool; repeating
	// it changes nothing.
	Own(ctx context.Context, pool, carrier string, numbers []scripts.Owned) (scripts.Refilled, error)
	// Retire takes a number out of its pool, at once or when its order ends, and
	// records that it left; it may be repeated. vn.ErrNumberUnknown: the pool has it not.
	Retire(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error)
	// RetireFree is Retire for a number that is free; scripts.ErrBusy when it is not.
	RetireFree(ctx context.Context, pool string, number vn.Number) (scripts.Drained, error)
}

// Numbers is a carrier's number API. A call that returns an error which is neither
// carrier.ErrNotAvailable nor a refusal (*carrier.APIError below 500) may have
// taken effect all the same.
type Numbers interface {
	// Search returns up to n numbers of the region (ISO 3166) that are for sale.
	Search(ctx context.Context, region string, n int) ([]carrier.Offer, error)
	// Buy buys exactly this number and leaves ref with it where the carrier can.
	Buy(ctx context.Context, number vn.Number, ref string) (carrier.Bought, error)
	// Configure makes the number's calls come to webhookURL; it may be repeated.
	Configure(ctx context.Context, number carrier.Bought, webhookURL string) error
	// List returns every number that the account holds.
	List(ctx context.Context) ([]carrier.Bought, error)
	// Release gives the number up; one that is gone already is no error.
	Release(ctx context.Context, carrierRef string) error
}
