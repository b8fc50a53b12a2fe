package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/callmask/callmask/internal/installation"
)

// process is what the watch starts again.
type process interface {
	Name() string
	Alive() bool
	Exited() <-chan struct{}
	Restart(ctx context.Context) error
}

// watch prints how everything is, when that has changed, and starts again what died.
type watch struct {
	in     *installation.Installation
	out    io.Writer
	revive time.Duration

	all  []process
	died map[process]time.Time
	last string
}

func newWatch(in *installation.Installation, out io.Writer, revive time.Duration) *watch {
	w := &watch{in: in, out: out, revive: revive, died: map[process]time.Time{}}
	for _, n := range in.Redis.Nodes() {
		w.all = append(w.all, n)
	}
	for _, n := range in.NATS.Nodes() {
		w.all = append(w.all, n)
	}
	for _, r := range in.Roles {
		w.all = append(w.all, r)
	}
	return w
}

// run looks every now and then until ctx ends.
func (w *watch) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for _, p := range w.all {
			w.keep(ctx, p)
		}
		if now := w.state(ctx); now != w.last && ctx.Err() == nil {
			w.last = now
			w.say(now)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *watch) say(what string) {
	fmt.Fprintf(w.out, "%s  %s\n", time.Now().Format(time.TimeOnly), what)
}

// keep notes that a process has died, and starts it again after a while.
func (w *watch) keep(ctx context.Context, p process) {
	select {
	case <-p.Exited():
	default:
		return
	}
	at, known := w.died[p]
	if !known {
		w.died[p] = time.Now()
		w.say(fmt.Sprintf("%s died; it is started again in %s", p.Name(), w.revive))
		return
	}
	if time.Since(at) < w.revive {
		return
	}
	delete(w.died, p)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.Restart(ctx); err != nil && ctx.Err() == nil {
		w.say(err.Error())
	}
}

// state tells in one line how everything is.
func (w *watch) state(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	parts := make([]string, 0, 4)
	for _, s := range []struct {
		name  string
		nodes []process
		check func(context.Context) error
	}{
		{"Redis", w.all[:len(w.in.Redis.Nodes())], w.in.Redis.Healthy},
		{"NATS", w.all[len(w.in.Redis.Nodes()) : len(w.all)-len(w.in.Roles)], w.in.NATS.Healthy},
	} {
		up := 0
		for _, n := range s.nodes {
			if n.Alive() {
				up++
			}
		}
		word := "ok"
		if err := s.check(ctx); err != nil {
			word = "unsettled"
		}
		parts = append(parts, fmt.Sprintf("%s %s, %d of %d up", s.name, word, up, len(s.nodes)))
	}
	ready := 0
	for _, r := range w.in.Roles {
		if r.Ready(ctx) == nil {
			ready++
		}
	}
	parts = append(parts, fmt.Sprintf("roles: %d of %d ready", ready, len(w.in.Roles)), w.pool(ctx))
	return strings.Join(parts, " · ")
}

// pool tells what the pool holds, as the first allocator that answers says.
func (w *watch) pool(ctx context.Context) string {
	for _, r := range w.in.Allocators() {
		if rows, err := w.pools(ctx, r); err == nil && len(rows) > 0 {
			p := rows[0]
			return fmt.Sprintf("pool %s: %d free, %d leased, %d cooling", p.Name, p.Free, p.Leased, p.Cooling)
		}
	}
	return "pool " + installation.Pool + ": nobody answers"
}

// row is one of GET /v1/pools.
type row struct {
	Name                  string
	Free, Leased, Cooling int
}

func (w *watch) pools(ctx context.Context, r *installation.Role) ([]row, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/v1/pools", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.in.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it is only read
	var rows []row
	return rows, json.NewDecoder(resp.Body).Decode(&rows)
}
