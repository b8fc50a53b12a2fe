package scripts

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// epoch is where the virtual clock of a test starts: far ahead of every real clock, so
// that the scripts' high-water mark, which the test moves, is what they go by.
var epoch = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	customer vn.Number = 12025550101
	agent    vn.Number = 12025550102
	merchant vn.Number = 12025550103
	stranger vn.Number = 12025550199

	pool     = "jakarta"
	cooldown = 10 * time.Minute
	ttl      = 2 * time.Hour
)

var (
	sim    = Carrier{Name: "sim", ID: 7}
	twilio = Carrier{Name: "twilio", ID: 9}
)

// tester is what *testing.T and rapid.T share.
type tester interface {
	require.TestingT
	Helper()
}

// fixture is a Store on a Redis of its own with a clock that only the test moves.
type fixture struct {
	*Store

	client redis.UniversalClient
	keyset string // path of the keyset file
	prefix string
	now    time.Time
}

func newFixture(t *testing.T, client redis.UniversalClient) *fixture {
	t.Helper()
	return newFixtureOf(t, client, 1)
}

// newFixtureOf has more than one partition; prefix is that of the first.
func newFixtureOf(t *testing.T, client redis.UniversalClient, partitions int) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	keys, err := seal.Create(path)
	require.NoError(t, err)
	s, err := New(Config{Partitions: partitions, Timeout: 10 * time.Second}, client, keys)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	require.NoError(t, s.MarkReady(t.Context()))
	f := &fixture{Store: s, client: client, keyset: path, prefix: s.layout.prefixes[0]}
	f.set(t, epoch)
	return f
}

// set puts the virtual clock to now and ends the keys whose time has come, as Redis
// does by itself in real time.
func (f *fixture) set(t tester, now time.Time) {
	t.Helper()
	ctx := context.Background()
	f.now = now
	for _, p := range f.layout.prefixes {
		require.NoError(t, f.client.HSet(ctx, metaKey(p), "clock", now.UnixMilli()).Err())
	}
	for _, key := range f.allKeys(t) {
		at, err := f.client.PExpireTime(ctx, key).Result()
		require.NoError(t, err)
		if at >= 0 && at.Milliseconds() <= now.UnixMilli() {
			require.NoError(t, f.client.Del(ctx, key).Err())
		}
	}
}

func (f *fixture) advance(t *testing.T, d time.Duration) { t.Helper(); f.set(t, f.now.Add(d)) }

func (f *fixture) allKeys(t tester) []string {
	t.Helper()
	var keys []string
	scan := func(ctx context.Context, node *redis.Client) error {
		iter := node.Scan(ctx, 0, "*", 1000).Iterator()
		for iter.Next(ctx) {
			keys = append(keys, iter.Val())
		}
		return iter.Err()
	}
	switch client := f.client.(type) {
	case *redis.ClusterClient:
		for _, node := range masters(t, client) {
			require.NoError(t, scan(context.Background(), node))
		}
	case *redis.Client:
		require.NoError(t, scan(context.Background(), client))
	}
	sort.Strings(keys)
	return keys
}

func masters(t tester, cluster *redis.ClusterClient) []*redis.Client {
	t.Helper()
	nodes := make(chan *redis.Client, 16)
	require.NoError(t, cluster.ForEachMaster(context.Background(), func(_ context.Context, c *redis.Client) error {
		nodes <- c
		return nil
	}))
	close(nodes)
	var out []*redis.Client
	for n := range nodes {
		out = append(out, n)
	}
	return out
}

func (f *fixture) refill(t *testing.T, carrier Carrier, numbers ...vn.Number) {
	t.Helper()
	owned := make([]Owned, len(numbers))
	for i, n := range numbers {
		owned[i] = Owned{VN: n, Ref: "PN1", Fence: 5}
	}
	got, err := f.Refill(t.Context(), pool, carrier.Name, owned)
	require.NoError(t, err)
	require.Equal(t, len(numbers), got.Added)
}

// vns returns n VNs for a pool.
func vns(n int) []vn.Number {
	out := make([]vn.Number, n)
	for i := range out {
		out[i] = vn.Number(447700900000 + i)
	}
	return out
}

func request(id string, numbers ...vn.Number) AllocateRequest {
	roles := []string{"customer", "agent", "merchant", "support", "r5", "r6", "r7", "r8"}
	r := AllocateRequest{
		Order:    vn.Order{ID: id, Pool: pool, TTL: ttl},
		Cooldown: cooldown, Carriers: []Carrier{sim, twilio},
	}
	for i, n := range numbers {
		r.Order.Parties = append(r.Order.Parties, vn.Party{Role: roles[i], Number: n})
	}
	return r
}

