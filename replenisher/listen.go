package replenisher

import (
	"context"
	"encoding/json"

	"github.com/callmask/callmask/events"
)

// durable is the name of the consumers; processes that run at once share them.
const durable = "replenisher"

func (r *Replenisher) consumers() []events.Consumer {
	low := events.Consumer{
		Stream: events.StreamPools, Durable: durable, Subjects: []string{events.SubjectPoolLow},
		Workers: 1, Dead: r.cfg.SealDead,
	}
	placed := events.Consumer{
		Stream: r.bus.OrdersStream(), Durable: durable, Subjects: []string{r.bus.OrderSubject(events.EventPlaced)},
		Workers: 4, Dead: r.cfg.SealDead,
	}
	return []events.Consumer{low, placed}
}

// handle takes a pools.low or an orders.placed. Both only say which pool to look at:
// the stock is read anew, so they may be late, doubled or lost (the sweep finds the
// pool all the same) and are acknowledged at once. An unknown pool is somebody
// else's to complain about: an order for it fails at the allocator.
func (r *Replenisher) handle(_ context.Context, m events.Message) events.Result {
	var named struct {
		Pool string `json:"pool"`
	}
	if err := json.Unmarshal(m.Data, &named); err != nil {
		return events.Dead("the payload is not the JSON object that this event has")
	}
	if named.Pool == "" {
		return events.Dead("pool is missing")
	}
	r.trigger(named.Pool)
	return events.Done()
}
