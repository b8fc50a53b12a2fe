//go:build !race

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
)

const rebuildConfig = `
carriers:
  - {name: sim, kind: sim, listen: "127.0.0.1:0", secrets: [` + simSecret + `]}
pools:
  - {name: jakarta, region: US, cooldown: 10m}
`

const spare = 30 // numbers beside those that settledIn uses

// standing is an order of TestAnEmptiedRedisIsRestored and its numbers.
type standing struct{ id, customer, agent, customerVN, agentVN string }

// settledIn makes orders that live, and one that has ended.
func settledIn(t *testing.T, p *process, orders int) []standing {
	t.Helper()
	numbers := make([]string, 2*orders+spare)
	for i := range numbers {
		numbers[i] = fmt.Sprintf("+1201555%04d", i)
	}
	p.importNumbers(t, "jakarta", "sim", numbers)
	list := make([]standing, orders)
	for i := range list {
		list[i] = p.place(t, i)
	}
	last := list[orders-1]
	got := p.api(t, http.MethodDelete, "/v1/orders/"+last.id, "")
	require.Less(t, got.status, 300, got.body)
	return list[:orders-1]
}

// place gives an order its numbers.
func (p *process) place(t *testing.T, i int) standing {
	t.Helper()
	s := standing{id: "o-" + strconv.Itoa(i), customer: fmt.Sprintf("+1202555%04d", 100+i), agent: fmt.Sprintf("+1305555%04d", 100+i)}
	got := p.api(t, http.MethodPut, "/v1/orders/"+s.id, `{"pool": "jakarta", "ttl": "1h", "parties": [`+
		`{"role": "customer", "number": "`+s.customer+`"}, {"role": "agent", "number": "`+s.agent+`"}]}`)
	require.Less(t, got.status, 300, got.body)
	var o assigned
	got.decode(t, &o)
	s.customerVN, s.agentVN = o.vn(t, "customer"), o.vn(t, "agent")
	return s
}

// requireRestored fails unless every order has its numbers and calls again, and the one
// that has ended stays so; made is how many there ever were.
func requireRestored(t *testing.T, p *process, orders []standing, made int) {
	t.Helper()
	for _, s := range orders {
		p.requireConnected(t, s.agentVN, s.customer, s.agent, s.customerVN)
		p.requireConnected(t, s.customerVN, s.agent, s.customer, s.agentVN)
	}
	ended := "o-" + strconv.Itoa(made-1)
	got := p.api(t, http.MethodPut, "/v1/orders/"+ended, `{"pool": "jakarta", "ttl": "1h", "parties": [`+
		`{"role": "customer", "number": "+12025550199"}, {"role": "agent", "number": "+13055550199"}]}`)
	require.Equal(t, http.StatusConflict, got.status, "an order that has ended came back: %s", got.body)
	stock := p.pools(t)["jakarta"]
	require.Equal(t, 2*len(orders), stock.Leased)
	require.Equal(t, 2*made+spare, stock.Total)
	p.requireClean(t)
}

// TestAnEmptiedRedisIsRestored loses all of Redis under a running callmask.
func TestAnEmptiedRedisIsRestored(t *testing.T) {
	t.Parallel()
	p := startAll(t, rebuildConfig)
	orders := settledIn(t, p, 20)
	client := redis.NewClient(&redis.Options{Addr: p.Redis, DisableIdentity: true})
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	await(t, 30*time.Second, "Redis is ready again", func() bool {
		return client.HGet(t.Context(), "cm1:{8209}:meta", "ready").Val() == "1"
	})
	requireRestored(t, p, orders, len(orders)+1)
}

