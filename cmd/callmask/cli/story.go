package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/vn"
)

// The people of the story. Numbers are of ranges reserved for fiction.
const (
	customer = "+12025550123"
	agent    = "+12025550145"
	stranger = "+12025550177"
	next     = "+12025550134"
	courier  = "+12025550156"
)

// story tells, tries and checks what it tells.
type story struct {
	out     io.Writer
	colours bool
	phone   *sim.Phone
	api     *client
	redis   string
	market  *market

	chapter int
	wrong   int
	err     error // of the first line that could not be written
}

func (s *story) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(s.out, format, args...); s.err == nil {
		s.err = err
	}
}

func (s *story) paint(code, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *story) title(format string, args ...any) {
	s.chapter++
	s.printf("\n%s\n", s.paint("1", fmt.Sprintf("%d. %s", s.chapter, fmt.Sprintf(format, args...))))
}

func (s *story) sees(who, format string, args ...any) {
	s.printf("   %-11s %s\n", who, s.paint("36", fmt.Sprintf(format, args...)))
}

// check says whether a promise was kept.
func (s *story) check(kept bool, promise string) {
	if kept {
		s.printf("   %s %s\n", s.paint("32", "✓"), promise)
		return
	}
	s.wrong++
	s.printf("   %s NOT SO: %s\n", s.paint("31", "✗"), promise)
}

// tell plays the whole story. An error means that it could not go on; what was not as
// told is counted in wrong.
func (s *story) tell(ctx context.Context) error {
	s.printf("%s\n", s.paint("1", "callmask: two people phone each other, and neither learns the other's number"))
	s.printf("All numbers are fictional. The carrier is simulated, everything else is real.\n")
	if err := s.stock(ctx); err != nil {
		return err
	}
	toCustomer, toAgent, err := s.order(ctx, "order-1", person{"A", customer}, person{"D", agent})
	if err != nil {
		return err
	}
	for _, chapter := range []func() error{
		func() error { return s.calls(ctx, toCustomer, toAgent) },
		func() error { return s.outsiders(ctx, toAgent) },
		func() error { return s.delivered(ctx, toAgent) },
		func() error { return s.cools(ctx) },
		func() error { return s.reused(ctx, toCustomer, toAgent) },
		func() error { return s.runsLow(ctx) },
		func() error { return s.capped(ctx) },
		func() error { return s.audited(ctx) },
	} {
		if err := chapter(); err != nil {
			return err
		}
	}
	s.printf("\n")
	return s.err
}

// pool counts the numbers of a pool.
func (s *story) pool(ctx context.Context, name string) (poolRow, error) {
	var rows []poolRow
	if _, err := s.api.call(ctx, http.MethodGet, "/v1/pools", nil, &rows); err != nil {
		return poolRow{}, err
	}
	for _, r := range rows {
		if r.Name == name {
			return r, nil
		}
	}
	return poolRow{}, fmt.Errorf("there is no pool %s", name)
}

// until waits for a pool to be as wanted, for half a minute at most.
func (s *story) until(ctx context.Context, name string, wanted func(poolRow) bool) (poolRow, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		row, err := s.pool(ctx, name)
		if err == nil && wanted(row) {
			return row, true, nil
		}
		select {
		case <-ctx.Done():
			return row, false, err
		case <-tick.C:
		}
	}
}

func (s *story) stock(ctx context.Context) error {
	s.title("The pool is empty, so callmask buys numbers from the carrier.")
	row, ok, err := s.until(ctx, demoPool, func(r poolRow) bool { return r.Free == 2 })
	if err != nil {
		return err
	}
	s.sees("pool", "%d free, %d in all", row.Free, row.Total)
	s.check(ok && row.Total == 2, "as many as the settings ask for, and not one more")
	return nil
}

// person is a part in the story: a letter and a real number.
type person struct{ name, number string }

// order places an order and returns what to dial to reach each side.
func (s *story) order(ctx context.Context, id string, a, d person) (toCustomer, toAgent string, err error) {
	s.title("%s is placed by %s, and assigned to agent %s.", id, a.name, d.name)
	s.sees(a.name, "has the telephone %s", a.number)
	s.sees(d.name, "has the telephone %s", d.number)
	var o orderAnswer
	body := map[string]any{"pool": demoPool, "parties": []map[string]string{
		{"role": "customer", "number": a.number}, {"role": "agent", "number": d.number},
	}}
	status, err := s.api.call(ctx, http.MethodPut, "/v1/orders/"+id, body, &o)
	if err != nil {
		return "", "", err
	}
	if len(o.Parties) != 2 {
		return "", "", fmt.Errorf("the order has %d numbers", len(o.Parties))
	}
	toCustomer, toAgent = o.Parties[0].VN, o.Parties[1].VN
	s.sees(a.name+"'s app", "to reach the agent dial %s", toAgent)
	s.sees(d.name+"'s app", "to reach the customer dial %s", toCustomer)
	s.check(status == http.StatusCreated, "each side got a number to dial, and not the other's own")
	status, err = s.api.call(ctx, http.MethodPut, "/v1/orders/"+id, body, &o)
	s.check(err == nil && status == http.StatusOK && o.Parties[0].VN == toCustomer && o.Parties[1].VN == toAgent,
		"the same order sent again gets the same numbers")
	return toCustomer, toAgent, nil
}

