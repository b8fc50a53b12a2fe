package scripts

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// census is what one partition held while it was read, without one moment in common:
// only what is needed to see whether something may be wrong.
type census struct {
	faces   map[vn.Number]face
	orders  []orderFace
	byID    map[string]uint32      // index of orders
	rivals  map[vn.Number][]string // orders that hold a VN besides its face's holder
	wheres  map[string]bool        // pool:carrier of every set found
	odd     int                    // what stands where VNs belong and is none
	changes string                 // of the inventory, before it was read
	now     time.Time              // when reading began
}

// face is a VN as a census saw it.
type face struct {
	fence  uint64
	holder uint32 // 1 + the index of the live order that holds it; 0: none
	where  uint16 // auditor.sets: pool and carrier by the inventory; 0: not in it
	set    uint16 // auditor.sets: the set that it is in; 0: none
	marks  uint8
}

const (
	faceBound     = 1 << iota // vn:<VN> exists
	faceDoubtful              // something does not fit: only a second look tells
	faceUnsettled             // the ledger may not know yet what its order did
	faceListed                // it has an entry in the inventory, readable or not
)

// orderFace is an order as a census saw it. Tombstones that are settled leave none.
type orderFace struct {
	id        string
	end       int64 // lease end, ms
	score     int64 // of its entry in leases, ms; noScore: it has none
	at        int16 // the partition that its hash points to; -1: none
	live      bool
	unsettled bool
}

const noScore = math.MinInt64

func newCensus() *census {
	return &census{faces: map[vn.Number]face{}, byID: map[string]uint32{}, rivals: map[vn.Number][]string{}, wheres: map[string]bool{}}
}

// order returns the order's face, a new one where there is none. It holds until the next call.
func (c *census) order(id string) (*orderFace, uint32) {
	i, ok := c.byID[id]
	if !ok {
		i = uint32(len(c.orders))
		c.orders = append(c.orders, orderFace{id: id, score: noScore, at: -1})
		c.byID[id] = i
	}
	return &c.orders[i], i
}

// change changes the face of a number in digits.
func (c *census) change(digits string, f func(v *face)) {
	n, ok := vn.ParseDigits(digits)
	if !ok {
		c.odd++
		return
	}
	v := c.faces[n]
	f(&v)
	c.faces[n] = v
}

// names keeps each of a few strings once. 0 stands for none.
type names struct {
	list  []string
	index map[string]uint16
}

func (s *names) of(name string) uint16 {
	i, ok := s.index[name]
	if !ok {
		s.list = append(s.list, name)
		i = uint16(len(s.list))
		s.index[name] = i
	}
	return i
}

func (s *names) name(i uint16) string {
	if i == 0 {
		return ""
	}
	return s.list[i-1]
}

