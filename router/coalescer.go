package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	// MaxQueue is how many reads may wait for a node's flush in flight; more are refused
	// at once with vn.ErrUnavailable.
	MaxQueue int
	// MaxBatch is the most reads that go into one flush.
	MaxBatch int
	// FlushTimeout bounds one flush, and so how long a master may take before a replica
	// is asked. A read waits for the flush in flight and then for its own, so for twice
	// that at most at one node.
	FlushTimeout time.Duration
	// Replicas reads from replicas what their master does not answer in time; it stays
	// the caller's to close. For a Cluster it is a ClusterClient with ReadOnly, for a
	// master behind Sentinels a failover client with ReplicaOnly; nil means that nobody
	// else is asked.
	Replicas redis.UniversalClient
}

// Coalescer reads hash fields from Redis for many calls at once. A call that finds no
// flush in flight leads: it makes an ordinary round trip of its own. Calls that come
// meanwhile wait and form the next batch, led by the first of them. So a lone call
// pays nothing, a busy router pays one round trip for a whole batch, and there is
// neither a timer nor a goroutine. One flush is in flight for each Redis node, so on a
// Cluster a slow node delays the calls to its own keys and no others.
//
// A node that does not answer within FlushTimeout is away until it answers a ping: its
// reads go straight to a replica meanwhile. A replica may be behind its master. What it
// has not heard of yet is a refusal; what it has not heard the end of is a binding that
// was true a moment ago and whose lease has not ended, which the caller checks as it
// does the master's. So a stale answer never connects strangers.
//
// It allocates nothing of its own on the way to an answering master, and is safe for
// concurrent use.
type Coalescer struct {
	client   redis.UniversalClient
	cfg      CoalescerConfig
	metrics  *coalescerMetrics
	jobs     sync.Pool
	masters  *side
	replicas *side // nil without CoalescerConfig.Replicas
}

type coalescerMetrics struct {
	size       prometheus.Histogram
	took       prometheus.Histogram
	refused    prometheus.Counter
	failed     prometheus.Counter
	panicked   prometheus.Counter
	replica    prometheus.Counter
	redirected prometheus.Counter
}

var (
	errQueueFull = fmt.Errorf("%w: too many reads wait for Redis", vn.ErrUnavailable)
	errUnread    = fmt.Errorf("%w: the flush ended before this read was answered", vn.ErrUnavailable)
	errAway      = fmt.Errorf("%w: the Redis node does not answer", vn.ErrUnavailable)
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
	c := &Coalescer{client: client, cfg: cfg}
	c.jobs.New = func() any { return &job{wake: make(chan bool, 1), keyBuf: make([]byte, 0, 64)} }
	if err := c.register(reg); err != nil {
		return nil, err
	}
	var watch func(*lane, string)
	if cfg.Replicas != nil {
		watch = c.watch
		c.replicas = c.newSide(cfg.Replicas, (*redis.ClusterClient).SlaveForKey, nil)
	}
	c.masters = c.newSide(client, (*redis.ClusterClient).MasterForKey, watch)
	return c, nil
}

// Check returns an error that names the masters which do not answer at the moment. Their
// replicas are asked at once meanwhile, until a ping finds them back.
func (c *Coalescer) Check(context.Context) error {
	if away := c.masters.away(); len(away) > 0 {
		return fmt.Errorf("%s: does not answer calls; a replica is asked instead", strings.Join(away, ", "))
	}
	return nil
}

func (c *Coalescer) register(reg prometheus.Registerer) error {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "callmask_router_" + name, Help: help})
	}
	c.metrics = &coalescerMetrics{
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callmask_router_flush_reads", Help: "Calls answered by one round trip to Redis.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callmask_router_flush_seconds", Help: "Time of one round trip to Redis.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 12),
		}),
		refused:    counter("queue_refused_total", "Calls refused because too many waited for Redis."),
		failed:     counter("flush_errors_total", "Round trips to Redis that failed."),
		panicked:   counter("flush_panics_total", "Round trips to Redis that panicked."),
		replica:    counter("replica_reads_total", "Reads that went to a replica because the master did not answer in time."),
		redirected: counter("redirected_reads_total", "Reads that a node of the Cluster sent to another one, because the slot moves or moved."),
	}
	depth := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callmask_router_queue_depth", Help: "Calls that wait for a round trip in flight.",
	}, func() float64 { return float64(c.masters.waiting() + c.replicas.waiting()) })
	for _, m := range []prometheus.Collector{
		c.metrics.size, c.metrics.took, c.metrics.refused, c.metrics.failed, c.metrics.panicked,
		c.metrics.replica, c.metrics.redirected, depth,
	} {
		if err := reg.Register(m); err != nil {
			return fmt.Errorf("router: metrics: %w", err)
		}
	}
	return nil
}

