package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/seal"
)

var natsUsers = []string{"router", "allocator", "replenisher", "orders", "apps", "operator", "system"}

// permitted starts a NATS server with the permissions of deploy/nats; each user's password
// is its name.
func permitted(t *testing.T) *testkit.ConfiguredNATS {
	t.Helper()
	for _, user := range natsUsers {
		t.Setenv("NATS_"+strings.ToUpper(user)+"_PASSWORD", user)
	}
	text, err := os.ReadFile("../../../deploy/nats/permissions.conf")
	require.NoError(t, err)
	return testkit.NATSWith(t, "jetstream { store_dir: /tmp/overridden }\n"+string(text))
}

// as connects as a user; what the server refuses comes on the channel.
func as(t *testing.T, srv *testkit.ConfiguredNATS, user string) (*nats.Conn, <-chan error) {
	t.Helper()
	refused := make(chan error, 100)
	nc, err := nats.Connect("nats://"+user+":"+user+"@"+srv.Addr, nats.CustomInboxPrefix("_INBOX_"+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc, refused
}

// Each role runs as its own user, from the purchase of numbers to the end of an order, and
// the server refuses none of them anything. (Not parallel: the environment is the process's.)
func TestEachRoleWorksAsItsOwnNATSUser(t *testing.T) {
	srv := permitted(t)
	redis := testkit.Redis(t)
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	_, err := seal.Create(keyset)
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "callmask.yaml")
	require.NoError(t, os.WriteFile(config, append(settings.Demo(), "    public_url: http://127.0.0.1:8080\n"...), 0o600))
	var log testkit.Buffer
	run := func(role settings.Role) *running {
		return start(t, app.Config{Role: role, Logger: zerolog.New(&log), Settings: load(t, map[string]string{
			"redis-url": redis.URL(), "nats-url": "nats://" + string(role) + ":" + string(role) + "@" + srv.Addr,
			"keyset": keyset, "api-token": token, "config": config,
		})})
	}
	al := run(settings.Allocator)
	ro := run(settings.Router)
	rep := run(settings.Replenisher)
	for _, r := range []*running{al, ro, rep} {
		require.Eventually(t, func() bool {
			status, _ := ready(t, r)
			return status == http.StatusOK
		}, patience, tick, log.String)
	}
	pools := func() string {
		_, body := get(t, "http://"+al.at.Admin+"/v1/pools", token)
		return body
	}
	require.Eventually(t, func() bool { return strings.Contains(pools(), `"free":20`) }, patience, tick, "bought")

	// The shop publishes, an app reads, the router answers, the operator looks at everything.
	shop, _ := as(t, srv, "orders")
	orders, err := jetstream.New(shop)
	require.NoError(t, err)
	publish := func(subject, payload string) {
		_, err := orders.Publish(t.Context(), subject, []byte(payload))
		require.NoError(t, err)
	}
	app1, refusedApp := as(t, srv, "apps")
	reader, err := jetstream.New(app1)
	require.NoError(t, err)
	heard, err := reader.OrderedConsumer(t.Context(), "VN", jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	next := func() string {
		m, err := heard.Next(jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
		return m.Subject() + " " + string(m.Data())
	}
	publish("orders.placed", `{"order_id":"o-1","pool":"demo"}`)
	publish("orders.assigned", `{"order_id":"o-1","pool":"demo","ttl":"1h","parties":[{"role":"customer","number":"+12025550123"},{"role":"agent","number":"+12025550145"}]}`)
	assigned := next()
	require.Contains(t, assigned, `vn.assigned {"order_id":"o-1"`)
	vn := assigned[strings.LastIndex(assigned, `"vn":"`)+6:][:12]
	status, answer := get(t, "http://"+ro.at.HTTP+"/v1/resolve?call_id=c-1&called="+url.QueryEscape(vn)+"&calling=%2B12025550123", token)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, `"connect"`)
	publish("orders.completed", `{"order_id":"o-1"}`)
	require.Contains(t, next(), `vn.released {"order_id":"o-1","reason":"completed"}`)
	for _, r := range []*running{al, rep} {
		looksAtTheConsole(t, r)
	}
	publish("orders.assigned", `{"order_id":"o-2","pool":"nowhere","parties":[]}`)
	require.Contains(t, next(), "vn.failed")
	publish("orders.assigned", `not JSON`)

	people, _ := as(t, srv, "operator")
	js, err := jetstream.New(people)
	require.NoError(t, err)
	for stream, least := range map[string]uint64{"CALLS": 1, "DEAD": 1, "POOLS": 20, "LEDGER": 20} {
		require.Eventually(t, func() bool {
			s, err := js.Stream(t.Context(), stream)
			return err == nil && s.CachedInfo().State.Msgs >= least
		}, patience, tick, stream)
	}
	require.NoError(t, redis.Client(t).FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool { return strings.Contains(pools(), `"total":20`) }, patience, tick, "restored from the ledger")
	for _, r := range []*running{al, ro, rep} {
		require.NoError(t, r.stop())
	}
	require.Empty(t, refusedApp)
	require.NotContains(t, strings.ToLower(log.String()), "permissions violation")
}

// looksAtTheConsole signs in, which the audit keeps, finds an order's history, and pauses a carrier.
func looksAtTheConsole(t *testing.T, r *running) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	people := &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	page := func(method, path, form string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.at.Admin+"/console/"+path, strings.NewReader(form))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := people.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", path, body)
		return string(body)
	}
	page(http.MethodPost, "sign-in", "name=Ana&secret="+token)
	found := page(http.MethodGet, "order?id=o-1", "")
	require.Contains(t, found, "event orders.placed came in")
	require.Contains(t, found, "released: completed")
	require.NotContains(t, page(http.MethodGet, "", ""), "NATS has not answered")
	require.Contains(t, page(http.MethodGet, "audit", ""), "sign_in")
	page(http.MethodGet, "confirm?do=pause_carrier&carrier=sim", "")
	page(http.MethodGet, "confirm?do=top_up_pool&pool=demo", "")
}

