package app_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/allocator"
	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/console"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/ledger"
	"github.com/callmask/callmask/repair"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/router"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

const aclPassword = "acl-test-password"

// aclRole is a user of deploy/redis and what its process does with Redis.
type aclRole struct {
	name string
	// uses are the interfaces that the role's services declare of *scripts.Store.
	uses []reflect.Type
	// wires are the methods that package app and the commands call themselves.
	wires []string
	// apart are allowed commands that no verb sends, and why.
	apart map[string]string
}

// everyone's connection: what go-redis sends besides the verbs' commands.
var connection = map[string]string{
	"select":        "a database other than 0 in the URL",
	"cluster|slots": "which node has which slot",
	"command":       "go-redis's client of a Cluster asks what a command's keys are",
}

func aclRoles() []aclRole {
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(connection)
		maps.Copy(all, more)
		return all
	}
	return []aclRole{
		{
			"router",
			[]reflect.Type{reflect.TypeFor[router.Lookup]()},
			[]string{"StartReading", "Ping", "RefreshVNs", "IsVN"},
			with(map[string]string{"readonly": "reads from a replica"}),
		},
		{"allocator", append(repairs(), reflect.TypeFor[allocator.Store]()), []string{"Start", "Ping"}, with(nil)},
		{
			"replenisher",
			append(repairs(), reflect.TypeFor[replenisher.Store](), reflect.TypeFor[replenisher.ReaperStore](), reflect.TypeFor[ledger.Store](),
				reflect.TypeFor[audit.Store]()),
			[]string{"Start", "Ping", "RefreshVNs", "IsVN"},
			with(nil),
		},
		{
			"operator",
			[]reflect.Type{reflect.TypeFor[audit.Store]()},
			[]string{"Audit", "OrdersUnder", "Look", "InventoryOf", "OrdersOf", "Remains", "Erase"},
			with(nil),
		},
	}
}

// consoles are in every process but a router alone.
func consoles() []reflect.Type {
	return []reflect.Type{reflect.TypeFor[console.Store](), reflect.TypeFor[explain.Store]()}
}

// repairs are what allocators and replenishers have beside.
func repairs() []reflect.Type {
	return append(consoles(), reflect.TypeFor[ledger.RestoreStore](), reflect.TypeFor[repair.Store]())
}

func (r *aclRole) verbs() map[string]bool {
	verbs := map[string]bool{}
	for _, t := range r.uses {
		for i := range t.NumMethod() {
			verbs[t.Method(i).Name] = true
		}
	}
	for _, v := range r.wires {
		verbs[v] = true
	}
	return verbs
}

// aclFile makes the file that a server loads: every role's user as deploy/redis has it,
// with a password, and a default user for the test itself.
func aclFile(t *testing.T) string {
	t.Helper()
	sum := sha256.Sum256([]byte(aclPassword))
	all := "user default on nopass ~* &* +@all\n"
	for _, r := range aclRoles() {
		text, err := os.ReadFile("../../../deploy/redis/" + r.name + ".acl")
		require.NoError(t, err)
		require.Regexp(t, `^user callmask-`+r.name+` on #PASSWORD_SHA256 [^\n]+\n$`, string(text))
		all += strings.Replace(string(text), "PASSWORD_SHA256", hex.EncodeToString(sum[:]), 1)
	}
	path := filepath.Join(t.TempDir(), "users.acl")
	require.NoError(t, os.WriteFile(path, []byte(all), 0o600))
	return path
}

// sent notes the commands that a client sends, with the scripts that it runs.
type sent struct {
	mu       sync.Mutex
	commands map[string]bool
	scripts  map[string]string // SHA-1 → name
}

func (s *sent) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.note(cmd)
		return next(ctx, cmd)
	}
}

func (s *sent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			s.note(cmd)
		}
		return next(ctx, cmds)
	}
}

var calls = regexp.MustCompile(`redis\.call\('([A-Z]+)'`)

func (s *sent) note(cmd redis.Cmder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(cmd.Name())
	switch name {
	case "script", "config", "cluster":
		name += "|" + strings.ToLower(fmt.Sprint(cmd.Args()[1]))
	case "evalsha":
		s.commands["eval"] = true // what go-redis sends to a node that lacks the script
		// Every command that the script can come to, whatever this run of it did.
		source, err := scripts.Source(s.scripts[fmt.Sprint(cmd.Args()[1])])
		if err == nil {
			for _, c := range calls.FindAllStringSubmatch(source, -1) {
				s.commands[strings.ToLower(c[1])] = true
			}
		}
	}
	s.commands[name] = true
}

