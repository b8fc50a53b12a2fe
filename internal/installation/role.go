package installation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/internal/cluster"
)

const (
	// askTimeout bounds a look at /readyz.
	askTimeout = 2 * time.Second
	// stopTimeout bounds the end of a start that failed.
	stopTimeout = 30 * time.Second
)

// Kind says what a process of callmask does.
type Kind string

// The kinds of role.
const (
	Router      Kind = "router"
	Allocator   Kind = "allocator"
	Replenisher Kind = "replenisher"
)

// Role is one process of callmask.
type Role struct {
	*cluster.Process
	Kind Kind
	// HTTP (of routers only) and Admin are where it listens, host:port; the same after
	// a restart.
	HTTP, Admin string
}

// makeRoles gives every role its ports; it starts none.
func (in *Installation) makeRoles(ctx context.Context) error {
	kinds := make([]Kind, 0, in.cfg.Routers+in.cfg.Allocators+in.cfg.Replenishers)
	for _, k := range []struct {
		kind Kind
		n    int
	}{{Router, in.cfg.Routers}, {Allocator, in.cfg.Allocators}, {Replenisher, in.cfg.Replenishers}} {
		kinds = append(kinds, slices.Repeat([]Kind{k.kind}, k.n)...)
	}
	ports, err := cluster.FreePorts(ctx, 2*len(kinds))
	if err != nil {
		return err
	}
	number := map[Kind]int{}
	for i, kind := range kinds {
		number[kind]++
		r := &Role{Kind: kind, Admin: at(ports[2*i])}
		args := append([]string{string(kind), "--config", in.SettingsFile(), "--admin-addr", r.Admin, "--log-format", "json"}, in.cfg.Flags...)
		if kind == Router {
			r.HTTP = at(ports[2*i+1])
			args = append(args, "--http-addr", r.HTTP)
		}
		env := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + in.Dir, "TMPDIR=" + in.Dir}, in.cfg.Env...)
		name := fmt.Sprintf("%s %d", kind, number[kind])
		r.Process = cluster.NewProcess(name, in.cfg.Binary, args, env)
		if in.cfg.Logs != "" {
			log, err := os.Create(filepath.Join(in.cfg.Logs, strings.ReplaceAll(name, " ", "-")+".log"))
			if err != nil {
				return err
			}
			r.LogTo(log)
			in.logs = append(in.logs, log)
		}
		in.Roles = append(in.Roles, r)
	}
	return nil
}

func at(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (in *Installation) startRoles(ctx context.Context) error {
	var g errgroup.Group
	for _, r := range in.Roles {
		g.Go(func() error { return r.Restart(ctx) })
	}
	return g.Wait()
}

func (in *Installation) stopRoles(ctx context.Context) error {
	errs := make(chan error, len(in.Roles))
	for _, r := range in.Roles {
		go func() { errs <- r.Stop(ctx) }()
	}
	var all error
	for range in.Roles {
		all = errors.Join(all, <-errs)
	}
	return all
}

// Routers returns the processes that answer calls.
func (in *Installation) Routers() []*Role { return in.of(Router) }

// Allocators returns the processes that take orders.
func (in *Installation) Allocators() []*Role { return in.of(Allocator) }

// Replenishers returns the processes that keep the stock.
func (in *Installation) Replenishers() []*Role { return in.of(Replenisher) }

func (in *Installation) of(kind Kind) []*Role {
	var roles []*Role
	for _, r := range in.Roles {
		if r.Kind == kind {
			roles = append(roles, r)
		}
	}
	return roles
}

// Restart starts the role, which has ended, on its ports and returns when it is ready.
func (r *Role) Restart(ctx context.Context) error {
	if err := r.Start(); err != nil {
		return err
	}
	return r.WaitReady(ctx, r.Ready)
}

// Ready returns nil when the role's /readyz says that it is.
func (r *Role) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/readyz", nil)
	if err != nil {
		return err
	}
	req.Close = true // nothing of it stays when the role has ended
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // the status is all there is to know
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %d", resp.StatusCode)
	}
	return nil
}
