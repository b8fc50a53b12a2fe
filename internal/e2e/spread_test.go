package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/installation"
	"github.com/callmask/callmask/vn"
)

// standingOrders live through a whole test: they are what is called.
const standingOrders = 32

// poolNumbers are enough that no order has to wait for one.
const poolNumbers = 400

// spread is an installation of many processes under load: telephones that call standing
// orders, and orders that come and go. In front of routers and allocators is a balancer
// each, as a load balancer would be.
type spread struct {
	*installation.Installation
	routers, allocators *balancer
	phones              map[*installation.Role]*sim.Phone
	web                 *http.Client
	standing            []standingOrder
	orders              atomic.Int64 // made so far

	calls, puts tally
}

// standingOrder is a live order and both its parties.
type standingOrder struct {
	numbers, vns [2]vn.Number
}

func startSpread(t *testing.T, flags ...string) *spread {
	t.Helper()
	binary, err := executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*startLimit)
	defer cancel()
	in, err := installation.Start(ctx, installation.Config{
		Binary: binary, Dir: t.TempDir(),
		Redis: cluster.RedisConfig{Masters: 3, Replicas: 1}, NATS: cluster.NATSConfig{Nodes: 3},
		Routers: 2, Allocators: 2, Replenishers: 2, Flags: flags,
		Numbers: poolNumbers, Cooldown: time.Second,
	})
	require.NoError(t, err)
	s := &spread{
		Installation: in, phones: map[*installation.Role]*sim.Phone{},
		routers: newBalancer(in.Routers()), allocators: newBalancer(in.Allocators()),
		web: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 20 * time.Second},
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopLimit)
		defer cancel()
		if err := in.Stop(ctx); err != nil {
			t.Error(err)
		}
		for _, r := range in.Roles {
			if out := r.Output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
				t.Errorf("the end of %s's log:\n%s", r.Name(), out)
			}
		}
	})
	for _, r := range in.Routers() {
		s.phones[r], err = sim.NewPhone(sim.PhoneConfig{URL: "http://" + r.HTTP + "/v1/carriers/" + installation.Carrier + "/voice", Secret: installation.WebhookSecret})
		require.NoError(t, err)
		t.Cleanup(s.phones[r].Close)
	}
	t.Cleanup(s.web.CloseIdleConnections)
	s.open(t)
	return s
}

// open makes the standing orders.
func (s *spread) open(t *testing.T) {
	t.Helper()
	await(t, startLimit, "the pool is full", func() bool {
		var rows []stock
		return s.api(t.Context(), s.Allocators()[0], http.MethodGet, "/v1/pools", "", &rows) == nil &&
			len(rows) == 1 && rows[0].Free >= poolNumbers
	})
	for i := range standingOrders {
		o := standingOrder{numbers: [2]vn.Number{number(t, person(2*i)), number(t, person(2*i+1))}}
		a, err := s.put(t.Context(), s.Allocators()[0], fmt.Sprintf("standing-%d", i), person(2*i), person(2*i+1))
		require.NoError(t, err)
		o.vns = [2]vn.Number{number(t, a.Parties[0].VN), number(t, a.Parties[1].VN)}
		s.standing = append(s.standing, o)
	}
}

// person returns a number of a party: none that the simulated carrier sells.
func person(i int) string { return fmt.Sprintf("+447700900%03d", i%1000) }

// tally counts what was tried and keeps the first failures.
type tally struct {
	tried, failed atomic.Int64
	mu            sync.Mutex
	first         []string
	worst         time.Duration // the longest that one took to succeed
}

func (c *tally) note(began time.Time, err error) {
	c.tried.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.worst = max(c.worst, time.Since(began))
	} else if c.failed.Add(1); len(c.first) < 5 {
		c.first = append(c.first, fmt.Sprintf("at %s, after %s: %v", began.Format("05.000"), time.Since(began).Round(time.Millisecond), err))
	}
}

// take returns the counts and begins anew.
func (c *tally) take() (tried, failed int64, worst time.Duration, first []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tried, failed, worst, first = c.tried.Swap(0), c.failed.Swap(0), c.worst, c.first
	c.worst, c.first = 0, nil
	return tried, failed, worst, first
}

// load is the load of a test, until end is called.
type load struct {
	stop  context.CancelFunc
	group *errgroup.Group
}

