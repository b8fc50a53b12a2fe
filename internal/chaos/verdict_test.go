//go:build faults

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/internal/installation"
)

// healed is how long after the last fault everything may take to be as it should: an event
// in the hands of a process that died is delivered again after 30 s, and a change that was
// cut short is known for one after 45 s.
const healed = 2 * time.Minute

// settle waits for what was asked for and not answered, and for Redis to say what the ledger
// says; then it calls both parties of every order that lives.
func (c *run) settle() {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*healed)
	defer cancel()
	for _, r := range c.in.Roles {
		require.NoError(c.t, r.WaitReady(ctx, r.Ready))
	}
	c.eventually(ctx, "every order that was stored is announced, or told that it gets none", c.heardAll)
	c.eventually(ctx, "callmask check finds nothing", func(ctx context.Context) error { return c.check(ctx) })
	kept, err := c.callAll(ctx)
	require.NoError(c.t, err)
	c.t.Logf("%d acknowledged orders that nobody had ended were called both ways and put through", kept)
}

func (c *run) eventually(ctx context.Context, what string, ok func(context.Context) error) {
	c.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, healed)
	defer cancel()
	var last error // that was not just out of time
	for {
		err := ok(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			require.NoError(c.t, errors.Join(last, err), "not within %s: %s", healed, what)
		}
		last = err
		pause(ctx, 500*time.Millisecond)
	}
	c.t.Logf("after %s: %s", time.Since(began).Round(time.Millisecond), what)
}

// heardAll reads what was told, and fails while an order waits for its answer.
func (c *run) heardAll(ctx context.Context) error {
	if err := errors.Join(c.follower.read(ctx), c.follower.failures(ctx, c.shop.js)); err != nil {
		return err
	}
	var waiting []string
	c.do(func() {
		for _, o := range c.list {
			if len(o.told) == 0 && !o.failed && o.ending.IsZero() && o.over.IsZero() && o.stored { // a brief one may be over before
				waiting = append(waiting, o.id)
			}
		}
	})
	if len(waiting) > 0 {
		return fmt.Errorf("%d orders wait, the first: %s", len(waiting), waiting[0])
	}
	return nil
}

// check runs callmask check.
func (c *run) check(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"check", "--config", c.in.SettingsFile()}, args...)...)
	cmd.Env = []string{"HOME=" + c.in.Dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("callmask check: %w\n%s", err, out)
	}
	return nil
}

// callAll calls both parties of every order that must be there, and says how many there are.
func (c *run) callAll(ctx context.Context) (kept int, err error) {
	var g errgroup.Group
	g.SetLimit(8)
	for _, o := range c.list {
		if !o.live() || len(o.told) == 0 {
			continue
		}
		kept++
		for side := range 2 {
			g.Go(func() error {
				got := c.caller.call(ctx, o, o.numbers[side], o.vns()[1-side])
				if got.Heard != sim.Ringing || got.Rang != o.numbers[1-side] || got.Shown != o.vns()[side] {
					return fmt.Errorf("LOST: a call of order %s, acknowledged and not ended, hears %s %s, status %d", o.id, got.Heard, got.Cause, got.Status)
				}
				return nil
			})
		}
	}
	return kept, g.Wait()
}

// stock is a row of GET /v1/pools.
type stock struct {
	Free     int `json:"free"`
	Leased   int `json:"leased"`
	Cooling  int `json:"cooling"`
	Draining int `json:"draining"`
	Total    int `json:"total"`
}

func (c *run) pool(ctx context.Context) (stock, error) {
	status, answer, err := c.shop.ask(ctx, http.MethodGet, "/v1/pools", nil)
	if err != nil {
		return stock{}, err
	}
	var rows []stock
	if status != http.StatusOK || json.Unmarshal(answer, &rows) != nil || len(rows) != 1 {
		return stock{}, fmt.Errorf("/v1/pools answers %d %s", status, answer)
	}
	return rows[0], nil
}

