package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/vn"
)

// sighting is all that concerns one VN: from a census (no moment in common), or from
// one transaction.
type sighting struct {
	number   string
	entry    string   // of the inventory, "" for none
	sets     []string // such as "free:jakarta:sim"
	bindings map[string]string
	holders  map[string]map[string]string // live orders that hold it, by id
	// unsettled: the ledger may not know yet what one of its orders, live or ended, did.
	unsettled bool
	now       time.Time
}

// judge returns what is wrong with a VN, and its state when nothing is.
func (v *sighting) judge() (problems []Problem, state string) {
	n, _ := vn.ParseDigits(v.number)
	bad := func(kind ProblemKind, order, detail string) {
		problems = append(problems, Problem{Kind: kind, VN: n, OrderID: order, Detail: detail})
	}
	owner := ""
	if v.entry == "" {
		bad(ProblemUnowned, "", "is in use but not in the inventory")
	} else if inv, err := parseInventory(n, v.entry); err != nil {
		bad(ProblemDamaged, "", err.Error())
	} else {
		owner = inv.Pool + ":" + inv.Carrier
	}
	var kinds []string
	for _, set := range v.sets {
		kind, where, _ := strings.Cut(set, ":")
		kinds = append(kinds, kind)
		if owner != "" && where != owner {
			bad(ProblemStates, "", "is in "+set+", but belongs to "+owner)
		}
	}
	if len(v.holders) > 1 {
		bad(ProblemShared, "", fmt.Sprintf("is held by %d live orders", len(v.holders)))
	}
	switch leased := len(v.holders) > 0; {
	case leased && len(kinds) == 0:
		state = "leased"
	case leased && slices.Equal(kinds, []string{"draining"}):
		state = "draining"
	case !leased && len(kinds) == 1 && kinds[0] != "draining":
		state = kinds[0]
	case !leased && len(kinds) == 0:
		bad(ProblemLeaked, "", "is neither free nor leased, cooling or draining")
	default:
		if leased {
			kinds = append(kinds, "leased")
		}
		bad(ProblemStates, "", "is "+strings.Join(kinds, " and "))
	}
	for id, order := range v.holders {
		v.judgeBindings(id, order, bad)
	}
	if len(v.holders) == 0 && len(v.bindings) > 0 {
		bad(ProblemBinding, "", "still routes calls, though no live order holds it")
	}
	return problems, state
}

// judgeBindings compares the bindings of a VN with the live order that holds it.
func (v *sighting) judgeBindings(id string, order map[string]string, bad func(ProblemKind, string, string)) {
	rec, err := parseRecord(order)
	if err != nil {
		bad(ProblemDamaged, id, err.Error())
		return
	}
	lapsed := !rec.end.After(v.now)
	if len(v.bindings) == 0 {
		if !lapsed {
			bad(ProblemBinding, id, "routes no calls, though a live order holds it")
		}
		return
	}
	own := slices.IndexFunc(rec.numbers, func(n vn.Number) bool { return n.Digits() == v.number })
	if len(v.bindings) != len(rec.numbers)-1 {
		bad(ProblemBinding, id, fmt.Sprintf("has %d bindings for %d parties", len(v.bindings), len(rec.numbers)))
	}
	for calling, token := range rec.tokens {
		value, ok := v.bindings[string(token[:])]
		if !ok {
			if calling != own {
				bad(ProblemBinding, id, "lacks a party's binding")
			}
			continue
		}
		b, err := viewBinding([]byte(value))
		switch {
		case err != nil:
			bad(ProblemDamaged, id, err.Error())
		case string(b.orderID()) != id, int(b.party()) != own, b.vn() != rec.numbers[calling], b.key() != rec.keyID,
			b.carrier() != rec.carrierID:
			bad(ProblemBinding, id, "has a binding that is not its order's")
		case b.leaseEnd().Sub(rec.end).Abs() > time.Second:
			bad(ProblemBinding, id, "has a binding with another lease end than its order")
		}
	}
}

// judgeOrder compares an order with its entry in leases.
func judgeOrder(order map[string]string, score string) string {
	at, _ := strconv.ParseFloat(score, 64)
	switch {
	case liveOrder(order) && score == "":
		return "is live, but has no entry in leases: nothing would end it"
	case liveOrder(order) && strconv.FormatInt(int64(at), 10) != order["end"]:
		return "is live, but its entry in leases has another lease end"
	case order["state"] == string(vn.Ended) && order["settled"] != "1" && score == "":
		return "has ended, but is not settled and has no entry in leases: its end would never be published"
	}
	return ""
}

