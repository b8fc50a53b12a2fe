package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// TestCheckHoldsRedisAgainstTheLedger takes numbers away behind everybody's back.
func TestCheckHoldsRedisAgainstTheLedger(t *testing.T) {
	e := system(t)
	const digits = "12025550170" // one that came after what is restored when a replenisher starts
	e.done(t, "pool", "import", "demo", "--carrier", "sim", "+"+digits)
	require.Contains(t, e.done(t, "check", "--history"), "21 numbers, 0 live orders, 0 mismatches, 0 changes in flight, 21 numbers in the ledger")
	client := redis.NewClient(&redis.Options{Addr: e.env["CALLMASK_EMBEDDED_REDIS_ADDR"]})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.Eventually(t, func() bool { // else callmask itself puts right what is broken here
		keys := client.Keys(t.Context(), "cm1:{*}:meta").Val()
		return len(keys) == 1 && client.HGet(t.Context(), keys[0], "whole_on").Val() != ""
	}, patience, tick)
	var inventory, free, total string
	for _, key := range client.Keys(t.Context(), "cm1:{*").Val() {
		switch {
		case strings.HasSuffix(key, ":inventory"):
			inventory = key
		case strings.HasSuffix(key, ":free:demo:sim"):
			free = key
		case strings.HasSuffix(key, ":total"):
			total = key
		}
	}
	require.EqualValues(t, 1, client.SRem(t.Context(), free, digits).Val())
	require.NoError(t, client.HDel(t.Context(), inventory, digits).Err())
	require.NoError(t, client.HIncrBy(t.Context(), total, "demo:sim", -1).Err())

	require.Contains(t, e.done(t, "check", "--redis-only"), "20 numbers, 0 live orders, 0 mismatches", "Redis alone looks right")
	r := e.run(t, "check", "--patience", "50ms")
	require.Equal(t, ExitNo, r.code, r.out)
	require.Contains(t, r.out, "MISMATCH missing: +"+digits+`: Redis says "not ours", the ledger "demo of sim`)
	var report auditReport
	require.NoError(t, json.Unmarshal([]byte(e.run(t, "check", "--json", "--patience", "50ms").out), &report))
	require.Len(t, report.Differences, 1)
	require.Equal(t, "put it back into its pool, not leased", report.Differences[0].Repair)
	require.Equal(t, 21, *report.Ledger)

	var out, told strings.Builder
	code := Main(Process{
		Args: []string{"check", "--repair", "--patience", "50ms"}, Stdin: strings.NewReader("y\n"), Stdout: &out, Stderr: &told,
		Env: func(name string) (string, bool) { s, ok := e.env[name]; return s, ok },
	})
	require.Equal(t, ExitDone, code, told.String())
	require.Regexp(t, `\+`+digits+` +not ours +demo of sim, record \d+: owned +put it back into its pool`, told.String())
	require.Contains(t, told.String(), "1 of 1 numbers repaired, 0 counters")
	require.Regexp(t, `(?s)20 numbers, 0 live orders, 1 mismatches.*21 numbers, 0 live orders, 0 mismatches`, out.String())
	require.True(t, client.SIsMember(t.Context(), free, digits).Val())

	require.Contains(t, e.run(t, "check", "--redis-only", "--repair").err, "--redis-only leaves out the ledger")
	e.env["CALLMASK_EMBEDDED_NATS_ADDR"] = freeAddr(t)
	require.Contains(t, e.done(t, "check"), "warning: there is no NATS at CALLMASK_EMBEDDED_NATS_ADDR")
	e.env["CALLMASK_NATS_URL"] = "nats://" + freeAddr(t)
	r = e.run(t, "check")
	require.Equal(t, ExitFailed, r.code, "what could not be checked is not wrong")
	require.Contains(t, r.err, "--redis-only")
}

// hands notes what a repair does.
type hands struct {
	restored  []vn.Number
	corrected int
	fails     vn.Number
}

func (h *hands) Restore(_ context.Context, number vn.Number) error {
	if number == h.fails {
		return errors.New("redis is away")
	}
	h.restored = append(h.restored, number)
	return nil
}

func (h *hands) CorrectTotal(context.Context, *scripts.Problem) error {
	h.corrected++
	return nil
}

func TestRepairShowsWhatItWouldDoAndAsks(t *testing.T) {
	t.Parallel()
	const lost, unknown, stuck vn.Number = 447700900001, 447700900002, 447700900003
	found := &checked{
		report: audit.Report{Redis: scripts.Audit{Problems: []scripts.Problem{{Kind: scripts.ProblemTotal, Detail: "total says 3"}}}},
		rows: []audit.Difference{
			{Kind: audit.Lost, VN: lost, Redis: "not leased", Ledger: "assigned to order o-1", Repair: "lease it to order o-1 again"},
			{Kind: audit.Unrecorded, VN: unknown, Redis: "in london", Ledger: "never heard of it", Repair: "nothing: the ledger does not know enough"},
			{Kind: audit.Behind, VN: stuck, Redis: "fence 1", Ledger: "record 7", Repair: "bring the fence up to date"},
		},
	}
	f := func(answer string, yes bool, want *hands, done bool, says string) {
		t.Helper()
		var errs strings.Builder
		h := &hands{fails: want.fails}
		c := &checkCmd{Yes: yes}
		did, err := c.repair(t.Context(), &Process{Stdin: strings.NewReader(answer), Stderr: &errs}, found, h, h)
		if says == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, says)
			require.NotContains(t, err.Error(), stuck.Digits())
		}
		require.Equal(t, done, did)
		require.Equal(t, want, h)
		require.Regexp(t, `\+447700900001 +not leased +assigned to order o-1 +lease it to order o-1 again`, errs.String())
		require.Contains(t, errs.String(), "counter: total says 3")
		require.Equal(t, !yes, strings.Contains(errs.String(), "Repair 2 numbers and 1 counters? [y/N]"))
	}
	all := []vn.Number{lost, stuck}
	f("y\n", false, &hands{restored: all, corrected: 1}, true, "")
	f("", true, &hands{restored: all, corrected: 1}, true, "")
	f("n\n", false, &hands{}, false, "")
	f("\n", false, &hands{}, false, "")
	f("", false, &hands{}, false, "--yes")
	f("", true, &hands{restored: all[:1], corrected: 1, fails: stuck}, true, "redis is away")
}
