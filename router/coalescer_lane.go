package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// lane reads from one Redis node, one flush at a time.
type lane struct {
	client  redis.UniversalClient
	addr    string // of a Cluster's node, else empty
	cfg     *CoalescerConfig
	metrics *coalescerMetrics
	// elsewhere tells that another node may have the same keys: then nobody queues at
	// this one while it is away.
	elsewhere bool
	lost      func()              // is told that the node did not answer
	watch     func(*lane, string) // looks after the replica that has a key; nil where there is none

	pipe    redis.Pipeliner // the leader's
	cmds    []redis.Cmder   // the leader's
	flushBy *budget         // the leader's
	watched time.Time       // the leader's: when watch was called last
	last    atomic.Int64    // when a flush began last, ns

	standby atomic.Pointer[lane] // of a master: its replica that was seen last

	away    atomic.Bool // the node did not answer, and has not since
	probing atomic.Bool

	mu    sync.Mutex
	busy  bool     // somebody leads
	queue []*job   // the next batch
	spare [][]*job // slices that were batches
}

// job is one Read: the fields of one hash.
type job struct {
	key   string // a view of keyBuf
	reads []*fieldRead
	used  int // of reads
	err   error
	wake  chan bool // true: lead your batch; false: your answer is there

	keyBuf []byte
}

// fieldRead is one HGET, used again and again: go-redis reads the arguments through
// the pointers and writes the value into buf.
type fieldRead struct {
	cmd   *redis.ZeroCopyStringCmd
	field string // a view of name
	name  []byte
	buf   [maxValue]byte
}

// prepare copies what to read into the job, which outlives the caller's buffers only
// in this copy.
func (j *job) prepare(key []byte, fields [][]byte) {
	j.keyBuf = append(j.keyBuf[:0], key...)
	j.key = view(j.keyBuf)
	j.used = len(fields)
	for len(j.reads) < len(fields) {
		r := &fieldRead{}
		r.cmd = redis.NewZeroCopyStringCmd(context.Background(), r.buf[:], "hget", &j.key, &r.field)
		j.reads = append(j.reads, r)
	}
	for i, f := range fields {
		r := j.reads[i]
		r.name = append(r.name[:0], f...)
		r.field = view(r.name)
	}
}

func (j *job) collect(values [][]byte) error {
	for i, r := range j.reads[:j.used] {
		values[i] = values[i][:0]
		switch err := r.cmd.Err(); {
		case err == nil:
			values[i] = append(values[i], r.cmd.Bytes()...)
		case !errors.Is(err, redis.Nil):
			return err
		}
	}
	return nil
}

// read brings the job to its answer: by leading, or in the batch of another. While the
// node is away it returns errAway at once, unless the caller insists.
func (l *lane) read(j *job, values [][]byte, insist bool) error {
	// Whatever happens to the flush, a read that got no answer has an error.
	j.err = nil
	for _, r := range j.reads[:j.used] {
		r.cmd.SetErr(errUnread)
	}
	if err := l.join(j, insist); err != nil {
		return err
	}
	return j.collect(values)
}

func (l *lane) join(j *job, insist bool) error {
	l.mu.Lock()
	switch {
	case l.away.Load() && !insist:
		l.mu.Unlock()
		l.probe()
		return errAway
	case !l.busy:
		l.busy = true
		l.queue = append(l.queue, j)
		l.mu.Unlock()
	case len(l.queue) >= l.cfg.MaxQueue:
		l.mu.Unlock()
		l.metrics.refused.Inc()
		return errQueueFull
	default:
		l.queue = append(l.queue, j)
		l.mu.Unlock()
		if lead := <-j.wake; !lead {
			return j.err
		}
	}
	l.lead(j)
	return j.err
}

// lead makes the round trip of a batch whose first job is the leader's own.
func (l *lane) lead(own *job) {
	// Whoever is ready to run may join first: on a busy router those are many, on an
	// idle one nobody, and this returns at once.
	runtime.Gosched()
	batch := l.take()
	l.flush(batch)
	if l.away.Load() {
		l.dismiss()
	} else {
		l.handOver()
	}
	for i, other := range batch {
		if other != own {
			other.wake <- false
		}
		batch[i] = nil
	}
	l.mu.Lock()
	l.spare = append(l.spare, batch[:0])
	l.mu.Unlock()
}

// take makes those who wait, up to MaxBatch, the leader's batch. The leader is the
// first of them.
func (l *lane) take() []*job {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.queue
	l.queue = l.takeSpare()
	if len(batch) > l.cfg.MaxBatch {
		l.queue = append(l.queue, batch[l.cfg.MaxBatch:]...)
		clear(batch[l.cfg.MaxBatch:])
		batch = batch[:l.cfg.MaxBatch]
	}
	return batch
}

