package allocator

import (
	"context"
	"fmt"
	"hash/maphash"

	"github.com/callmask/callmask/vn"
)

// stripes lets one verb at a time work on an order in this process: an assignment
// that is slow to reach the ledger must not arrive there after the order's end.
// Orders share a stripe by hash.
type stripes struct {
	seed maphash.Seed
	slot [256]chan struct{}
}

func newStripes() stripes {
	s := stripes{seed: maphash.MakeSeed()}
	for i := range s.slot {
		s.slot[i] = make(chan struct{}, 1)
	}
	return s
}

// hold waits for the order's turn; the caller calls done afterwards.
func (s *stripes) hold(ctx context.Context, orderID string) (done func(), err error) {
	slot := s.slot[maphash.String(s.seed, orderID)%uint64(len(s.slot))]
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for another change of the order: %w", vn.ErrUnavailable, ctx.Err())
	}
}
