package replenisher

import (
	"context"
	"encoding/json"

	"github.com/callmask/callmask/events"
)

// durable is the name of the consumers. Each process hears everything: which of them
// acts for a pool, a hint does not know.
const durable = "replenisher"

func (r *Replenisher) consumers() []events.Consumer {
	low := events.Consumer{Stream: events.StreamPools, Subjects: []string{events.SubjectPoolLow, events.SubjectTopUp}}
	placed := events.Consumer{Stream: r.bus.OrdersStream(), Subjects: []string{r.bus.OrderSubject(events.EventPlaced)}}
	leases := events.Consumer{Stream: events.StreamLedger, Subjects: []string{events.SubjectLease}}
	all := []events.Consumer{low, placed, leases}
	for i := range all {
		all[i].Durable, all[i].Each, all[i].Workers, all[i].Dead = durable, true, 4, r.cfg.SealDead
	}
	return all
}

// handle takes a pools.low, an orders.placed, a lease or a wish. They only say which pool to
// look at: the stock is read anew, so they may be late, doubled or lost (the sweep finds
// the pool all the same) and are acknowledged at once. An unknown pool is somebody
// else's to complain about: an order for it fails at the allocator.
func (r *Replenisher) handle(_ context.Context, m events.Message) events.Result {
	if pool, ok := events.LeasePool(m.Subject); ok {
		return r.handleLease(pool, m.Data)
	}
	if pool, ok := events.TopUpPool(m.Subject); ok {
		return r.handleTopUp(pool, &m)
	}
	var named struct {
		Pool string `json:"pool"`
	}
	if err := json.Unmarshal(m.Data, &named); err != nil {
		return events.Dead("the payload is not the JSON object that this event has")
	}
	if named.Pool == "" {
		return events.Dead("pool is missing")
	}
	if r.trigger(named.Pool) && m.Event() == events.EventPlaced {
		r.hear(r.workers[named.Pool], &m)
	}
	return events.Done()
}

// handleLease looks at a pool that another process has just given up.
func (r *Replenisher) handleLease(pool string, data []byte) events.Result {
	var l events.Lease
	if err := json.Unmarshal(data, &l); err == nil && l.Until.IsZero() {
		r.trigger(pool)
	}
	return events.Done()
}