// read fills the censuses from every master.
func (a *auditor) read(ctx context.Context, parts map[string]*census) error {
	for p, c := range parts {
		now, _, totals, changes, err := a.store.moment(ctx, p)
		if err != nil {
			return err
		}
		c.now, c.changes = now, changes
		for _, n := range totals {
			count, _ := strconv.Atoi(n)
			a.of += 2 * count
		}
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

func (a *auditor) pace(ctx context.Context, n int) error {
	if a.options.Pace == nil {
		return nil
	}
	return a.options.Pace(ctx, n)
}

// went notes that n more places of VNs were read; mu is held.
func (a *auditor) went(n int) {
	a.done += n
	if a.options.Progress != nil {
		a.options.Progress(a.done, max(a.of, a.done))
	}
}

func (a *auditor) readNode(ctx context.Context, node *redis.Client, parts map[string]*census) error {
	if a.settings {
		a.warnings(ctx, node)
	}
	for cursor := uint64(0); ; {
		if err := a.pace(ctx, auditPage); err != nil {
			return err
		}
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

// readPage reads the keys of one page: orders with the bindings of their VNs, sets by scanning.
func (a *auditor) readPage(ctx context.Context, node *redis.Client, keys []string, parts map[string]*census) error {
	var orders []*readOrder
	for _, key := range keys {
		c, p, name := split(key, parts)
		if c == nil {
			continue
		}
		kind, rest, _ := strings.Cut(name, ":")
		var err error
		switch kind {
		case "vn":
			a.mu.Lock()
			c.change(rest, func(v *face) { v.marks |= faceBound })
			a.went(1)
			a.mu.Unlock()
		case "order":
			orders = append(orders, &readOrder{census: c, prefix: p, id: rest})
		case "inventory":
			err = a.scanPairs(ctx, node.HScan, key, func(digits, entry string) { a.listed(c, digits, entry) })
		case "leases":
			err = a.scanPairs(ctx, node.ZScan, key, func(id, score string) {
				at, _ := strconv.ParseFloat(score, 64)
				o, _ := c.order(id)
				o.score = int64(at)
			})
		case "cooling":
			a.where(c, rest)
			err = a.scanPairs(ctx, node.ZScan, key, func(digits, _ string) { a.member(c, digits, name) })
		case "free", "draining":
			a.where(c, rest)
			err = a.scanMembers(ctx, node, key, func(digits string) { a.member(c, digits, name) })
		}
		if err != nil {
			return fmt.Errorf("scan %s: %w", kind, unavailable(err))
		}
	}
	return a.readOrders(ctx, node, orders)
}

func (a *auditor) where(c *census, where string) {
	a.mu.Lock()
	c.wheres[where] = true
	a.mu.Unlock()
}

// listed notes an entry of the inventory; mu is held.
func (a *auditor) listed(c *census, digits, entry string) {
	a.went(1)
	c.change(digits, func(v *face) {
		v.marks |= faceListed
		inv, err := parseInventory(0, entry)
		if err != nil {
			v.marks |= faceDoubtful
			return
		}
		v.fence, v.where = inv.Fence, a.sets.of(inv.Pool+":"+inv.Carrier)
	})
}

// member notes that a VN is in a set; mu is held. A SCAN may tell of it twice.
func (a *auditor) member(c *census, digits, set string) {
	a.went(1)
	c.change(digits, func(v *face) {
		i := a.sets.of(set)
		if v.set != 0 && v.set != i {
			v.marks |= faceDoubtful
		}
		v.set = i
	})
}

// readOrder is an order on its way into a census.
type readOrder struct {
	census     *census
	prefix, id string
	hash       *redis.MapStringStringCmd
	numbers    []string
	bindings   []*redis.MapStringStringCmd // of its VNs, when it is live
}

// readOrders reads orders, and the bindings of the live ones right after them.
func (a *auditor) readOrders(ctx context.Context, node *redis.Client, orders []*readOrder) error {
	if len(orders) == 0 {
		return nil
	}
	pipe := node.Pipeline()
	for _, o := range orders {
		o.hash = pipe.HGetAll(ctx, orderKey(o.prefix, o.id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("read a page of orders: %w", unavailable(err))
	}
	bindings := 0
	for _, o := range orders {
		o.numbers = strings.Split(o.hash.Val()["numbers"], ",")
		if !liveOrder(o.hash.Val()) {
			continue
		}
		for _, digits := range o.numbers {
			o.bindings = append(o.bindings, pipe.HGetAll(ctx, o.prefix+"vn:"+digits))
			bindings++
		}
	}
	if bindings > 0 {
		if err := a.pace(ctx, bindings); err != nil {
			return err
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("read a page of bindings: %w", unavailable(err))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range orders {
		o.note()
	}
	return nil
}

// note puts what was read of an order into its census.
func (o *readOrder) note() {
	hash, c := o.hash.Val(), o.census
	live := liveOrder(hash)
	unsettled := hash["settled"] != "1" && (live || hash["state"] == string(vn.Ended))
	at, err := strconv.ParseInt(hash["at"], 10, 16)
	if err != nil {
		at = -1
	}
	if len(hash) == 0 || !live && !unsettled && at < 0 {
		return // gone, or a tombstone that nothing is left to do about
	}
	entry, index := c.order(o.id)
	entry.live, entry.unsettled, entry.at = live, unsettled, int16(at)
	entry.end, _ = strconv.ParseInt(hash["end"], 10, 64)
	for i, digits := range o.numbers {
		if digits == "" {
			continue
		}
		c.change(digits, func(v *face) {
			if unsettled {
				v.marks |= faceUnsettled
			}
			if !live {
				return
			}
			if v.holder != 0 && v.holder != index+1 {
				v.marks |= faceDoubtful
				n, _ := vn.ParseDigits(digits)
				c.rivals[n] = append(c.rivals[n], c.orders[v.holder-1].id)
			}
			v.holder = index + 1
			seen := &sighting{number: digits, bindings: o.bindings[i].Val(), now: c.now}
			seen.judgeBindings(o.id, hash, func(ProblemKind, string, string) { v.marks |= faceDoubtful })
		})
	}
}

func split(key string, parts map[string]*census) (c *census, prefix, name string) {
	end := strings.Index(key, "}:")
	if end < 0 {
		return nil, "", ""
	}
	return parts[key[:end+2]], key[:end+2], key[end+2:]
}

// scanPairs calls each, with mu held, for what a SCAN of a kind gives in pairs.
func (a *auditor) scanPairs(
	ctx context.Context, scan func(context.Context, string, uint64, string, int64) *redis.ScanCmd,
	key string, each func(a, b string),
) error {
	return a.scan(ctx, func(cursor uint64) *redis.ScanCmd { return scan(ctx, key, cursor, "", auditPage) }, func(page []string) {
		for i := 0; i+1 < len(page); i += 2 {
			each(page[i], page[i+1])
		}
	})
}

func (a *auditor) scanMembers(ctx context.Context, node *redis.Client, key string, each func(string)) error {
	return a.scan(ctx, func(cursor uint64) *redis.ScanCmd { return node.SScan(ctx, key, cursor, "", auditPage) }, func(page []string) {
		slices.Sort(page)
		for _, m := range slices.Compact(page) {
			each(m)
		}
	})
}

func (a *auditor) scan(ctx context.Context, next func(cursor uint64) *redis.ScanCmd, each func(page []string)) error {
	for cursor := uint64(0); ; {
		if err := a.pace(ctx, auditPage); err != nil {
			return err
		}
		page, after, err := next(cursor).Result()
		if err != nil {
			return err
		}
		a.mu.Lock()
		each(page)
		a.mu.Unlock()
		if cursor = after; cursor == 0 {
			return nil
		}
	}
}
