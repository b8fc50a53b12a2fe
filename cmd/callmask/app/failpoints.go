//go:build failpoints

package app

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// A binary built with the tag `failpoints` dies, as by kill -9, at a step of an order's way
// that a fault test names: when CALLMASK_FAILPOINTS is a directory and holds a file
// <role>.<record>-<step>, whichever process of the role comes to that step first removes the
// file and dies. CALLMASK_PLANTED names a bug that the tests' checkers must find.

// failing returns Redis and NATS as those who work on orders see them.
func (a *App) failing() (*failingStore, *failingBus) {
	f := failpoints{dir: os.Getenv("CALLMASK_FAILPOINTS"), role: string(a.cfg.Role)}
	planted := os.Getenv("CALLMASK_PLANTED")
	return &failingStore{a.store, f, planted}, &failingBus{a.bus, f, planted}
}

type failpoints struct{ dir, role string }

// pass dies where a test wants it.
func (f failpoints) pass(record, step string) {
	if f.dir == "" || os.Remove(filepath.Join(f.dir, f.role+"."+record+"-"+step)) != nil {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it does not fail for one's own process
	select {}
}

type failingStore struct {
	*scripts.Store
	failpoints

	planted string
}

func (s *failingStore) SettleAssigned(ctx context.Context, a *scripts.Allocation, fences []uint64) error {
	s.pass(events.KindAssigned, "announced")
	return s.Store.SettleAssigned(ctx, a, fences)
}

func (s *failingStore) SettleReleased(ctx context.Context, r *scripts.Release, fences []uint64) error {
	s.pass(events.KindReleased, "announced")
	if s.planted == "unsettled" {
		return nil
	}
	return s.Store.SettleReleased(ctx, r, fences)
}

type failingBus struct {
	*events.Bus
	failpoints

	planted string
}

func (b *failingBus) Record(ctx context.Context, recs ...events.Record) ([]uint64, []int, error) {
	b.pass(recs[0].Kind, "claimed")
	if b.planted == "unfenced" {
		for i := range recs {
			number, _ := vn.ParseDigits(recs[i].VN)
			if _, seq, err := b.Bus.LastRecord(ctx, number); err == nil {
				recs[i].After = seq
			}
		}
	}
	seqs, refused, err := b.Bus.Record(ctx, recs...)
	if err == nil {
		b.pass(recs[0].Kind, "recorded")
	}
	return seqs, refused, err
}

func (b *failingBus) Consume(ctx context.Context, c events.Consumer, handle func(context.Context, events.Message) events.Result) error {
	return b.Bus.Consume(ctx, c, func(ctx context.Context, m events.Message) events.Result {
		r := handle(ctx, m)
		switch {
		case r.String() != "done":
		case m.Event() == events.EventAssigned:
			b.pass(events.KindAssigned, "unacknowledged")
		default:
			b.pass(events.KindReleased, "unacknowledged")
		}
		return r
	})
}
