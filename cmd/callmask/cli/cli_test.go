package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
)

func TestMain(m *testing.M) {
	if os.Getenv("CALLMASK_TEST_MAIN") != "" { // a shell in a test runs this binary as callmask
		os.Exit(Main(Process{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv}))
	}
	// fasthttp keeps the time of its Date header in a goroutine of the whole process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

const (
	patience = 60 * time.Second
	tick     = 20 * time.Millisecond
)

// result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// terminal runs commands with an environment of its own.
type terminal struct {
	env   map[string]string
	stdin string
}

func (e *terminal) run(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(Process{
		Args: args, Stdin: strings.NewReader(e.stdin), Stdout: &out, Stderr: &errs,
		Env: func(name string) (string, bool) { s, ok := e.env[name]; return s, ok },
	})
	require.LessOrEqual(t, strings.Count(errs.String(), "\n"), 1, "an error is one line: %s", errs.String())
	return result{code, out.String(), errs.String()}
}

func (e *terminal) done(t *testing.T, args ...string) string {
	t.Helper()
	r := e.run(t, args...)
	require.Equal(t, ExitDone, r.code, "%v: %s", args, r.err)
	require.Empty(t, r.err)
	return r.out
}

// system starts `all` with the demo settings and returns a terminal that knows where
// it is.
func system(t *testing.T) *terminal {
	t.Helper()
	return systemOn(t, "")
}

// systemOn is system with the NATS server at a URL; empty: its own.
func systemOn(t *testing.T, natsURL string) *terminal {
	t.Helper()
	dir := t.TempDir()
	free, freeNATS := freeAddr(t), freeAddr(t)
	s, err := settings.Load(settings.Input{
		Demo: true, Env: func(string) (string, bool) { return "", false },
		Flags: map[string]string{
			"data-dir": dir, "http-addr": "127.0.0.1:0", "admin-addr": "127.0.0.1:0",
			"embedded-redis-addr": free, "embedded-nats-addr": freeNATS, "nats-url": natsURL,
		},
	})
	require.NoError(t, err)
	a, err := app.New(app.Config{Settings: s, Role: settings.All, Logger: zerolog.Nop()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	select {
	case <-a.Started():
	case err := <-done:
		done <- err
		require.NoError(t, err, "it did not start")
	}
	e := &terminal{env: map[string]string{
		"CALLMASK_ADMIN_ADDR": a.Endpoints().Admin, "CALLMASK_DATA_DIR": dir, "CALLMASK_EMBEDDED_REDIS_ADDR": free,
		"CALLMASK_NATS_URL": natsURL, "CALLMASK_EMBEDDED_NATS_ADDR": freeNATS,
	}}
	require.Eventually(t, func() bool {
		var rows []poolRow
		r := e.run(t, "pool", "list", "--json")
		return r.code == ExitDone && json.Unmarshal([]byte(r.out), &rows) == nil && len(rows) == 1 && rows[0].Free == 20
	}, patience, tick)
	return e
}

func freeAddr(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	return addr
}

func TestCommandsActOnARunningSystem(t *testing.T) {
	e := system(t)
	parties := []string{"customer=+12025550123", "agent=+12025550145"}

	// order
	put := append([]string{"order", "put", "order-1", "--pool", "demo", "--ttl", "20m", "--json"}, parties...)
	var o orderAnswer
	require.NoError(t, json.Unmarshal([]byte(e.done(t, put...)), &o))
	require.Equal(t, "active", o.State)
	require.Len(t, o.Parties, 2)
	require.Contains(t, e.done(t, "order", "get", "order-1"), "dial to reach agent     "+o.Parties[1].VN)
	require.Contains(t, e.done(t, put...), o.Parties[0].VN, "the same order, the same numbers")
	require.Contains(t, e.done(t, "order", "extend", "order-1", "30m"), "active")

	// explain
	agent := o.Parties[1].VN
	why := e.done(t, "explain", agent, "+12025550123")
	require.Regexp(t, `decision +passed +connect to \+12025•••45 and show`, why)
	require.NotContains(t, why, "2025550123")
	require.Contains(t, e.done(t, "explain", agent, "(202) 555-0123", "--reveal"), "connect to +12025550145")
	require.Contains(t, e.run(t, "explain", agent, "anonymous", "-o", "json").out, `"reason": "caller_withheld"`)
	no := e.run(t, "explain", agent, "+12025550199")
	require.Equal(t, ExitNo, no.code, "the call would be refused")
	require.Regexp(t, `binding +refused .*is no party`, no.out)

	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{ExitNo, "called", []string{"explain", "banana", "+12025550199"}},
		{ExitNo, "carrier", []string{"explain", agent, "+12025550199", "--carrier", "nobody"}},
		{ExitNo, "order_unknown", []string{"order", "get", "nobody"}},
		{ExitNo, "order_unknown", []string{"order", "extend", "nobody", "1m"}},
		{ExitNo, "order_conflict", []string{"order", "put", "order-1", "--pool", "demo", "customer=+12025550123", "agent=+12025550177"}},
		{ExitNo, "pool_unknown", append([]string{"order", "put", "order-2", "--pool", "mars"}, parties...)},
		{ExitNo, "ttl", append([]string{"order", "put", "order-2", "--pool", "demo", "--ttl", "99h"}, parties...)},
		{ExitNo, "parties[1].number", []string{"order", "put", "order-2", "--pool", "demo", "customer=+12025550123", "agent=banana"}},
		{ExitFailed, "role=number", []string{"order", "put", "order-2", "--pool", "demo", "customer"}},
		{ExitFailed, "order_id may hold only", []string{"order", "get", "../pools"}},
		{ExitFailed, "--pool", []string{"order", "put", "order-2", "customer=+12025550123"}},
		{ExitNo, "number_unknown", []string{"pool", "drain", "demo", "+12025550199"}},
		{ExitNo, "carrier", []string{"pool", "import", "demo", "--carrier", "nobody", "+12025550199"}},
		{ExitFailed, "no numbers were given", []string{"pool", "import", "demo", "--carrier", "sim"}},
		{ExitFailed, "--file: ", []string{"pool", "import", "demo", "--carrier", "sim", "--file", "/nowhere/numbers"}},
	} {
		r := e.run(t, c.args...)
		require.Equal(t, c.code, r.code, "%v: %s", c.args, r.err)
		require.Contains(t, r.err, c.want, c.args)
		require.NotContains(t, r.err, "+1202555", "an error repeats no number")
	}

	// check, and a key that an order needs
	require.Contains(t, e.done(t, "check"), "20 numbers, 1 live orders, 0 mismatches")
	require.Contains(t, e.done(t, "keys", "add"), "key 2 is next")
	require.Contains(t, e.done(t, "keys", "promote"), "primary")
	r := e.run(t, "keys", "drop", "1")
	require.Equal(t, ExitNo, r.code)
	require.Contains(t, r.err, "key 1 is in use by 1 orders")
	require.Regexp(t, `1 +previous.*\n2 +primary`, e.done(t, "keys", "list"))

	// end
	require.Contains(t, e.done(t, "order", "end", "order-1", "--reason", "cancelled"), "has ended")
	require.Contains(t, e.done(t, "order", "end", "order-1"), "has ended")
	require.Contains(t, e.done(t, "order", "get", "order-1"), "cancelled")
	require.Equal(t, ExitNo, e.run(t, put...).code, "an ended order does not come back")

	// pool
	file := filepath.Join(t.TempDir(), "numbers")
	require.NoError(t, os.WriteFile(file, []byte("# ours\n+12025550160, +12025550161\n\n+12025550162 # spare\n"), 0o600))
	e.stdin = "+12025550163\n"
	require.Equal(t, "5 added, 0 were there already\n",
		e.done(t, "pool", "import", "demo", "--carrier", "sim", "--file", file, "-", "+12025550164"))
	require.Equal(t, "0 added, 3 were there already\n", e.done(t, "pool", "import", "demo", "--carrier", "sim", "--file", file))
	require.Contains(t, e.done(t, "pool", "drain", "demo", "+12025550160", "+12025550161"), "2 leaving")
	require.Contains(t, e.done(t, "pool", "list"), "23")
	require.Contains(t, e.done(t, "check"), "23 numbers, 0 live orders, 0 mismatches")
	theStockIsKept(t, e, o.Parties[0].VN)
	require.Contains(t, e.done(t, "check"), "22 numbers, 0 live orders, 0 mismatches")
	require.Contains(t, e.done(t, "check", "--redis-only", "--nats-url", "nats://nats.example:4222"), "must encrypt its store")
}

func TestNoSystemNoTokenAndAWrongTokenAreToldApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := &terminal{env: map[string]string{"CALLMASK_DATA_DIR": dir}}
	r := e.run(t, "pool", "list")
	require.Equal(t, ExitFailed, r.code)
	require.Contains(t, r.err, "CALLMASK_API_TOKEN: is not set, and there is no "+filepath.Join(dir, app.TokenFile))
	e.env["CALLMASK_API_TOKEN"], e.env["CALLMASK_ADMIN_ADDR"] = "token-token-token", freeAddr(t)
	r = e.run(t, "pool", "list")
	require.Equal(t, ExitFailed, r.code)
	require.Contains(t, r.err, "no answer from http://"+e.env["CALLMASK_ADMIN_ADDR"])
	e.env["CALLMASK_EMBEDDED_REDIS_ADDR"] = freeAddr(t)
	r = e.run(t, "check")
	require.Equal(t, ExitFailed, r.code, "what could not be checked is not wrong")
}

func TestKeysMakeAKeysetWhereThereIsNone(t *testing.T) {
	t.Parallel()
	e := &terminal{env: map[string]string{"CALLMASK_KEYSET": filepath.Join(t.TempDir(), "keyset.json")}}
	require.Equal(t, ExitFailed, e.run(t, "keys", "list").code)
	require.Contains(t, e.done(t, "keys", "add"), "with key 1 as primary")
	require.Contains(t, e.done(t, "keys", "list", "--json"), `"state": "primary"`)
	require.Equal(t, ExitFailed, e.run(t, "keys", "promote").code)
}

// Over all commands of the model: one that is added without an example fails here.
func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	t.Parallel()
	e := &terminal{}
	k, err := parser(&commands{}, Process{})
	require.NoError(t, err)
	leaves := k.Model.Leaves(true)
	require.Greater(t, len(leaves), 25)
	page, err := Reference()
	require.NoError(t, err)
	for _, n := range leaves {
		path := n.FullPath() // with the name of the binary
		out := e.done(t, append(strings.Fields(path)[1:], "--help")...)
		_, examples, found := strings.Cut(out, "Example")
		require.True(t, found, path)
		require.Contains(t, examples, path, "an example shows the command itself")
		require.NotEmpty(t, n.Help, path)
		require.Contains(t, page, "\n### "+path+"\n")
	}
	require.Contains(t, e.done(t), "Usage: callmask <command>")
}

