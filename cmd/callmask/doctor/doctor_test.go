package doctor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
	"github.com/callmask/callmask/cmd/callmask/doctor"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const account, secret = "AC00000000000000000000000000000001", "twilio-auth-token"

// patient is an installation to look at: real Redis and NATS, a simulated carrier.
type patient struct {
	t     *testing.T
	redis *testkit.RedisServer
	nats  *testkit.NATSServer
	js    jetstream.JetStream
	shop  *twiliosim.Server
	flags map[string]string
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, redis: testkit.Redis(t), nats: testkit.NATS(t)}
	var err error
	p.shop, err = twiliosim.New(twiliosim.Config{AccountSID: account, AuthToken: secret})
	require.NoError(t, err)
	api := httptest.NewServer(p.shop)
	t.Cleanup(api.Close)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // a callmask: ready, and a router
		switch {
		case r.URL.Path == "/readyz" && r.Method == http.MethodGet:
		case r.URL.Path == "/v1/carriers/twilio/voice" && r.Method == http.MethodPut:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(web.Close)
	dir := t.TempDir()
	_, err = seal.Create(filepath.Join(dir, "keyset.json"))
	require.NoError(t, err)
	config := filepath.Join(dir, "callmask.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
pools: [{name: dc, region: US, carriers: [twilio], low_water: 1, target: 2}]
carriers:
  - {name: twilio, kind: twilio, account_sid: %s, auth_tokens: ["${TWILIO}"], public_url: %s, api_url: %s}
  - {name: pbx, kind: softswitch, tokens: [softswitch-token]}
`, account, web.URL, api.URL), 0o600))
	p.flags = map[string]string{
		"config": config, "data-dir": dir, "keyset": filepath.Join(dir, "keyset.json"), "api-token": "an-api-token-of-tests",
		"admin-addr": strings.TrimPrefix(web.URL, "http://"), "redis-url": p.redis.URL(), "nats-url": p.nats.URL,
	}
	bus, err := events.Connect(t.Context(), events.Config{URL: p.nats.URL, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(bus.Close)
	require.NoError(t, bus.EnsureStreams(t.Context()))
	nc, err := nats.Connect(p.nats.URL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	p.js, err = jetstream.New(nc)
	require.NoError(t, err)
	p.own(dir)
	return p
}

// own buys a number, points it at the router and takes it into the pool.
func (p *patient) own(dir string) {
	p.t.Helper()
	s := p.settings("TWILIO")
	numbers, err := s.Carriers[0].Numbers(s.Carriers[0].APIURL)
	require.NoError(p.t, err)
	p.t.Cleanup(numbers.Close)
	bought, err := numbers.Buy(p.t.Context(), twiliosim.AlwaysSold, "dc")
	require.NoError(p.t, err)
	require.NoError(p.t, numbers.Configure(p.t.Context(), bought, s.Carriers[0].WebhookURL(numbers)))
	keys, err := seal.Open(filepath.Join(dir, "keyset.json"))
	require.NoError(p.t, err)
	store, err := scripts.New(scripts.Config{Timeout: 10 * time.Second}, p.redis.Client(p.t), keys)
	require.NoError(p.t, err)
	require.NoError(p.t, store.Start(p.t.Context()))
	require.NoError(p.t, store.MarkReady(p.t.Context()))
	_, err = store.Refill(p.t.Context(), "dc", "twilio", []scripts.Owned{{VN: twiliosim.AlwaysSold, Ref: bought.Ref}})
	require.NoError(p.t, err)
}

func (p *patient) settings(variable string) *settings.Settings {
	p.t.Helper()
	s, err := settings.Load(settings.Input{Flags: p.flags, Env: func(name string) (string, bool) { return secret, name == variable }})
	require.NoError(p.t, err)
	return s
}

// lines looks and returns every finding as one line; what is ok without its words.
func (p *patient) lines(s *settings.Settings, timeout time.Duration) (lines []string, all []doctor.Finding) {
	p.t.Helper()
	all = doctor.Look(p.t.Context(), doctor.Config{Settings: s, Role: settings.Router, Timeout: timeout})
	for _, f := range all {
		require.NotContains(p.t, f.Seen+f.Do, secret)
		require.NotContains(p.t, f.Seen+f.Do, "\n")
		require.Equal(p.t, f.Status == doctor.OK, f.Do == "", "what is not ok says what to do: %+v", f)
		lines = append(lines, string(f.Status)+" "+f.Check+": "+f.Seen)
	}
	return lines, all
}

const patience = 20 * time.Second

func TestAHealthyInstallationIsFoundSo(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	lines, all := p.lines(p.settings("TWILIO"), patience)
	require.Equal(t, doctor.Warn, doctor.Worst(all), "%s", strings.Join(lines, "\n"))
	text := strings.Join(lines, "\n")
	require.Equal(t, 1, strings.Count(text, "warn "), text)
	for _, want := range []string{
		`ok settings: .*callmask.yaml: pools 1, carriers 2`, `ok keyset: .*keyset.json: keys 1, key 1 is in use`,
		`ok redis: master 127.0.0.1:\d+ answers, version \d`, `ok redis: schema 1, partitions 1, all ready`,
		`ok nats: .* answers, version 2`, `ok nats: streams ORDERS, VN, LEDGER, CALLS, POOLS, DEAD, ADVISORIES, AUDIT are as they should be`,
		`warn nats: whether each write is on the disk`,
		`ok callmask: one runs at http://127.0.0.1:\d+ and is ready`, `ok carrier twilio: a router answers at http://127.0.0.1:\d+`,
		`ok carrier twilio: the credentials are right; numbers in its account 1, ours 1, calls to all of those go to http://\S+/v1/carriers/twilio/voice`,
		`ok carrier pbx: `, `ok clock: this machine's agrees with NATS, Redis 127.0.0.1:\d+, carrier twilio|ok clock: this machine's agrees with .*carrier twilio`,
	} {
		require.Regexp(t, want, text)
	}
	p.flags["redis-url"], p.flags["nats-url"] = "", "" // as `all` on this machine: the disk is ours
	lines, _ = p.lines(p.settings("TWILIO"), time.Second)
	require.Regexp(t, `disk: .* GiB of .* GiB are free`, strings.Join(lines, "\n"))
}

