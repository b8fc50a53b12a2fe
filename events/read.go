package events

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/vn"
)

// readAll calls each with what the stream holds under a subject at this moment, with its
// sequence, oldest first, until each returns an error. With a time it begins with what was
// stored from then on. Each fetch has its own deadline, so that a long stream may take as
// long as ctx allows.
func (b *Bus) readAll(ctx context.Context, stream, subject string, since time.Time, each func(jetstream.Msg, uint64) error) error {
	doing := "reading stream " + stream
	policy, from := jetstream.DeliverAllPolicy, (*time.Time)(nil)
	if !since.IsZero() {
		policy, from = jetstream.DeliverByStartTimePolicy, &since
	}
	create, cancel := b.deadline(ctx)
	defer cancel()
	cons, err := b.js.CreateConsumer(create, stream, jetstream.ConsumerConfig{
		FilterSubject: subject, DeliverPolicy: policy, OptStartTime: from, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return failed(doing, err)
	}
	name := cons.CachedInfo().Name
	defer func() {
		drop, cancel := b.deadline(context.WithoutCancel(ctx))
		defer cancel()
		if err := b.js.DeleteConsumer(drop, stream, name); err != nil {
			b.log.Debug().Err(err).Msg("a reader was left to time out")
		}
	}()
	delivered := uint64(0)
	for left := cons.CachedInfo().NumPending; left > 0; {
		fetch, cancel := b.deadline(ctx)
		batch, err := cons.Fetch(int(min(left, 500)), jetstream.FetchContext(fetch))
		if err != nil {
			cancel()
			return failed(doing, err)
		}
		got := uint64(0)
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if delivered++; err == nil && meta.Sequence.Consumer != delivered {
				err = fmt.Errorf("%s: %w: the connection was lost while messages were on their way", doing, vn.ErrUnavailable)
			}
			if err == nil {
				got++
				left = meta.NumPending
				err = each(m, meta.Sequence.Stream)
			}
			if err != nil {
				cancel()
				return err
			}
		}
		cancel()
		if err := batch.Error(); err != nil && got == 0 {
			return failed(doing, err)
		}
	}
	return nil
}
