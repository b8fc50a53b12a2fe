package scripts

import (
	"context"
	"fmt"
	"sort"
	"strconv"
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

	total counter // of ProblemTotal
}

// counter is an entry of total, and how far it is off.
type counter struct {
	partition, where string
	off              int
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
	auditPage                   = 100        // of one SCAN: Redis does what one pipeline asks in one go, and answers nobody else meanwhile
	auditLooks                  = 8          // second looks at the same time
	auditRetries                = 5          // how often a suspect that keeps changing is looked at again
)

// SurveyOptions says how a Survey goes about its work. The zero value is a plain one.
type SurveyOptions struct {
	// Pace is asked before more is read, with how much that is (keys, members of sets and
	// fields of the inventory), and may wait; nil means as fast as it goes.
	Pace func(ctx context.Context, n int) error
	// Progress is told now and then how many places of VNs were read, and of how many: each VN
	// has two, one in the inventory and one where it is.
	Progress func(done, of int)
	// Each is told of every VN, in no order, once all was read. It must not keep the Holding.
	Each func(h *Holding)
}

// Audit is a Survey as fast as it goes that also looks at the server's settings. progress
// may be nil.
func (s *Store) Audit(ctx context.Context, progress func(done, of int)) (Audit, error) {
	return s.survey(ctx, SurveyOptions{Progress: progress}, true)
}

// Survey looks at every VN, order, binding and counter and reports each mismatch that
// persists when its parts are read again atomically: what changes meanwhile is no
// mismatch. It reads with SCAN, a hundred places at a time, so it may run beside
// traffic. What it keeps in memory is some hundred bytes for each VN and live order.
func (s *Store) Survey(ctx context.Context, options SurveyOptions) (Audit, error) {
	return s.survey(ctx, options, false)
}

func (s *Store) survey(ctx context.Context, options SurveyOptions, settings bool) (Audit, error) {
	a := &auditor{store: s, options: options, settings: settings, sets: names{index: map[string]uint16{}}}
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

type auditor struct {
	store    *Store
	options  SurveyOptions
	settings bool       // of the server are looked at as well
	mu       sync.Mutex // of what follows and of the censuses, while masters are read at the same time
	sets     names      // such as "free:jakarta:sim", and of the inventory "jakarta:sim"
	done, of int
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
	if n, err := strconv.Atoi(have["partitions"]); err == nil && a.store.config.Partitions == 0 && n > 0 && n <= maxPartitions &&
		n != a.store.Partitions() { // a Store that was started knows it, and others use it meanwhile
		a.store.layout = newLayout(n)
	}
	if have["schema"] != strconv.Itoa(Schema) || have["partitions"] != strconv.Itoa(a.store.Partitions()) {
		a.found(ProblemLayout, "", fmt.Sprintf("%s says schema %q, partitions %q; expected %d and %d",
			layoutKey, have["schema"], have["partitions"], Schema, a.store.Partitions()))
	}
	return nil
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
