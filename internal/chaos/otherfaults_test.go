//go:build faults

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/installation"
)

func (n *nemesis) natsFaults() []fault {
	leader := func(do func(ctx context.Context, r *rand.Rand, node *cluster.NATSNode) error) func(context.Context, *rand.Rand) (bool, error) {
		return func(ctx context.Context, r *rand.Rand) (bool, error) {
			node, err := n.in.NATS.StreamLeader(ctx, []string{"LEDGER", "VN", "ORDERS"}[r.IntN(3)])
			if err != nil {
				return false, err
			}
			err = do(ctx, r, node)
			return true, errors.Join(err, n.in.NATS.WaitHealthy(ctx))
		}
	}
	return []fault{
		{"nats: leader killed", false, leader(func(ctx context.Context, r *rand.Rand, node *cluster.NATSNode) error {
			node.Kill()
			pause(ctx, some(r, 2*time.Second))
			return node.Restart(ctx)
		})},
		{"nats: leader frozen", false, leader(func(ctx context.Context, r *rand.Rand, node *cluster.NATSNode) error {
			if err := node.Freeze(); err != nil {
				return err
			}
			pause(ctx, some(r, 3*time.Second))
			return node.Thaw()
		})},
		{"nats: quorum lost", false, func(ctx context.Context, r *rand.Rand) (bool, error) {
			nodes := n.in.NATS.Nodes()
			spared := r.IntN(len(nodes))
			for i, node := range nodes {
				if i != spared {
					node.Kill()
				}
			}
			pause(ctx, some(r, 3*time.Second))
			var err error
			for i, node := range nodes {
				if i != spared {
					err = errors.Join(err, node.Restart(ctx))
				}
			}
			return true, errors.Join(err, n.in.NATS.WaitHealthy(ctx))
		}},
	}
}

// ownFaults are deaths of callmask's own processes: at any moment, and between two steps of
// an order's way.
func (n *nemesis) ownFaults() []fault {
	var all []fault
	for _, kind := range []installation.Kind{installation.Router, installation.Allocator, installation.Replenisher} {
		all = append(all, fault{string(kind) + ": killed", false, func(ctx context.Context, r *rand.Rand) (bool, error) {
			var those []*installation.Role
			for _, role := range n.in.Roles {
				if role.Kind == kind {
					those = append(those, role)
				}
			}
			role := those[r.IntN(len(those))]
			role.Kill()
			pause(ctx, some(r, 200*time.Millisecond))
			return true, revive(ctx, role)
		}})
	}
	for _, at := range []struct {
		kind  installation.Kind
		point string
		when  string
	}{
		{installation.Allocator, events.KindAssigned + "-claimed", "assignment in Redis alone"},
		{installation.Allocator, events.KindAssigned + "-recorded", "assignment in the ledger, not announced"},
		{installation.Allocator, events.KindAssigned + "-announced", "assignment announced, not settled"},
		{installation.Allocator, events.KindAssigned + "-unacknowledged", "assignment settled, its event not acknowledged"},
		{installation.Allocator, events.KindReleased + "-claimed", "end in Redis alone"},
		{installation.Allocator, events.KindReleased + "-recorded", "end in the ledger, not announced"},
		{installation.Allocator, events.KindReleased + "-announced", "end announced, not settled"},
		{installation.Allocator, events.KindReleased + "-unacknowledged", "end settled, its event not acknowledged"},
		{installation.Replenisher, events.KindReleased + "-claimed", "expiry in Redis alone"},
		{installation.Replenisher, events.KindReleased + "-recorded", "expiry in the ledger, not announced"},
		{installation.Replenisher, events.KindReleased + "-announced", "expiry announced, not settled"},
	} {
		all = append(all, fault{string(at.kind) + " dies: " + at.when, false, func(ctx context.Context, _ *rand.Rand) (bool, error) {
			return n.dieAt(ctx, at.kind, at.point)
		}})
	}
	return all
}

// patienceAtPoint is how long a failpoint waits to be come by.
const patienceAtPoint = 10 * time.Second

// dieAt has one process of a kind die at a failpoint; false when none came by.
func (n *nemesis) dieAt(ctx context.Context, kind installation.Kind, point string) (bool, error) {
	file := filepath.Join(n.arms, string(kind)+"."+point)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return false, err
	}
	for end := time.Now().Add(patienceAtPoint); ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		for _, role := range n.in.Roles {
			if role.Kind == kind && !role.Alive() {
				return true, revive(ctx, role)
			}
		}
		if time.Now().After(end) && os.Remove(file) == nil {
			return false, nil // else somebody has just come by
		}
	}
	return false, ctx.Err()
}

// revive starts a role again until it is ready, as whoever supervises it would.
func revive(ctx context.Context, role *installation.Role) error {
	for {
		err := role.Restart(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, 500*time.Millisecond)
	}
}
