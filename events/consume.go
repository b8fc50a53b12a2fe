package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// Consumer describes a durable consumer and how its messages are handled.
type Consumer struct {
	Stream   string
	Durable  string   // 1 to 48 of A-Z a-z 0-9 _ -; the same in every process that shares the work
	Subjects []string // of the stream; empty: all
	Workers  int      // how many messages are handled at the same time; default 1
	// Each gives every process all messages published while it consumes, instead of its
	// share of those of the stream: the server keeps a consumer for this process alone,
	// in memory, and forgets it soon after the process has gone. It is meant for hints:
	// what is published while nobody consumes, or while a server restarts, is missed.
	Each bool
	// MaxDeliver is after how many deliveries a message becomes a dead letter
	// (default 10). A delivery is used up by Retry, a panic, and a process that died
	// or was stopped with the message in hand. Waiting (Wait) uses up none, however
	// long it lasts, so MaxDeliver is chosen by one question: how many failures, plus
	// restarts of the process during one outage, a message may see.
	MaxDeliver int
	// AckWait is after how long the server delivers a message again when nothing is
	// heard of it, because the process that had it died or a NATS server died with its
	// acknowledgement. Default 10s.
	AckWait time.Duration
	// Timeout is the deadline of one handler's context. Default 24s, or 4/5 of an AckWait
	// that is given. It may be longer than AckWait: the server is told meanwhile that the work goes on.
	Timeout time.Duration
	// MaxWaiting is how many messages may be held back by Wait (default 1024). Beyond
	// it the consumer pauses until one of them is done.
	MaxWaiting int
	// BackOff is after how long a message comes again after its first, second, …
	// delivery; the last one goes for all that follow. Default 1s, 2s, 5s, 15s, 30s.
	BackOff []time.Duration
	// Dead seals a payload before it goes into a dead letter; without it dead letters
	// have no payload. A payload is never stored in clear.
	Dead func(data []byte) ([]byte, error)
}

const (
	// fetchWait is how long one request for messages is left open.
	fetchWait = 5 * time.Second
	// fetchHeartbeat is how often the server says that it is still there: a request
	// that a restarted server forgot is noticed after twice that.
	fetchHeartbeat = time.Second
	// stopGrace is how long handlers may go on after Consume was told to stop, and
	// how long they then have to notice that their context has ended.
	stopGrace = 10 * time.Second

	// eachIdle is after how long the server forgets the consumer of a process that has gone.
	eachIdle = time.Minute

	// streamAdvisories has a consumer of this name for every consumer of ours: the
	// same durable may exist on several streams.
	advisoriesDurable = "%s-%s-advisories"
)

func (c Consumer) withDefaults() (Consumer, error) {
	if c.Stream == "" || checkStreamName(c.Stream) != nil {
		return c, fmt.Errorf("consumer stream: %q is not a stream's name", c.Stream)
	}
	if c.Durable == "" || len(c.Durable) > 48 || checkStreamName(c.Durable) != nil {
		return c, fmt.Errorf("consumer durable: %q is not 1 to 48 characters without spaces, dots, wildcards or slashes", c.Durable)
	}
	if c.Workers < 0 || c.MaxDeliver < 0 || c.AckWait < 0 || c.Timeout < 0 || c.MaxWaiting < 0 {
		return c, fmt.Errorf("consumer %s: workers, deliveries and times must not be negative", c.Durable)
	}
	for _, d := range c.BackOff {
		if d <= 0 {
			return c, fmt.Errorf("consumer %s: back-off must be positive", c.Durable)
		}
	}
	setDefault(&c.Workers, 1)
	setDefault(&c.MaxDeliver, 10)
	if c.AckWait == 0 {
		c.AckWait = 10 * time.Second
		setDefault(&c.Timeout, 24*time.Second)
	}
	setDefault(&c.Timeout, c.AckWait/5*4)
	setDefault(&c.MaxWaiting, 1024)
	if len(c.BackOff) == 0 {
		c.BackOff = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}
	}
	return c, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// inHand is how many messages are fetched and not yet taken to an end, those that
