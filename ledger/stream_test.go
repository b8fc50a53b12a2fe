package ledger

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// stream is the ledger and the apps' events as NATS keeps them, in memory.
type stream struct {
	mu       sync.Mutex
	history  []numbered
	last     map[string]numbered
	released map[string]events.VNReleased
}

func newStream() *stream {
	return &stream{last: map[string]numbered{}, released: map[string]events.VNReleased{}}
}

func (s *stream) Record(_ context.Context, recs ...events.Record) (seqs []uint64, refused []int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seqs = make([]uint64, len(recs))
	for i, r := range recs {
		if s.last[r.VN].seq != r.After {
			refused = append(refused, i)
			continue
		}
		seqs[i] = uint64(len(s.history) + 1)
		s.last[r.VN] = numbered{Record: r, seq: seqs[i]}
		s.history = append(s.history, s.last[r.VN])
	}
	return seqs, refused, nil
}

func (s *stream) LastRecord(_ context.Context, n vn.Number) (events.Record, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.last[n.Digits()]
	return r.Record, r.seq, nil
}

func (s *stream) Assigned(context.Context, events.VNAssigned) error { return nil }

func (s *stream) Released(_ context.Context, e events.VNReleased) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released[e.OrderID] = e
	return nil
}

func (s *stream) Records(_ context.Context, each func(events.Record, uint64) error) error {
	s.mu.Lock()
	all := slices.SortedFunc(maps.Values(s.last), func(a, b numbered) int { return int(a.seq) - int(b.seq) })
	s.mu.Unlock()
	for _, r := range all {
		if err := each(r.Record, r.seq); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) RecordCount(context.Context) (uint64, error) { return uint64(len(s.last)), nil }

func (s *stream) OrdersReleased(_ context.Context, _ time.Time, each func(events.VNReleased, time.Time) error) error {
	for _, e := range s.released {
		if err := each(e, time.Now()); err != nil {
			return err
		}
	}
	return nil
}