// Each code for what the page of commands says, by real commands.
func TestExitCodesAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/cli.md")
	require.NoError(t, err)
	nobody := freeAddr(t)
	e := &terminal{env: map[string]string{
		"CALLMASK_DATA_DIR": t.TempDir(), "CALLMASK_API_TOKEN": "token-token-token", "CALLMASK_ADMIN_ADDR": nobody,
		"CALLMASK_EMBEDDED_REDIS_ADDR": nobody, "CALLMASK_EMBEDDED_NATS_ADDR": nobody,
	}}
	for code, lines := range map[int][]string{
		ExitDone:   {"version", "--help", "order --help", "pool plan --orders-per-hour 1", "config --demo"},
		ExitNo:     {"whois banana", "doctor --timeout 1s"},
		ExitFailed: {"dance", "version -o xml", "pool list", "order get ../pools", "keys list", "config --check /nowhere", "doctor --config /nowhere"},
	} {
		require.Contains(t, string(page), fmt.Sprintf("\n| %d | ", code))
		for _, line := range lines {
			r := e.run(t, strings.Fields(line)...)
			require.Equal(t, code, r.code, "%s: %s", line, r.err)
			require.Equal(t, code != ExitDone, r.err != "", line)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, full.Close()) })
	var errs bytes.Buffer
	require.Equal(t, ExitFailed, Main(Process{Args: []string{"version", "-o", "json"}, Stdout: full, Stderr: &errs, Env: os.LookupEnv}))
	require.Contains(t, errs.String(), "no space left")
}

