package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/vn"
)

// The streams. That of incoming orders may have another name: Config.OrdersStream.
const (
	streamOrders     = "ORDERS"
	streamVN         = "VN"
	streamLedger     = "LEDGER"
	streamCalls      = "CALLS"
	streamPools      = "POOLS"
	streamDead       = "DEAD"
	streamAdvisories = "ADVISORIES"

	// StreamPools is the stream of pools.*, and StreamLedger the ledger, for their consumers.
	StreamPools  = streamPools
	StreamLedger = streamLedger

	advisoryPrefix = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."

	// dedupeWindow is how long a stream remembers message ids.
	dedupeWindow = 2 * time.Minute
	day          = 24 * time.Hour
)

// streams are the streams as callmask creates them.
func (b *Bus) streams(replicas int) []jetstream.StreamConfig {
	streams := []jetstream.StreamConfig{
		{
			Name: b.cfg.OrdersStream, Subjects: []string{b.cfg.OrdersPrefix + ".>"}, MaxAge: day,
			Description: "callmask: incoming order events (the only ones with real numbers)",
		},
		{
			Name: streamVN, Subjects: []string{"vn.assigned", "vn.released", "vn.failed"}, MaxAge: 90 * day,
			Description: "callmask: what became of orders, for apps and for the audit",
		},
		{
			Name: streamLedger, Subjects: []string{"ledger.>"}, MaxMsgsPerSubject: 1, DenyDelete: true,
			Description: "callmask: the last record of every virtual number",
		},
		{
			Name: streamCalls, Subjects: []string{"calls.>"}, MaxAge: 30 * day,
			Description: "callmask: calls and messages, and what became of them",
		},
		{
			Name: streamPools, Subjects: []string{"pools.>"}, MaxAge: day,
			Description: "callmask: pools that run low, and what is bought for them",
		},
		{
			Name: streamDead, Subjects: []string{"dead.>"}, MaxAge: 14 * day,
			Description: "callmask: messages that could not be handled, payload sealed",
		},
		{
			Name: streamAdvisories, Subjects: []string{advisoryPrefix + ">"}, MaxAge: 7 * day,
			Description: "callmask: messages that reached the end of their deliveries",
		},
	}
	for i := range streams {
		s := &streams[i]
		s.Storage, s.Replicas, s.Duplicates = jetstream.FileStorage, replicas, dedupeWindow
		// The server offers asynchronous persistence to streams of one replica only;
		// a replicated stream is written behind its Raft log anyway.
		if s.Name == streamCalls && s.Replicas == 1 {
			s.PersistMode = jetstream.AsyncPersistMode
		}
	}
	return streams
}

// EnsureStreams creates the streams that do not exist and checks those that do. It
// never alters a stream: one that lacks a subject, or a LEDGER that could forget a
// record, is an error that names the stream and the setting. One with fewer replicas
// than it should have is worth a warning.
func (b *Bus) EnsureStreams(ctx context.Context) error {
	for _, want := range b.streams(b.replicas()) {
		if err := b.ensureStream(ctx, want); err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
	}
	return nil
}

// replicas is how many copies of a stream there should be: without a setting three on a
// cluster, whatever else would lose the ledger with a server.
func (b *Bus) replicas() int {
	switch {
	case b.cfg.Replicas != 0:
		return b.cfg.Replicas
	case b.nc.ConnectedClusterName() != "":
		return 3
	}
	return 1
}

func (b *Bus) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = b.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was quicker
			stream, err = b.js.Stream(ctx, want.Name)
		}
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeSubjectsOverlap {
		return fmt.Errorf("the subjects %s belong to a stream of another name: %w",
			strings.Join(want.Subjects, ", "), err)
	}
	if api != nil && api.ErrorCode == codeNoPeers {
		return fmt.Errorf("%w: the NATS cluster has no %d servers for it at the moment; start them, or choose the number of replicas: %w",
			vn.ErrUnavailable, want.Replicas, err)
	}
	if err != nil {
		return failed("cannot be looked up or created", err)
	}
	return b.checkStream(want, stream.CachedInfo().Config)
}

// The server's "subjects overlap with an existing stream" and "no suitable peers for
// placement".
const (
	codeSubjectsOverlap = 10065
	codeNoPeers         = 10005
)