// state returns the state that a VN's face shows, and whether nothing about it seems wrong.
func (a *auditor) state(v face) (state string, sound bool) {
	kind, where, _ := strings.Cut(a.sets.name(v.set), ":")
	leased, bound := v.holder != 0, v.marks&faceBound != 0
	sound = v.marks&(faceDoubtful|faceListed) == faceListed && (kind == "" || where == a.sets.name(v.where))
	switch {
	case leased && kind == "":
		return "leased", sound
	case leased && kind == "draining":
		return "draining", sound
	case !leased && kind != "" && kind != "draining":
		return kind, sound && !bound
	}
	return "", false
}

// partition judges a census and looks at every suspect a second time, atomically.
func (a *auditor) partition(ctx context.Context, p string, c *census) error {
	now, ready, totals, _, err := a.store.moment(ctx, p)
	if err != nil {
		return err
	}
	c.now = now
	if !ready {
		a.found(ProblemCold, "", "the partition "+p+" is not marked ready; run `callmask rebuild`")
	}
	if c.odd > 0 {
		a.found(ProblemDamaged, "", fmt.Sprintf("%d entries where numbers belong are none", c.odd))
	}
	for i := range c.orders {
		if c.orders[i].live {
			a.out.Orders++
		}
	}
	counts := make(map[uint16]*Stock)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(auditLooks)
	for n, v := range c.faces {
		a.tell(c, n, v)
		state, sound := a.state(v)
		if sound {
			a.mu.Lock()
			a.count(counts, v, state)
			a.mu.Unlock()
			continue
		}
		g.Go(func() error {
			state, err := a.lookAgain(gctx, p, n, c.holders(n, v), totals)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.count(counts, v, state)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, st := range counts {
		a.out.VNs += st.Total
		a.out.Stock = append(a.out.Stock, *st)
	}
	if err := a.judgeOrders(ctx, p, c); err != nil {
		return err
	}
	return a.judgeTotals(ctx, p, c, counts)
}

// holders returns the live orders that were seen to hold a VN.
func (c *census) holders(n vn.Number, v face) []string {
	if v.holder == 0 {
		return nil
	}
	return append([]string{c.orders[v.holder-1].id}, c.rivals[n]...)
}

func (a *auditor) count(counts map[uint16]*Stock, v face, state string) {
	if v.where == 0 {
		return
	}
	st := counts[v.where]
	if st == nil {
		pool, carrier, _ := strings.Cut(a.sets.name(v.where), ":")
		st = &Stock{Pool: pool, Carrier: carrier}
		counts[v.where] = st
	}
	st.Total++
	switch state {
	case "free":
		st.Free++
	case "leased":
		st.Leased++
	case "cooling":
		st.Cooling++
	case "draining":
		st.Draining++
	}
}

// moment reads what a partition says of itself as a whole.
func (s *Store) moment(ctx context.Context, p string) (
	now time.Time, ready bool, totals map[string]string, changes string, err error,
) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var meta, total *redis.MapStringStringCmd
	if _, err = s.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		meta, total = pipe.HGetAll(ctx, metaKey(p)), pipe.HGetAll(ctx, totalKey(p))
		return nil
	}); err != nil {
		return now, false, nil, "", fmt.Errorf("read the partition: %w", unavailable(err))
	}
	now, err = s.timeAt(ctx, p, meta.Val()["clock"])
	return now, meta.Val()["ready"] == "1", total.Val(), meta.Val()["changes"], err
}

// lookAgain reads all that concerns a suspect in one transaction and reports what is
// still wrong. Who holds the VN must be known beforehand, so it is read first and the
// transaction repeated when it has changed meanwhile.
func (a *auditor) lookAgain(ctx context.Context, p string, n vn.Number, holders []string, totals map[string]string) (string, error) {
	if err := a.pace(ctx, 1); err != nil {
		return "", err
	}
	v, err := a.store.sightStill(ctx, p, n, holders, totals)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil:
		return "", err
	case v == nil: // it changes all the time, so it is in use, not lost
		a.out.Cleared++
		return "", nil
	}
	problems, state := v.judge()
	switch {
	case len(problems) == 0,
		v.entry == "" && len(v.sets) == 0 && len(v.holders) == 0 && len(v.bindings) == 0: // it has left the pool meanwhile
		a.out.Cleared++
	default:
		a.out.Problems = append(a.out.Problems, problems...)
	}
	return state, nil
}

// sightStill reads all that concerns a VN in one transaction that knows of every order that
// may hold it; nil without an error when they change all the time.
func (s *Store) sightStill(ctx context.Context, p string, n vn.Number, orders []string, totals map[string]string) (*sighting, error) {
	candidates := make(map[string]bool, len(orders)+1)
	for _, id := range orders {
		candidates[id] = true
	}
	for range auditRetries {
		v, err := s.sight(ctx, p, n.Digits(), candidates, totals)
		if err != nil {
			return nil, err
		}
		known := true
		for _, value := range v.bindings {
			if b, err := viewBinding([]byte(value)); err == nil && !candidates[string(b.orderID())] {
				candidates[string(b.orderID())], known = true, false
			}
		}
		if known {
			return v, nil
		}
	}
	return nil, nil //nolint:nilnil // said above
}