// leak says what is missing when every order has ended and every number has rested.
func (s stock) leak(want int) error {
	if s != (stock{Free: want, Total: want}) {
		return fmt.Errorf("the pool is %+v, not %d free numbers", s, want)
	}
	return nil
}

// finish ends every order and counts the numbers.
func (c *run) finish() {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*healed)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(16)
	for _, o := range c.list {
		if !o.over.IsZero() && len(o.told) > 0 && o.told[len(o.told)-1].at.Before(o.over) {
			continue
		}
		g.Go(func() error {
			c.do(func() {
				if o.ending.IsZero() {
					o.ending = time.Now()
				}
			})
			done, err := c.shop.insist(ctx, http.MethodDelete, "/v1/orders/"+o.id, nil, nil)
			if err == nil && !done {
				err = fmt.Errorf("order %s cannot be ended", o.id)
			}
			c.do(func() { c.shop.finish(o, time.Now()) })
			return err
		})
	}
	require.NoError(c.t, g.Wait())
	want := imported + len(c.in.Market.Purchases())
	c.eventually(ctx, fmt.Sprintf("all %d numbers are free", want), func(ctx context.Context) error {
		s, err := c.pool(ctx)
		if err != nil {
			return err
		}
		if err = s.leak(want); err != nil {
			err = fmt.Errorf("%w; in Redis live: %s", err, c.leased(ctx))
		}
		return err
	})
	c.eventually(ctx, "callmask check finds nothing when all orders have ended", func(ctx context.Context) error { return c.check(ctx) })
	c.eventually(ctx, "the history is read", c.follower.read)
	c.gauges.look(ctx)
}

// leased tells of every order that Redis holds for a live one what is known of it.
func (c *run) leased(ctx context.Context) string {
	masters, err := c.in.Redis.Masters(ctx)
	if err != nil {
		return err.Error()
	}
	var said []string
	for _, m := range masters {
		for _, key := range m.Client().Keys(ctx, "cm1:{*}:leases").Val() {
			for _, lease := range m.Client().ZRangeWithScores(ctx, key, 0, -1).Val() {
				id := fmt.Sprint(lease.Member)
				said = append(said, fmt.Sprintf("%s until %s", id, time.UnixMilli(int64(lease.Score)).Format(time.TimeOnly)))
				if o := c.orders[id]; o != nil {
					said = append(said, o.String())
				}
			}
		}
	}
	return strings.Join(said, "\n")
}

// verdict judges the whole run and prints what it was.
func (c *run) verdict(seed uint64, length time.Duration) {
	v := c.judge()
	deeds := c.judgeRegisters(v, time.Minute)
	records := c.judgeHistory(v)
	c.judgeByCheck(v)
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	acknowledged, announcements := 0, 0
	untold := 0
	for _, o := range c.list {
		if o.untold() {
			untold++
		}
		if announcements += len(o.told); len(o.told) > 0 {
			acknowledged++
		}
	}
	say("chaos: CHAOS_SEED=%d CHAOS_TIME=%s", seed, length)
	say("orders: %d asked for, %d acknowledged assignments (%d announcements), %d extensions acknowledged", len(c.list), acknowledged, announcements, c.extended)
	say("events stored: %d; orders sent twice: %d, placed again after their end: %d, ended before they were placed: %d", c.stored, c.duplicated, c.late, c.early)
	say("calls: %d put through, %d refused, %d without an answer; %d of them by strangers", v.connected, c.refused, c.unreachable, c.strangers)
	say("while Redis was behind: %d calls of parties refused, %d put through after the end of their order (at most %s after it), %d orders given other numbers, %d orders back after their end, %d ends acknowledged and not announced",
		v.lagging, v.lateCalls, v.latest.Round(time.Millisecond), v.renumbered, v.returned, untold)
	say("judged: %d deeds on %s by porcupine, %d records and announcements by the rules of audit", deeds, installation.Pool, records)
	sum := 0
	for _, times := range c.nemesis.happened {
		sum += times
	}
	say("faults: %d of %d kinds", sum, len(c.nemesis.happened))
	for _, name := range slices.Sorted(maps.Keys(c.nemesis.happened)) {
		say("%6d × %s", c.nemesis.happened[name], name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.gauges.sums)) {
		say("%6.0f %s", c.gauges.sums[name], name)
	}
	say("wrong: %d", len(v.wrong))
	c.t.Log("\n" + b.String())
	for _, wrong := range v.wrong {
		c.t.Error(wrong)
	}
	c.dump()
}