func (b *Bus) checkStream(want, have jetstream.StreamConfig) error {
	subjects := want.Subjects
	if want.Name == b.cfg.OrdersStream { // an operator's may capture just the events that matter
		subjects = []string{
			b.OrderSubject(EventPlaced), b.OrderSubject(EventAssigned),
			b.OrderSubject(EventCompleted), b.OrderSubject(EventCancelled),
		}
	}
	for _, s := range subjects {
		if !covered(have.Subjects, s) {
			return fmt.Errorf("exists but does not capture %s (it has %s); add the subject to it, or name another stream",
				s, strings.Join(have.Subjects, ", "))
		}
	}
	if have.Storage != jetstream.FileStorage && want.Name != b.cfg.OrdersStream {
		return errors.New("exists with memory storage; it must be file storage")
	}
	if want.Name == streamLedger {
		switch {
		case have.MaxMsgsPerSubject != 1:
			return fmt.Errorf("exists with max_msgs_per_subject %d; it must be 1", have.MaxMsgsPerSubject)
		case have.AllowDirect:
			return errors.New("exists with allow_direct; it must be off, or a stale record could be read")
		case have.MaxAge != 0 || have.MaxMsgs > 0 || have.MaxBytes > 0:
			return errors.New("exists with a limit of age, messages or bytes; the ledger must keep every number's last record")
		case have.Retention != jetstream.LimitsPolicy:
			return errors.New("exists with another retention than limits")
		}
	}
	if have.Replicas < want.Replicas {
		b.log.Warn().Str("stream", want.Name).Int("replicas", have.Replicas).Int("wanted", want.Replicas).
			Msgf("the stream does not survive the loss of a server; run: nats stream edit %s --replicas %d", want.Name, want.Replicas)
	}
	return nil
}

// OrdersMaxAge returns how long the stream of incoming orders keeps a message; 0
// means for ever. An order's tombstone must live longer.
func (b *Bus) OrdersMaxAge(ctx context.Context) (time.Duration, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.cfg.OrdersStream)
	if err != nil {
		return 0, failed("looking up stream "+b.cfg.OrdersStream, err)
	}
	return stream.CachedInfo().Config.MaxAge, nil
}

// Ping tells whether NATS is connected, all streams exist and every running
// Consume has its consumer.
func (b *Bus) Ping(ctx context.Context) error {
	if !b.nc.IsConnected() {
		err := fmt.Errorf("nats: %w: not connected", vn.ErrUnavailable)
		if why := b.nc.LastError(); why != nil {
			err = fmt.Errorf("%w: %w", err, b.refused(why))
		}
		return err
	}
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range b.streams(0) {
		g.Go(func() error {
			_, err := b.js.Stream(ctx, s.Name)
			return failed("stream "+s.Name, err)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.consumers {
		if !c.established.Load() {
			return fmt.Errorf("consumer %s of stream %s: %w: it does not exist yet", c.cfg.Durable, c.cfg.Stream, vn.ErrUnavailable)
		}
	}
	return nil
}

// covered tells whether one of a stream's subjects captures the wanted one, which
// may itself end in a wildcard.
func covered(have []string, want string) bool {
	for _, h := range have {
		if covers(strings.Split(h, "."), strings.Split(want, ".")) {
			return true
		}
	}
	return false
}

// SubjectMatches tells whether a subject is one of those that a pattern with NATS's
// wildcards stands for.
func SubjectMatches(pattern, subject string) bool {
	return covers(strings.Split(pattern, "."), strings.Split(subject, "."))
}

func covers(pattern, subject []string) bool {
	for i, p := range pattern {
		switch {
		case i >= len(subject):
			return false
		case p == ">":
			return true
		case subject[i] == ">":
			return false
		case p != "*" && p != subject[i]:
			return false
		}
	}
	return len(pattern) == len(subject)
}

func checkStreamName(s string) error {
	if strings.ContainsAny(s, " \t\r\n.*>/\\") {
		return errors.New("may not hold spaces, dots, wildcards or slashes")
	}
	return nil
}

func checkSubjectPrefix(s string) error {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n*>") || strings.HasPrefix(token, "$") {
			return errors.New("must be tokens separated by dots, without spaces or wildcards")
		}
	}
	return nil
}
