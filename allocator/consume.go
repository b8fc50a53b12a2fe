package allocator

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// Durable and DurableEnds are the names of the durable consumers on the orders
// stream. Ends have one of their own: they bring numbers back, so they must not
// queue behind orders that wait for numbers.
const (
	Durable     = "allocator"
	DurableEnds = "allocator-ends"
)

// DeadContext is the context that the payloads of dead letters are sealed with:
// seal.Keyset.OpenBytes(payload, []byte(DeadContext)) gives them back.
const DeadContext = "callmask dead letter orders"

const (
	maxWaiting = 10_000 // orders that wait for a free VN before the consumer pauses

	// A waiting event comes again after half the time it has waited already, within
	// these bounds: soon at first, and not all the time when the wait is long.
	waitLeast = 100 * time.Millisecond
	waitMost  = 5 * time.Second
)

// consume handles order events until ctx ends.
func (a *Allocator) consume(ctx context.Context) error {
	base := events.Consumer{
		Stream: a.bus.OrdersStream(), MaxWaiting: maxWaiting,
		Workers: a.config.Workers, Timeout: a.config.Timeout,
		Dead: func(data []byte) ([]byte, error) { return a.keys.Primary().SealBytes(data, []byte(DeadContext)) },
	}
	assigned, ends := base, base
	assigned.Durable, assigned.Subjects = Durable, []string{a.bus.OrderSubject(events.EventAssigned)}
	ends.Durable, ends.Subjects = DurableEnds, []string{
		a.bus.OrderSubject(events.EventCompleted), a.bus.OrderSubject(events.EventCancelled),
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.bus.Consume(gctx, assigned, a.counted(a.onAssigned)) })
	g.Go(func() error { return a.bus.Consume(gctx, ends, a.counted(a.onEnded)) })
	return g.Wait()
}

type handler = func(context.Context, events.Message) events.Result

func (a *Allocator) counted(handle handler) handler {
	return func(ctx context.Context, m events.Message) events.Result {
		r := handle(ctx, m)
		a.metrics.messages.WithLabelValues(m.Event(), r.String()).Inc()
		return r
	}
}

// identify reads the order id; without one nobody can be told that it failed.
func identify(data []byte) (object, string, error) {
	o, err := decodeObject(data, "the payload")
	if err != nil {
		return object{}, "", err
	}
	id, err := o.text("order_id")
	if err == nil {
		err = vn.CheckOrderID(id)
	}
	return o, id, err
}

func (a *Allocator) onAssigned(ctx context.Context, m events.Message) events.Result {
	o, id, err := identify(m.Data)
	if err != nil {
		return events.Dead(err.Error())
	}
	order, err := a.order(o, id, false)
	if err == nil {
		_, _, err = a.Assign(ctx, order)
	}
	var field *vn.FieldError
	switch {
	case err == nil:
		return events.Done()
	case errors.As(err, &field), errors.Is(err, vn.ErrPoolUnknown):
		return a.fail(ctx, m, id, events.FailedInvalid, err)
	case errors.Is(err, vn.ErrOrderConflict):
		return a.fail(ctx, m, id, events.FailedOrderConflict, err)
	case errors.Is(err, vn.ErrOrderEnded):
		return events.Done() // it came late, or again
	case errors.Is(err, vn.ErrPoolExhausted):
		delay := waitWithin(m, a.pools[order.Pool].AssignWait)
		if delay <= 0 {
			return a.fail(ctx, m, id, events.FailedPoolExhausted, err)
		}
		return events.Wait(delay)
	}
	return later(m, err)
}

func (a *Allocator) onEnded(ctx context.Context, m events.Message) events.Result {
	_, id, err := identify(m.Data)
	if err != nil {
		return events.Dead(err.Error())
	}
	reason := vn.Completed
	if m.Event() == events.EventCancelled {
		reason = vn.Cancelled
	}
	if err := a.End(ctx, id, reason); err != nil {
		return later(m, err)
	}
	return events.Done()
}

// fail tells the order's owner that it gets no assignment. A live one stays.
func (a *Allocator) fail(ctx context.Context, m events.Message, id, reason string, cause error) events.Result {
	if err := a.bus.Failed(ctx, events.VNFailed{OrderID: id, Reason: reason}, m.Sequence); err != nil {
		return later(m, err)
	}
	a.log.Warn().Err(cause).Str("order", id).Str("reason", reason).Uint64("sequence", m.Sequence).Msg("order failed")
	return events.Done()
}

// later waits while Redis or NATS is away, however long; anything else is a fault
// that a few more deliveries may get over.
func later(m events.Message, err error) events.Result {
	if errors.Is(err, vn.ErrCold) || away(err) {
		return events.Wait(wait(m))
	}
	return events.Retry(err)
}

// wait is for how long to hold the message back, by how long it has waited so far.
func wait(m events.Message) time.Duration {
	return min(max(time.Since(m.Published)/2, waitLeast), waitMost)
}

// waitWithin is wait, but no longer than until most after the message was
// published: 0 or less when that is past.
func waitWithin(m events.Message, most time.Duration) time.Duration {
	return min(wait(m), time.Until(m.Published.Add(most)))
}

// away tells whether err says that Redis or NATS did not answer in time.
func away(err error) bool {
	return errors.Is(err, vn.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
