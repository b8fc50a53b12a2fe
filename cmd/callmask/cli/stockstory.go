package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier/sim"
)

// northPool is the pool that two carriers sell to.
const northPool = "north"

// market is the two carriers that sell to it, each with numbers of its own.
type market struct {
	alpha, beta *sim.Server
	stop        context.CancelFunc
	done        chan error
}

func openMarket(ctx context.Context) (*market, error) {
	running, stop := context.WithCancel(ctx)
	m := &market{stop: stop, done: make(chan error, 2)}
	for _, s := range []struct {
		server       **sim.Server
		secret, area string
	}{{&m.alpha, "demo-alpha-secret", "985"}, {&m.beta, "demo-beta-secret", "986"}} {
		srv, err := sim.NewServer(sim.ServerConfig{
			Tokens: []string{s.secret}, Stock: []sim.Stock{{Region: "US", Prefixes: []string{"+1" + s.area + "55501"}, Digits: 2}},
		})
		if err == nil {
			err = srv.Listen(ctx, "127.0.0.1:0")
		}
		if err != nil {
			stop()
			return nil, err
		}
		*s.server = srv
		go func() { m.done <- srv.Run(running) }()
	}
	return m, nil
}

func (m *market) close() error {
	m.stop()
	return errors.Join(<-m.done, <-m.done)
}

// variable stands in for the environment of the demo's settings.
func (m *market) variable(name string) (string, bool) {
	switch name {
	case "ALPHA_URL":
		return m.alpha.URL(), true
	case "BETA_URL":
		return m.beta.URL(), true
	}
	return "", false
}

// runsLow lets an order take a pool below its low water while its first carrier is down.
func (s *story) runsLow(ctx context.Context) error {
	s.title("Pool north buys from carrier alpha, and from beta when alpha fails. Now alpha is down.")
	row, ok, err := s.until(ctx, northPool, func(r poolRow) bool { return r.Free == 4 })
	if err != nil {
		return err
	}
	s.sees("pool", "%d free, %d bought from alpha, %d from beta", row.Free, s.market.alpha.Owned(), s.market.beta.Owned())
	s.check(ok && s.market.alpha.Owned() == 4 && s.market.beta.Owned() == 0, "at first alpha sold all of them")
	s.market.alpha.Inject(sim.Fault{Op: sim.OpSearch, Kind: sim.Fail, Status: http.StatusServiceUnavailable, Times: 1000})
	if err := s.three(ctx, "order-3"); err != nil {
		return err
	}
	row, ok, err = s.until(ctx, northPool, func(r poolRow) bool { return r.Free == 4 })
	if err != nil {
		return err
	}
	s.sees("pool", "%d free, %d bought from alpha, %d from beta", row.Free, s.market.alpha.Owned(), s.market.beta.Owned())
	s.check(ok && s.market.alpha.Owned() == 4 && s.market.beta.Owned() == 3, "three more came from beta, and not one more than was needed")
	return nil
}

// capped lets the pool run low once more, with its money for the month spent.
func (s *story) capped(ctx context.Context) error {
	s.title("The pool runs low again, but its cap of 7.00 USD a month is spent.")
	if err := s.three(ctx, "order-4"); err != nil {
		return err
	}
	alerted, err := s.metric(ctx, `callmask_replenisher_cap_reached{pool="`+northPool+`"} 1`)
	if err != nil {
		return err
	}
	row, err := s.pool(ctx, northPool)
	if err != nil {
		return err
	}
	s.sees("pool", "%d free, %d in all", row.Free, row.Total)
	s.sees("alert", "callmask_replenisher_cap_reached{pool=%q} 1, event pools.cap_reached", northPool)
	s.check(alerted, "the operator is told")
	s.check(row.Total == 7 && s.market.alpha.Owned()+s.market.beta.Owned() == 7, "nothing was bought beyond the cap: seven numbers at 1.00 USD")
	return nil
}

// three gives an order of three parties its numbers.
func (s *story) three(ctx context.Context, id string) error {
	var o orderAnswer
	body := map[string]any{"pool": northPool, "parties": []map[string]string{
		{"role": "customer", "number": customer}, {"role": "agent", "number": agent}, {"role": "merchant", "number": next},
	}}
	if _, err := s.api.call(ctx, http.MethodPut, "/v1/orders/"+id, body, &o); err != nil {
		return err
	}
	s.sees(id, "takes %d numbers for customer, agent and merchant", len(o.Parties))
	return nil
}

// metric waits for a line of /metrics, for half a minute at most.
func (s *story) metric(ctx context.Context, line string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := s.scrape(ctx, line)
		if err == nil && found {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-tick.C:
		}
	}
}

func (s *story) scrape(ctx context.Context, line string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api.base+"/metrics", nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+s.api.token)
	resp, err := s.api.http.Do(req)
	if err != nil {
		return false, fmt.Errorf("read the metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read; there is nothing to do about it
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == line {
			return true, nil
		}
	}
	return false, nil
}
