package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/callmask/callmask/internal/tracing"
	"github.com/callmask/callmask/vn"
)

// Assigned publishes vn.assigned and waits until the stream has stored it. Its
// message id is assigned:<order>:<lease end, ms>, so that a repeat is dropped and
// a prolonged lease is not.
func (b *Bus) Assigned(ctx context.Context, p VNAssigned) error {
	p.ExpiresAt = p.ExpiresAt.UTC()
	id := "assigned:" + p.OrderID + ":" + strconv.FormatInt(p.ExpiresAt.UnixMilli(), 10)
	return b.publish(ctx, SubjectAssigned, id, p)
}

// Released publishes vn.released and waits until the stream has stored it. Its
// message id is released:<order>: an order ends once.
func (b *Bus) Released(ctx context.Context, p VNReleased) error {
	return b.publish(ctx, SubjectReleased, "released:"+p.OrderID, p)
}

// Failed publishes vn.failed and waits until the stream has stored it. Its message
// id is failed:<order>:<reason>:<sequence>, with the sequence of the event that failed:
// an order that is sent once more and fails once more is announced once more.
func (b *Bus) Failed(ctx context.Context, p VNFailed, sequence uint64) error {
	return b.publish(ctx, SubjectFailed, "failed:"+p.OrderID+":"+p.Reason+":"+strconv.FormatUint(sequence, 10), p)
}

// PoolLow publishes pools.low and waits until the stream has stored it. Its message
// id is low:<pool>:<second>, so that a pool is reported at most once a second
// however many orders find it low.
func (b *Bus) PoolLow(ctx context.Context, p PoolLow) error {
	return b.publish(ctx, SubjectPoolLow, "low:"+p.Pool+":"+strconv.FormatInt(time.Now().Unix(), 10), p)
}

// PoolBought publishes pools.bought and waits until the stream has stored it. at is
// the time of the purchase intent: the message id is bought:<pool>:<vn>:<at, ns>, so
// that whoever finishes a purchase that a crash cut short announces the same fact.
func (b *Bus) PoolBought(ctx context.Context, p PoolBought, at time.Time) error {
	return b.publish(ctx, SubjectPoolBought, "bought:"+p.Pool+":"+p.VN+":"+strconv.FormatInt(at.UnixNano(), 10), p)
}

// PoolCapReached publishes pools.cap_reached and waits until the stream has stored
// it. Its message id is cap_reached:<pool>:<second>.
func (b *Bus) PoolCapReached(ctx context.Context, p PoolCapReached) error {
	return b.publish(ctx, SubjectPoolCapReached, "cap_reached:"+p.Pool+":"+strconv.FormatInt(time.Now().Unix(), 10), p)
}

// PoolRunningOut publishes pools.running_out and waits until the stream has stored
// it. Its message id is running_out:<pool>:<second>.
func (b *Bus) PoolRunningOut(ctx context.Context, p PoolRunningOut) error {
	return b.publish(ctx, SubjectPoolRunningOut, "running_out:"+p.Pool+":"+strconv.FormatInt(time.Now().Unix(), 10), p)
}

func (b *Bus) publish(ctx context.Context, subject, id string, payload any) error {
	_, err := b.store(ctx, subject, id, payload)
	return err
}

// store publishes payload as JSON and returns the sequence the stream gave it.
func (b *Bus) store(ctx context.Context, subject, id string, payload any, opts ...jetstream.PublishOpt) (uint64, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return 0, fmt.Errorf("encoding a message: %w", err)
	}
	return b.storeMsg(ctx, &nats.Msg{Subject: subject, Header: headers(subject, id, time.Now()), Data: data}, opts...)
}

// storeMsg is store for a message; the options must give it a message id.
func (b *Bus) storeMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (sequence uint64, err error) {
	if !b.nc.IsConnected() {
		return 0, fmt.Errorf("publishing: %w: not connected to nats", vn.ErrUnavailable)
	}
	tracing.Inject(ctx, msg.Header)
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	err = persist(ctx, func(ctx context.Context) error {
		ack, err := b.js.PublishMsg(ctx, msg, opts...)
		if err == nil {
			sequence = ack.Sequence
		}
		return err
	})
	return sequence, failed("publishing", err)
}

// attemptFor is how long one attempt to publish waits for its acknowledgement. A stream
// that has just lost its leader never answers it, and the next leader is there in a few
// seconds.
const attemptFor = time.Second

// persist repeats attempts until one is answered or ctx ends. By its message id a repeat
// of what was stored after all is no second message.
func persist(ctx context.Context, attempt func(context.Context) error) error {
	wait := backOff{first: 20 * time.Millisecond, most: 250 * time.Millisecond}
	for {
		one, cancel := context.WithTimeout(ctx, attemptFor)
		err := attempt(one)
		cancel()
		if ctx.Err() != nil || !unanswered(err) {
			return err
		}
		wait.sleep(ctx)
	}
}

// codeDuplicateInProcess is the server's answer to a repeat of what it is still storing.
const codeDuplicateInProcess = 10158

func unanswered(err error) bool {
	api := (*jetstream.APIError)(nil)
	return isUnavailable(err) || errors.As(err, &api) && api.ErrorCode == codeDuplicateInProcess
}
