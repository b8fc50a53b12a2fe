package events

import (
	"errors"
	"strings"
	"time"
)

// Message is one delivery of a consumer. Data belongs to the handler.
type Message struct {
	Subject   string
	Data      []byte
	Delivered int       // 1 for the first delivery; waiting does not count
	Published time.Time // when the stream stored it
	Sequence  uint64    // in its stream

	first  time.Time           // when the event was published at first; zero unless it is a replay
	header map[string][]string // which may name the span that published it
}

// firstPublished tells when the event was published, before any replay.
func (m Message) firstPublished() time.Time {
	if m.first.IsZero() {
		return m.Published
	}
	return m.first
}

// Event returns the last token of the subject, such as EventAssigned.
func (m Message) Event() string { return m.Subject[strings.LastIndexByte(m.Subject, '.')+1:] }

type verdict uint8

const (
	verdictDone verdict = iota
	verdictRetry
	verdictWait
	verdictDead
)

// Result is what a handler makes of a message: Done, Retry, Wait or Dead.
type Result struct {
	verdict verdict
	delay   time.Duration
	reason  string
	err     error
}

// Done acknowledges the message: its effect is complete and durable.
func Done() Result { return Result{verdict: verdictDone} }

// Retry says that handling failed and may succeed later: the message comes again
// after the consumer's back-off, and becomes a dead letter after its last delivery.
func Retry(err error) Result {
	if err == nil {
		err = errors.New("failed without saying why")
	}
	return Result{verdict: verdictRetry, err: err, reason: err.Error()}
}

// Wait says that something needed is away or not there yet (Redis, a free VN):
// the message comes again after delay, at least one millisecond. Waiting is no
// failure and never ends in a dead letter: Message.Published tells how long it has
// lasted.
func Wait(delay time.Duration) Result {
	return Result{verdict: verdictWait, delay: max(delay, time.Millisecond)}
}

// Dead says that the message can never be handled: it becomes a dead letter now.
// The reason must not repeat any of the payload.
func Dead(reason string) Result { return Result{verdict: verdictDead, reason: reason} }

// Err returns what Retry was given, else nil.
func (r Result) Err() error { return r.err }

// String names the verdict, for metrics and logs.
func (r Result) String() string {
	return [...]string{"done", "retry", "wait", "dead"}[r.verdict]
}
