package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// slotCount is how many slots every Redis Cluster has.
const slotCount = 16384

// view is the Cluster as one of its nodes sees it.
type view struct {
	members map[string]member // by node id
	owner   [slotCount]string // node id; empty: nobody's
	open    int               // slots that are being moved, of the node itself
}

// member is one line of CLUSTER NODES.
type member struct {
	id, addr  string
	flags     string
	masterID  string // of a replica; "-" of a master
	epoch     int
	connected bool
}

func (m member) has(flag string) bool { return strings.Contains(","+m.flags+",", ","+flag+",") }

// view asks the node how it sees the Cluster.
func (n *RedisNode) view(ctx context.Context) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := n.client.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: cluster nodes: %w", n.name, err)
	}
	v := &view{members: map[string]member{}}
	for line := range strings.Lines(text) {
		if err := v.add(strings.Fields(line)); err != nil {
			return nil, fmt.Errorf("%s: cluster nodes: %w", n.name, err)
		}
	}
	return v, nil
}

// add reads the fields of a line: id, address@bus, flags, master, ping, pong, epoch,
// link, and what slots it has (redis.io/commands/cluster-nodes).
func (v *view) add(f []string) error {
	if len(f) < 8 {
		return fmt.Errorf("a line has %d fields", len(f))
	}
	epoch, err := strconv.Atoi(f[6])
	if err != nil {
		return err
	}
	at, _, _ := strings.Cut(f[1], "@")
	v.members[f[0]] = member{id: f[0], addr: at, flags: f[2], masterID: f[3], epoch: epoch, connected: f[7] == "connected"}
	for _, slots := range f[8:] {
		if strings.HasPrefix(slots, "[") {
			v.open++
			continue
		}
		first, last, ok := strings.Cut(slots, "-")
		if !ok {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || to >= slotCount {
			return fmt.Errorf("slots %q", slots)
		}
		for s := from; s <= to; s++ {
			v.owner[s] = f[0]
		}
	}
	return nil
}

// WaitHealthy returns once every node that is alive sees all others that are alive, all
// agree on the owner of every slot, the owners are alive, no slot is being moved, and
// each replica is in step and offered to clients. Nodes that are down or frozen do not
// count. When ctx ends first the error says what was missing.
func (c *Redis) WaitHealthy(ctx context.Context) error {
	if err := poll(ctx, c.Healthy); err != nil {
		return fmt.Errorf("the Redis Cluster is not healthy: %w", err)
	}
	return nil
}

// Healthy says what WaitHealthy would wait for; nil: nothing.
func (c *Redis) Healthy(ctx context.Context) error {
	alive := c.alive()
	var first *view
	for _, n := range alive {
		v, err := n.view(ctx)
		if err != nil {
			return err
		}
		if first == nil {
			first = v
		}
		if v.owner != first.owner {
			return fmt.Errorf("%s and %s disagree on who owns which slot", n.name, alive[0].name)
		}
		if err := c.judge(v, alive); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		if err := n.offers(ctx, v, alive); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if first == nil {
		return errors.New("no node is alive")
	}
	return nil
}

// judge says what is missing in a view.
func (c *Redis) judge(v *view, alive []*RedisNode) error {
	living := map[string]bool{}
	for _, n := range alive {
		living[n.id] = true
		switch m, ok := v.members[n.id]; {
		case !ok || m.has("handshake"):
			return fmt.Errorf("it does not know %s", n.name)
		case m.has("fail"), m.has("fail?"), !m.connected:
			return fmt.Errorf("it does not hear %s", n.name)
		}
	}
	if v.open > 0 {
		return fmt.Errorf("%d of its slots are being moved", v.open)
	}
	for slot, id := range v.owner {
		if !living[id] {
			return fmt.Errorf("slot %d has no living owner", slot)
		}
	}
	return nil
}

// offers checks that the node itself is ready, and that it tells clients of all living
// replicas: a fresh one is left out until it has heard from its master.
func (n *RedisNode) offers(ctx context.Context, v *view, alive []*RedisNode) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	state, err := n.client.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	if lines(state)["cluster_state"] != "ok" {
		return errors.New("its cluster_state is not ok")
	}
	info, err := n.client.Info(ctx, "replication").Result()
	if err != nil {
		return err
	}
	if i := lines(info); i["role"] == "slave" && i["master_link_status"] != "up" {
		return errors.New("it is not in step with its master")
	}
	ranges, err := n.client.ClusterSlots(ctx).Result() //nolint:staticcheck // deprecated, and what ClusterClient goes by
	if err != nil {
		return err
	}
	offered := map[string]bool{}
	for _, r := range ranges {
		for _, node := range r.Nodes {
			offered[node.ID] = true
		}
	}
	owns := map[string]bool{}
	for _, id := range v.owner {
		owns[id] = true
	}
	for _, a := range alive {
		if owns[v.members[a.id].masterID] && !offered[a.id] {
			return fmt.Errorf("it does not offer the replica %s yet", a.name)
		}
	}
	return nil
}

// Owner returns the node that owns the slot of a key and those of its replicas that are
// alive. While views differ the one with the highest epoch is right, as it is for the
// nodes themselves; it may be one that has just died.
func (c *Redis) Owner(ctx context.Context, key string) (master *RedisNode, replicas []*RedisNode, err error) {
	slot, err := c.Slot(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	return c.SlotOwner(ctx, slot)
}

// SlotOwner is Owner for a slot.
func (c *Redis) SlotOwner(ctx context.Context, slot int) (master *RedisNode, replicas []*RedisNode, err error) {
	best := -1
	for _, n := range c.alive() {
		v, err := n.view(ctx)
		if err != nil {
			continue // the others may know
		}
		m, ok := v.members[v.owner[slot]]
		if !ok || m.epoch <= best {
			continue
		}
		best, replicas = m.epoch, nil
		master = c.byID(m.id)
		for _, r := range v.members {
			if node := c.byID(r.id); node != nil && r.masterID == m.id && node.Alive() {
				replicas = append(replicas, node)
			}
		}
	}
	if master == nil {
		return nil, nil, fmt.Errorf("nobody owns slot %d", slot)
	}
	return master, replicas, nil
}

// Slot returns the slot of a key.
func (c *Redis) Slot(ctx context.Context, key string) (int, error) {
	for _, n := range c.alive() {
		if v, err := n.do(ctx, "cluster", "keyslot", key); err == nil {
			if slot, ok := v.(int64); ok {
				return int(slot), nil
			}
		}
	}
	return 0, errors.New("no node of the Redis Cluster answers")
}

// Masters returns the nodes that own slots.
func (c *Redis) Masters(ctx context.Context) ([]*RedisNode, error) {
	var lastErr error
	for _, n := range c.alive() {
		v, err := n.view(ctx)
		if err != nil {
			lastErr = err
			continue
		}
		var masters []*RedisNode
		for _, n := range c.Nodes() {
			if len(v.slotsOf(n.id)) > 0 {
				masters = append(masters, n)
			}
		}
		return masters, nil
	}
	return nil, errors.Join(errors.New("no node of the Redis Cluster answers"), lastErr)
}

// slotsOf returns the slots of a node, in order.
func (v *view) slotsOf(id string) []int {
	var slots []int
	for s, owner := range v.owner {
		if owner == id {
			slots = append(slots, s)
		}
	}
	return slots
}
