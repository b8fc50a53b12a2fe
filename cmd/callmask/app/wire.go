package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmask/callmask/allocator"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/console"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/repair"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/router"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

const (
	workTimeout = 2 * time.Second // of a Redis command that no caller waits for
	workConns   = 64
	callConns   = 128
	refresh     = time.Second
)

// deadPools is the context that dead letters of the replenisher are sealed with.
const deadPools = "callmask dead letter pools"

// OpenDead opens the payload of a dead letter of any role.
func OpenDead(keys *seal.Keyset, box []byte) (payload []byte, err error) {
	for _, context := range []string{allocator.DeadContext, deadPools} {
		payload, err = keys.OpenBytes(box, []byte(context))
		if !errors.Is(err, seal.ErrNotOpened) {
			break
		}
	}
	return payload, err
}

func (a *App) has(role settings.Role) bool { return a.cfg.Role.Has(role) }

func (a *App) redisAt() settings.RedisAt {
	return settings.RedisAt{URL: a.at.RedisURL, TLS: a.set.RedisTLS}
}

// base connects to Redis and NATS and keeps the keyset up to date.
func (a *App) base(ctx context.Context) error {
	client, err := NewRedis(a.redisAt(), workTimeout, workConns)
	if err != nil {
		return err
	}
	a.onEnd("redis client", func(context.Context) error { return client.Close() })
	if err := a.connectBus(ctx); err != nil {
		return err
	}
	maxAge, err := a.ordersMaxAge(ctx)
	if err != nil {
		return err
	}
	a.store, err = scripts.New(scripts.Config{
		Partitions: a.set.Partitions, Tombstone: a.set.Tombstone, Timeout: workTimeout, OrdersMaxAge: maxAge,
	}, client, a.keys)
	if err != nil {
		return settings.Named("tombstone", err)
	}
	start := a.store.Start
	if a.cfg.Role == settings.Router {
		start = a.store.StartReading // Redis may let a router do no more
	}
	if err := a.patiently(ctx, "redis", start); err != nil {
		return settings.Named("redis_url", err)
	}
	a.thinPools()
	a.parts.add(part{name: "redis", check: a.store.Ping, needed: true})
	s := a.newStage(ctx, "base")
	s.run("keyset", a.keys.Run)
	if !a.has(settings.Allocator) {
		s.run("number index", a.refreshIndex) // the allocator has its own
	}
	return nil
}

// thin is how few VNs a pool may have for each partition before orders often find their
// own partition empty and take two round trips more.
const thin = 50

// thinPools warns of pools that are small for the number of partitions.
func (a *App) thinPools() {
	n := a.store.Partitions()
	for i := range a.set.Pools {
		if p := &a.set.Pools[i]; n > 1 && p.Max/n < thin {
			a.log.Warn().Str("pool", p.Name).Int("max", p.Max).Int("partitions", n).
				Msg("the pool may hold fewer than 50 numbers for each partition: many orders will have to go from one to another")
		}
	}
}

func (a *App) connectBus(ctx context.Context) error {
	cfg := NATSConfig(a.set)
	cfg.URL, cfg.Name, cfg.Token = a.at.NATSURL, "callmask "+string(a.cfg.Role), a.at.NATSToken
	cfg.Inbox = inboxOf(string(a.cfg.Role))
	cfg.Lazy = a.cfg.Role == settings.Router // answers calls also while NATS is away
	cfg.Tracer, cfg.Registerer, cfg.Logger = a.tracer, a.reg, a.log.With().Str("room", "events").Logger()
	err := a.patiently(ctx, "nats", func(ctx context.Context) error {
		var err error
		a.bus, err = events.Connect(ctx, cfg)
		return err
	})
	if err != nil {
		return NATSError(err)
	}
	a.onEnd("nats client", func(context.Context) error { a.bus.Close(); return nil })
	if a.cfg.Role != settings.Router {
		if err := a.patiently(ctx, "nats", a.bus.EnsureStreams); err != nil {
			return settings.Named("nats_url", err)
		}
	}
	a.parts.add(part{name: "nats", check: a.bus.Ping, needed: a.cfg.Role != settings.Router})
	return nil
}

