//go:build faults

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/callmask/callmask/internal/installation"
)

// fault is one kind of thing that goes wrong. do lets it happen and heals it; it returns
// false when it could not be made to happen. While it lasts, and for a while after, a fault
// of Redis may have Redis say less, or other, than the ledger.
type fault struct {
	name  string
	redis bool
	do    func(ctx context.Context, r *rand.Rand) (bool, error)
}

// healing bounds one fault and its repair on a loaded machine.
const healing = 90 * time.Second

// nemesis lets faults happen, one after the other from each of its decks: every kind once,
// in random order, then all of them again.
type nemesis struct {
	*world

	t        *testing.T
	in       *installation.Installation
	arms     string // the directory of armed failpoints
	mu       sync.Mutex
	happened map[string]int
}

// deal lets the faults of a deck happen until ctx ends, which a fault under way outlives.
func (n *nemesis) deal(ctx context.Context, r *rand.Rand, deck []fault, pauses time.Duration) error {
	for len(deck) > 0 {
		for _, i := range r.Perm(len(deck)) {
			pause(ctx, time.Duration(r.Int64N(int64(pauses))))
			if ctx.Err() != nil {
				return nil
			}
			if err := n.strike(context.WithoutCancel(ctx), r, &deck[i]); err != nil {
				return fmt.Errorf("%s: %w", deck[i].name, err)
			}
		}
	}
	return nil
}

// strike lets one fault happen, and returns when it is healed.
func (n *nemesis) strike(ctx context.Context, r *rand.Rand, f *fault) error {
	ctx, cancel := context.WithTimeout(ctx, healing)
	defer cancel()
	began, at := time.Now(), 0
	if f.redis {
		n.do(func() {
			at = len(n.behind)
			n.behind = append(n.behind, span{from: began})
		})
	}
	done, err := f.do(ctx, r)
	if f.redis {
		n.do(func() { n.behind[at].to = time.Now() })
	}
	if done && err == nil {
		n.mu.Lock()
		n.happened[f.name]++
		n.mu.Unlock()
	}
	n.t.Logf("%s: %s, healed after %s", began.Format("15:04:05.000"), f.name, time.Since(began).Round(time.Millisecond))
	return err
}

// decks returns the kinds of fault that CHAOS_FAULTS names, those of servers and those of
// callmask's own processes.
func (n *nemesis) decks(t *testing.T) (servers, own []fault) {
	t.Helper()
	wanted := setting(t, "CHAOS_FAULTS", regexp.MustCompile(""), regexp.Compile)
	unwanted := func(f fault) bool { return !wanted.MatchString(f.name) }
	return slices.DeleteFunc(append(n.redisFaults(), n.natsFaults()...), unwanted), slices.DeleteFunc(n.ownFaults(), unwanted)
}
