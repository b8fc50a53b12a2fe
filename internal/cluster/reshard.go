package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Progress is how far a move of slots is.
type Progress struct {
	Slots, AllSlots int // moved, and to be moved
	Keys            int // moved so far
}

const (
	// moveBatch keys are sent at once: redis-cli's --cluster-pipeline, ten times what it
	// takes unless told otherwise. Orders of the slot wait until it has moved.
	moveBatch = 100
	// moveTimeout bounds one batch; a large key takes its time.
	moveTimeout = 10 * time.Second
)

// Reshard moves as many slots, lowest first, from one master to another while both
// serve, as `redis-cli --cluster reshard` does. progress, which may be nil, is called
// after every batch of keys.
func (c *Redis) Reshard(ctx context.Context, from, to *RedisNode, slots int, progress func(Progress)) error {
	v, err := from.view(ctx)
	if err != nil {
		return err
	}
	have := v.slotsOf(from.id)
	if len(have) < slots {
		return fmt.Errorf("%s has %d slots, %d cannot be moved", from.name, len(have), slots)
	}
	return c.move(ctx, from, have[:slots], func(int) *RedisNode { return to }, progress)
}

// MoveSlot moves one slot to another master while both serve. When it is interrupted
// the slot stays half moved; the same call goes on from there.
func (c *Redis) MoveSlot(ctx context.Context, slot int, to *RedisNode, progress func(Progress)) error {
	from, _, err := c.SlotOwner(ctx, slot)
	if err != nil || from == to {
		return err
	}
	return c.move(ctx, from, []int{slot}, func(int) *RedisNode { return to }, progress)
}

// move moves slots of one node to the one that to names for each.
func (c *Redis) move(ctx context.Context, from *RedisNode, slots []int, to func(i int) *RedisNode, progress func(Progress)) error {
	p := Progress{AllSlots: len(slots)}
	for i, slot := range slots {
		err := c.moveSlot(ctx, slot, from, to(i), func(keys int) {
			p.Keys += keys
			if progress != nil {
				progress(p)
			}
		})
		if err != nil {
			return fmt.Errorf("slot %d: %w", slot, err)
		}
		p.Slots++
		if progress != nil {
			progress(p)
		}
	}
	return nil
}

func (c *Redis) moveSlot(ctx context.Context, slot int, from, to *RedisNode, moved func(keys int)) error {
	if _, err := to.do(ctx, "cluster", "setslot", slot, "importing", from.id); err != nil {
		return err
	}
	if _, err := from.do(ctx, "cluster", "setslot", slot, "migrating", to.id); err != nil {
		return err
	}
	for {
		keys, err := from.client.ClusterGetKeysInSlot(ctx, slot, moveBatch).Result()
		if err != nil {
			return fmt.Errorf("%s: %w", from.name, err)
		}
		if len(keys) == 0 {
			break
		}
		if err := from.migrate(ctx, to, keys); err != nil {
			return err
		}
		moved(len(keys))
	}
	return c.assign(ctx, slot, from, to)
}

// migrate hands keys over, each in one step: at no moment both nodes or neither have it.
func (n *RedisNode) migrate(ctx context.Context, to *RedisNode, keys []string) error {
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		return err
	}
	args := []any{"migrate", host, port, "", 0, moveTimeout.Milliseconds(), "keys"}
	for _, k := range keys {
		args = append(args, k)
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if err := n.client.Do(ctx, args...).Err(); err != nil {
		return fmt.Errorf("%s: migrate to %s: %w", n.name, to.name, err)
	}
	return nil
}

