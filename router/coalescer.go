package router

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// The limits that a zero field of CoalescerConfig stands for.
const (
	DefaultMaxQueue     = 2048
	DefaultMaxBatch     = 512
	DefaultFlushTimeout = 40 * time.Millisecond
)

// maxValue is the longest value that Read takes: a packed binding with the longest
// order id has 116 bytes.
const maxValue = 192

// CoalescerConfig holds the settings of a Coalescer. A zero field means its default.
type CoalescerConfig struct {
	// MaxQueue is how many reads may wait for the flush in flight; more are refused at
	// once with vn.ErrUnavailable.
	MaxQueue int
	// MaxBatch is the most reads that go into one flush.
	MaxBatch int
	// FlushTimeout bounds one flush. A read waits for the flush in flight and then for
	// its own, so for twice that at most.
	FlushTimeout time.Duration
}

// Coalescer reads hash fields from Redis for many calls at once. A call that finds no
// flush in flight leads: it makes an ordinary round trip of its own. Calls that come
// meanwhile wait and form the next batch, led by the first of them. So a lone call
// pays nothing, a busy router pays one round trip for a whole batch, and there is
// neither a timer nor a goroutine. One flush is in flight at a time.
//
// It allocates nothing of its own and is safe for concurrent use.
type Coalescer struct {
	client  redis.UniversalClient
	cfg     CoalescerConfig
	metrics *coalescerMetrics
	jobs    sync.Pool
	pipe    redis.Pipeliner // the leader's
	cmds    []redis.Cmder   // the leader's
	flushBy deadline        // the leader's

	mu    sync.Mutex
	busy  bool     // somebody leads
	queue []*job   // the next batch
	spare [][]*job // slices that were batches
}

type coalescerMetrics struct {
	size     prometheus.Histogram
	took     prometheus.Histogram
	refused  prometheus.Counter
	failed   prometheus.Counter
	panicked prometheus.Counter
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

var (
	errQueueFull = fmt.Errorf("%w: too many reads wait for Redis", vn.ErrUnavailable)
	errUnread    = fmt.Errorf("%w: the flush ended before this read was answered", vn.ErrUnavailable)
)

// NewCoalescer returns a Coalescer over client, which stays the caller's to close.
func NewCoalescer(client redis.UniversalClient, cfg CoalescerConfig, reg prometheus.Registerer) (*Coalescer, error) {
	if cfg.MaxQueue == 0 {
		cfg.MaxQueue = DefaultMaxQueue
	}
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = DefaultMaxBatch
	}
	if cfg.FlushTimeout == 0 {
		cfg.FlushTimeout = DefaultFlushTimeout
	}
	switch {
	case cfg.MaxQueue < 1:
		return nil, errors.New("router: MaxQueue must be at least 1")
	case cfg.MaxBatch < 1:
		return nil, errors.New("router: MaxBatch must be at least 1")
	case cfg.FlushTimeout < time.Millisecond:
		return nil, errors.New("router: FlushTimeout must be at least 1ms")
	}
	c := &Coalescer{client: client, cfg: cfg, pipe: client.Pipeline()}
	c.jobs.New = func() any { return &job{wake: make(chan bool, 1), keyBuf: make([]byte, 0, 64)} }
	return c, c.register(reg)
}

func (c *Coalescer) register(reg prometheus.Registerer) error {
	c.metrics = &coalescerMetrics{
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callmask_router_flush_reads", Help: "Calls answered by one round trip to Redis.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callmask_router_flush_seconds", Help: "Time of one round trip to Redis.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 12),
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_router_queue_refused_total", Help: "Calls refused because too many waited for Redis.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_router_flush_errors_total", Help: "Round trips to Redis that failed.",
		}),
		panicked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_router_flush_panics_total", Help: "Round trips to Redis that panicked.",
		}),
	}
	depth := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callmask_router_queue_depth", Help: "Calls that wait for the round trip in flight.",
	}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(len(c.queue))
	})
	for _, m := range []prometheus.Collector{
		c.metrics.size, c.metrics.took, c.metrics.refused, c.metrics.failed, c.metrics.panicked, depth,
	} {
		if err := reg.Register(m); err != nil {
			return fmt.Errorf("router: metrics: %w", err)
		}
	}
	return nil
}