// start begins the load: callers that call every pause, and writers that take one order
// after the other through its life. A writer repeats what fails, as its error of the
// last time says; a call is never repeated. Calls that reach a wrong number end the test.
func (s *spread) start(ctx context.Context, callers, writers int, pause time.Duration) *load {
	looking, stopLooking := context.WithCancel(ctx)
	ctx, stop := context.WithCancel(ctx)
	g := &errgroup.Group{}
	g.Go(func() error { return s.routers.run(looking) })
	g.Go(func() error { return s.allocators.run(looking) })
	var work sync.WaitGroup
	for i := range callers {
		work.Add(1)
		g.Go(func() error {
			defer work.Done()
			return every(ctx, pause, func(n int) error { return s.call(ctx, i+n*callers) })
		})
	}
	for range writers {
		work.Add(1)
		g.Go(func() error {
			defer work.Done()
			return every(ctx, pause, func(int) error { return s.live(looking) })
		})
	}
	g.Go(func() error { // orders on their way go on to their end
		work.Wait()
		stopLooking()
		return nil
	})
	return &load{stop: stop, group: g}
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	require.NoError(t, l.group.Wait())
}

// every does it now and after each pause until ctx ends.
func every(ctx context.Context, pause time.Duration, do func(n int) error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := do(n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// call calls one party of a standing order as the other. The error says that it reached
// somebody else.
func (s *spread) call(ctx context.Context, n int) error {
	o, from := &s.standing[n/2%len(s.standing)], n%2
	began := time.Now()
	r := s.routers.pick()
	got, err := s.phones[r].Call(context.WithoutCancel(ctx), o.numbers[from].E164(), o.vns[1-from].E164())
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", r.Name(), err)
	case got.Heard != sim.Ringing:
		err = fmt.Errorf("%s: the caller hears %s %s, status %d", r.Name(), got.Heard, got.Cause, got.Status)
	case got.Rang != o.numbers[1-from] || got.Shown != o.vns[from]:
		return fmt.Errorf("%s: the wrong telephone rang or the wrong number was shown", r.Name())
	}
	s.calls.note(began, err)
	return nil
}

// live takes an order through its life: it is assigned, and completed.
func (s *spread) live(ctx context.Context) error {
	n := int(s.orders.Add(1))
	id, began := fmt.Sprintf("order-%d", n), time.Now()
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, step := range []func() error{
		func() error {
			_, err := s.put(patience, s.allocators.pick(), id, person(100+2*n), person(101+2*n))
			return err
		},
		func() error { return s.complete(patience, s.allocators.pick(), id) },
	} {
		done := false
		for !done {
			err := step()
			if patience.Err() != nil {
				return fmt.Errorf("order %s: %w", id, err)
			}
			s.puts.note(began, err)
			if done = err == nil; done {
				began = time.Now()
				continue
			}
			select {
			case <-patience.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (s *spread) put(ctx context.Context, at *installation.Role, id, customer, agent string) (assigned, error) {
	body, err := json.Marshal(order{Pool: installation.Pool, Parties: []party{{"customer", customer}, {"agent", agent}}})
	if err != nil {
		return assigned{}, err
	}
	var a assigned
	return a, s.api(ctx, at, http.MethodPut, "/v1/orders/"+id, string(body), &a)
}

func (s *spread) complete(ctx context.Context, at *installation.Role, id string) error {
	return s.api(ctx, at, http.MethodDelete, "/v1/orders/"+id, "", nil)
}

func (s *spread) api(ctx context.Context, at *installation.Role, method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+at.Admin+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := s.web.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", at.Name(), err)
	}
	defer func() { _ = resp.Body.Close() }() // it is only read
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", at.Name(), err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %d %s", at.Name(), resp.StatusCode, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// requireClean fails unless every VN is in exactly one state, as `callmask check` sees
// it beside the load.
func (s *spread) requireClean(t *testing.T) {
	t.Helper()
	binary, err := executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, "check", "--config", s.SettingsFile())
	cmd.Env = []string{"HOME=" + s.Dir}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "callmask check:\n%s", out)
}

// balancer hands out its processes in turn, those that were ready when it last looked
// at their /readyz.
type balancer struct {
	roles []*installation.Role
	up    []atomic.Bool
	next  atomic.Uint64
}

func newBalancer(roles []*installation.Role) *balancer {
	b := &balancer{roles: roles, up: make([]atomic.Bool, len(roles))}
	for i := range b.up {
		b.up[i].Store(true)
	}
	return b
}

// run looks often enough for a drain delay of a second.
func (b *balancer) run(ctx context.Context) error {
	var g errgroup.Group
	for i, r := range b.roles {
		g.Go(func() error {
			return every(ctx, 50*time.Millisecond, func(int) error {
				b.up[i].Store(r.Ready(ctx) == nil)
				return nil
			})
		})
	}
	return g.Wait()
}

func (b *balancer) pick() *installation.Role {
	first := b.next.Add(1)
	for i := range b.roles {
		if at := (first + uint64(i)) % uint64(len(b.roles)); b.up[at].Load() {
			return b.roles[at]
		}
	}
	return b.roles[first%uint64(len(b.roles))]
}