// dump writes down everything that the judges had, where CHAOS_LOGS says.
func (c *run) dump() {
	dir := os.Getenv("CHAOS_LOGS")
	if dir == "" {
		return
	}
	var b strings.Builder
	for _, o := range c.list {
		fmt.Fprintf(&b, "order %s %s\n", o.id, o)
	}
	for i := range c.follower.history {
		e := &c.follower.history[i]
		fmt.Fprintf(&b, "event %s kind %d, %s %v of %s, record %d after %d, until %s, ended %s, reason %s\n", e.At.Format("15:04:05.000"), e.Kind,
			e.VN.Digits(), e.VNs, e.OrderID, e.Seq, e.After, e.Until.Format(time.TimeOnly), e.Ended.Format("15:04:05.000"), e.Reason)
	}
	if err := os.WriteFile(filepath.Join(dir, "history.txt"), []byte(b.String()), 0o600); err != nil {
		c.t.Error(err)
	}
}

// judgeByCheck asks callmask check about the history, the calls among it.
func (c *run) judgeByCheck(v *verdicts) {
	cmd := exec.CommandContext(c.t.Context(), c.binary, "check", "--history", "--json", "--config", c.in.SettingsFile())
	cmd.Env = []string{"HOME=" + c.in.Dir}
	out, err := cmd.Output()
	var found struct {
		Mismatches  []any `json:"mismatches"`
		Differences []any `json:"differences"`
		Broken      []struct {
			Kind    audit.Invariant `json:"kind"`
			OrderID string          `json:"order_id"`
			Detail  string          `json:"detail"`
		} `json:"broken_promises"`
	}
	if jsonErr := json.Unmarshal(out, &found); jsonErr != nil {
		v.complain("callmask check --history: %v, %v", err, jsonErr)
		return
	}
	if n := len(found.Mismatches) + len(found.Differences); n > 0 {
		v.complain("callmask check finds %d mismatches: %s", n, out)
	}
	for _, b := range found.Broken {
		if !c.known(b.Kind, b.OrderID) {
			v.complain("callmask check: broken promise %s: order %s %s", b.Kind, b.OrderID, b.Detail)
		}
	}
}

// known tells whether a broken promise is a known limit: an order that Redis had forgotten has
// other numbers than before, which judgeOrder has judged; or the order that had a number before
// ended, acknowledged, without a vn.released: all of Redis was lost between its record in the
// ledger and that. Then the announcements say less than was so; the model has judged what was.
func (c *run) known(broken audit.Invariant, id string) bool {
	o := c.orders[id]
	switch {
	case o == nil || len(o.told) == 0:
		return false
	case broken == audit.Idempotent:
		return o.renumbered()
	case broken == audit.Exclusive:
		return slices.ContainsFunc(c.list, func(before *order) bool { return before.untold() && before.sharesNumber(o) })
	}
	return false
}

// judgeHistory holds what the ledger and stream VN have told against the rules of audit, and
// returns how much that was.
func (c *run) judgeHistory(v *verdicts) int {
	for _, x := range audit.Check(audit.Terms{Skew: skew}, c.follower.history) {
		if c.known(x.Invariant, x.OrderID) {
			continue
		}
		v.complain("the history breaks %s: %s order %s %s, at %s", x.Invariant, x.VN.E164(), x.OrderID, x.Detail, x.At.Format(time.RFC3339Nano))
	}
	return len(c.follower.history)
}
