package router

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

const (
	// mostReplicas is how many replicas are asked for one call.
	mostReplicas = 2
	// laneIdle is after how long without a flush a lane is forgotten once the Cluster
	// gets a new node: its own has probably left.
	laneIdle = 10 * time.Minute
	// watchEvery is how often the replicas are looked at while there are calls. They
	// are needed when there is no time to find them.
	watchEvery = time.Second
)

// side finds the lane of a key, among the masters or among the replicas.
type side struct {
	all *lane // of a client that is one node, else nil

	cluster *redis.ClusterClient
	find    find
	added   func(*redis.Client) *lane // makes the lane of a node
	lanes   atomic.Pointer[map[*redis.Client]*lane]
	mu      sync.Mutex // of who adds a lane
}

// find is a method of the ClusterClient that tells which node has a key.
type find func(*redis.ClusterClient, context.Context, string) (*redis.Client, error)

// newSide returns the side that client reaches; flushed may be nil.
func (c *Coalescer) newSide(client redis.UniversalClient, by find, flushed func(time.Time)) *side {
	s := &side{find: by}
	s.cluster, _ = client.(*redis.ClusterClient)
	if s.cluster == nil {
		s.all = c.newLane(client, "", s, flushed)
		return s
	}
	s.added = func(node *redis.Client) *lane { return c.newLane(node, node.Options().Addr, s, flushed) }
	s.lanes.Store(&map[*redis.Client]*lane{})
	return s
}

func (c *Coalescer) newLane(node redis.UniversalClient, addr string, of *side, flushed func(time.Time)) *lane {
	l := &lane{
		client: node, addr: addr, cfg: &c.cfg, metrics: c.metrics,
		elsewhere: c.cfg.Replicas != nil, lost: of.reload, flushed: flushed,
		pipe: node.Pipeline(), flushBy: newBudget(),
	}
	l.last.Store(time.Now().UnixNano())
	return l
}

// lane returns the lane of the node that serves key, as far as the client knows.
func (s *side) lane(ctx context.Context, key string) (*lane, error) {
	if s.all != nil {
		return s.all, nil
	}
	node, err := s.find(s.cluster, ctx, key)
	if err != nil {
		return nil, fmt.Errorf("%w: the nodes of the Cluster are not known (%w)", vn.ErrUnavailable, err)
	}
	return s.of(node), nil
}

func (s *side) of(node *redis.Client) *lane {
	if l := (*s.lanes.Load())[node]; l != nil {
		return l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.lanes.Load()
	if l := old[node]; l != nil {
		return l
	}
	lanes := make(map[*redis.Client]*lane, len(old)+1)
	for n, l := range old {
		if time.Since(time.Unix(0, l.last.Load())) < laneIdle {
			lanes[n] = l
		}
	}
	lanes[node] = s.added(node)
	s.lanes.Store(&lanes)
	return lanes[node]
}

// waiting counts the jobs in the queues of this side; a nil side has none.
func (s *side) waiting() (n int) {
	switch {
	case s == nil:
		return 0
	case s.all != nil:
		return s.all.waiting()
	}
	for _, l := range *s.lanes.Load() {
		n += l.waiting()
	}
	return n
}

// reload has the client find out anew who serves what. It does not wait for that.
func (s *side) reload() {
	if s.cluster != nil {
		s.cluster.ReloadState(context.Background())
	}
}

// replica returns a lane of a replica that may answer for a master, one that answers if
// there is any; nil when there is none at all or no time left.
func (c *Coalescer) replica(ctx context.Context, key string, master *lane) *lane {
	if c.replicas == nil || !inTime(ctx) {
		return nil
	}
	var found *lane
	for range mostReplicas {
		l, err := c.replicas.lane(ctx, key)
		if err != nil || l.addr != "" && l.addr == master.addr { // the client knows no replica
			return found
		}
		if found = l; !l.away.Load() {
			return l
		}
		l.probe() //nolint:contextcheck // nobody waits for it
	}
	return found
}

// watch keeps what is known of the replicas up to date: where they are, whether they
// answer, and a connection to each.
func (c *Coalescer) watch(now time.Time) {
	last := c.watched.Load()
	if now.UnixNano()-last < int64(watchEvery) || !c.watched.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), watchEvery)
		defer cancel()
		s := c.replicas
		if s.all != nil {
			s.all.ping(ctx)
			return
		}
		// Without an answer the lanes keep what they know.
		_ = s.cluster.ForEachSlave(ctx, func(ctx context.Context, node *redis.Client) error {
			s.of(node).ping(ctx)
			return nil
		})
	}()
}