func is(n vn.Number, e164 string) bool { return n != 0 && n.E164() == e164 }

// inClear shows a number of the story, "nothing" for none.
func inClear(n vn.Number) string {
	if n == 0 {
		return "nothing"
	}
	return n.E164()
}

func (s *story) calls(ctx context.Context, toCustomer, toAgent string) error {
	for _, c := range []struct{ caller, callee, from, dials, rings, shows string }{
		{"A", "D", customer, toAgent, agent, toCustomer},
		{"D", "A", agent, toCustomer, customer, toAgent},
	} {
		s.title("%s calls %s.", c.caller, c.callee)
		r, err := s.phone.Call(ctx, c.from, c.dials)
		if err != nil {
			return err
		}
		s.sees(c.caller, "dialled %s and hears: %s", c.dials, r.Heard)
		s.sees(c.callee, "telephone %s rings and shows %s", inClear(r.Rang), inClear(r.Shown))
		s.check(r.Heard == sim.Ringing && is(r.Rang, c.rings), c.callee+"'s telephone rings")
		s.check(is(r.Shown, c.shows), c.callee+" sees the number for "+c.caller+", not "+c.caller+"'s own, and can call back")
	}
	return nil
}

func (s *story) outsiders(ctx context.Context, toAgent string) error {
	for _, c := range []struct{ title, who, from, cause string }{
		{"A stranger calls the number for D.", "stranger", stranger, sim.NotInService},
		{"Somebody calls it and hides the own number.", "somebody", "anonymous", sim.Withheld},
	} {
		s.title("%s", c.title)
		if err := s.refused(ctx, c.who, c.from, toAgent, c.cause); err != nil {
			return err
		}
	}
	return nil
}

// refused places a call that must be refused for the given cause.
func (s *story) refused(ctx context.Context, who, from, dials, cause string) error {
	r, err := s.phone.Call(ctx, from, dials)
	if err != nil {
		return err
	}
	s.sees(who, "dialled %s and hears: %s (%s)", dials, r.Heard, r.Cause)
	s.check(r.Heard == sim.Refused && r.Cause == cause && r.Rang == 0, "nobody's telephone rings")
	return nil
}

func (s *story) delivered(ctx context.Context, toAgent string) error {
	s.title("The order is delivered. A minute later A calls once more.")
	if _, err := s.api.call(ctx, http.MethodDelete, "/v1/orders/order-1?reason=completed", nil, nil); err != nil {
		return err
	}
	return s.refused(ctx, "A", customer, toAgent, sim.Ended)
}

func (s *story) cools(ctx context.Context) error {
	s.title("The numbers cool down before anybody else gets them.")
	row, err := s.pool(ctx, demoPool)
	if err != nil {
		return err
	}
	s.sees("pool", "%d free, %d cooling", row.Free, row.Cooling)
	s.check(row.Cooling == 2 && row.Free == 0, "a number just given back is nobody's for a while")
	row, ok, err := s.until(ctx, demoPool, func(r poolRow) bool { return r.Free == 2 })
	if err != nil {
		return err
	}
	s.sees("pool", "%d free, %d cooling, after the cool-down", row.Free, row.Cooling)
	s.check(ok && row.Total == 2, "both came back, none was lost")
	return nil
}

func (s *story) reused(ctx context.Context, toCustomer, toAgent string) error {
	one, two, err := s.order(ctx, "order-2", person{"B", next}, person{"E", courier})
	if err != nil {
		return err
	}
	s.check(one == toCustomer && two == toAgent || one == toAgent && two == toCustomer, "the numbers of order-1 serve again")
	s.title("A tries the old number for D once more, which serves other people now.")
	return s.refused(ctx, "A", customer, toAgent, sim.Ended)
}

func (s *story) audited(ctx context.Context) error {
	s.title("callmask check looks at every number, order and counter.")
	audit, err := auditAt(ctx, settings.RedisAt{URL: s.redis}, nil)
	if err != nil {
		return err
	}
	s.sees("check", "%d numbers, %d live orders, %d mismatches", audit.VNs, audit.Orders, len(audit.Problems))
	s.check(audit.VNs == 9 && audit.Orders == 3 && len(audit.Problems) == 0, "every number is in exactly one state")
	return nil
}