// ordersMaxAge tells how long a late event can be on its way; a tombstone must be
// there when it comes. The router handles no events and leaves no tombstones.
func (a *App) ordersMaxAge(ctx context.Context) (time.Duration, error) {
	if a.cfg.Role == settings.Router {
		return 0, nil // scripts' default, which the settings' least tombstone exceeds
	}
	maxAge, err := a.bus.OrdersMaxAge(ctx)
	if err != nil {
		return 0, settings.Named("nats_url", err)
	}
	if maxAge == 0 {
		return 0, settings.Named("orders_stream", fmt.Errorf("stream %s keeps messages for ever: give it a max age below CALLMASK_TOMBSTONE (%s)",
			a.set.OrdersStream, a.set.Tombstone))
	}
	return maxAge, nil
}

// refreshIndex keeps the local index of our numbers up to date.
func (a *App) refreshIndex(ctx context.Context) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for failing := false; ; {
		err := a.store.RefreshVNs(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			a.log.Warn().Err(err).Msg("the index of our numbers is not up to date")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// workers starts the allocator, the replenisher and the reaper.
func (a *App) workers(ctx context.Context) error {
	if a.cfg.Role == settings.Router {
		return nil
	}
	a.explaining()
	s := a.newStage(ctx, "workers")
	conflict, err := a.repair(s)
	if err != nil {
		return err
	}
	deps := console.Deps{Store: a.store, Bus: a.bus, Explainer: a.explainer}
	if a.has(settings.Allocator) {
		al, err := a.allocator(s, conflict)
		if err != nil {
			return err
		}
		deps.Orders = al
		// A new Redis is marked ready by the allocator in a moment; the replenisher
		// would otherwise find it not ready and look again only ten seconds later.
		a.await(ctx, markReady, al.Check)
	}
	if a.has(settings.Replenisher) {
		r, err := a.replenisher(s, conflict)
		if err != nil {
			return err
		}
		if err := a.guard(ctx, r.Chief); err != nil {
			return err
		}
		deps.Keeper = r
	}
	return a.serveConsole(s, deps)
}

// markReady is how long the start waits for the allocator's first look at Redis.
const markReady = 3 * time.Second

// await returns when check succeeds, at the latest after the given time.
func (a *App) await(ctx context.Context, most time.Duration, check func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for check(ctx) != nil {
		select {
		case <-ctx.Done():
			return // not an error: /readyz tells what is missing
		case <-tick.C:
		}
	}
}

// repair starts what restores Redis from the ledger, and returns whom to tell of a number
// that the ledger gave to somebody else.
func (a *App) repair(s *stage) (func(vn.Number), error) {
	log := a.log.With().Str("room", "repair").Logger()
	restorer := ledger.NewRestorer(ledger.New(a.store, a.bus, nil, log), a.store, a.bus, Carriers(a.set))
	w, err := repair.New(repair.Config{Poll: a.has(settings.Replenisher), Rebuild: a.set.AutoRebuild}, a.store, restorer, a.bus, a.reg, log)
	if err != nil {
		return nil, err
	}
	s.run("repair", w.Run)
	a.parts.add(part{name: "repair", check: w.Check})
	return w.Conflict, nil
}

func (a *App) allocator(s *stage, conflict func(vn.Number)) (*allocator.Allocator, error) {
	cfg := allocator.Config{Tracer: a.tracer, Conflict: conflict, Carriers: Carriers(a.set)}
	for i := range a.set.Pools {
		p := &a.set.Pools[i]
		cfg.Pools = append(cfg.Pools, allocator.Pool{
			Name: p.Name, Region: p.Region, Carriers: p.Carriers, LowWater: p.LowWater, Target: p.Target, Max: p.Max, Cooldown: p.Cooldown,
			TTLDefault: p.TTLDefault, TTLMax: p.TTLMax, AssignWait: p.AssignWait, Destinations: p.Destinations,
		})
	}
	store, bus := a.failing()
	al, err := allocator.New(cfg, store, bus, a.keys, a.reg, a.log.With().Str("room", "allocator").Logger())
	if err != nil {
		return nil, err
	}
	api := al.API(a.at.APIToken)
	a.adminAPI.Store(&api)
	s.run("allocator", al.Run)
	a.parts.add(part{name: "allocator", check: al.Check, needed: true})
	return al, nil
}

func (a *App) replenisher(s *stage, conflict func(vn.Number)) (*replenisher.Replenisher, error) {
	log := a.log.With().Str("room", "replenisher").Logger()
	store, bus := a.failing()
	led := ledger.New(store, bus, conflict, log)
	sellers, err := a.sellers()
	if err != nil {
		return nil, err
	}
	cfg := replenisher.Config{
		Carriers: sellers, Tracer: a.tracer,
		SealDead: func(payload []byte) ([]byte, error) { return a.keys.Primary().SealBytes(payload, []byte(deadPools)) },
	}
	for i := range a.set.Pools {
		p := &a.set.Pools[i]
		cfg.Pools = append(cfg.Pools, replenisher.Pool{
			Name: p.Name, Region: p.Region, Carriers: p.Carriers, LowWater: p.LowWater, Target: p.Target, Max: p.Max,
			Fixed: !p.Forecast, MonthlyCap: p.MonthlyCap, SurplusAfter: p.SurplusAfter,
		})
	}
	r, err := replenisher.New(cfg, a.store, a.bus, led, a.reg, log)
	if err != nil {
		return nil, err
	}
	reaper, err := replenisher.NewReaper(replenisher.ReaperConfig{}, a.store, led, a.reg, log)
	if err != nil {
		return nil, err
	}
	api := r.API(a.at.APIToken)
	a.keeperAPI.Store(&api)
	s.run("replenisher", r.Run)
	a.parts.add(part{name: "carriers that sell", check: r.Check})
	s.run("reaper", reaper.Run)
	return r, nil
}

// lookups returns the store that calls are looked up in, over connections of its own.
func (a *App) lookups() (*scripts.Store, error) {
	client, err := NewRedis(a.redisAt(), a.set.ResolveTimeout, callConns)
	if err != nil {
		return nil, err
	}
	a.onEnd("redis client for calls", func(context.Context) error { return client.Close() })
	look := scripts.Config{Partitions: a.store.Partitions(), Tombstone: a.set.Tombstone, Timeout: a.set.ResolveTimeout}
	if a.set.Coalesce {
		// A read waits for the flush in flight and then for its own, and after that a
		// replica may be asked.
		cfg := router.CoalescerConfig{FlushTimeout: a.set.ResolveTimeout * 2 / 5}
		if cfg.Replicas, err = newReplicas(a.redisAt(), a.set.ResolveTimeout, callConns); err != nil {
			return nil, err
		}
		if cfg.Replicas != nil {
			a.onEnd("redis client for replicas", func(context.Context) error { return cfg.Replicas.Close() })
		}
		coalescer, err := router.NewCoalescer(client, cfg, a.reg)
		if err != nil {
			return nil, err
		}
		look.Reader = coalescer
		a.parts.add(part{name: "redis for calls", check: coalescer.Check})
	}
	calls, err := scripts.New(look, client, a.keys)
	if err != nil {
		return nil, settings.Named("tombstone", err)
	}
	return calls, nil
}

// front starts the router on the listener for carriers.
func (a *App) front(ctx context.Context) error {
	if !a.has(settings.Router) {
		return nil
	}
	calls, err := a.lookups()
	if err != nil {
		return err
	}
	lapsed := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "callmask_router_lapsed_bindings_total",
		Help: "Calls refused because Redis still served a binding whose lease had ended by this process's clock.",
	}, func() float64 { return float64(calls.LapsedBindings()) })
	if err := a.reg.Register(lapsed); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	carriers, resolvers, err := a.codecs()
	if err != nil {
		return err
	}
	var rec router.Recorder
	if a.set.RecordCalls {
		rec = &recorder{bus: a.bus, isVN: a.store.IsVN}
	}
	r, err := router.New(router.Config{
		Carriers: carriers, Resolvers: resolvers, RingTimeout: a.set.RingTimeout, MaxDuration: a.set.MaxDuration,
		Budget: a.set.ResolveTimeout, RefusalsPerMinute: a.set.RefusalsPerMinute, RedactNumbers: a.set.RedactNumbers, MessagesPerMinute: a.set.MessagesPerMinute,
		DrainDelay: a.set.DrainDelay, DrainTimeout: a.set.ShutdownTimeout / 2,
	}, calls, rec, a.reg, a.log.With().Str("room", "router").Logger())
	if err != nil {
		return err
	}
	ln := a.httpLn
	a.httpLn = nil // Serve closes it
	s := a.newStage(ctx, "router")
	s.run("router", func(ctx context.Context) error { return r.Serve(ctx, ln) })
	a.parts.add(part{name: "router", needed: true, check: func(context.Context) error {
		if r.Draining() {
			return errors.New("draining")
		}
		return nil
	}})
	return nil
}
