package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// Audit is what a look at all of Redis found.
type Audit struct {
	VNs      int       // in the inventory
	Orders   int       // live ones
	Stock    []Stock   // as the sets and orders show it, not the counters
	Problems []Problem // mismatches that an atomic second look confirmed
	Warnings []string  // settings that cost memory or privacy; no mismatches
	Cleared  int       // suspects that the second look showed to be changes in flight
}

// Problem is a mismatch in Redis. At least one of VN and OrderID is set, but for a
// problem of a whole partition.
type Problem struct {
	Kind    ProblemKind
	VN      vn.Number
	OrderID string
	Detail  string
}

// ProblemKind names a kind of mismatch.
type ProblemKind string

// The kinds of mismatch that an audit looks for.
const (
	ProblemCold     ProblemKind = "cold"     // the partition is not marked ready
	ProblemLayout   ProblemKind = "layout"   // another schema or number of partitions
	ProblemLeaked   ProblemKind = "leaked"   // a VN in no state
	ProblemStates   ProblemKind = "states"   // a VN in two states, or in the sets of another pool or carrier
	ProblemUnowned  ProblemKind = "unowned"  // a VN in use that is not in the inventory
	ProblemShared   ProblemKind = "shared"   // a VN in two live orders
	ProblemBinding  ProblemKind = "binding"  // bindings that are not those of the VN's live order
	ProblemLease    ProblemKind = "lease"    // an order and its entry in leases do not match
	ProblemTotal    ProblemKind = "total"    // a counter that is not the inventory's count
	ProblemDamaged  ProblemKind = "damaged"  // a value that cannot be read
	ProblemForward  ProblemKind = "forward"  // an order outside its own partition that this does not point to
	ProblemUnlisted ProblemKind = "unlisted" // a set of a pool and carrier that total does not list
	auditPage                   = 1000       // keys of one SCAN
	auditRetries                = 5          // how often a suspect that keeps changing is looked at again
)

// Audit looks at every VN, order, binding and counter and reports each mismatch that
// persists when its parts are read again atomically: what changes meanwhile is no
// mismatch. It reads with SCAN, so it may run beside traffic. progress, if not nil, is
// called now and then with the number of keys read so far.
func (s *Store) Audit(ctx context.Context, progress func(keys int)) (Audit, error) {
	a := &auditor{store: s, progress: progress}
	if err := a.layout(ctx); err != nil {
		return a.out, err
	}
	parts := make(map[string]*census, len(s.layout.prefixes))
	for _, p := range s.layout.prefixes {
		parts[p] = newCensus()
	}
	if err := a.read(ctx, parts); err != nil {
		return a.out, err
	}
	for _, p := range s.layout.prefixes {
		if err := a.partition(ctx, p, parts[p]); err != nil {
			return a.out, err
		}
	}
	if err := a.forwards(ctx, parts); err != nil {
		return a.out, err
	}
	a.out.Stock = sumStock(a.out.Stock)
	sort.Slice(a.out.Stock, func(i, j int) bool {
		x, y := a.out.Stock[i], a.out.Stock[j]
		return x.Pool < y.Pool || x.Pool == y.Pool && x.Carrier < y.Carrier
	})
	return a.out, nil
}

// census is what one partition held while it was read, without one moment in common.
type census struct {
	inventory map[string]string
	sets      map[string][]string          // VN → "free pool:carrier", "cooling …", "draining …"
	bindings  map[string]map[string]string // VN → vn:<VN>
	orders    map[string]map[string]string
	leases    map[string]string // order → score
	wheres    map[string]bool   // pool:carrier of every set found
	changes   string            // of the inventory, before it was read
}

func newCensus() *census {
	return &census{
		inventory: map[string]string{}, sets: map[string][]string{}, bindings: map[string]map[string]string{},
		orders: map[string]map[string]string{}, leases: map[string]string{}, wheres: map[string]bool{},
	}
}

type auditor struct {
	store    *Store
	progress func(int)
	mu       sync.Mutex // of keys and the censuses while masters are read at the same time
	keys     int
	out      Audit
}

func (a *auditor) found(kind ProblemKind, order, detail string) {
	a.out.Problems = append(a.out.Problems, Problem{Kind: kind, OrderID: order, Detail: detail})
}

func (a *auditor) layout(ctx context.Context) error {
	ctx, cancel := a.store.bound(ctx)
	defer cancel()
	have, err := a.store.client.HGetAll(ctx, layoutKey).Result()
	if err != nil {
		return fmt.Errorf("read %s: %w", layoutKey, unavailable(err))
	}
	if n, err := strconv.Atoi(have["partitions"]); err == nil && a.store.config.Partitions == 0 && n > 0 && n <= maxPartitions {
		a.store.layout = newLayout(n)
	}
	if have["schema"] != strconv.Itoa(Schema) || have["partitions"] != strconv.Itoa(a.store.Partitions()) {
		a.found(ProblemLayout, "", fmt.Sprintf("%s says schema %q, partitions %q; expected %d and %d",
			layoutKey, have["schema"], have["partitions"], Schema, a.store.Partitions()))
	}
	return nil
}