// allowed returns the commands that a role's user may run, as its file says: a server
// answers with categories, where they are shorter.
func allowed(t *testing.T, role string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/redis/" + role + ".acl")
	require.NoError(t, err)
	_, rights, found := strings.Cut(string(text), " -@all ")
	require.True(t, found)
	may := map[string]bool{}
	for word := range strings.FieldsSeq(rights) {
		name, ok := strings.CutPrefix(word, "+")
		require.True(t, ok && !strings.Contains(name, "@"), "%s has %s", role, word)
		may[name] = true
	}
	return may
}

// TestEachRoleCanDoItsWorkWithTheRightsInDeployAndNoMore runs every verb of the role as
// its user. Which verbs those are follows from the interfaces of its services, which
// commands they need from what is sent and from the scripts' text.
func TestEachRoleCanDoItsWorkWithTheRightsInDeployAndNoMore(t *testing.T) {
	t.Parallel()
	file := aclFile(t)
	for _, role := range aclRoles() {
		t.Run(role.name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t, "--aclfile", file)
			admin := server.Client(t)
			client, err := app.NewRedis(settings.RedisAt{
				URL: "redis://callmask-" + role.name + ":" + aclPassword + "@" + server.Addr,
			}, 5*time.Second, 4)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			noted := &sent{commands: map[string]bool{}, scripts: map[string]string{}}
			for _, name := range []string{"allocate", "settle", "release", "extend", "refill", "drain", "reap", "stock", "restore", "remind", "forget"} {
				source, err := scripts.Source(name)
				require.NoError(t, err)
				noted.scripts[redis.NewScript(source).Hash()] = name
			}
			client.AddHook(noted)

			keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset"))
			require.NoError(t, err)
			reader, err := router.NewCoalescer(client, router.CoalescerConfig{FlushTimeout: 5 * time.Second}, prometheus.NewRegistry())
			require.NoError(t, err)
			own, err := scripts.New(scripts.Config{Timeout: 5 * time.Second, Reader: reader}, client, keys)
			require.NoError(t, err)
			other, err := scripts.New(scripts.Config{Timeout: 5 * time.Second}, admin, keys)
			require.NoError(t, err)

			verbs := role.verbs()
			reads := redis.UniversalClient(admin)
			if verbs["OrdersUnder"] {
				reads = client
			}
			scenario := aclScenario(admin, reads)
			for _, step := range scenario {
				store := other
				if verbs[step.verb] {
					store = own
				}
				require.NoError(t, step.run(t.Context(), store), "%s as %s", step.verb, role.name)
			}
			for _, step := range scenario {
				delete(verbs, step.verb)
			}
			require.Empty(t, verbs, "the scenario lacks these verbs")

			delete(noted.commands, "hello") // anybody may
			may := allowed(t, role.name)
			for c := range noted.commands {
				require.True(t, may[c], "%s needs %s", role.name, c)
				delete(may, c)
			}
			for c := range role.apart {
				require.True(t, may[c], "%s needs %s", role.name, c)
				delete(may, c)
			}
			require.Empty(t, slices.Sorted(maps.Keys(may)), "rights that %s never uses", role.name)
		})
	}
}

func TestWhatARoleMayNotDoIsRefused(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t, "--aclfile", aclFile(t))
	every := [][]any{
		{"get", "elsewhere"},
		{"hset", "elsewhere", "a", "b"},
		{"keys", "*"},
		{"flushall"},
		{"config", "set", "maxmemory", "1"},
		{"acl", "list"},
		{"shutdown", "nosave"},
		{"monitor"},
		{"subscribe", "x"},
		{"client", "list"},
		{"replicaof", "no", "one"},
	}
	own := map[string][][]any{
		"router": {
			{"hset", "cm1:{0}:vn:12025550101", "a", "b"},
			{"del", "cm1:{0}:vn:12025550101"},
			{"hgetall", "cm1:{0}:order:1"},
			{"hget", "cm1:{0}:total", "a"},
			{"scan", "0"},
			{"eval", "return 1", "0"},
			{"script", "load", "return 1"},
			{"hset", "cm1:layout", "partitions", "2"},
		},
		"operator": {{"hset", "cm1:{0}:vn:12025550101", "a", "b"}, {"hdel", "cm1:{0}:vn:12025550101", "a"}, {"hset", "cm1:{0}:ended:12025550101", "a", "b"}, {"eval", "return 1", "0"}, {"config", "set", "maxmemory", "1"}},
	}
	for _, role := range aclRoles() {
		client := redis.NewClient(&redis.Options{
			Addr: server.Addr, Username: "callmask-" + role.name, Password: aclPassword, DisableIdentity: true, MaxRetries: -1,
		})
		for _, args := range append(slices.Clone(every), own[role.name]...) {
			err := client.Do(t.Context(), args...).Err()
			require.True(t, redis.HasErrorPrefix(err, "NOPERM"), "%s: %v: %v", role.name, args, err)
		}
		require.NoError(t, client.Close())
	}
}