// wait left out: one being handled and one ready per worker.
func (c *Consumer) inHand() int { return 2 * c.Workers }

// consumption is one running Consume.
type consumption struct {
	bus         *Bus
	cfg         Consumer
	name        string // the server's for this consumer
	handle      func(context.Context, Message) Result
	advisories  bool // reads ADVISORIES on behalf of another consumer
	log         zerolog.Logger
	established atomic.Bool
	slots       chan struct{} // a token for each message that may still be taken in hand
	hands       *hands
}

// Consume handles the messages of a durable consumer, Workers at a time, until ctx
// ends; then it fetches no more, lets the handlers that run finish (10s, after which
// their contexts end), hands back what waits, and returns nil. It returns an error
// at once when the consumer is not possible, such as for an unknown stream.
//
// Each message is handled at least once and in no particular order. What handle
// returns decides: Done acknowledges; Retry lets it come again after the back-off,
// and makes it a dead letter after MaxDeliver deliveries; Dead makes it a dead
// letter now; Wait holds it back in this process, telling the server that the work
// goes on, so that waiting uses up no delivery. A panic counts as Retry. A message
// whose deliveries were all used up by processes that died is found through the
// server's advisory and becomes a dead letter too.
//
// When the consumer vanished (deleted, or its stream restored from a backup) it is
// created again and delivers all that the stream holds: handlers must be idempotent.
func (b *Bus) Consume(ctx context.Context, c Consumer, handle func(context.Context, Message) Result) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	if c.Each { // what a process leaves unanswered goes with its consumer
		return b.consume(ctx, c, handle, false)
	}
	exhausted := c
	exhausted.Stream, exhausted.Durable = streamAdvisories, fmt.Sprintf(advisoriesDurable, c.Stream, c.Durable)
	exhausted.Subjects = []string{advisoryPrefix + c.Stream + "." + c.Durable}
	exhausted.Workers, exhausted.MaxDeliver, exhausted.MaxWaiting = 1, -1, 1
	dead := &deadLetters{bus: b, consumer: c}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.consume(ctx, exhausted, dead.exhausted, true) })
	g.Go(func() error { return b.consume(ctx, c, handle, false) })
	return g.Wait()
}

func (b *Bus) consume(ctx context.Context, c Consumer, handle func(context.Context, Message) Result, advisories bool) error {
	s := &consumption{
		bus: b, cfg: c, name: c.Durable, handle: handle, advisories: advisories,
		log:   b.log.With().Str("stream", c.Stream).Str("consumer", c.Durable).Logger(),
		slots: make(chan struct{}, c.inHand()),
	}
	for range c.inHand() {
		s.slots <- struct{}{}
	}
	b.mu.Lock()
	b.consumers[s] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.consumers, s)
		b.mu.Unlock()
	}()
	s.hands = newHands(s)
	s.hands.start()
	err := errors.Join(s.run(ctx), s.hands.stop())
	if c.Each {
		s.drop(context.WithoutCancel(ctx))
	}
	return err
}

// run keeps the consumer in being and fetches from it until ctx ends.
func (s *consumption) run(ctx context.Context) error {
	wait := backOff{first: 50 * time.Millisecond, most: time.Second}
	created, told := false, ""
	for ctx.Err() == nil {
		if s.cfg.Each { // a new one each time: the last one may be on a server that is gone
			s.name = s.cfg.Durable + "-" + rand.Text()
		}
		cons, err := s.create(ctx)
		switch {
		case err == nil:
			s.established.Store(true)
			created = true
			told = ""
			err = s.fetchAll(ctx, cons, wait.reset)
			s.established.Store(false)
		case ctx.Err() != nil:
			return nil
		case !created && !isUnavailable(err):
			return fmt.Errorf("consumer %s of stream %s cannot be created: %w", s.cfg.Durable, s.cfg.Stream, err)
		}
		if ctx.Err() != nil {
			return nil
		}
		s.bus.metrics.recreated.WithLabelValues(s.cfg.Durable).Inc()
		level := zerolog.DebugLevel // the same again is no news
		if text := fmt.Sprint(err); text != told {
			level, told = zerolog.WarnLevel, text
		}
		s.log.WithLevel(level).Err(err).Msg("consumer interrupted; looking it up or creating it again")
		wait.sleep(ctx)
	}
	return nil
}

