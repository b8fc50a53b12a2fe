//go:build faults

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/callmask/callmask/internal/cluster"
)

func (n *nemesis) redisFaults() []fault {
	one := func(do func(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error) func(context.Context, *rand.Rand) (bool, error) {
		return func(ctx context.Context, r *rand.Rand) (bool, error) {
			masters, err := n.in.Redis.Masters(ctx)
			if err != nil {
				return false, err
			}
			err = do(ctx, r, masters[r.IntN(len(masters))])
			return true, errors.Join(err, n.in.Redis.WaitHealthy(ctx))
		}
	}
	return []fault{
		{"redis: link cut, then the master killed", true, one(n.cutAndKill)},
		{"redis: master killed", true, one(n.killMaster)},
		{"redis: master killed and back at once", true, one(n.bounceMaster)},
		{"redis: master frozen", true, one(n.freezeMaster)},
		{"redis: link cut, then the master frozen", true, one(n.cutAndFreeze)},
		{"redis: replica frozen", true, one(n.freezeReplica)},
		{"redis: master back with old files", true, one(n.oldFiles)},
		{"redis: slots moved", true, n.moveSlots},
		{"redis: master emptied", true, one(func(ctx context.Context, _ *rand.Rand, m *cluster.RedisNode) error {
			return m.Client().FlushAll(ctx).Err()
		})},
		{"redis: all masters emptied", true, n.emptyAll},
		{"redis: memory full", true, one(n.fillMemory)},
	}
}

// some returns a time between half of d and one and a half of it.
func some(r *rand.Rand, d time.Duration) time.Duration {
	return d/2 + time.Duration(r.Int64N(int64(d)))
}

// cutAndKill loses what the master acknowledges between the two.
func (n *nemesis) cutAndKill(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error {
	if err := m.CutReplication(ctx); err != nil {
		return err
	}
	pause(ctx, some(r, 400*time.Millisecond))
	return n.killMaster(ctx, r, m)
}

// killMaster has its replica take over, and it come back as a replica.
func (n *nemesis) killMaster(ctx context.Context, _ *rand.Rand, m *cluster.RedisNode) error {
	m.Kill()
	if err := n.in.Redis.WaitHealthy(ctx); err != nil {
		return err
	}
	return m.Restart(ctx)
}

// bounceMaster has it back before anybody takes over.
func (n *nemesis) bounceMaster(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error {
	m.Kill()
	pause(ctx, some(r, 200*time.Millisecond))
	return m.Restart(ctx)
}

func (n *nemesis) freezeMaster(ctx context.Context, _ *rand.Rand, m *cluster.RedisNode) error {
	if err := m.Freeze(); err != nil {
		return err
	}
	return errors.Join(n.in.Redis.WaitHealthy(ctx), m.Thaw())
}

// cutAndFreeze has a master wake up that has acknowledged what nobody else knows.
func (n *nemesis) cutAndFreeze(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error {
	if err := m.CutReplication(ctx); err != nil {
		return err
	}
	pause(ctx, some(r, 400*time.Millisecond))
	return errors.Join(n.freezeMaster(ctx, r, m), m.RestoreReplication(ctx))
}

func (n *nemesis) freezeReplica(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error {
	masters, err := n.in.Redis.Masters(ctx)
	if err != nil {
		return err
	}
	serving := map[*cluster.RedisNode]bool{}
	for _, m := range masters {
		serving[m] = true
	}
	for _, node := range n.in.Redis.Nodes() {
		if !serving[node] {
			m = node
			break
		}
	}
	if err := m.Freeze(); err != nil {
		return err
	}
	pause(ctx, some(r, 2*time.Second))
	return m.Thaw()
}

// oldFiles has a master forget its last second, and its replica with it.
func (n *nemesis) oldFiles(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error {
	files := filepath.Join(m.Dir, "appendonlydir")
	old, err := os.MkdirTemp(n.t.TempDir(), "old")
	if err != nil {
		return err
	}
	if err := os.CopyFS(old, os.DirFS(files)); err != nil {
		return err
	}
	pause(ctx, some(r, time.Second))
	m.Kill()
	if err := errors.Join(os.RemoveAll(files), os.CopyFS(files, os.DirFS(old)), os.RemoveAll(old)); err != nil {
		return err
	}
	return m.Restart(ctx)
}

// moveSlots moves two partitions to other masters.
func (n *nemesis) moveSlots(ctx context.Context, r *rand.Rand) (bool, error) {
	for range 2 {
		masters, err := n.in.Redis.Masters(ctx)
		if err != nil {
			return false, err
		}
		from := r.IntN(len(masters))
		keys, err := masters[from].Client().Keys(ctx, "cm1:{*}:meta").Result()
		if err != nil {
			return false, err
		}
		if len(keys) < 2 { // a master without slots would become a replica
			continue
		}
		slot, err := n.in.Redis.Slot(ctx, keys[r.IntN(len(keys))])
		if err != nil {
			return false, err
		}
		if err := n.in.Redis.MoveSlot(ctx, slot, masters[(from+1+r.IntN(len(masters)-1))%len(masters)], nil); err != nil {
			return false, err
		}
	}
	return true, n.in.Redis.WaitHealthy(ctx)
}

func (n *nemesis) emptyAll(ctx context.Context, _ *rand.Rand) (bool, error) {
	masters, err := n.in.Redis.Masters(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range masters {
		err = errors.Join(err, m.Client().FlushAll(ctx).Err())
	}
	return true, err
}

func (n *nemesis) fillMemory(ctx context.Context, r *rand.Rand, m *cluster.RedisNode) error {
	if err := m.Client().ConfigSet(ctx, "maxmemory", "1mb").Err(); err != nil {
		return err
	}
	pause(ctx, some(r, 2*time.Second))
	return m.Client().ConfigSet(ctx, "maxmemory", "0").Err()
}
