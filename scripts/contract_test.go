package scripts

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// contract is what a script's header says.
type contract struct {
	flags   string
	purpose string
	keys    []string // names
	args    []string
	touches []string
	returns []string
	lines   int
	body    string
}

var (
	keyLine = regexp.MustCompile(`^-- KEYS\[(\d+)(\+?)\] (\w+) +(\{t\}:\S+) +(never exists|HASH|SET|ZSET)(, .*)?$`)
	argLine = regexp.MustCompile(`^-- ARGV\[(\d+)(\+?)\] (\w+)( +.+)?$`)
)

func readContract(t *testing.T, name string) contract {
	t.Helper()
	text, err := files.ReadFile("lua/" + name + ".lua")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	c := contract{lines: len(lines)}
	require.True(t, strings.HasPrefix(lines[0], "#!lua"), "%s must start with #!lua", name)
	c.flags = strings.TrimSpace(strings.TrimPrefix(lines[0], "#!lua"))
	for i, line := range lines[1:] {
		if !strings.HasPrefix(line, "--") {
			c.body = strings.Join(lines[1+i:], "\n")
			break
		}
		switch {
		case keyLine.MatchString(line):
			m := keyLine.FindStringSubmatch(line)
			require.Equal(t, strconv.Itoa(len(c.keys)+1), m[1], "%s: KEYS out of order", name)
			c.keys = append(c.keys, m[3])
		case argLine.MatchString(line):
			m := argLine.FindStringSubmatch(line)
			require.Equal(t, strconv.Itoa(len(c.args)+1), m[1], "%s: ARGV out of order", name)
			c.args = append(c.args, m[3])
		case strings.HasPrefix(line, "-- TOUCHES "):
			c.touches = append(c.touches, strings.TrimPrefix(line, "-- TOUCHES "))
		case strings.HasPrefix(line, "-- RETURNS "):
			c.returns = append(c.returns, strings.TrimPrefix(line, "-- RETURNS "))
		case strings.HasPrefix(line, "-- KEYS"), strings.HasPrefix(line, "-- ARGV"):
			t.Fatalf("%s: cannot read the contract line %q", name, line)
		case i < 2 && line != "--":
			c.purpose = strings.TrimSpace(c.purpose + " " + strings.TrimPrefix(line, "--"))
		}
	}
	return c
}

var verbs = []string{"allocate", "settle", "release", "extend", "refill", "drain", "reap", "stock", "restore", "remind", "forget"}

// sampleArgs is what the Go argument builder of each verb yields for a small case.
func sampleArgs(t *testing.T) map[string]struct {
	keys []string
	args []any
} {
	t.Helper()
	const p = "cm1:{x}:"
	request := &AllocateRequest{
		Order: vn.Order{ID: "o-1", Pool: "jakarta", TTL: time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102},
		}},
		Cooldown: time.Minute,
		Carriers: []Carrier{{Name: "sim", ID: 7}},
	}
	out := make(map[string]struct {
		keys []string
		args []any
	})
	put := func(verb string, keys []string, args []any) {
		out[verb] = struct {
			keys []string
			args []any
		}{keys, args}
	}
	tokens := make([]seal.Token, 2)
	sealed := [][]seal.Sealed{make([]seal.Sealed, 2), make([]seal.Sealed, 2)}
	w := &allocation{store: &Store{}, request: request, keyID: 1, roles: "customer,agent", tokens: tokens, sealed: sealed}
	keys, args := w.args(p, noMark, nowhere)
	put("allocate", keys, args[:len(args)-2]) // the two packed bindings are described in words
	keys, args = settleArgs(p, "o-1", vn.Active, time.Now(), []vn.Number{12025550103}, []uint64{1})
	put("settle", keys, args)
	keys, args = releaseArgs(p, "o-1", vn.Completed, time.Hour)
	put("release", keys, args)
	keys, args = extendArgs(p, "o-1", time.Hour, time.Hour)
	put("extend", keys, args)
	keys, args = refillArgs(p, "jakarta", "sim", []Owned{{VN: 12025550103, Ref: "PN1"}})
	put("refill", keys, args)
	keys, args = drainArgs(p, "jakarta", 12025550103, onlyFree)
	put("drain", keys, args)
	keys, args = reapArgs(p, time.Hour, time.Minute)
	put("reap", keys, args)
	put("stock", stockKeys(p), nil)
	recorded := Recorded{
		Inventory: Inventory{Owned: Owned{VN: 12025550103, Fence: 3}, Pool: "jakarta", Carrier: "sim"}, Kind: RecordedAssigned, OrderID: "o-1",
		Roles: []string{"customer", "agent"}, VNs: []vn.Number{12025550103, 12025550104}, Tokens: tokens, Sealed: sealed[0],
	}
	keys, args = restoreArgs(p, &recorded, time.Hour, Unsure)
	put("restore", keys, args)
	keys, args = remindArgs(p, "o-1", "3", "", time.Hour, false)
	put("remind", keys, args)
	keys, args = forgetArgs(p, "o-1", 12025550103)
	put("forget", keys, args)
	return out
}