// read fills the censuses from every master.
func (a *auditor) read(ctx context.Context, parts map[string]*census) error {
	for p, c := range parts {
		changes, err := a.store.client.HGet(ctx, metaKey(p), "changes").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read %s: %w", metaKey(p), unavailable(err))
		}
		c.changes = changes
	}
	switch client := a.store.client.(type) {
	case *redis.ClusterClient:
		return client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return a.readNode(ctx, node, parts)
		})
	case *redis.Client:
		return a.readNode(ctx, client, parts)
	default:
		return errors.New("audit: a client of an unknown kind")
	}
}

func (a *auditor) readNode(ctx context.Context, node *redis.Client, parts map[string]*census) error {
	a.warnings(ctx, node)
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, "cm1:{*", auditPage).Result()
		if err != nil {
			return fmt.Errorf("scan the keys: %w", unavailable(err))
		}
		if err := a.readPage(ctx, node, keys, parts); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// readPage reads the keys of one page: hashes whole in one pipeline, sets by scanning.
func (a *auditor) readPage(ctx context.Context, node *redis.Client, keys []string, parts map[string]*census) error {
	hashes := make(map[string]*redis.MapStringStringCmd, len(keys))
	pipe := node.Pipeline()
	for _, key := range keys {
		_, name := split(key, parts)
		if strings.HasPrefix(name, "vn:") || strings.HasPrefix(name, "order:") {
			hashes[key] = pipe.HGetAll(ctx, key)
		}
	}
	if len(hashes) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("read a page of keys: %w", unavailable(err))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		c, name := split(key, parts)
		if c == nil {
			continue
		}
		kind, rest, _ := strings.Cut(name, ":")
		var err error
		switch kind {
		case "vn":
			c.bindings[rest] = hashes[key].Val()
		case "order":
			c.orders[rest] = hashes[key].Val()
		case "inventory":
			err = scanPairs(ctx, node.HScan, key, func(field, value string) { c.inventory[field] = value })
		case "leases":
			err = scanPairs(ctx, node.ZScan, key, func(member, score string) { c.leases[member] = score })
		case "cooling":
			c.wheres[rest] = true
			err = scanPairs(ctx, node.ZScan, key, func(member, _ string) { c.sets[member] = append(c.sets[member], name) })
		case "free", "draining":
			c.wheres[rest] = true
			err = scanMembers(ctx, node, key, func(member string) { c.sets[member] = append(c.sets[member], name) })
		}
		if err != nil {
			return fmt.Errorf("scan %s: %w", kind, unavailable(err))
		}
	}
	a.keys += len(keys)
	if a.progress != nil {
		a.progress(a.keys)
	}
	return nil
}

func split(key string, parts map[string]*census) (*census, string) {
	end := strings.Index(key, "}:")
	if end < 0 {
		return nil, ""
	}
	return parts[key[:end+2]], key[end+2:]
}

func scanPairs(
	ctx context.Context, scan func(context.Context, string, uint64, string, int64) *redis.ScanCmd,
	key string, each func(a, b string),
) error {
	for cursor := uint64(0); ; {
		page, next, err := scan(ctx, key, cursor, "", auditPage).Result()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(page); i += 2 {
			each(page[i], page[i+1])
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func scanMembers(ctx context.Context, node *redis.Client, key string, each func(string)) error {
	for cursor := uint64(0); ; {
		page, next, err := node.SScan(ctx, key, cursor, "", auditPage).Result()
		if err != nil {
			return err
		}
		slices.Sort(page)
		for _, m := range slices.Compact(page) {
			each(m)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// warnings notes server settings that work but cost something.
func (a *auditor) warnings(ctx context.Context, node *redis.Client) {
	at := node.Options().Addr
	var found []string
	config, err := node.ConfigGet(ctx, "hash-max-listpack-value").Result()
	slow, err2 := node.ConfigGet(ctx, "slowlog-log-slower-than").Result()
	switch {
	case err != nil || err2 != nil:
		found = append(found, "redis "+at+": CONFIG cannot be read, so its settings were not checked")
	default:
		if n, _ := strconv.Atoi(config["hash-max-listpack-value"]); n < 128 {
			found = append(found, "redis "+at+": set hash-max-listpack-value to 128, or an order takes about 300 bytes more")
		}
		if slow["slowlog-log-slower-than"] != "-1" {
			found = append(found, "redis "+at+": set slowlog-log-slower-than to -1: the slow log keeps the arguments of commands")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out.Warnings = append(a.out.Warnings, found...)
}
