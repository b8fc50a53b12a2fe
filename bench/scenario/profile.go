package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/world"
)

// profileMiss is the part of the calls that strangers make while a profile is taken.
const profileMiss = 0.05

// profileGrace is how long the profile may take beyond its length.
const profileGrace = 30 * time.Second

// Profile writes a CPU profile of a router at saturation to the file path: signed calls,
// a few of strangers, the recorder on. `go tool pprof` shows it.
func (e *Env) Profile(ctx context.Context, path string) error {
	l, err := e.load(ctx, e.Orders, 0, false)
	if err != nil {
		return err
	}
	defer l.stop()
	nats, err := e.streams(ctx)
	if err != nil {
		return err
	}
	if l.router, err = e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "router", Redis: l.redis.URL(), NATS: nats}); err != nil {
		return err
	}
	if err := e.Load.Table(ctx, l.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	if err := e.warmUp(ctx, []target{l.target()}); err != nil {
		return err
	}
	var profile []byte
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		profile, err = cpuProfile(gctx, l.router.Admin, e.length())
		return err
	})
	g.Go(func() error {
		spec := e.spec(0)
		spec.Miss, spec.For = profileMiss, e.length()+time.Second
		_, err := e.measure(gctx, report.Key{Scenario: "profile", Point: report.Saturation}, 0, l.target(), spec)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := os.WriteFile(path, profile, 0o644); err != nil { //nolint:gosec // G306: names of functions, no secret
		return fmt.Errorf("write the profile: %w", err)
	}
	return nil
}

// cpuProfile asks a process of callmask for a CPU profile of the given length.
func cpuProfile(ctx context.Context, admin string, length time.Duration) ([]byte, error) {
	seconds := max(1, int(length.Seconds()))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+profileGrace)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+world.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("take a CPU profile: %w", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("take a CPU profile: %w", err)
	}
	return body, nil
}
