package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Facts is what Redis holds about a call from one number to another, and what Lookup
// decides about it. Destinations are real numbers.
type Facts struct {
	Partition  int // of the VN, from 0
	Partitions int
	Node       string    // host:port of the master that has the partition
	Clock      time.Time // the partition's
	Ready      bool      // the partition is marked ready

	Inventory  *Inventory // nil: the number is not one of ours
	State      NumberState
	ReusableAt time.Time // of a cooling VN
	Callers    int       // how many numbers reach somebody by this VN
	// Order is the live order that holds the VN, as its bindings name it; nil for none.
	Order *OrderFacts
	// Binding is the caller's; nil for none.
	Binding *BindingFacts
	// Ended is what is remembered of the caller in the VN's last order; nil for nothing.
	Ended *EndedFacts
	// Keys are the ids of the keys under which the caller was looked for, the primary first.
	Keys []byte

	Decision vn.Decision
	Carrier  byte // of the VN, as Lookup tells it
}

// NumberState is one of the four states of a VN; empty for a number that is not ours.
type NumberState string

// The states.
const (
	StateFree     NumberState = "free"
	StateLeased   NumberState = "leased" // also when its lease has run out and nobody has reaped it
	StateCooling  NumberState = "cooling"
	StateDraining NumberState = "draining"
)

// OrderFacts is what may be told of the live order that holds a VN.
type OrderFacts struct {
	ID       string
	Pool     string
	LeaseEnd time.Time
	KeyID    byte
	Parties  []vn.AssignedParty
	Own      int // index of the party that the VN reaches
	Caller   int // index of the party that the caller is; -1 when it is none
}

// BindingFacts is a caller's permission.
type BindingFacts struct {
	KeyID    byte
	LeaseEnd time.Time
}

// EndedFacts tells when and why the order that a caller was a party of has ended.
type EndedFacts struct {
	OrderID string
	Reason  vn.EndReason
	At      time.Time
}

// errChanging means that what Redis holds of a call changed each time between two reads.
var errChanging = fmt.Errorf("%w: the order is changing at this moment; ask again", vn.ErrUnavailable)

// Explain reads all that a decision depends on, and decides as Lookup does. It changes
// nothing. The facts are of one moment, and of the same as the decision: what changes
// between is read again.
func (s *Store) Explain(ctx context.Context, called, calling vn.Number) (*Facts, error) {
	for range 3 {
		f, err := s.facts(ctx, called, calling)
		if err != nil {
			return nil, err
		}
		if f.Carrier, err = s.Lookup(ctx, called, calling, &f.Decision); err != nil {
			return nil, err
		}
		if f.agree() {
			return f, nil
		}
	}
	return nil, errChanging
}

// agree tells whether the decision is the one that the facts lead to.
func (f *Facts) agree() bool {
	switch f.Decision.Reason {
	case vn.Connected:
		return f.Binding != nil
	case vn.OrderEnded:
		return f.Ended != nil || f.Binding != nil // a binding that has lapsed by our clock
	case vn.CallerNotAllowed:
		return f.Binding == nil && f.Ended == nil && f.Callers > 0
	case vn.NumberNotAssigned:
		return f.Binding == nil && f.Ended == nil && f.Callers == 0
	case vn.CallerWithheld, vn.RateLimited, vn.Unavailable:
	}
	return false
}

// Clock returns Redis's time. On a Cluster it is that of the first partition's node.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now, err := s.timeAt(ctx, s.layout.prefixes[0], "")
	return now.UTC(), err
}

// factReads are the answers that the facts of a VN are made of.
type factReads struct {
	meta     *redis.SliceCmd
	entry    *redis.StringCmd
	bindings *redis.MapStringStringCmd
	ended    *redis.MapStringStringCmd
}

func (s *Store) facts(ctx context.Context, called, calling vn.Number) (*Facts, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	p := s.layout.ofVN(called)
	f := &Facts{Partition: slices.Index(s.layout.prefixes, p), Partitions: len(s.layout.prefixes)}
	var err error
	if f.Node, err = s.node(ctx, p); err != nil {
		return nil, err
	}
	var read factReads
	_, err = s.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		read.meta = pipe.HMGet(ctx, metaKey(p), "ready", "clock")
		read.entry = pipe.HGet(ctx, inventoryKey(p), called.Digits())
		read.bindings = pipe.HGetAll(ctx, vnKey(p, called))
		read.ended = pipe.HGetAll(ctx, endedKey(p, called))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the facts of a call: %w", unavailable(err))
	}
	f.Ready = read.meta.Val()[0] == "1"
	mark, _ := read.meta.Val()[1].(string) // nil where nothing was ever written
	if f.Clock, err = s.timeAt(ctx, p, mark); err != nil {
		return nil, err
	}
	f.Clock = f.Clock.UTC()
	if err := f.caller(s.keys.Accepted(), calling, &read); err != nil {
		return nil, err
	}
	if err := s.number(ctx, f, p, called, &read); err != nil {
		return nil, err
	}
	return f, s.holder(ctx, f, p, called, calling, read.bindings.Val())
}