// TestRebuildRestoresAnEmptiedRedis does it by hand, as the runbook says.
func TestRebuildRestoresAnEmptiedRedis(t *testing.T) {
	t.Parallel()
	p := startAll(t, rebuildConfig, "--auto-rebuild", "false")
	orders := settledIn(t, p, 20)
	client := redis.NewClient(&redis.Options{Addr: p.Redis, DisableIdentity: true})
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	got := p.api(t, http.MethodPut, "/v1/orders/new", `{"pool": "jakarta", "ttl": "1h", "parties": [`+
		`{"role": "customer", "number": "+12025550198"}, {"role": "agent", "number": "+13055550198"}]}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status, got.body)
	require.Contains(t, got.body, "cold")
	got = p.api(t, http.MethodDelete, "/v1/orders/"+orders[0].id, "")
	require.Equal(t, http.StatusServiceUnavailable, got.status, "an order that Redis has forgotten is not over: %s", got.body)
	got = p.api(t, http.MethodGet, "/v1/orders/"+orders[0].id, "")
	require.Equal(t, http.StatusServiceUnavailable, got.status, "nor is it unknown: %s", got.body)

	out, code := p.run(t, "rebuild", "--config", filepath.Join(filepath.Dir(p.Dir), "callmask.yaml"))
	require.Zero(t, code, out)
	require.Contains(t, out, "Redis is ready")
	requireRestored(t, p, orders, len(orders)+1)
	out, code = p.run(t, "rebuild", "--config", filepath.Join(filepath.Dir(p.Dir), "callmask.yaml"))
	require.Zero(t, code, out)
	require.Contains(t, out, " 0 numbers restored", "what Redis knows is left as it is")
	require.Equal(t, 1, strings.Count(out, "\n"), out)
}

// TestARestartWithOldFilesIsRepaired has Redis come back, under a running callmask, with
// what it knew some orders ago: it has forgotten some of them, and the end of others.
func TestARestartWithOldFilesIsRepaired(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t, "--appendonly", "yes", "--appendfsync", "everysec")
	p := startAll(t, rebuildConfig, "--redis-url", "redis://"+server.Addr)
	p.env = append(p.env, "CALLMASK_REDIS_URL=redis://"+server.Addr) // of the commands beside it
	before := settledIn(t, p, 10)
	files := filepath.Join(server.Dir, "appendonlydir")
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.CopyFS(old, os.DirFS(files)))

	after := make([]standing, 0, 10)
	for i := range 10 {
		after = append(after, p.place(t, 20+i))
	}
	for _, s := range before[:3] {
		got := p.api(t, http.MethodDelete, "/v1/orders/"+s.id, "")
		require.Less(t, got.status, 300, got.body)
	}
	server.Kill()
	require.NoError(t, os.RemoveAll(files))
	require.NoError(t, os.CopyFS(files, os.DirFS(old)))
	server.Restart(t)

	live := append(before[3:], after...)
	await(t, 30*time.Second, "the last order is put through again", func() bool {
		s := after[len(after)-1]
		r := p.resolve(t, p.Token, s.agentVN, s.customer)
		return r.Action == "connect" && r.Destination == s.agent
	})
	await(t, 30*time.Second, "all numbers are where they belong", func() bool {
		return p.pools(t)["jakarta"].Leased == 2*len(live)
	})
	for _, s := range live {
		p.requireConnected(t, s.agentVN, s.customer, s.agent, s.customerVN)
	}
	for _, s := range before[:3] {
		require.Equal(t, "reject", p.resolve(t, p.Token, s.agentVN, s.customer).Action, "an order that has ended is put through")
		require.Equal(t, "ended", p.getOrder(t, s.id).State)
	}
	p.requireClean(t)
}

// TestCheckRepairs loses a number's state and an order's calls behind callmask's back.
func TestCheckRepairs(t *testing.T) {
	t.Parallel()
	p := startAll(t, rebuildConfig)
	orders := settledIn(t, p, 4)
	client := redis.NewClient(&redis.Options{Addr: p.Redis, DisableIdentity: true})
	defer func() { require.NoError(t, client.Close()) }()
	free := client.SRandMember(t.Context(), "cm1:{8209}:free:jakarta:sim").Val()
	require.EqualValues(t, 1, client.SRem(t.Context(), "cm1:{8209}:free:jakarta:sim", free).Val())
	require.EqualValues(t, 1, client.Del(t.Context(), "cm1:{8209}:vn:"+strings.TrimPrefix(orders[0].agentVN, "+")).Val())
	require.EqualValues(t, 1, client.Del(t.Context(), "cm1:{8209}:order:"+orders[1].id).Val())

	config := filepath.Join(filepath.Dir(p.Dir), "callmask.yaml")
	out, code := p.run(t, "check")
	require.Equal(t, 1, code, out)
	out, code = p.run(t, "check", "--repair", "--yes", "--patience", "1s", "--config", config)
	require.Zero(t, code, out)
	requireRestored(t, p, orders, len(orders)+1)
}

// TestAWrongNumberOfPartitionsLosesNothing gives an emptied Redis another number of
// partitions than it had: the runbook's way out brings everything back, and once no order
// lives any more the number can be changed.
func TestAWrongNumberOfPartitionsLosesNothing(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	p := startAll(t, rebuildConfig, "--redis-url", server.URL(), "--partitions", "1")
	p.env = append(p.env, "CALLMASK_REDIS_URL="+server.URL())
	orders := settledIn(t, p, 12)
	client := server.Client(t)
	again := func(partitions string) {
		p.args[slices.Index(p.args, "--partitions")+1] = partitions
		p.launch(t)
	}
	empty := func() {
		require.NoError(t, client.Unlink(t.Context(), client.Keys(t.Context(), "cm1:*").Val()...).Err())
	}

	require.Zero(t, p.terminate(t))
	again("4")
	require.Equal(t, 2, p.awaitExit(t), "a process with another setting must not start")
	require.Contains(t, tail(p.log(t)), "partitions 1, this callmask is set to 4")

	empty()
	again("4")
	await(t, startLimit, "it says which number fits", func() bool {
		return strings.Contains(p.log(t), "another number of partitions (1 fits) than the 4")
	})
	out, code := p.run(t, "rebuild", "--config", filepath.Join(filepath.Dir(p.Dir), "callmask.yaml"))
	require.Equal(t, 2, code, out)
	require.Contains(t, out, "CALLMASK_PARTITIONS")
	p.terminate(t)

	empty()
	again("1")
	require.True(t, p.awaitReady(), tail(p.log(t)))
	requireRestored(t, p, orders, len(orders)+1)

	for _, s := range orders {
		require.Less(t, p.api(t, http.MethodDelete, "/v1/orders/"+s.id, "").status, 300)
	}
	require.Zero(t, p.terminate(t))
	empty()
	again("4")
	require.True(t, p.awaitReady(), tail(p.log(t)))
	requireRestored(t, p, nil, len(orders)+1)
}
