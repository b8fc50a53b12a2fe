package events

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// CallTail follows stream CALLS for somebody who watches: however many calls there are,
// it reads a bounded number of the newest. It is not safe for concurrent use.
type CallTail struct {
	bus  *Bus
	next uint64 // sequence that was not seen yet; 0 before the first Next
}

// CallBatch is what a CallTail read.
type CallBatch struct {
	Decided []CallDecided // oldest first
	Told    []CallStatus
	// Stored is how many events the stream took in since the last Next, and Read how many
	// of them were read: the newest. Of a first Next Stored is 0.
	Stored, Read uint64
}

// TailCalls returns a CallTail that begins with the newest events.
func (b *Bus) TailCalls() *CallTail { return &CallTail{bus: b} }

// Next returns the newest events since the last Next, at most most of them.
func (t *CallTail) Next(ctx context.Context, most uint64) (CallBatch, error) {
	var batch CallBatch
	last, err := t.bus.lastSeq(ctx, streamCalls)
	if err != nil {
		return batch, err
	}
	from := t.next
	switch {
	case from == 0 || from > last+1: // the first time, or another stream of that name
		from = last + 1 - min(last, most)
	default:
		batch.Stored = last + 1 - from
		from = max(from, last+1-min(last, most))
	}
	err = t.bus.readFrom(ctx, streamCalls, nil, from, last, func(m jetstream.Msg) {
		batch.Read++
		batch.add(m.Subject(), m.Data())
	})
	if err == nil {
		t.next = last + 1
	}
	return batch, err
}

func (c *CallBatch) add(subject string, data []byte) {
	switch subject {
	case SubjectDecided:
		var d CallDecided
		if json.Unmarshal(data, &d) == nil { // what cannot be read is not ours
			c.Decided = append(c.Decided, d)
		}
	case SubjectStatus:
		var s CallStatus
		if json.Unmarshal(data, &s) == nil {
			c.Told = append(c.Told, s)
		}
	}
}

// PoolNews is one event of stream POOLS about the money of a pool.
type PoolNews struct {
	At       time.Time
	Kind     string // the subject's last token: bought, released, cap_reached, running_out or top_up
	Pool     string
	Carrier  string
	VN       string
	Price    string
	Currency string
	Reason   string
	Missing  int     // of cap_reached
	Minutes  float64 // of running_out
	Numbers  int     // of top_up
	By       string  // of top_up
}

// PoolTail follows what is bought and given back. It is not safe for concurrent use.
type PoolTail struct {
	bus  *Bus
	next uint64
}

// TailPools returns a PoolTail that begins with the oldest event that the stream keeps.
func (b *Bus) TailPools() *PoolTail { return &PoolTail{bus: b, next: 1} }

// poolNews are the subjects that a PoolTail reads.
var poolNews = []string{SubjectPoolBought, SubjectPoolReleased, SubjectPoolCapReached, SubjectPoolRunningOut, SubjectTopUp}

// Next returns the events since the last Next, oldest first.
func (t *PoolTail) Next(ctx context.Context) ([]PoolNews, error) {
	last, err := t.bus.lastSeq(ctx, streamPools)
	if err != nil {
		return nil, err
	}
	if t.next > last+1 {
		t.next = 1 // another stream of that name
	}
	var news []PoolNews
	err = t.bus.readFrom(ctx, streamPools, poolNews, t.next, last, func(m jetstream.Msg) {
		n := PoolNews{Kind: Message{Subject: m.Subject()}.Event()}
		if _, topUp := TopUpPool(m.Subject()); topUp {
			n.Kind = "top_up"
		}
		if meta, err := m.Metadata(); err == nil {
			n.At = meta.Timestamp.UTC()
		}
		if n.read(m.Data()) == nil { // what cannot be read is not ours
			news = append(news, n)
		}
	})
	if err != nil {
		return nil, err
	}
	t.next = last + 1
	return news, nil
}

func (n *PoolNews) read(data []byte) error {
	var p struct {
		Pool     string  `json:"pool"`
		Carrier  string  `json:"carrier"`
		VN       string  `json:"vn"`
		Price    string  `json:"price"`
		Currency string  `json:"currency"`
		Reason   string  `json:"reason"`
		Missing  int     `json:"missing"`
		Minutes  float64 `json:"minutes"`
		Numbers  int     `json:"numbers"`
		By       string  `json:"by"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	n.Pool, n.Carrier, n.VN, n.Price, n.Currency, n.Reason = p.Pool, p.Carrier, p.VN, p.Price, p.Currency, p.Reason
	n.Missing, n.Minutes, n.Numbers, n.By = p.Missing, p.Minutes, p.Numbers, p.By
	return nil
}

// lastSeq returns the last sequence that a stream has given out.
func (b *Bus) lastSeq(ctx context.Context, stream string) (uint64, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, failed("reading the state of stream "+stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// readLast calls each with the last most messages of a stream, oldest first.
func (b *Bus) readLast(ctx context.Context, stream string, most uint64, each func(jetstream.Msg)) error {
	last, err := b.lastSeq(ctx, stream)
	if err != nil {
		return err
	}
	return b.readFrom(ctx, stream, nil, last+1-min(last, most), last, each)
}

// readFrom calls each with what a stream holds between two sequences, oldest first: under
// the subjects, or all of it when there are none.
func (b *Bus) readFrom(ctx context.Context, stream string, subjects []string, from, last uint64, each func(jetstream.Msg)) error {
	if from > last {
		return nil
	}
	err := b.readWith(ctx, stream, jetstream.ConsumerConfig{
		FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(1, from),
	}, func(m jetstream.Msg, seq uint64) error {
		if seq <= last {
			each(m)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the newest messages: %w", err)
	}
	return nil
}