func TestWhatIsIllIsNamedWithItsCure(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	s := p.settings("TWILIO")
	client := p.redis.Client(t)
	cure := func(check, seen, do string) {
		t.Helper()
		lines, all := p.lines(s, patience)
		require.Equal(t, doctor.Fail, doctor.Worst(all), "%v", lines)
		for _, f := range all {
			if f.Check == check && f.Status == doctor.Fail && strings.Contains(f.Seen, seen) && strings.Contains(f.Do, do) {
				return
			}
		}
		require.Fail(t, "not found", "%s: %s → %s in\n%s", check, seen, do, strings.Join(lines, "\n"))
	}
	p.shop.SetField(twiliosim.AlwaysSold, "voice_url", "https://other.example.com/voice")
	cure("carrier twilio", "calls to 1 of our 1 numbers do not come to", "callmask pool reconcile twilio")
	p.shop.Inject(sim.Fault{Op: sim.OpList, Kind: sim.Fail, Status: http.StatusUnauthorized, Times: 1})
	cure("carrier twilio", "it refuses the account's id or key", "settings")

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	cure("redis", "maxmemory-policy allkeys-lru", "noeviction")
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	metas, err := client.Keys(t.Context(), "cm1:*:meta").Result()
	require.NoError(t, err)
	require.NoError(t, client.HDel(t.Context(), metas[0], "ready").Err())
	cure("redis", "1 of 1 partitions are not marked ready", "callmask rebuild")
	require.NoError(t, client.HSet(t.Context(), "cm1:layout", "schema", "7").Err())
	cure("redis", "schema 7", "docs/upgrade.md")

	require.NoError(t, p.js.DeleteStream(t.Context(), "CALLS"))
	cure("nats", "stream CALLS does not exist", "start an allocator")
	ledger, err := p.js.Stream(t.Context(), "LEDGER")
	require.NoError(t, err)
	cfg := ledger.CachedInfo().Config
	cfg.MaxAge = time.Hour
	_, err = p.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	cure("nats", "stream LEDGER exists with a limit of age", "change the stream")

	require.NoError(t, os.Chmod(p.flags["keyset"], 0o644))
	cure("keyset", "", "mode 0600")
	require.NoError(t, os.Remove(p.flags["keyset"]))
	cure("keyset", "there is no", "callmask keys add")
}

// Servers that take requests and answer none, and addresses where nobody is.
func TestALookTakesNoLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	s := p.settings("TWILIO")
	p.redis.Pause(t)
	defer p.redis.Resume(t)
	p.shop.SetLatency(time.Minute)
	p.nats.Stop(t)
	const timeout = 2 * time.Second
	began := time.Now()
	lines, all := p.lines(s, timeout)
	require.Less(t, time.Since(began), timeout+8*time.Second, "the rest is a busy machine's")
	require.Equal(t, doctor.Fail, doctor.Worst(all))
	text := strings.Join(lines, "\n")
	require.Regexp(t, `fail redis: redis://127.0.0.1`, text)
	require.Regexp(t, `fail nats: nats://127.0.0.1:\d+: CALLMASK_NATS_URL`, text)
	require.Regexp(t, `fail carrier twilio: its list of numbers could not be read`, text)
}

func TestSettingsThatCannotBeReadAreAFindingToo(t *testing.T) {
	t.Parallel()
	s := &settings.Settings{DataDir: t.TempDir(), AdminAddr: "127.0.0.1:1", EmbeddedRedisAddr: "127.0.0.1:1", EmbeddedNATSAddr: "127.0.0.1:1"}
	found := doctor.Look(t.Context(), doctor.Config{Settings: s, SettingsError: &vn.FieldError{Field: "pools", Problem: "is odd"}, Timeout: time.Second})
	require.Equal(t, []any{"settings", doctor.Fail, "pools is odd"}, []any{found[0].Check, found[0].Status, found[0].Seen})
	require.Equal(t, doctor.Fail, doctor.Worst(found))
}
