package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// eraser finds and erases what is kept of orders.
type eraser struct {
	process *Process
	bus     *events.Bus
	client  redis.UniversalClient
	store   *scripts.Store
	order   string // the one to erase; empty: those of the person
	person  vn.Number
	keys    *seal.Keyset      // nil unless a person's orders are looked for
	regions map[string]string // by pool
}

// open connects to NATS and Redis.
func (c *eraseCmd) open(ctx context.Context, p *Process) (*eraser, error) {
	e := &eraser{process: p, order: c.Order, regions: map[string]string{}}
	path, s, err := p.keyset()
	if err != nil {
		return nil, err
	}
	if c.Order != "" {
		err = vn.CheckOrderID(c.Order)
	} else {
		err = e.meet(p, c.Number, path)
	}
	if err != nil {
		return nil, err
	}
	if e.client, err = app.NewRedis(s.RedisAt(), checkTimeout, 4); err != nil {
		return nil, err
	}
	found, err := scripts.Look(ctx, e.client)
	if err == nil {
		e.store, err = scripts.New(scripts.Config{Timeout: checkTimeout, Partitions: found.Partitions}, e.client, nil)
	}
	if err != nil {
		return nil, errors.Join(settings.Named("redis_url", err), e.client.Close())
	}
	if e.bus, err = connectNATS(ctx, s, "callmask erase"); err != nil {
		return nil, errors.Join(err, e.client.Close())
	}
	return e, nil
}

// meet reads the person's number and what its orders are found by.
func (e *eraser) meet(p *Process, number, keyset string) error {
	if number == "-" {
		line, err := bufio.NewReader(p.Stdin).ReadString('\n')
		if err != nil && line == "" {
			return errors.New("--number: standard input holds none")
		}
		number = strings.TrimSpace(line)
	}
	var err error
	if e.person, err = numbering.Parse(number, ""); err != nil {
		return fmt.Errorf("--number: %w", err)
	}
	if e.keys, err = seal.Open(keyset); err != nil {
		return settings.Named("keyset", err)
	}
	full, err := p.load(false)
	if err != nil {
		return err // without the pools a national number in an event would not be known
	}
	for i := range full.Pools {
		e.regions[full.Pools[i].Name] = full.Pools[i].Region
	}
	return nil
}

func (e *eraser) close() {
	e.bus.Close()
	_ = e.client.Close() // what was written is acknowledged
}

// find returns what is kept of the order, or of each of the person's.
func (e *eraser) find(ctx context.Context) ([]erasure, error) {
	ids := []string{e.order}
	if e.order == "" {
		var err error
		if ids, err = e.ordersOfPerson(ctx); err != nil {
			return nil, err
		}
	}
	traces, err := e.bus.Traces(ctx, e.openDead, e.about)
	if err != nil {
		return nil, settings.Named("nats_url", err)
	}
	for i := range traces {
		if !slices.Contains(ids, traces[i].OrderID) {
			ids = append(ids, traces[i].OrderID)
		}
	}
	var found []erasure
	for _, id := range ids {
		one := erasure{OrderID: id}
		for i := range traces {
			if traces[i].OrderID == id {
				one.messages = append(one.messages, traces[i])
			}
		}
		if err := e.judge(ctx, &one); err != nil {
			return nil, err
		}
		if one.State != stateUnknown || !one.nothing() {
			found = append(found, one)
		}
	}
	return found, nil
}

// judge fills in what Redis says of the order, and counts.
func (e *eraser) judge(ctx context.Context, one *erasure) error {
	remains, err := e.store.Remains(ctx, one.OrderID)
	if err != nil {
		return settings.Named("redis_url", err)
	}
	one.Callers = remains.Callers
	for i := range one.messages {
		if one.messages[i].Stream == e.bus.OrdersStream() {
			one.Events++
		} else {
			one.Dead++
		}
	}
	switch {
	case remains.Live:
		one.State = stateLive
	case remains.Known:
		one.State = stateEnded
	case one.Events > 0 && vn.CheckOrderID(one.OrderID) == nil:
		one.State = stateWaiting // an allocator may still take it up
	default:
		one.State = stateUnknown
	}
	return nil
}