// The forms of one command's data hold the same; those of the others are made the same way.
func TestDataIsPrintedAsTableJSONAndYAML(t *testing.T) {
	t.Parallel()
	e := &terminal{}
	k, err := parser(&commands{}, Process{})
	require.NoError(t, err)
	for _, n := range k.Model.Leaves(true) {
		for _, f := range n.Flags {
			if f.Name == "json" {
				require.True(t, f.Hidden, "%s: -o json is the way that is shown", n.FullPath())
			}
			if f.Name == "output" {
				require.Subset(t, f.EnumSlice(), []string{"table", "json", "yaml"}, n.FullPath())
			}
		}
	}
	plan := []string{"pool", "plan", "--orders-per-hour", "100", "-o"}
	var fromJSON, fromYAML map[string]any
	require.NoError(t, json.Unmarshal([]byte(e.done(t, append(plan, "json")...)), &fromJSON))
	text := e.done(t, append(plan, "yaml")...)
	require.NoError(t, yaml.Unmarshal([]byte(text), &fromYAML))
	require.Equal(t, fmt.Sprint(fromJSON), fmt.Sprint(fromYAML))
	require.True(t, strings.HasPrefix(text, "erlangs: "), "in the order of JSON")
	require.Contains(t, e.done(t, append(plan, "table")...), "orders at once")

	var out bytes.Buffer
	rows := []keyRow{{ID: 1, State: "primary"}, {ID: 2, State: "next"}}
	require.NoError(t, printList(&listOutput{Output: asLines}, &out, rows, nil))
	require.Equal(t, 2, strings.Count(out.String(), "\n"))
	out.Reset()
	require.NoError(t, printList[keyRow](&listOutput{Output: asJSON}, &out, nil, nil))
	require.Equal(t, "[]\n", out.String(), "no rows are a list too")
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	t.Parallel()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pty.Close()) })
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, true}, {map[string]string{"NO_COLOR": "1"}, false}, {map[string]string{"NO_COLOR": ""}, true}, {map[string]string{"TERM": "dumb"}, false},
	} {
		p := Process{Env: func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }}
		require.Equal(t, c.want, p.colours(pty), c.env)
		require.False(t, p.colours(&bytes.Buffer{}))
	}
}