// sight reads all that concerns a VN in one transaction.
func (s *Store) sight(
	ctx context.Context, p, number string, candidates map[string]bool, totals map[string]string,
) (*sighting, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, _ := vn.ParseDigits(number)
	var (
		entry    *redis.StringCmd
		bindings *redis.MapStringStringCmd
		orders   = make(map[string]*redis.MapStringStringCmd, len(candidates))
		members  = make(map[string]*redis.BoolCmd)
		scores   = make(map[string]*redis.FloatCmd)
	)
	_, err := s.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		entry = pipe.HGet(ctx, inventoryKey(p), number)
		bindings = pipe.HGetAll(ctx, vnKey(p, n))
		for id := range candidates {
			orders[id] = pipe.HGetAll(ctx, orderKey(p, id))
		}
		for where := range totals {
			pool, carrier, _ := strings.Cut(where, ":")
			members["free:"+where] = pipe.SIsMember(ctx, freeKey(p, pool, carrier), number)
			members["draining:"+where] = pipe.SIsMember(ctx, drainingKey(p, pool, carrier), number)
			scores["cooling:"+where] = pipe.ZScore(ctx, coolingKey(p, pool, carrier), number)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look at a VN again: %w", unavailable(err))
	}
	v := &sighting{number: number, entry: entry.Val(), bindings: bindings.Val(), holders: map[string]map[string]string{}}
	for set, is := range members {
		if is.Val() {
			v.sets = append(v.sets, set)
		}
	}
	for set, score := range scores {
		if score.Err() == nil {
			v.sets = append(v.sets, set)
		}
	}
	for id, order := range orders {
		h := order.Val()
		if !slices.Contains(strings.Split(h["numbers"], ","), number) {
			continue
		}
		v.unsettled = v.unsettled || h["settled"] == "0"
		if liveOrder(h) {
			v.holders[id] = h
		}
	}
	if v.now, _, _, _, err = s.moment(ctx, p); err != nil {
		return nil, err
	}
	return v, nil
}

func (a *auditor) judgeOrders(ctx context.Context, p string, c *census) error {
	for i := range c.orders {
		id := c.orders[i].id
		if c.orders[i].sound() {
			continue
		}
		var (
			hash  *redis.MapStringStringCmd
			score *redis.FloatCmd
		)
		_, err := a.store.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			hash, score = pipe.HGetAll(ctx, orderKey(p, id)), pipe.ZScore(ctx, leasesKey(p), id)
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("look at an order again: %w", unavailable(err))
		}
		at := ""
		if score.Err() == nil {
			at = strconv.FormatFloat(score.Val(), 'f', 0, 64)
		}
		if detail := judgeOrder(hash.Val(), at); detail != "" {
			a.found(ProblemLease, id, detail)
		} else {
			a.out.Cleared++
		}
	}
	return nil
}

// sound tells whether nothing about an order's face seems wrong: see judgeOrder.
func (o *orderFace) sound() bool {
	switch {
	case o.live:
		return o.score == o.end
	case o.unsettled:
		return o.score != noScore
	}
	return true
}

// judgeTotals compares the counters with the inventory, as long as nothing was added
// or taken away while it was read.
func (a *auditor) judgeTotals(ctx context.Context, p string, c *census, counts map[uint16]*Stock) error {
	var total, meta *redis.MapStringStringCmd
	if _, err := a.store.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		total, meta = pipe.HGetAll(ctx, totalKey(p)), pipe.HGetAll(ctx, metaKey(p))
		return nil
	}); err != nil {
		return fmt.Errorf("read the counters again: %w", unavailable(err))
	}
	for where := range c.wheres {
		if _, ok := total.Val()[where]; !ok {
			a.found(ProblemUnlisted, "", "there are VNs of "+where+", which total does not list: they would never be counted or reused")
		}
	}
	if meta.Val()["changes"] != c.changes {
		a.out.Cleared++
		return nil
	}
	for where, value := range total.Val() {
		counted := 0
		if st := counts[a.sets.index[where]]; st != nil {
			counted = st.Total
		}
		if value != strconv.Itoa(counted) {
			said, _ := strconv.Atoi(value)
			a.out.Problems = append(a.out.Problems, Problem{
				Kind: ProblemTotal, Detail: fmt.Sprintf("total says %s VNs of %s, the inventory holds %d", value, where, counted),
				total: counter{partition: p, where: where, off: counted - said},
			})
		}
	}
	return nil
}
