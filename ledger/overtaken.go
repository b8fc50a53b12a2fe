package ledger

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// overtaken sees to it that the end of an order stands last in the ledger after its
// `assigned` may have been stored later: a rebuild would bring the order back. It
// returns vn.ErrOrderEnded when that is done.
//
// What was recorded of another order since is left alone. A VN rests at least its
// cool-down before another order gets it, far longer than it takes from looking to
// writing here.
func (l *Ledger) overtaken(ctx context.Context, orderID string) error {
	// The order has ended: this reads how, whatever the reason given.
	r, err := l.store.Release(ctx, orderID, vn.Completed)
	if err != nil {
		return fmt.Errorf("read the end of order %s: %w", orderID, err)
	}
	if err := l.endLate(ctx, &r); err != nil {
		return err
	}
	return fmt.Errorf("order %s was overtaken by its end: %w", orderID, vn.ErrOrderEnded)
}

// lateMargin is how long before its VNs may serve others the end of an order is
// already treated as late.
const lateMargin = time.Minute

// endLate is End for an order whose VNs may have gone on since, to another order or out
// of their pool: it looks at the last record of each VN and leaves what is newer alone.
func (l *Ledger) endLate(ctx context.Context, r *scripts.Release) error {
	fences := make([]uint64, len(r.Numbers))
	g, gctx := errgroup.WithContext(ctx)
	for i, n := range r.Numbers {
		g.Go(func() (err error) {
			fences[i], err = l.endLast(gctx, r, n)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("record the end of order %s: %w", r.OrderID, err)
	}
	return l.ended(ctx, r, fences)
}

// endLast records the end of one VN of an order unless it, or something newer, is
// the VN's last record already. It returns the sequence of that record.
func (l *Ledger) endLast(ctx context.Context, r *scripts.Release, n scripts.ReleasedNumber) (uint64, error) {
	last, seq, err := l.bus.LastRecord(ctx, n.VN)
	if err != nil {
		return 0, err
	}
	switch assigned := last.Kind == events.KindAssigned && last.OrderID == r.OrderID; {
	case assigned:
	case n.Retired && seq <= n.Fence:
		// The assignment was never recorded, but the VN has left its pool all the same.
	default:
		return max(seq, n.Fence), nil
	}
	rec := events.Record{
		Kind: events.KindReleased, VN: n.VN.Digits(), Pool: r.Pool, Carrier: r.Carrier, Ref: last.Ref,
		OrderID: r.OrderID, Reason: string(r.Reason),
		// Under its own time the stream might take it for a repeat of the record that
		// was overwritten, and drop it.
		EndedAt: r.EndedAt.Add(time.Millisecond),
	}
	if n.Retired {
		rec.Kind, rec.Reason = events.KindRetired, ""
	}
	seqs, err := l.bus.Record(ctx, rec)
	if err != nil {
		return 0, err
	}
	return seqs[0], nil
}
