package ledger

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// verdict is what a record that stands where another was to be written means for that.
type verdict int

const (
	stands verdict = iota // the other is not needed any more: what stands says as much, or more
	yields                // the other follows what stands
	lost                  // the VN is somebody else's
)

// judge says what becomes of want where last stands.
type judge func(ctx context.Context, want, last *events.Record) (verdict, error)

// fenceTries is how often a record is written over what stands before it. Each try but the
// first has read the last record, so more than one means that others write at the same time.
const fenceTries = 5

const fencePause = 5 * time.Millisecond // before the second try, twice as long before each further one

// write records what recs say, each behind its fence. Where the stream refuses one, judge
// decides by the VN's last record, read from the stream's leader: a refusal alone is no
// lost race, because the repeat of one's own record is refused as well. It returns the
// sequence of the record that stands for each in the end, 0 for those lost, and their indexes.
func (l *Ledger) write(ctx context.Context, recs []events.Record, judge judge) (seqs []uint64, losses []int, err error) {
	seqs = make([]uint64, len(recs))
	left := make([]int, len(recs)) // indexes of recs
	for i := range left {
		left[i] = i
	}
	for tries := 0; len(left) > 0; tries++ {
		if tries == fenceTries {
			return nil, nil, fmt.Errorf("%w: others keep writing records of the same numbers", vn.ErrUnavailable)
		}
		if tries > 0 { // another leader may still be storing what an attempt before this one sent
			select {
			case <-time.After(fencePause << tries):
			case <-ctx.Done():
				return nil, nil, fmt.Errorf("write to the ledger: %w: %w", vn.ErrUnavailable, ctx.Err())
			}
		}
		batch := make([]events.Record, len(left))
		for i, at := range left {
			batch[i] = recs[at]
		}
		got, refused, err := l.bus.Record(ctx, batch...)
		if err != nil {
			return nil, nil, err
		}
		for i, at := range left {
			seqs[at] = got[i]
		}
		verdicts := make([]verdict, len(refused))
		g, gctx := errgroup.WithContext(ctx)
		for i, r := range refused {
			at := left[r]
			g.Go(func() error {
				number, _ := vn.ParseDigits(recs[at].VN)
				last, seq, err := l.bus.LastRecord(gctx, number)
				if err != nil {
					return err
				}
				verdicts[i], seqs[at] = yields, seq
				if seq != recs[at].After && seq != 0 {
					verdicts[i], err = judge(gctx, &recs[at], &last)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, nil, fmt.Errorf("read what stands in the ledger: %w", err)
		}
		var again []int
		for i, r := range refused {
			at := left[r]
			switch verdicts[i] {
			case yields:
				recs[at].After = seqs[at]
				again = append(again, at)
			case lost:
				seqs[at] = 0
				losses = append(losses, at)
				number, _ := vn.ParseDigits(recs[at].VN)
				l.conflict(number)
			}
		}
		left = again
	}
	return seqs, losses, nil
}

// overAssigned judges for `assigned`. A VN whose last order ended, or whose lease ran out
// without an end in the ledger, is free to be taken once it has rested.
func (l *Ledger) overAssigned(ctx context.Context, want, last *events.Record) (verdict, error) {
	own, here := last.OrderID == want.OrderID, last.Pool == want.Pool && last.Carrier == want.Carrier
	switch {
	case last.Kind == events.KindAssigned && own && last.ExpiresAt.Equal(want.ExpiresAt):
		return stands, nil
	case last.Kind == events.KindAssigned && own:
		// Two processes: one assigned, one extended. What Redis says is the newer.
		o, err := l.store.Order(ctx, want.OrderID)
		if err != nil {
			return stands, fmt.Errorf("read order %s again: %w", want.OrderID, err)
		}
		if o.ExpiresAt.Equal(want.ExpiresAt) {
			return yields, nil
		}
		return stands, nil
	case last.Kind == events.KindOwned && here,
		last.Kind == events.KindAssigned && here && time.Now().After(last.ExpiresAt.Add(last.Cooldown)),
		last.Kind == events.KindReleased && here && !own && time.Now().After(last.EndedAt.Add(want.Cooldown)):
		return yields, nil
	}
	return lost, nil
}

// overEnded judges for `released`, and for `retired` of a number that left with its
// order: it ends what its own order wrote, and leaves what is newer alone. Where that is
// another order's the VN is lost: its sequence must not become the fence of a VN that
// Redis, which has lost data, takes for a free one.
func overEnded(_ context.Context, want, last *events.Record) (verdict, error) {
	switch own := last.OrderID == want.OrderID; {
	case last.Kind == events.KindAssigned && own,
		want.Kind == events.KindRetired && last.Kind == events.KindReleased && own,
		want.Kind == events.KindRetired && last.Kind == events.KindOwned:
		return yields, nil
	case own:
		return stands, nil
	}
	return lost, nil
}

// overUnused judges for `owned`, and for `retired` of a number that no order has: only an
// order that may still hold the number is in the way.
func (l *Ledger) overUnused(ctx context.Context, want, last *events.Record) (verdict, error) {
	switch {
	case last.Kind == want.Kind && last.Pool == want.Pool && last.Carrier == want.Carrier:
		return stands, nil
	case last.Kind == events.KindAssigned && time.Now().Before(last.ExpiresAt):
		if held, err := l.held(ctx, last.OrderID); err != nil || held {
			return lost, err
		}
	}
	return yields, nil
}