// ordersOfPerson finds the orders in Redis that the person is a party of.
func (e *eraser) ordersOfPerson(ctx context.Context) ([]string, error) {
	var tokens []seal.Token
	for _, k := range e.keys.List() {
		if key, ok := e.keys.ByID(k.ID); ok {
			tokens = append(tokens, key.Token(e.person))
		}
	}
	ids, err := scripts.OrdersOf(ctx, e.client, tokens)
	if err != nil {
		return nil, settings.Named("redis_url", err)
	}
	return ids, nil
}

// openDead opens a dead letter's payload where a person is looked for in it.
func (e *eraser) openDead(box []byte) ([]byte, error) {
	if e.keys == nil {
		return nil, nil // its order's id is enough
	}
	return app.OpenDead(e.keys, box)
}

// about tells whether a message is of the order, or names the person.
func (e *eraser) about(orderID string, payload []byte) bool {
	if e.order != "" {
		return orderID == e.order
	}
	var o events.OrderAssigned
	if json.Unmarshal(payload, &o) != nil {
		return false
	}
	return slices.ContainsFunc(o.Parties, func(p events.OrderParty) bool {
		n, err := numbering.Parse(p.Number, e.regions[o.Pool])
		return err == nil && n == e.person
	})
}

// erase erases what is kept of one order: first the events that could give it numbers again,
// last what it is found by.
func (e *eraser) erase(ctx context.Context, one *erasure) error {
	if one.nothing() && !one.needsEnd() {
		return nil
	}
	entry := events.AuditEntry{
		ID: events.NewAuditID(), Action: events.AuditErase, Target: one.OrderID, Outcome: events.AuditAsked,
		Detail: fmt.Sprintf("%d events, %d dead letters and %d callers of an order that is %s", one.Events, one.Dead, one.Callers, one.State),
	}
	if err := e.process.noted(ctx, e.bus, entry); err != nil {
		return fmt.Errorf("nothing was erased: %w", err)
	}
	err := e.eraseAll(ctx, one)
	if entry.Outcome = events.AuditDone; err != nil {
		entry.Outcome, entry.Detail = events.AuditFailed, "it was begun and not finished"
	}
	one.Erased = err == nil
	return errors.Join(err, e.process.noted(context.WithoutCancel(ctx), e.bus, entry))
}

func (e *eraser) eraseAll(ctx context.Context, one *erasure) error {
	if one.needsEnd() {
		if err := e.endOrder(ctx, one.OrderID); err != nil {
			return fmt.Errorf("ending it: %w", err)
		}
	}
	remains, err := e.settled(ctx, one.OrderID)
	if err != nil {
		return err
	}
	for i := range one.messages {
		if err := e.bus.EraseTrace(ctx, one.messages[i]); err != nil {
			return settings.Named("nats_url", err)
		}
	}
	one.Callers = remains.Callers
	if err := e.store.Erase(ctx, remains); err != nil {
		return fmt.Errorf("CALLMASK_REDIS_URL (its user needs the rights in deploy/redis/operator.acl): %w", err)
	}
	return nil
}

// settleFor is how long the end of an order may take to come into the ledger, whose records
// of it hold its sealed numbers until then: the reaper tries again after 30 s.
const settleFor = time.Minute

// settled waits until the ledger has the order's end.
func (e *eraser) settled(ctx context.Context, id string) (scripts.Remains, error) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		remains, err := e.store.Remains(ctx, id)
		if err != nil || !remains.Known || !remains.Live && remains.Settled {
			return remains, err
		}
		select {
		case <-ctx.Done():
			return remains, errors.New("its end is not in the ledger yet, which holds its sealed numbers until then: does an allocator or replenisher run?")
		case <-tick.C:
		}
	}
}
