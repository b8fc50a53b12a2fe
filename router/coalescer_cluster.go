package router

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	// watchEvery is how often a master's replica is looked at while there are calls: it is
	// needed when there is no time to find it.
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

// newSide returns the side that client reaches; watch may be nil.
func (c *Coalescer) newSide(client redis.UniversalClient, by find, watch func(*lane, string)) *side {
	s := &side{find: by}
	s.cluster, _ = client.(*redis.ClusterClient)
	if s.cluster == nil {
		s.all = c.newLane(client, "", s, watch)
		return s
	}
	s.added = func(node *redis.Client) *lane { return c.newLane(node, node.Options().Addr, s, watch) }
	s.lanes.Store(&map[*redis.Client]*lane{})
	return s
}

func (c *Coalescer) newLane(node redis.UniversalClient, addr string, of *side, watch func(*lane, string)) *lane {
	l := &lane{
		client: node, addr: addr, cfg: &c.cfg, metrics: c.metrics,
		elsewhere: c.cfg.Replicas != nil, lost: of.reload, watch: watch,
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

// away returns the addresses of the nodes that do not answer, so that nobody waits for them.
func (s *side) away() (list []string) {
	if s.all != nil {
		if s.all.away.Load() {
			list = append(list, "the master")
		}
		return list
	}
	for _, l := range *s.lanes.Load() {
		if l.away.Load() {
			list = append(list, l.addr)
		}
	}
	slices.Sort(list)
	return list
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
		if found = c.replicaOf(ctx, key, master); found == nil || !found.away.Load() {
			break
		}
		found.probe() //nolint:contextcheck // nobody waits for it
	}
	return found
}

// replicaOf returns the lane of one of the master's replicas in turn. Where the client
// knows none it is the last one known: while a replica takes over, the nodes may tell of
// it as no replica any more and no master yet.
func (c *Coalescer) replicaOf(ctx context.Context, key string, master *lane) *lane {
	l, err := c.replicas.lane(ctx, key)
	if err != nil || l.addr != "" && l.addr == master.addr { // so a client says that it knows no replica
		return master.standby.Load()
	}
	master.standby.Store(l)
	return l
}

// watch keeps what is known of a master's replica up to date: where it is, whether it
// answers, and a connection to it. It is called while a batch is sent to the master, key
// being one of the batch's, and takes no time of it.
func (c *Coalescer) watch(master *lane, key string) {
	key = strings.Clone(key)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), watchEvery)
		defer cancel()
		if l := c.replicaOf(ctx, key, master); l != nil {
			l.ping(ctx)
		}
	}()
}