func (s *consumption) create(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := s.bus.deadline(ctx)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Durable:       s.name,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.cfg.AckWait,
		MaxDeliver:    s.cfg.MaxDeliver,
		// Messages held back by Wait count as well.
		MaxAckPending: s.cfg.inHand() + s.cfg.MaxWaiting,
	}
	// A single subject is named in the request's own subject, so that the server's
	// permissions can tell which consumers a user may create.
	if len(s.cfg.Subjects) == 1 {
		cfg.FilterSubject = s.cfg.Subjects[0]
	} else {
		cfg.FilterSubjects = s.cfg.Subjects
	}
	if s.cfg.Each {
		cfg.DeliverPolicy, cfg.InactiveThreshold = jetstream.DeliverNewPolicy, eachIdle
		cfg.MemoryStorage, cfg.Replicas = true, 1
	}
	return s.bus.js.CreateOrUpdateConsumer(ctx, s.cfg.Stream, cfg)
}

// drop deletes the consumer of this process alone.
func (s *consumption) drop(ctx context.Context) {
	ctx, cancel := s.bus.deadline(ctx)
	defer cancel()
	if err := s.bus.js.DeleteConsumer(ctx, s.cfg.Stream, s.name); err != nil {
		s.log.Debug().Err(err).Msg("a consumer of this process was left to time out")
	}
}

// fetchAll asks for as many messages as there are free slots, again and again. It
// returns when ctx ends, or with the reason why the consumer must be looked up anew.
func (s *consumption) fetchAll(ctx context.Context, cons jetstream.Consumer, ok func()) error {
	for {
		n, err := s.takeSlots(ctx)
		if err != nil {
			return err
		}
		got, err := s.fetch(ctx, cons, n)
		for range n - got {
			s.slots <- struct{}{}
		}
		if err != nil {
			return err
		}
		ok()
	}
}

// takeSlots waits for a free slot and then takes all that are free.
func (s *consumption) takeSlots(ctx context.Context) (int, error) {
	select {
	case <-s.slots:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for n := 1; ; n++ {
		select {
		case <-s.slots:
		default:
			return n, nil
		}
	}
}

// fetch takes up to n messages in hand and tells how many.
func (s *consumption) fetch(ctx context.Context, cons jetstream.Consumer, n int) (got int, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := cons.Fetch(n, jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(fetchHeartbeat))
	if err != nil {
		return 0, err
	}
	for msg := range batch.Messages() {
		got++
		if err := s.hands.take(msg); err != nil {
			s.slots <- struct{}{}
			s.log.Error().Err(err).Msg("a message without JetStream's metadata was left alone")
		}
	}
	err = batch.Error()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrMaxBytesExceeded) ||
		errors.Is(err, jetstream.ErrBatchCompleted) {
		err = nil
	}
	return got, err
}

// backOff is a pause that doubles until it is reset.
type backOff struct{ first, most, next time.Duration }

func (b *backOff) reset() { b.next = 0 }

func (b *backOff) sleep(ctx context.Context) {
	b.next = min(max(b.next*2, b.first), b.most)
	t := time.NewTimer(b.next)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// masked replaces what could be a telephone number in a text that goes to a log or
// a dead letter: every run of 7 or more digits. Handlers are asked not to put one
// there; this is the second wall.
func masked(s string) string {
	var out strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		switch {
		case n == 0:
			out.WriteByte(s[0])
			s = s[1:]
			continue
		case n < 7:
			out.WriteString(s[:n])
		default:
			out.WriteString("•••")
		}
		s = s[n:]
	}
	return out.String()
}