// aclStep is one verb of scripts.Store.
type aclStep struct {
	verb string
	run  func(context.Context, *scripts.Store) error
}

// aclScenario is an order's life and a pool's, every verb in its place.
func aclScenario(admin, reads redis.UniversalClient) []aclStep {
	const customer, agent, stranger vn.Number = 12025550101, 12025550102, 12025550199
	var (
		numbers []scripts.Owned
		a       scripts.Allocation
		ended   scripts.Release
	)
	for i := range 6 {
		numbers = append(numbers, scripts.Owned{VN: 447700900001 + vn.Number(i), Fence: uint64(i + 1), Ref: "r"})
	}
	order := func(id string, ttl time.Duration) scripts.AllocateRequest {
		return scripts.AllocateRequest{
			Order:    vn.Order{ID: id, Pool: "london", TTL: ttl, Parties: []vn.Party{{Role: "customer", Number: customer}, {Role: "agent", Number: agent}}},
			Cooldown: time.Second, Carriers: []scripts.Carrier{{Name: "sim", ID: 7}},
		}
	}
	allocate := func(ctx context.Context, s *scripts.Store) (err error) {
		a, err = s.Allocate(ctx, order("order-1", time.Hour))
		return err
	}
	look := func(ctx context.Context, s *scripts.Store, called, calling vn.Number, want vn.Reason) error {
		var d vn.Decision
		_, err := s.Lookup(ctx, called, calling, &d)
		if err == nil && d.Reason != want {
			err = fmt.Errorf("got %s, want %s", d.Reason, want)
		}
		return err
	}
	fences := []uint64{11, 12}
	suspect := func(ctx context.Context, look func() error) error { // a second look needs rights of its own
		if err := admin.HSet(ctx, "cm1:{8209}:inventory", "447700909001", "london sim 1 ").Err(); err != nil {
			return err
		}
		return errors.Join(look(), admin.HDel(ctx, "cm1:{8209}:inventory", "447700909001").Err())
	}
	return []aclStep{
		{"Start", func(ctx context.Context, s *scripts.Store) error { return s.Start(ctx) }},
		{"StartReading", func(ctx context.Context, s *scripts.Store) error { return s.StartReading(ctx) }},
		{"Ping", func(ctx context.Context, s *scripts.Store) error { return s.Ping(ctx) }},
		{"MarkReady", func(ctx context.Context, s *scripts.Store) error { return s.MarkReady(ctx) }},
		{"Ready", func(ctx context.Context, s *scripts.Store) error { _, err := s.Ready(ctx); return err }},
		{"Refill", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Refill(ctx, "london", "sim", numbers)
			return err
		}},
		{"RefreshVNs", func(ctx context.Context, s *scripts.Store) error { return s.RefreshVNs(ctx) }},
		{"IsVN", func(_ context.Context, s *scripts.Store) error { s.IsVN(customer); return nil }},
		{"Stock", func(ctx context.Context, s *scripts.Store) error { _, err := s.Stock(ctx); return err }},
		{"Inventory", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Inventory(ctx, numbers[0].VN)
			return err
		}},
		{"InventoryOf", func(ctx context.Context, s *scripts.Store) error { _, err := s.InventoryOf(ctx, "sim"); return err }},
		{"SomeFree", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.SomeFree(ctx, "london", "sim", 2)
			return err
		}},
		{"Allocate", allocate},
		{"SettleAssigned", func(ctx context.Context, s *scripts.Store) error { return s.SettleAssigned(ctx, &a, fences) }},
		{"Order", func(ctx context.Context, s *scripts.Store) error { _, err := s.Order(ctx, "order-1"); return err }},
		{"Lookup", func(ctx context.Context, s *scripts.Store) error {
			return look(ctx, s, a.Numbers[0].VN, agent, vn.Connected)
		}},
		{"Lookup", func(ctx context.Context, s *scripts.Store) error {
			return look(ctx, s, a.Numbers[0].VN, stranger, vn.CallerNotAllowed)
		}},
		{"Explain", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Explain(ctx, a.Numbers[0].VN, agent)
			return err
		}},
		{"Explain", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Explain(ctx, numbers[0].VN, stranger)
			return err
		}},
		{"Clock", func(ctx context.Context, s *scripts.Store) error { _, err := s.Clock(ctx); return err }},
		{"Extend", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Extend(ctx, "order-1", time.Hour)
			return err
		}},
		{"Release", func(ctx context.Context, s *scripts.Store) (err error) {
			ended, err = s.Release(ctx, "order-1", vn.Completed)
			return err
		}},
		{"SettleReleased", func(ctx context.Context, s *scripts.Store) error { return s.SettleReleased(ctx, &ended, fences) }},
		{"DrainFree", func(ctx context.Context, s *scripts.Store) error {
			for _, n := range numbers {
				if n.VN != a.Numbers[0].VN && n.VN != a.Numbers[1].VN {
					_, err := s.DrainFree(ctx, "london", n.VN)
					return err
				}
			}
			return nil
		}},
		{"Drain", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Drain(ctx, "london", a.Numbers[0].VN)
			return err
		}},
		{"Reap", func(ctx context.Context, s *scripts.Store) error { _, _, err := s.Reap(ctx); return err }},
		{"Restore", func(ctx context.Context, s *scripts.Store) error {
			rec := scripts.Recorded{Inventory: scripts.Inventory{Owned: numbers[0], Pool: "london", Carrier: "sim"}, Kind: scripts.RecordedOwned}
			_, err := s.Restore(ctx, []scripts.Recorded{rec}, scripts.Unsure)
			return err
		}},
		{"Forget", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Forget(ctx, "order-1", numbers[0].VN)
			return err
		}},
		{"PartitionOf", func(_ context.Context, s *scripts.Store) error { s.PartitionOf(numbers[0].VN); return nil }},
		{"Partitions", func(_ context.Context, s *scripts.Store) error { s.Partitions(); return nil }},
		{"Remind", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Remind(ctx, "order-1", 0, time.Now(), false)
			return err
		}},
		{"RemindEnded", func(ctx context.Context, s *scripts.Store) error {
			return s.RemindEnded(ctx, []scripts.EndedOrder{{ID: "order-9", Reason: vn.Completed, At: time.Now()}})
		}},
		{"Servers", func(ctx context.Context, s *scripts.Store) error {
			servers, err := s.Servers(ctx)
			return errors.Join(err, s.MarkWhole(ctx, servers))
		}},
		{"MarkWhole", func(ctx context.Context, s *scripts.Store) error { return s.MarkWhole(ctx, nil) }},
		{"Audit", func(ctx context.Context, s *scripts.Store) error {
			return suspect(ctx, func() error { _, err := s.Audit(ctx, nil); return err })
		}},
		{"Survey", func(ctx context.Context, s *scripts.Store) error {
			return suspect(ctx, func() error { _, err := s.Survey(ctx, scripts.SurveyOptions{}); return err })
		}},
		{"Holding", func(ctx context.Context, s *scripts.Store) error {
			_, err := s.Holding(ctx, numbers[0].VN, "order-1")
			return err
		}},
		{"Look", func(ctx context.Context, _ *scripts.Store) error { _, err := scripts.Look(ctx, reads); return err }},
		{"OrdersOf", func(ctx context.Context, _ *scripts.Store) error {
			_, err := scripts.OrdersOf(ctx, reads, make([]seal.Token, 1))
			return err
		}},
		{"Remains", func(ctx context.Context, s *scripts.Store) error {
			remains, err := s.Remains(ctx, "order-1")
			if err == nil && remains.Callers == 0 {
				err = errors.New("nothing to erase")
			}
			return err
		}},
		{"Erase", func(ctx context.Context, s *scripts.Store) error {
			remains, err := s.Remains(ctx, "order-1")
			return errors.Join(err, s.Erase(ctx, remains))
		}},
		{"OrdersUnder", func(ctx context.Context, _ *scripts.Store) error {
			_, err := scripts.OrdersUnder(ctx, reads, 1)
			return err
		}},
	}
}
