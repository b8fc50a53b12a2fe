package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/peers"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/events"
)

// rates are the fixed rates of the open loop, and who can serve them on two cores.
var rates = []struct {
	rate     float64
	variants []string // empty: all
}{
	{2000, nil},
	{8000, []string{report.Callmask, "bare", "naive", "nethttp"}},
}

// resolve measures the path of a call against everything one would build instead.
func resolve(ctx context.Context, e *Env) error {
	const name = "resolve"
	l, err := e.shared(ctx)
	if err != nil {
		return err
	}
	if err := e.Load.Table(ctx, l.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	targets, err := e.resolvers(ctx, l)
	if err != nil {
		return err
	}
	open := []string{report.Callmask, "bare", "naive"}
	if e.Full {
		open = nil
	}
	steps := len(targets)
	for _, r := range rates {
		steps += len(choose(choose(targets, open), r.variants))
	}
	if err := e.warmUp(ctx, targets); err != nil {
		return err
	}
	e.Progress.More(e.Rounds * steps)
	for round := range e.Rounds {
		for _, t := range turn(targets, round) {
			if _, err := e.measure(ctx, report.Key{Scenario: name, Point: report.Saturation}, round, t, e.spec(round)); err != nil {
				return err
			}
		}
		for _, r := range rates {
			spec := e.spec(round)
			spec.Rate = r.rate
			for _, t := range turn(choose(choose(targets, open), r.variants), round) {
				if _, err := e.measure(ctx, report.Key{Scenario: name, Point: report.RatePoint(r.rate)}, round, t, spec); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// choose returns the targets of the given variants, all when none is given.
func choose(targets []target, variants []string) []target {
	if len(variants) == 0 {
		return targets
	}
	return slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !slices.Contains(variants, t.variant) })
}

// turn lets another target begin each round.
func turn(targets []target, round int) []target {
	if len(targets) == 0 {
		return nil
	}
	at := round % len(targets)
	return append(slices.Clone(targets[at:]), targets[:at]...)
}

// resolvers starts every peer that can be had here.
func (e *Env) resolvers(ctx context.Context, l *loaded) ([]target, error) {
	e.Progress.Doing("starting the peers")
	prefix, err := peers.KeyPrefix(ctx, l.redis.Client, l.table)
	if err != nil {
		return nil, err
	}
	targets := []target{l.target()}
	add := func(variant string, start func() (target, error)) error {
		if len(e.Peers) > 0 && !slices.Contains(e.Peers, variant) {
			return nil
		}
		t, err := start()
		if err != nil {
			return fmt.Errorf("%s: %w", variant, err)
		}
		t.variant = variant
		targets = append(targets, t)
		return nil
	}
	peer := func(kind string) func() (target, error) {
		return func() (target, error) {
			s, err := e.Rig.Peer(ctx, kind, l.redis, prefix, "")
			if err != nil {
				return target{}, err
			}
			return target{servers: []rig.Server{*s}, store: l.redis}, nil
		}
	}
	if e.Versus != "" {
		r, err := e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL(), Binary: e.Versus})
		if err != nil {
			return nil, err
		}
		targets = append(targets, target{variant: report.Versus, servers: []rig.Server{r.Server}, store: l.redis})
	}
	if err := errors.Join(
		add(report.Recording, func() (target, error) { return e.recording(ctx, l) }),
		add(report.Single, func() (target, error) {
			return e.other(ctx, l, rig.CallmaskOptions{Flags: []string{"--coalesce=false"}})
		}),
		add(report.OneProc, func() (target, error) { return e.other(ctx, l, rig.CallmaskOptions{Env: []string{"GOMAXPROCS=1"}}) }),
		add("bare", func() (target, error) {
			t, err := peer("bare")()
			t.store, t.fixed = nil, true
			return t, err
		}),
		add("naive", peer("naive")),
		add("nethttp", peer("nethttp")),
		add("evalsha", peer("evalsha")),
	); err != nil {
		return nil, err
	}
	// These two need what not every machine has.
	for variant, start := range map[string]func() (target, error){
		"pgx":  func() (target, error) { return e.postgres(ctx, l, prefix) },
		"node": func() (target, error) { return e.node(ctx, l, prefix) },
	} {
		if err := add(variant, start); err != nil {
			e.Report.Note("%v: it is left out", err)
		}
	}
	return targets, ctx.Err()
}

// other starts a router that differs in something.
func (e *Env) other(ctx context.Context, l *loaded, o rig.CallmaskOptions) (target, error) {
	o.Role, o.Redis = "router", l.redis.URL()
	r, err := e.Rig.Callmask(ctx, o)
	if err != nil {
		return target{}, err
	}
	return target{servers: []rig.Server{r.Server}, store: l.redis}, nil
}

// recording starts a router that publishes calls.decided to a NATS of its own.
func (e *Env) recording(ctx context.Context, l *loaded) (target, error) {
	nats, err := e.streams(ctx)
	if err != nil {
		return target{}, err
	}
	r, err := e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL(), NATS: nats})
	if err != nil {
		return target{}, err
	}
	return target{servers: []rig.Server{r.Server}, store: l.redis}, nil
}

// streams starts a NATS with callmask's streams and returns its URL.
func (e *Env) streams(ctx context.Context) (string, error) {
	s, err := e.Rig.NATS(ctx)
	if err != nil {
		return "", err
	}
	bus, err := events.Connect(ctx, events.Config{URL: s.Addr})
	if err != nil {
		return "", err
	}
	defer bus.Close()
	return s.Addr, bus.EnsureStreams(ctx)
}

func (e *Env) postgres(ctx context.Context, l *loaded, prefix string) (target, error) {
	p, err := e.Rig.Postgres(ctx)
	if err != nil {
		return target{}, err
	}
	e.Progress.Doing("filling PostgreSQL")
	if err := peers.FillPostgres(ctx, p.DSN, l.redis.Client, prefix, l.table); err != nil {
		return target{}, err
	}
	s, err := e.Rig.Peer(ctx, "pgx", l.redis, prefix, p.DSN)
	if err != nil {
		return target{}, err
	}
	return target{servers: []rig.Server{*s}, store: p}, nil
}

func (e *Env) node(ctx context.Context, l *loaded, prefix string) (target, error) {
	s, err := e.Rig.Node(ctx, l.redis, prefix)
	if err != nil {
		return target{}, err
	}
	return target{servers: []rig.Server{*s}, store: l.redis}, nil
}