// assign ends a move: the new owner hears of it first, so that at no moment nobody
// owns the slot.
func (c *Redis) assign(ctx context.Context, slot int, from, to *RedisNode) error {
	if _, err := to.do(ctx, "cluster", "setslot", slot, "node", to.id); err != nil {
		return err
	}
	if _, err := from.do(ctx, "cluster", "setslot", slot, "node", to.id); err != nil {
		// A master that hears first that it has lost its last slot has become a replica.
		if v, viewErr := from.view(ctx); viewErr != nil || v.owner[slot] != to.id {
			return err
		}
	}
	for _, n := range c.alive() {
		if n != from && n != to {
			_, _ = n.do(ctx, "cluster", "setslot", slot, "node", to.id) // a replica refuses; who misses it hears it from the others
		}
	}
	return nil
}

// AddNode starts one more node, a replica of master or, when that is nil, a master
// without slots, and returns when the others know it.
func (c *Redis) AddNode(ctx context.Context, master *RedisNode) (*RedisNode, error) {
	known := c.alive()
	if len(known) == 0 {
		return nil, errors.New("no node of the Redis Cluster is alive")
	}
	n, err := c.spawn(ctx)
	if err != nil {
		return nil, err
	}
	if err := known[0].meet(ctx, n); err != nil {
		return nil, err
	}
	if master != nil {
		if err := n.follow(ctx, master); err != nil {
			return nil, err
		}
	}
	return n, c.WaitHealthy(ctx)
}

// RemoveNode moves the slots of a node to the other masters, in turn, gives them its
// replicas, lets all forget it and ends it. progress may be nil.
func (c *Redis) RemoveNode(ctx context.Context, n *RedisNode, progress func(Progress)) error {
	v, err := n.view(ctx)
	if err != nil {
		return err
	}
	others, err := c.Masters(ctx)
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(m *RedisNode) bool { return m == n || !m.Alive() })
	if len(others) == 0 {
		return fmt.Errorf("%s is the last master", n.name)
	}
	if err := c.move(ctx, n, v.slotsOf(n.id), func(i int) *RedisNode { return others[i%len(others)] }, progress); err != nil {
		return err
	}
	rest := slices.DeleteFunc(c.alive(), func(o *RedisNode) bool { return o == n })
	for i, o := range rest {
		if v.members[o.id].masterID == n.id {
			if err := o.follow(ctx, others[i%len(others)]); err != nil {
				return err
			}
		}
	}
	return c.forget(ctx, n, rest)
}

// forget takes a node that owns nothing out of the Cluster and ends it.
func (c *Redis) forget(ctx context.Context, n *RedisNode, rest []*RedisNode) error {
	// It ends first: a node that still gossips is soon known again.
	if err := n.close(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.nodes = slices.DeleteFunc(c.nodes, func(o *RedisNode) bool { return o == n })
	c.mu.Unlock()
	for _, o := range rest {
		if _, err := o.do(ctx, "cluster", "forget", n.id); err != nil {
			return err
		}
	}
	return c.WaitHealthy(ctx)
}

// HandOver has a replica take a master's place in order (CLUSTER FAILOVER), so that it
// can be ended without a pause, and returns when that is done. A node that owns nothing
// has nothing to hand over.
func (c *Redis) HandOver(ctx context.Context, master *RedisNode) error {
	v, err := master.view(ctx)
	if err != nil {
		return err
	}
	slots := v.slotsOf(master.id)
	if len(slots) == 0 {
		return nil
	}
	_, replicas, err := c.SlotOwner(ctx, slots[0])
	if err != nil {
		return err
	}
	if len(replicas) == 0 {
		return fmt.Errorf("%s has no replica that is alive", master.name)
	}
	// The others grant it only a while after the last failover; it gives up after 5 s.
	for {
		if _, err := replicas[0].do(ctx, "cluster", "failover"); err != nil {
			return err
		}
		once, cancel := context.WithTimeout(ctx, 6*time.Second)
		err := poll(once, func(ctx context.Context) error {
			owner, _, err := c.SlotOwner(ctx, slots[0])
			if err == nil && owner == master {
				err = fmt.Errorf("%s has not handed over yet", master.name)
			}
			return err
		})
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}