// handOver makes the first of those who wait the leader.
func (l *lane) handOver() {
	l.mu.Lock()
	if len(l.queue) == 0 {
		l.busy = false
		l.mu.Unlock()
		return
	}
	next := l.queue[0]
	l.mu.Unlock()
	next.wake <- true
}

// dismiss sends away all who wait: they have time left for another node, and would
// lose it here.
func (l *lane) dismiss() {
	l.mu.Lock()
	waiting := l.queue
	l.queue, l.busy = nil, false
	l.mu.Unlock()
	for _, j := range waiting {
		j.err = errAway
		j.wake <- false
	}
}

// takeSpare returns an empty slice; l.mu is held.
func (l *lane) takeSpare() []*job {
	n := len(l.spare)
	if n == 0 {
		return make([]*job, 0, 64)
	}
	s := l.spare[n-1]
	l.spare = l.spare[:n-1]
	return s
}

func (l *lane) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// flush sends all reads of a batch and reads their answers. A panic on the way (a
// bug) fails the batch and nobody else.
func (l *lane) flush(batch []*job) {
	began := time.Now()
	l.last.Store(began.UnixNano())
	if l.watch != nil && began.Sub(l.watched) >= watchEvery {
		l.watched = began
		l.watch(l, batch[0].key)
	}
	defer func() {
		if p := recover(); p != nil {
			l.metrics.panicked.Inc()
			l.pipe, l.cmds, l.flushBy = l.client.Pipeline(), nil, newBudget()
			for _, j := range batch {
				j.err = fmt.Errorf("%w: the flush panicked (%T)", vn.ErrUnavailable, p)
			}
		}
		l.metrics.took.Observe(time.Since(began).Seconds())
		l.metrics.size.Observe(float64(len(batch)))
	}()
	l.flushBy.start(began.Add(l.cfg.FlushTimeout))
	err := l.send(batch)
	if !l.flushBy.stop() {
		l.flushBy = newBudget()
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		l.metrics.failed.Inc()
		l.missed(err)
	}
}

func (l *lane) send(batch []*job) error {
	if len(batch) == 1 && batch[0].used == 1 {
		return l.client.Process(l.flushBy, batch[0].reads[0].cmd)
	}
	l.cmds = l.cmds[:0]
	for _, j := range batch {
		for _, r := range j.reads[:j.used] {
			l.cmds = append(l.cmds, r.cmd)
		}
	}
	if err := l.pipe.BatchProcess(l.flushBy, l.cmds...); err != nil {
		return err
	}
	_, err := l.pipe.Exec(l.flushBy)
	return err
}

// pipelined makes other reads than the jobs'. While the node is away it returns errAway
// at once, unless the caller insists.
func (l *lane) pipelined(ctx context.Context, queue func(redis.Pipeliner), insist bool) error {
	if l.away.Load() && !insist {
		l.probe() //nolint:contextcheck // nobody waits for it
		return errAway
	}
	own, cancel := context.WithTimeout(ctx, l.cfg.FlushTimeout)
	defer cancel()
	err := pipelined(own, l.client, queue)
	if inTime(ctx) { // else it was the caller who had too little
		l.missed(err)
	}
	return err
}

// missed notes an error that says the node does not answer.
func (l *lane) missed(err error) {
	if !unanswered(err) {
		return
	}
	if l.elsewhere && !redis.IsClusterDownError(err) {
		l.away.Store(true)
	}
	l.lost()
}

// probe asks the node whether it is back, without keeping anybody waiting. However
// many ask for it, one ping is made within FlushTimeout.
func (l *lane) probe() {
	if !l.probing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer l.probing.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), l.cfg.FlushTimeout)
		defer cancel()
		if l.ping(ctx) {
			return
		}
		l.lost()
		<-ctx.Done()
	}()
}

// ping asks the node whether it answers, and keeps the result.
func (l *lane) ping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.FlushTimeout)
	defer cancel()
	err := l.client.Ping(ctx).Err()
	if l.elsewhere {
		l.away.Store(err != nil)
	}
	return err == nil
}

// unanswered tells whether err means that a node cannot answer now, so that another
// one with the same keys should be asked.
func unanswered(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	if errors.Is(err, errAway) || errors.Is(err, errUnread) {
		return true
	}
	var reply redis.Error
	if errors.As(err, &reply) {
		return redis.IsLoadingError(err) || redis.IsMasterDownError(err) || redis.IsClusterDownError(err)
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed)
}

// isRedirect tells whether err is a Cluster node's hint that another one has the slot.
func isRedirect(err error) bool {
	if err == nil {
		return false
	}
	if _, moved := redis.IsMovedError(err); moved {
		return true
	}
	_, ask := redis.IsAskError(err)
	return ask
}
