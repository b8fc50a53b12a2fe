//go:build faults

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/events"
)

// follower reads what the ledger and stream VN hold as it is written: the ledger keeps the
// last record of a VN alone, and whoever reads late misses those before.
type follower struct {
	*world

	bus                    *events.Bus
	records, intents, news events.Mark
	history                []audit.Event
}

// work reads on until ctx ends.
func (f *follower) work(ctx context.Context) error {
	for ; ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		_ = f.read(ctx) // NATS may be away; it goes on where it stopped
	}
	return nil
}

// read reads all that there is now.
func (f *follower) read(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	f.records, err = f.bus.RecordsFrom(ctx, f.records, func(r *events.Record, seq uint64, stored time.Time) error {
		if e, ok := audit.OfRecord(r, seq, stored); ok {
			f.history = append(f.history, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.intents, err = f.bus.IntentsFrom(ctx, f.intents, func(in *events.PurchaseIntent) error {
		if e, ok := audit.OfIntent(in); ok {
			f.history = append(f.history, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.news, err = f.bus.AnnouncementsFrom(ctx, f.news, func(a *events.Announcement) error {
		if e, ok := audit.OfAnnouncement(a); ok {
			f.history = append(f.history, e)
			f.do(func() { f.heard(&e) })
		}
		return nil
	})
	return err
}

// heard notes an announcement.
func (f *follower) heard(e *audit.Event) {
	o := f.orders[e.OrderID]
	switch {
	case o == nil || e.Kind == audit.Announced && len(e.VNs) != 2:
		f.wrong = append(f.wrong, "an announcement of order "+e.OrderID+", which nobody placed so")
	case e.Kind == audit.Over:
		o.ended = true
		f.finish(o, e.At)
	default:
		o.told = append(o.told, told{at: e.At, vns: pair(e.VNs), until: e.Until})
	}
}

// failures reads which orders were told that they get no VNs.
func (f *follower) failures(ctx context.Context, js jetstream.JetStream) error {
	c, err := js.OrderedConsumer(ctx, "VN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{events.SubjectFailed}})
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	for range info.NumPending {
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			return fmt.Errorf("read vn.failed: %w", err)
		}
		var e events.VNFailed
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			return fmt.Errorf("read vn.failed: %w", err)
		}
		f.do(func() {
			if o := f.orders[e.OrderID]; o != nil {
				o.failed = true
			}
		})
	}
	return nil
}
