package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
)

// erasures runs erase and returns what it says of each order.
func (e *terminal) erasures(t *testing.T, code int, args ...string) []erasure {
	t.Helper()
	r := e.run(t, append([]string{"erase", "-o", "json"}, args...)...)
	require.Equal(t, code, r.code, "%v: %s", args, r.err)
	require.NotContains(t, r.out+r.err, "202555", "no number is repeated")
	var rows []erasure
	require.NoError(t, json.Unmarshal([]byte(r.out), &rows))
	return rows
}

func TestAnErasedOrderLeavesNoNumberAndNeverComesBack(t *testing.T) {
	e, js := watched(t)
	client := redis.NewClient(&redis.Options{Addr: e.env["CALLMASK_EMBEDDED_REDIS_ADDR"], DisableIdentity: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	publish := func(id, customer string) {
		_, err := js.Publish(t.Context(), "orders.assigned", fmt.Appendf(nil,
			`{"order_id":%q,"pool":"demo","parties":[{"role":"customer","number":%q},{"role":"agent","number":"+12025550145"}]}`, id, customer))
		require.NoError(t, err)
	}
	state := func(id string) string { return e.run(t, "order", "get", id).out }
	publish("o-1", "+12025550123")
	publish("o-2", "+12025550124")
	for _, id := range []string{"o-1", "o-2"} {
		require.Eventually(t, func() bool { return strings.Contains(state(id), "active") }, patience, tick)
	}
	former := func() (n int) {
		keys, err := client.Keys(t.Context(), "cm1:*:ended:*").Result()
		require.NoError(t, err)
		for _, k := range keys {
			fields, err := client.HGetAll(t.Context(), k).Result()
			require.NoError(t, err)
			for _, note := range fields {
				if strings.HasSuffix(note, " o-1") {
					n++
				}
			}
		}
		return n
	}

	// A look changes nothing, and a live order is refused.
	require.Equal(t, []erasure{{OrderID: "o-1", State: "live", Events: 1}}, e.erasures(t, ExitDone, "o-1"))
	require.Contains(t, e.done(t, "erase", "o-1"), "dry run: nothing was changed")
	e.erasures(t, ExitNo, "o-1", "--yes")
	require.Contains(t, e.run(t, "erase", "o-1", "--yes").err, "order o-1 is live: end it first (callmask order end o-1), or give --end")
	require.Contains(t, state("o-1"), "active")
	require.Empty(t, lastAudit(t, js, events.AuditErase))
	require.Equal(t, "nothing is kept of such an order\n", e.done(t, "erase", "o-3"))

	// By the person's number it is found as well: alive, and by what is remembered of it.
	require.Equal(t, []erasure{{OrderID: "o-1", State: "live", Events: 1}}, e.erasures(t, ExitDone, "--number", "+12025550123"))
	e.done(t, "order", "end", "o-1")
	require.Eventually(t, func() bool { return former() == 2 }, patience, tick)
	e.stdin = "+1 202 555 0123\n"
	require.Equal(t, []erasure{{OrderID: "o-1", State: "ended", Events: 1, Callers: 2}}, e.erasures(t, ExitDone, "--number", "-"))
	require.Equal(t, "o-2", e.erasures(t, ExitDone, "--number", "+12025550124")[0].OrderID)
	require.Len(t, e.erasures(t, ExitDone, "--number", "+12025550145"), 2, "a party of both")
	require.Empty(t, e.erasures(t, ExitDone, "--number", "+12025550199"))

	auditRefuses(t, js, true)
	e.erasures(t, ExitFailed, "o-1", "--yes")
	require.Equal(t, 2, former(), "what cannot be noted is not done")
	auditRefuses(t, js, false)

	require.Equal(t, []erasure{{OrderID: "o-1", State: "ended", Events: 1, Callers: 2, Erased: true}}, e.erasures(t, ExitDone, "o-1", "--yes"))
	require.Zero(t, former())
	orders, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	_, err = orders.GetMsg(t.Context(), 1)
	require.Error(t, err, "the event with the numbers is gone")
	_, err = orders.GetMsg(t.Context(), 2)
	require.NoError(t, err, "another order's is not")
	entry := lastAudit(t, js, events.AuditErase)
	require.Equal(t, []string{"o-1", events.AuditDone, "cli"}, []string{entry.Target, entry.Outcome, entry.Role})
	require.Equal(t, []erasure{{OrderID: "o-1", State: "ended"}}, e.erasures(t, ExitDone, "o-1"))
	require.Empty(t, e.erasures(t, ExitDone, "--number", "+12025550123"))

	// It does not come back, whoever says so.
	publish("o-1", "+12025550123")
	require.Equal(t, ExitNo, e.run(t, "order", "put", "o-1", "--pool", "demo", "customer=+12025550123", "agent=+12025550145").code)
	publish("o-4", "+12025550125") // handled after it
	require.Eventually(t, func() bool { return strings.Contains(state("o-4"), "active") }, patience, tick)
	require.Contains(t, state("o-1"), "ended")

	// --end ends what is live, and the rest is as before.
	rows := e.erasures(t, ExitDone, "o-2", "--yes", "--end")
	require.Equal(t, []any{"o-2", 1, true}, []any{rows[0].OrderID, rows[0].Events, rows[0].Erased})
	require.Contains(t, state("o-2"), "cancelled")
	require.Contains(t, e.done(t, "check"), "1 live orders, 0 mismatches")
	for want, args := range map[string][]string{"name an order": {"erase"}, "order_id": {"erase", "../x"}, "--number": {"erase", "--number", "banana"}} {
		r := e.run(t, args...)
		require.Equal(t, ExitFailed, r.code)
		require.Contains(t, r.err, want)
	}
}
