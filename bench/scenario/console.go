package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"

	"github.com/callmask/callmask/bench/load"
	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/rig"
	"github.com/callmask/callmask/bench/world"
)

// watchers is how many pages are kept up to date beside the calls.
const watchers = 50

// consoleRates are the rates of the calls; 0: as many as go.
var consoleRates = []float64{2000, 0}

// watched measures calls of a process that does everything, the console included, while
// nobody and while many watch. Each call is an event that the console may read.
func watched(ctx context.Context, e *Env) error {
	const name = "console"
	l, err := e.load(ctx, min(e.Orders, 100_000), 1000, false)
	if err != nil {
		return err
	}
	defer l.stop()
	if l.router, err = e.Rig.Callmask(ctx, rig.CallmaskOptions{Role: "all", Redis: l.redis.URL()}); err != nil {
		return err
	}
	if err := e.Load.Table(ctx, l.path, load.Twilio, e.Seed); err != nil {
		return err
	}
	e.Progress.More(2 * len(consoleRates) * e.Rounds)
	for round := range e.Rounds {
		for _, rate := range consoleRates {
			spec := e.spec(round)
			spec.Rate = rate
			calls := func(point string) error {
				_, err := e.measure(ctx, report.Key{Scenario: name, Point: report.MixedPoint(rate, point)}, round, l.target(), spec)
				return err
			}
			beside := func() error {
				stop, err := watch(ctx, l.router.Admin)
				if err != nil {
					return err
				}
				return errors.Join(calls(report.Watched), stop())
			}
			alone := func() error { return calls(report.Alone) }
			turns := []func() error{alone, beside}
			for i := range turns {
				if err := turns[(i+round)%len(turns)](); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// watch signs in to the console at addr and opens its pages, until stop is called. stop
// says whether every page had updates.
func watch(ctx context.Context, addr string) (stop func() error, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{}
	client := &http.Client{Jar: jar, Transport: transport}
	base := "http://" + addr + "/console/"
	form := url.Values{"name": {"bench"}, "secret": {world.APIToken}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("sign in to the console: HTTP %d: %w", res.StatusCode, err)
	}
	watching, cancel := context.WithCancel(ctx)
	var pages sync.WaitGroup
	failed := make(chan error, watchers)
	first := make(chan struct{}, watchers)
	for i := range watchers {
		view := []string{"overview", "calls", "stock"}[i%3]
		pages.Go(func() { failed <- follow(watching, client, base+"live?view="+view, first) })
	}
	for range watchers {
		select {
		case <-first:
		case err := <-failed:
			cancel()
			pages.Wait()
			return nil, err
		}
	}
	return func() error {
		cancel()
		pages.Wait()
		transport.CloseIdleConnections()
		close(failed)
		var errs []error
		for err := range failed {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}, nil
}

// follow reads the updates of one page until ctx ends.
func follow(ctx context.Context, client *http.Client, address string, first chan<- struct{}) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("watch the console: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // it is read until it is cut off
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("watch the console: HTTP %d", res.StatusCode)
	}
	var begun [1]byte
	if _, err := io.ReadFull(res.Body, begun[:]); err != nil {
		return fmt.Errorf("watch the console: %w", err)
	}
	first <- struct{}{}
	_, err = io.Copy(io.Discard, res.Body)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("a page of the console was not kept up to date to the end: %w", errors.Join(err, io.ErrUnexpectedEOF))
}