func TestConfigShowsAndChecks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "callmask.yaml")
	e := &terminal{env: map[string]string{"CALLMASK_HTTP_ADDR": ":8081", "CALLMASK_API_TOKEN": "hunter2-hunter2"}}
	out := e.done(t, "config", "--log-level", "debug")
	require.Regexp(t, `http_addr: ":8081" +# CALLMASK_HTTP_ADDR`, out)
	require.Regexp(t, `log_level: debug +# --log-level`, out)
	require.NotContains(t, out, "hunter2")

	demo := e.done(t, "config", "--demo")
	require.NoError(t, os.WriteFile(file, []byte(demo), 0o600))
	require.Contains(t, e.done(t, "config", "--check", file), "is right: 1 pools, 1 carriers")
	require.NoError(t, os.WriteFile(file, []byte(demo+"surprise: 1\n"), 0o600))
	r := e.run(t, "config", "--check", file)
	require.Equal(t, ExitFailed, r.code)
	require.Contains(t, r.err, "callmask.yaml:18: surprise")
	require.Contains(t, e.run(t, "config", "--role", "router").err, "CALLMASK_REDIS_URL: is not set")
}

func TestWrongUsageIsOneLine(t *testing.T) {
	t.Parallel()
	e := &terminal{}
	for _, args := range [][]string{{"dance"}, {"order"}, {"order", "dance"}, {"pool", "list", "--dance"}, {"keys", "drop", "many"}, {"router"}} {
		r := e.run(t, args...)
		require.Equal(t, ExitFailed, r.code, args)
		require.NotEmpty(t, r.err, args)
	}
	require.Contains(t, e.done(t, "version"), "callmask ")
	require.Contains(t, e.done(t, "version", "--json"), `"go": "go1.`)
}

func TestTheDemoIsAsTold(t *testing.T) {
	e := &terminal{}
	out := e.done(t, "demo")
	require.Contains(t, out, "the numbers of order-1 serve again")
	require.Contains(t, out, "every number is in exactly one state")
	require.NotContains(t, out, "NOT SO")
	require.NotContains(t, out, "\x1b[", "colours are for terminals")
}

func TestAStoryThatIsNotAsToldIsSaidSo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &story{out: &out, colours: true}
	s.check(true, "kept")
	s.check(false, "broken")
	require.Equal(t, 1, s.wrong)
	require.Contains(t, out.String(), "NOT SO: broken")
	require.Contains(t, out.String(), "\x1b[31m")
}