func (f *fixture) allocate(t *testing.T, id string, numbers ...vn.Number) Allocation {
	t.Helper()
	a, err := f.Allocate(t.Context(), request(id, numbers...))
	require.NoError(t, err)
	return a
}

func (f *fixture) lookup(t *testing.T, called, calling vn.Number) vn.Decision {
	t.Helper()
	var d vn.Decision
	_, err := f.Lookup(t.Context(), called, calling, &d)
	require.NoError(t, err)
	return d
}

func (f *fixture) stockOf(t *testing.T, carrier Carrier) Stock {
	t.Helper()
	rows, err := f.Stock(t.Context())
	require.NoError(t, err)
	for _, r := range rows {
		if r.Pool == pool && r.Carrier == carrier.Name {
			return r
		}
	}
	t.Fatalf("no stock row of %s", carrier.Name)
	return Stock{}
}

// dump renders every key with its type, content and end, with the parts that differ
// from run to run (VNs taken at random, tokens, seals) replaced by their meaning.
func (f *fixture) dump(t *testing.T, a *Allocation) string {
	t.Helper()
	ctx := t.Context()
	replace := []string{f.prefix, "cm1:{t}:"}
	if a != nil {
		for i, token := range a.Tokens {
			role := a.Assignment.Parties[i].Role
			replace = append(replace, string(token[:]), "<token of "+role+">",
				a.Assignment.Parties[i].VN.Digits(), "<VN of "+role+">")
		}
	}
	words := strings.NewReplacer(replace...)
	keys := f.allKeys(t)
	lines := make([]string, 0, len(keys))
	for _, key := range keys {
		kind, err := f.client.Type(ctx, key).Result()
		require.NoError(t, err)
		until := ""
		if at := f.client.PExpireTime(ctx, key).Val(); at >= 0 {
			until = " until " + f.moment(strconv.FormatInt(at.Milliseconds(), 10))
		}
		head := words.Replace(key) + " " + strings.ToUpper(kind) + until
		var body []string
		switch kind {
		case "hash":
			for field, value := range f.client.HGetAll(ctx, key).Val() {
				body = append(body, words.Replace(field)+" = "+f.value(t, words, key, field, value))
			}
		case "set":
			for _, m := range f.client.SMembers(ctx, key).Val() {
				body = append(body, words.Replace(m))
			}
		case "zset":
			for _, z := range f.client.ZRangeWithScores(ctx, key, 0, -1).Val() {
				body = append(body, fmt.Sprintf("%s at %s", words.Replace(fmt.Sprint(z.Member)), f.moment(fmt.Sprintf("%.0f", z.Score))))
			}
		}
		sort.Strings(body)
		lines = append(lines, head+"\n  "+strings.Join(body, "\n  "))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n") + "\n"
}

// moment renders a time in ms relative to the start of the virtual clock.
func (f *fixture) moment(ms string) string {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return ms
	}
	return "T+" + time.UnixMilli(n).Sub(epoch).String()
}

func (f *fixture) value(t *testing.T, words *strings.Replacer, key, field, value string) string {
	t.Helper()
	switch {
	case strings.Contains(key, ":vn:"):
		b, err := viewBinding([]byte(value))
		require.NoError(t, err)
		return fmt.Sprintf("format %s, key %d, carrier %d, party %d, lease end T+%s, shows %s, sealed %d bytes, order %s",
			hex.EncodeToString(b[:1]), b.key(), b.carrier(), b.party(), b.leaseEnd().Sub(epoch),
			words.Replace(b.vn().Digits()), len(b.sealed()), b.orderID())
	case strings.Contains(key, ":ended:"):
		parts := strings.SplitN(value, " ", 4)
		parts[1] = f.moment(parts[1])
		return strings.Join(parts, " ")
	case field == "end", field == "lease", field == "clock":
		return f.moment(value)
	}
	return words.Replace(value)
}

// canned is a Reader that gives the same value every time.
type canned []byte

func (c canned) Read(_ context.Context, _ []byte, _, values [][]byte) error {
	values[0] = append(values[0][:0], c...)
	return nil
}

func (canned) Pipelined(context.Context, string, func(redis.Pipeliner)) error { return nil }