func TestScriptsKeepTheirContracts(t *testing.T) {
	t.Parallel()
	samples := sampleArgs(t)
	keyPattern := regexp.MustCompile(`^cm1:\{x\}:([a-z~]+)`)
	for _, verb := range verbs {
		c := readContract(t, verb)
		sample := samples[verb]
		require.LessOrEqual(t, c.lines, 80, "%s is too long", verb)
		require.NotEmpty(t, c.purpose, verb)
		require.True(t, strings.HasPrefix(c.purpose, verb+":"), "%s: the purpose must begin with the name", verb)
		require.NotEmpty(t, c.returns, verb)
		require.Equal(t, "guard", c.keys[0], "%s must declare the guard key", verb)
		require.Equal(t, "meta", c.keys[1], "%s must declare a key that exists beside the guard", verb)

		require.Len(t, sample.keys, len(c.keys), "%s: KEYS of the Go builder", verb)
		for i, key := range sample.keys {
			kind := keyPattern.FindStringSubmatch(key)
			require.NotNil(t, kind, "%s: %s", verb, key)
			name := strings.Replace(kind[1], "~", "guard", 1)
			require.Equal(t, c.keys[i], name, "%s: KEYS[%d]", verb, i+1)
		}
		require.Len(t, sample.args, len(c.args), "%s: ARGV of the Go builder", verb)

		// What the body reads is what the header declares.
		for _, m := range regexp.MustCompile(`KEYS\[(\d+)\]`).FindAllStringSubmatch(c.body, -1) {
			n, _ := strconv.Atoi(m[1])
			require.LessOrEqual(t, n, len(c.keys), "%s reads KEYS[%d]", verb, n)
		}
		for _, m := range regexp.MustCompile(`ARGV\[(\d+)\]`).FindAllStringSubmatch(c.body, -1) {
			n, _ := strconv.Atoi(m[1])
			require.LessOrEqual(t, n, len(c.args), "%s reads ARGV[%d]", verb, n)
		}
		// A key built from a prefix is announced under TOUCHES or KEYS.
		announced := strings.Join(append(c.touches, strings.Join(c.keys, " ")), " ")
		source, err := Source(verb)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`'(\w+):' \.\. `).FindAllStringSubmatch(c.body, -1) {
			require.Contains(t, announced, m[1], "%s builds %s:… but does not announce it", verb, m[1])
		}
		for _, m := range regexp.MustCompile(`tonumber\((\w+)`).FindAllStringSubmatch(source, -1) {
			require.NotContains(t, []string{"number", "digits", "called", "calling"}, m[1],
				"%s converts a telephone number to a Lua number", verb)
		}
		switch verb {
		case "release", "settle", "reap", "drain":
			require.Equal(t, "flags=allow-oom", c.flags, "%s must run in a full Redis, or it could not be emptied", verb)
		case "stock":
			require.Equal(t, "flags=no-writes", c.flags)
		default:
			require.Empty(t, c.flags, verb)
		}
	}
}

// TestEveryStatusHasItsName pins the statuses that the Go side knows to the contracts.
func TestEveryStatusHasItsName(t *testing.T) {
	t.Parallel()
	f := func(verb string, status int, name string) {
		t.Helper()
		require.Contains(t, strings.Join(readContract(t, verb).returns, "  "), "{"+strconv.Itoa(status)+" "+name)
	}
	f("allocate", allocateAllocated, "ALLOCATED")
	f("allocate", allocateReplayed, "REPLAYED")
	f("allocate", allocateEnded, "ENDED")
	f("allocate", allocateExhausted, "EXHAUSTED")
	f("allocate", allocateCold, "COLD")
	f("allocate", allocateForwarded, "FORWARDED")
	f("extend", extendEnded, "ENDED")
	f("extend", extendForwarded, "FORWARDED")
	f("extend", extendExtended, "EXTENDED")
	f("extend", extendUnknown, "UNKNOWN")
	f("release", releaseCold, "COLD")
	f("settle", settleBehind, "BEHIND")
	f("refill", refillDone, "DONE")
	f("drain", drainLeft, "LEFT")
	f("drain", drainDraining, "DRAINING")
	f("drain", drainUnknown, "UNKNOWN")
	f("drain", drainBusy, "BUSY")
	f("restore", int(RestoreDone), "RESTORED")
	f("restore", int(RestoreKnown), "KNOWN")
	f("restore", int(RestoreBusy), "BUSY")
	f("restore", int(RestoreHeld), "HELD")
	f("restore", int(RestoreAdrift), "ADRIFT")
	f("restore", int(RestoreEnded), "ENDED")
	f("restore", int(RestoreMoved), "MOVED")
	f("restore", int(RestorePartial), "PARTIAL")
	f("remind", remindDone, "DONE")
	f("forget", forgetDone, "FORGOTTEN")
}

// TestReferencePageIsCurrent holds scripts/README.md against the contracts. Run with
// CALLMASK_GENERATE=1 it rewrites the page.
func TestReferencePageIsCurrent(t *testing.T) {
	t.Parallel()
	const pageFile = "README.md"
	var b strings.Builder
	b.WriteString("# The scripts\n\nGenerated from the contracts at the head of `lua/*.lua` by `make generate`; do not edit.\n" +
		"`{t}` is the tag of the partition, which all keys of one call share.\n")
	for _, verb := range verbs {
		text, err := files.ReadFile("lua/" + verb + ".lua")
		require.NoError(t, err)
		b.WriteString("\n## " + verb + "\n\n```\n")
		for _, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "#!") {
				break
			}
			if !strings.HasPrefix(line, strings.TrimSpace(includeMark)) {
				b.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, "--"), " ") + "\n")
			}
		}
		b.WriteString("```\n")
	}
	if os.Getenv("CALLMASK_GENERATE") != "" {
		require.NoError(t, os.WriteFile(pageFile, []byte(b.String()), 0o600))
	}
	have, err := os.ReadFile(pageFile)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "scripts/README.md is stale: run `make generate`")
}