func TestNATSUsersAreRefusedWhatIsNotTheirs(t *testing.T) {
	srv := permitted(t)
	for user, refused := range map[string][]string{
		"router": {
			"orders.assigned", "vn.assigned", "ledger.vn.12025550150", "pools.low", "$JS.API.STREAM.MSG.GET.ORDERS",
			"$JS.API.CONSUMER.CREATE.ORDERS.spy.orders.assigned", "$JS.API.STREAM.DELETE.LEDGER",
		},
		"allocator": {
			"orders.assigned", "calls.decided", "ledger.lease.p", "ledger.intent.p.12025550150", "$JS.API.STREAM.DELETE.LEDGER",
			"$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.UPDATE.LEDGER", "$JS.API.CONSUMER.CREATE.ORDERS.spy.orders.assigned",
		},
		"replenisher": {
			"orders.assigned", "vn.failed", "calls.decided", "$JS.API.CONSUMER.CREATE.ORDERS.spy.orders.assigned",
			"$JS.API.CONSUMER.MSG.NEXT.ORDERS.allocator", "$JS.API.STREAM.MSG.GET.ORDERS", "$JS.API.STREAM.DELETE.LEDGER",
			"$JS.API.CONSUMER.DELETE.ORDERS.allocator", "$JS.API.CONSUMER.CREATE.ORDERS.allocator.orders.placed",
			"$JS.ACK.ORDERS.allocator.1.1.1.1.1",
		},
		"orders": {
			"vn.assigned", "ledger.vn.12025550150", "calls.decided", "$JS.API.STREAM.MSG.GET.ORDERS", "$JS.API.STREAM.INFO.ORDERS",
		},
		"apps": {
			"orders.assigned", "vn.assigned", "ledger.vn.12025550150", "$JS.API.STREAM.MSG.GET.ORDERS",
			"$JS.API.CONSUMER.CREATE.ORDERS.spy.orders.assigned", "$JS.API.STREAM.PURGE.VN",
		},
	} {
		nc, errs := as(t, srv, user)
		expect := func(what string) {
			require.NoError(t, nc.Flush())
			select {
			case err := <-errs:
				require.ErrorIs(t, err, nats.ErrPermissionViolation, "%s: %s", user, what)
			case <-time.After(patience):
				require.Fail(t, "not refused", "%s: %s", user, what)
			}
		}
		for _, subject := range refused {
			require.NoError(t, nc.Publish(subject, []byte("{}")))
			expect(subject)
		}
		// Nobody reads orders, or what somebody else is answered.
		for _, subject := range []string{"orders.>", ">", "_INBOX.>", "_INBOX_operator.>", "ledger.>"} {
			_, err := nc.SubscribeSync(subject)
			require.NoError(t, err)
			expect(subject)
		}
		for _, other := range natsUsers {
			if other != user {
				_, err := nc.SubscribeSync(fmt.Sprintf("_INBOX_%s.>", other))
				require.NoError(t, err)
				expect(other)
			}
		}
	}
}
