package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// A router process of its own on a Redis of its own: what that server counts is the
// router's, and the test's own commands are known.
func TestAConnectedCallIsExactlyOneRedisCommand(t *testing.T) {
	t.Parallel()
	server, bus := testkit.Redis(t), testkit.NATS(t)
	client := server.Client(t)
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	keys, err := seal.Create(keyset)
	require.NoError(t, err)
	vns := allocateOne(t, client, keys)
	p := startRole(t, "router", `
carriers:
  - {name: tw, kind: twilio, id: 7, account_sid: `+twilioSID+`, auth_tokens: [`+twilioToken+`], public_url: "`+twilioPublic+`"}
`, server.URL(), bus.URL, keyset)

	const calls = 1_500 // enough that the index of our numbers is read meanwhile
	call := func(i int) {
		got := p.twilioCall(t, "tw", "CA-"+strconv.Itoa(i), alice, vns[1])
		require.Equal(t, dial("order-1", vns[0], dave), got.body)
	}
	call(0) // opens the connection
	counted := countCommands(t, server, client, func() {
		for i := range calls {
			call(i)
		}
	})
	require.Equal(t, map[string]int{"hget": calls}, counted)

	// The same at the same time.
	counted = countCommands(t, server, client, func() {
		var g errgroup.Group
		for worker := range 10 {
			g.Go(func() error {
				for i := range calls / 10 {
					got, err := p.tryTwilio(t, "tw", fmt.Sprintf("CA-%d-%d", worker, i), alice, vns[1])
					if err != nil || got.body != dial("order-1", vns[0], dave) {
						return fmt.Errorf("a party was answered with status %d, error %w", got.status, err)
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
	})
	require.Equal(t, map[string]int{"hget": calls}, counted)

	// The control: a refused call costs more, so the counting sees it.
	counted = countCommands(t, server, client, func() {
		require.Equal(t, reject, p.twilioCall(t, "tw", "CA-stranger", stranger, vns[1]).body)
	})
	require.Equal(t, map[string]int{"hget": 2, "hrandfield": 1}, counted)
}

// allocateOne makes an order of alice and dave and returns their VNs.
func allocateOne(t *testing.T, client *redis.Client, keys *seal.Keyset) []string {
	t.Helper()
	store, err := scripts.New(scripts.Config{}, client, keys)
	require.NoError(t, err)
	require.NoError(t, store.Start(t.Context()))
	require.NoError(t, store.MarkReady(t.Context()))
	var owned []scripts.Owned
	for _, s := range fictional(t, 100, 2) {
		n := number(t, s)
		owned = append(owned, scripts.Owned{VN: n, Ref: n.Digits(), Fence: 1})
	}
	_, err = store.Refill(t.Context(), "rides", "tw", owned)
	require.NoError(t, err)
	o := vn.Order{ID: "order-1", Pool: "rides", TTL: time.Hour}
	for role, s := range []string{alice, dave} {
		o.Parties = append(o.Parties, vn.Party{Role: "party-" + strconv.Itoa(role), Number: number(t, s)})
	}
	al, err := store.Allocate(t.Context(), scripts.AllocateRequest{
		Order: o, Cooldown: time.Minute, Carriers: []scripts.Carrier{{Name: "tw", ID: 7}},
	})
	require.NoError(t, err)
	return []string{al.Assignment.Parties[0].VN.E164(), al.Assignment.Parties[1].VN.E164()}
}

// countCommands returns how often the server ran each command while do ran, without
// the test's own and without the reads, one a second, by which the router's index of our
// numbers stays fresh. Those are told from a call's by MONITOR, which shows keys.
func countCommands(t *testing.T, server *testkit.RedisServer, client *redis.Client, do func()) map[string]int {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Addr)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }() // read only
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte("MONITOR\r\n"))
	require.NoError(t, err)
	monitor := bufio.NewScanner(conn)
	require.True(t, monitor.Scan())
	require.Equal(t, "+OK", monitor.Text())

	// In transactions, so that nothing comes between a mark and the counters.
	_, err = client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		tx.Echo(t.Context(), "the beginning")
		tx.ConfigResetStat(t.Context())
		return nil
	})
	require.NoError(t, err)
	do()
	var stats *redis.StringCmd
	_, err = client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		tx.Echo(t.Context(), "the end")
		stats = tx.Info(t.Context(), "commandstats")
		return nil
	})
	require.NoError(t, err)

	counted := map[string]int{}
	for _, m := range regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(stats.Val(), -1) {
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		counted[m[1]] += n
	}
	// The test's own; RESETSTAT may or may not count itself. And the greeting of a
	// connection, which thousands of calls share.
	require.LessOrEqual(t, counted["hello"], 15)
	for _, other := range []string{"multi", "echo", "info", "exec", "config|resetstat", "monitor", "hello"} {
		delete(counted, other)
	}
	begun := false
	for monitor.Scan() {
		line := monitor.Text()
		switch {
		case strings.Contains(line, `"the end"`):
			maps.DeleteFunc(counted, func(_ string, n int) bool { return n == 0 })
			return counted
		case strings.Contains(line, `"the beginning"`):
			begun = true
		case begun && strings.Contains(line, `"hget" "cm1:{`) && strings.HasSuffix(line, `:meta" "changes"`):
			counted["hget"]--
		case begun && strings.Contains(line, `"hscan" "cm1:{`) && strings.Contains(line, `:inventory" `):
			counted["hscan"]--
		}
	}
	t.Fatalf("MONITOR ended: %v", monitor.Err())
	return nil
}
