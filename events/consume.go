package events

import (
	"context"
	"sync/atomic"
	"time"
)

// Consumer describes a durable consumer and how its messages are handled.
type Consumer struct {
	Stream   string
	Durable  string   // 1 to 48 of A-Z a-z 0-9 _ -
	Subjects []string // of the stream; empty: all
	Workers  int      // how many messages are handled at the same time; default 1
	// MaxDeliver is after how many deliveries a message becomes a dead letter
	// (default 5): a delivery is a Retry, a panic, a handler that came to no end, or
	// a process that died or was stopped with the message in hand. Waiting (Wait)
	// costs none, however long: see Consume.
	MaxDeliver int
	// AckWait is after how long the server delivers a message again when nothing is
	// heard of it (a process that died). Default 30s.
	AckWait time.Duration
	// Timeout is the deadline of one handler's context. Default 4/5 of AckWait; it
	// may be longer than AckWait: the server is told that the work goes on.
	Timeout time.Duration
	// MaxWaiting is how many messages may be held back by Wait (default 1024);
	// beyond it the consumer pauses until one of them is done.
	MaxWaiting int
	// BackOff is after how long a message comes again after its first, second, …
	// Retry; the last one is used for all that follow. Default 1s, 5s, 15s, 30s.
	BackOff []time.Duration
	// Dead seals a payload before it goes into a dead letter; without it dead
	// letters have no payload. A payload is never stored in clear.
	Dead func(data []byte) ([]byte, error)
}

type consumption struct {
	bus         *Bus
	cfg         Consumer
	established atomic.Bool
}

// Consume …
func (b *Bus) Consume(ctx context.Context, c Consumer, handle func(context.Context, Message) Result) error {
	panic("not yet")
}