// Read reads fields of the hash key: values[i] becomes values[i][:0] with the value of
// fields[i] appended, empty when the hash has no such field. The slices stay the
// caller's. FlushTimeout bounds every round trip; of the context only the deadline
// counts, after which no further node is asked. Errors wrap vn.ErrUnavailable where the
// same call may be made again.
func (c *Coalescer) Read(ctx context.Context, key []byte, fields, values [][]byte) error {
	j := c.jobs.Get().(*job) //nolint:errcheck // the pool makes nothing else
	j.prepare(key, fields)   //nolint:contextcheck // the command is used again and takes each flush's deadline
	err := c.read(ctx, j, values)
	j.err = nil
	c.jobs.Put(j)
	if unanswered(err) && !errors.Is(err, vn.ErrUnavailable) {
		return fmt.Errorf("%w (%w)", vn.ErrUnavailable, err)
	}
	return err
}

// pause is how long a read waits before it asks everybody once more: while a replica takes
// over there may be a moment in which neither it nor its master can be found.
const pause = 5 * time.Millisecond

// again tells whether a read that nobody answered shall ask once more; it has paused then.
func (c *Coalescer) again(ctx context.Context, err error) bool {
	if _, bounded := ctx.Deadline(); !bounded || c.replicas == nil || !unanswered(err) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return inTime(ctx)
	case <-ctx.Done():
		return false
	}
}

// read asks until somebody answers or the caller's time is over.
func (c *Coalescer) read(ctx context.Context, j *job, values [][]byte) error {
	for {
		err := c.ask(ctx, j, values)
		if !c.again(ctx, err) {
			return err
		}
	}
}

// ask asks the master, and whoever it points to when it does not know or does not
// answer.
func (c *Coalescer) ask(ctx context.Context, j *job, values [][]byte) error {
	master, err := c.masters.lane(ctx, j.key)
	if err != nil {
		return err
	}
	err = master.read(j, values, false) //nolint:contextcheck // a flush serves many callers; none of them may end it
	switch {
	case err == nil:
		return nil
	case isRedirect(err):
		return c.follow(ctx, j, values)
	case !unanswered(err):
		return err
	}
	for range mostReplicas {
		replica := c.replica(ctx, j.key, master)
		if replica == nil {
			break
		}
		c.metrics.replica.Inc()
		err = replica.read(j, values, true) //nolint:contextcheck // as above
		if isRedirect(err) {
			return c.follow(ctx, j, values)
		}
		if !unanswered(err) {
			return err
		}
	}
	if errors.Is(err, errAway) && inTime(ctx) { // so nobody was asked
		return master.read(j, values, true) //nolint:contextcheck // as above
	}
	return err
}

// follow makes a job's reads through the client of the whole Cluster, which goes where
// the slot is or is going.
func (c *Coalescer) follow(ctx context.Context, j *job, values [][]byte) error {
	c.metrics.redirected.Inc()
	c.masters.reload() //nolint:contextcheck // nobody waits for it
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.FlushTimeout)
	defer cancel()
	key := strings.Clone(j.key)
	for i, r := range j.reads[:j.used] {
		value, err := c.client.HGet(ctx, key, string(r.name)).Bytes()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("%w: after a redirection (%w)", vn.ErrUnavailable, err)
		}
		values[i] = append(values[i][:0], value...)
	}
	return nil
}

// Pipelined makes the reads that queue puts into a pipeline, in one round trip of their
// own; all their keys lie in the slot of key. Who is asked, and for how long, is as for
// Read, so queue may be called more than once. The error of a single read stays in its
// command, but for those that another node could have answered.
func (c *Coalescer) Pipelined(ctx context.Context, key string, queue func(redis.Pipeliner)) error {
	if c.replicas == nil {
		return pipelined(ctx, c.client, queue)
	}
	for {
		err := c.askPipelined(ctx, key, queue)
		if !c.again(ctx, err) {
			return err
		}
	}
}

func (c *Coalescer) askPipelined(ctx context.Context, key string, queue func(redis.Pipeliner)) error {
	master, err := c.masters.lane(ctx, key)
	if err != nil {
		return err
	}
	err = master.pipelined(ctx, queue, false)
	switch {
	case isRedirect(err):
		c.metrics.redirected.Inc()
		c.masters.reload() //nolint:contextcheck // as above
		return pipelined(ctx, c.client, queue)
	case !unanswered(err):
		return err
	}
	for range mostReplicas {
		replica := c.replica(ctx, key, master)
		if replica == nil {
			break
		}
		c.metrics.replica.Inc()
		err = replica.pipelined(ctx, queue, true)
		if isRedirect(err) {
			c.metrics.redirected.Inc()
			return pipelined(ctx, c.client, queue)
		}
		if !unanswered(err) {
			return err
		}
	}
	if errors.Is(err, errAway) && inTime(ctx) {
		return master.pipelined(ctx, queue, true)
	}
	return err
}

func pipelined(ctx context.Context, client redis.UniversalClient, queue func(redis.Pipeliner)) error {
	pipe := client.Pipeline()
	queue(pipe)
	cmds, err := pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); isRedirect(err) || unanswered(err) {
			return err
		}
	}
	return nil
}

func inTime(ctx context.Context) bool {
	by, ok := ctx.Deadline()
	return !ok || time.Now().Before(by)
}