// Read reads fields of the hash key: values[i] becomes values[i][:0] with the value of
// fields[i] appended, empty when the hash has no such field. The slices stay the
// caller's. It does not look at a context: FlushTimeout bounds it. Errors wrap
// vn.ErrUnavailable where the same call may be made again.
func (c *Coalescer) Read(_ context.Context, key []byte, fields, values [][]byte) error {
	j := c.jobs.Get().(*job) //nolint:errcheck // the pool makes nothing else
	j.prepare(key, fields)   //nolint:contextcheck // the command is used again and takes each flush's deadline
	err := c.do(j)           //nolint:contextcheck // a flush serves many callers; none of them may end it
	if err == nil {
		err = j.collect(values)
	}
	j.err = nil
	c.jobs.Put(j)
	return err
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
		// Whatever happens to the flush, a read that got no answer has an error.
		r.cmd.SetErr(errUnread)
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

// do brings the job to its answer: by leading, or in the batch of another.
func (c *Coalescer) do(j *job) error {
	c.mu.Lock()
	if c.busy {
		if len(c.queue) >= c.cfg.MaxQueue {
			c.mu.Unlock()
			c.metrics.refused.Inc()
			return errQueueFull
		}
		c.queue = append(c.queue, j)
		c.mu.Unlock()
		if lead := <-j.wake; !lead {
			return j.err
		}
	} else {
		c.busy = true
		c.queue = append(c.queue, j)
		c.mu.Unlock()
	}
	// Whoever is ready to run may join first: on a busy router those are many, on an
	// idle one nobody, and this returns at once.
	runtime.Gosched()
	batch := c.take()
	c.flush(batch)
	c.handOver()
	for i, other := range batch {
		if other != j {
			other.wake <- false
		}
		batch[i] = nil
	}
	c.mu.Lock()
	c.spare = append(c.spare, batch[:0])
	c.mu.Unlock()
	return j.err
}

// take makes those who wait, up to MaxBatch, the leader's batch. The leader is the
// first of them.
func (c *Coalescer) take() []*job {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := c.queue
	c.queue = c.takeSpare()
	if len(batch) > c.cfg.MaxBatch {
		c.queue = append(c.queue, batch[c.cfg.MaxBatch:]...)
		clear(batch[c.cfg.MaxBatch:])
		batch = batch[:c.cfg.MaxBatch]
	}
	return batch
}

// handOver makes the first of those who wait the leader.
func (c *Coalescer) handOver() {
	c.mu.Lock()
	if len(c.queue) == 0 {
		c.busy = false
		c.mu.Unlock()
		return
	}
	next := c.queue[0]
	c.mu.Unlock()
	next.wake <- true
}

// takeSpare returns an empty slice; c.mu is held.
func (c *Coalescer) takeSpare() []*job {
	n := len(c.spare)
	if n == 0 {
		return make([]*job, 0, 64)
	}
	s := c.spare[n-1]
	c.spare = c.spare[:n-1]
	return s
}

// flush sends all reads of a batch and reads their answers. A panic on the way (a
// bug) fails the batch and nobody else.
func (c *Coalescer) flush(batch []*job) {
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panicked.Inc()
			c.pipe, c.cmds = c.client.Pipeline(), nil
			for _, j := range batch {
				j.err = fmt.Errorf("%w: the flush panicked (%T)", vn.ErrUnavailable, p)
			}
		}
		c.metrics.took.Observe(time.Since(began).Seconds())
		c.metrics.size.Observe(float64(len(batch)))
	}()
	c.flushBy.at = began.Add(c.cfg.FlushTimeout)
	var err error
	if len(batch) == 1 && batch[0].used == 1 {
		err = c.client.Process(&c.flushBy, batch[0].reads[0].cmd)
	} else {
		c.cmds = c.cmds[:0]
		for _, j := range batch {
			for _, r := range j.reads[:j.used] {
				c.cmds = append(c.cmds, r.cmd)
			}
		}
		if err = c.pipe.BatchProcess(&c.flushBy, c.cmds...); err == nil {
			_, err = c.pipe.Exec(&c.flushBy)
		}
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		c.metrics.failed.Inc()
	}
}

// deadline is a context that has nothing but a deadline, which go-redis turns into
// the connection's. It is used again for every flush, so it has no Done channel.
type deadline struct{ at time.Time }

// Deadline implements context.Context.
func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

// Done implements context.Context.
func (*deadline) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (*deadline) Err() error { return nil }

// Value implements context.Context.
func (*deadline) Value(any) any { return nil }
