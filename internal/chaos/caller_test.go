//go:build faults

package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/internal/installation"
	"github.com/callmask/callmask/vn"
)

// caller makes calls: of parties to each other, of former parties, and of strangers.
type caller struct {
	*world

	phones []*sim.Phone
	turn   atomic.Uint64
	people []vn.Number
}

func newCaller(w *world, in *installation.Installation, people []vn.Number) (*caller, error) {
	c := &caller{world: w, people: people}
	for _, r := range in.Routers() {
		p, err := sim.NewPhone(sim.PhoneConfig{
			URL: "http://" + r.HTTP + "/v1/carriers/" + installation.Carrier + "/voice", Secret: installation.WebhookSecret, Timeout: 5 * time.Second,
		})
		if err != nil {
			return nil, err
		}
		c.phones = append(c.phones, p)
	}
	return c, nil
}

func (c *caller) close() {
	for _, p := range c.phones {
		p.Close()
	}
}

func (c *caller) work(ctx context.Context, r *rand.Rand, every time.Duration) error {
	for ; ctx.Err() == nil; pause(ctx, every) {
		if o, calling, called := c.choose(r); o != nil {
			c.call(ctx, o, calling, called)
		}
	}
	return nil
}

// choose picks who calls whom; nil while there is no order to call.
func (c *caller) choose(r *rand.Rand) (o *order, calling, called vn.Number) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives = slices.DeleteFunc(c.lives, func(o *order) bool { return !o.live() })
	from := c.lives
	kind := r.IntN(10)
	if kind == 0 {
		from = c.former
	}
	if len(from) == 0 {
		return nil, 0, 0
	}
	o = from[r.IntN(len(from))]
	if len(o.told) == 0 {
		return nil, 0, 0
	}
	side := r.IntN(2)
	calling, called = o.numbers[side], o.vns()[1-side]
	switch kind {
	case 1: // a stranger
		calling = c.people[r.IntN(len(c.people))]
		c.strangers++
	case 2: // a party of another order
		calling = from[r.IntN(len(from))].numbers[side]
		c.strangers++
	}
	return o, calling, called
}

// call makes one call and notes what was heard.
func (c *caller) call(ctx context.Context, o *order, calling, called vn.Number) sim.Result {
	note := call{calling: calling, called: called, order: o.id, began: time.Now()}
	phone := c.phones[c.turn.Add(1)%uint64(len(c.phones))]
	got, err := phone.Call(context.WithoutCancel(ctx), calling.E164(), called.E164())
	note.ended = time.Now()
	note.connected, note.cause, note.rang, note.shown = got.Heard == sim.Ringing, got.Cause, got.Rang, got.Shown
	c.do(func() {
		switch {
		case err != nil || got.Heard == sim.Failed:
			c.unreachable++
		case got.Heard == sim.Refused:
			c.refused++
			if slices.Contains(o.numbers[:], calling) {
				c.calls = append(c.calls, note)
			}
		default:
			c.calls = append(c.calls, note)
		}
	})
	return got
}