// node returns the address of the master that has a partition.
func (s *Store) node(ctx context.Context, p string) (string, error) {
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		node, err := client.MasterForKey(ctx, guardKey(p))
		if err != nil {
			return "", fmt.Errorf("find the partition's node: %w", unavailable(err))
		}
		return node.Options().Addr, nil
	case *redis.Client:
		return client.Options().Addr, nil
	}
	return "", errors.New("explain: a client of an unknown kind")
}

// caller finds what the VN's hashes hold of the caller.
func (f *Facts) caller(keys []*seal.Key, calling vn.Number, read *factReads) error {
	f.Callers = len(read.bindings.Val())
	for _, key := range keys {
		f.Keys = append(f.Keys, key.ID())
		token := key.Token(calling)
		if value, ok := read.bindings.Val()[string(token[:])]; ok && f.Binding == nil {
			b, err := viewBinding([]byte(value))
			if err != nil {
				return err
			}
			f.Binding = &BindingFacts{KeyID: b.key(), LeaseEnd: b.leaseEnd().UTC()}
		}
		if note, ok := read.ended.Val()[string(token[:])]; ok && f.Ended == nil {
			e, err := parseEndedFacts(note)
			if err != nil {
				return err
			}
			f.Ended = e
		}
	}
	return nil
}

// number finds which state a VN is in.
func (s *Store) number(ctx context.Context, f *Facts, p string, called vn.Number, read *factReads) error {
	if read.entry.Val() == "" {
		return nil
	}
	inv, err := parseInventory(called, read.entry.Val())
	if err != nil {
		return err
	}
	f.Inventory = &inv
	var (
		free, draining *redis.BoolCmd
		cooling        *redis.FloatCmd
		member         = called.Digits()
	)
	_, err = s.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		free = pipe.SIsMember(ctx, freeKey(p, inv.Pool, inv.Carrier), member)
		cooling = pipe.ZScore(ctx, coolingKey(p, inv.Pool, inv.Carrier), member)
		draining = pipe.SIsMember(ctx, drainingKey(p, inv.Pool, inv.Carrier), member)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read the number's state: %w", unavailable(err))
	}
	switch rested := time.UnixMilli(int64(cooling.Val())).UTC(); {
	case draining.Val():
		f.State = StateDraining
	case cooling.Err() == nil && rested.After(f.Clock):
		f.State, f.ReusableAt = StateCooling, rested
	case free.Val(), cooling.Err() == nil:
		f.State = StateFree
	default:
		f.State = StateLeased
	}
	return nil
}

// holder reads the live order that the VN's bindings name.
func (s *Store) holder(ctx context.Context, f *Facts, p string, called, calling vn.Number, bindings map[string]string) error {
	for _, value := range bindings {
		b, err := viewBinding([]byte(value))
		if err != nil {
			return err
		}
		id := string(b.orderID())
		hash, err := s.client.HGetAll(ctx, orderKey(p, id)).Result()
		if err != nil {
			return fmt.Errorf("read the order: %w", unavailable(err))
		}
		if !liveOrder(hash) {
			return nil // it ended since
		}
		rec, err := parseRecord(hash)
		if err != nil {
			return err
		}
		f.Order = &OrderFacts{
			ID: id, Pool: rec.pool, LeaseEnd: rec.end, KeyID: rec.keyID,
			Own: slices.Index(rec.numbers, called), Caller: -1,
		}
		for i, n := range rec.numbers {
			f.Order.Parties = append(f.Order.Parties, vn.AssignedParty{Role: rec.roles[i], VN: n})
		}
		if key, ok := s.keys.ByID(rec.keyID); ok {
			f.Order.Caller = slices.Index(rec.tokens, key.Token(calling))
		}
		return nil
	}
	return nil
}

// parseEndedFacts reads a value of ended:<VN>: "<reason> <end, ms> <carrier's byte> <order id>".
func parseEndedFacts(note string) (*EndedFacts, error) {
	_, orderID, err := parseEnded(note)
	if err != nil {
		return nil, err
	}
	reason, rest, _ := strings.Cut(note, " ")
	ended, _, _ := strings.Cut(rest, " ")
	at, err := parseMillis(ended)
	if err != nil {
		return nil, err
	}
	return &EndedFacts{OrderID: orderID, Reason: vn.EndReason(reason), At: at}, nil
}
