package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Allocate gives the order one VN per party of its pool, all of one carrier, or
// none. The same order again gives the same assignment, Replayed. Where the order's own
// partition has too few VNs the others are tried, the fullest first. An order is refused
// only after what can end has been reaped everywhere and no partition held enough. The
// order must have passed vn.Order.Check.
//
// Errors: vn.ErrPoolExhausted, vn.ErrOrderConflict (the order exists with other
// parties or another pool), vn.ErrOrderEnded, vn.ErrCold, vn.ErrUnavailable (outcome
// unknown: call again).
func (s *Store) Allocate(ctx context.Context, r AllocateRequest) (Allocation, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := s.keys.Primary()
	w := &allocation{store: s, request: &r, keyID: key.ID()}
	w.roles, w.tokens = joinParties(r.Order.Parties, key)
	var err error
	if w.sealed, err = sealParties(r.Order.ID, r.Order.Parties, key, w.tokens); err != nil {
		return Allocation{}, err
	}
	a, err := w.spill(ctx)
	if err != nil {
		return Allocation{}, fmt.Errorf("allocate: %w", err)
	}
	return a, nil
}

// allocation is one call of Allocate.
type allocation struct {
	store   *Store
	request *AllocateRequest
	keyID   byte
	roles   string
	tokens  []seal.Token
	sealed  [][]seal.Sealed
}

// step runs the script once, in one partition. With vn.ErrPoolExhausted no VN was
// taken there; with a mark that is not nil the order is, or is to be, where it points.
func (w *allocation) step(ctx context.Context, partition int, mark, next string) (Allocation, *mark, error) {
	keys, args := w.args(w.store.layout.prefixes[partition], mark, next)
	answer, err := w.store.run(ctx, w.store.scripts.allocate, keys, args)
	if err != nil {
		return Allocation{}, nil, err
	}
	var a Allocation
	switch answer.int(0) {
	case allocateAllocated:
		a, err = w.allocated(answer)
	case allocateReplayed:
		a, err = w.replayed(answer)
	case allocateEnded:
		return a, nil, vn.ErrOrderEnded
	case allocateExhausted:
		return a, nil, vn.ErrPoolExhausted
	case allocateCold:
		return a, nil, vn.ErrCold
	case allocateForwarded:
		m, err := w.store.readMark(answer.string(1), answer.string(2))
		return a, m, err
	default:
		return a, nil, errReply
	}
	a.Partition = partition
	return a, nil, err
}

var errReply = errors.New("the script answered a status of another version")

// args builds KEYS and ARGV of allocate.
func (w *allocation) args(p, mark, next string) (keys []string, args []any) {
	r := w.request
	keys = append(make([]string, 0, 5+2*len(r.Carriers)),
		guardKey(p), metaKey(p), orderKey(p, r.Order.ID), leasesKey(p), inventoryKey(p))
	args = []any{
		r.Order.ID, r.Order.Pool, millis(r.Order.TTL), millis(r.Cooldown),
		strconv.Itoa(int(w.keyID)), w.roles, joinTokens(w.tokens), mark, next, millis(w.store.config.Tombstone),
		joinDigits(r.Lost), joinFenced(r.Won),
	}
	for _, c := range r.Carriers {
		keys = append(keys, freeKey(p, r.Order.Pool, c.Name), coolingKey(p, r.Order.Pool, c.Name))
		args = append(args, c.Name, strconv.Itoa(int(c.ID)))
	}
	for called := range w.sealed {
		for calling := range w.sealed[called] {
			if calling != called {
				args = append(args, packBinding(w.keyID, called, w.sealed[called][calling], r.Order.ID))
			}
		}
	}
	return keys, args
}

func (w *allocation) allocated(answer reply) (Allocation, error) {
	r := w.request
	end, err := parseMillis(answer.string(1))
	if err != nil {
		return Allocation{}, err
	}
	numbers, err := parseNumbers(answer.strings(4))
	if err != nil {
		return Allocation{}, err
	}
	entries := answer.strings(5)
	if len(numbers) != len(r.Order.Parties) || len(entries) != len(numbers) {
		return Allocation{}, errReply
	}
	fences, refs := make([]uint64, len(numbers)), make([]string, len(numbers))
	for i, n := range numbers {
		// The VN is taken by now, so a damaged entry is left to `check`: without fence
		// and ref the ledger finds them in its own record.
		if inv, err := parseInventory(n, entries[i]); err == nil {
			fences[i], refs[i] = inv.Fence, inv.Ref
		}
	}
	rec := &record{
		state: vn.Active, pool: r.Order.Pool, carrier: answer.string(2), keyID: w.keyID, tokens: w.tokens,
		numbers: numbers, fences: fences, end: end, cooldown: r.Cooldown,
	}
	for _, p := range r.Order.Parties {
		rec.roles = append(rec.roles, p.Role)
	}
	a := rec.allocation(r.Order.ID, w.sealed)
	a.Free = answer.int(3) * len(w.store.layout.prefixes)
	for i := range a.Numbers {
		a.Numbers[i].Ref = refs[i]
	}
	return a, nil
}

// replayed compares the order asked for with the one that exists, under the key that
// the existing one was made with.
func (w *allocation) replayed(answer reply) (Allocation, error) {
	r := w.request
	rec, err := parseRecord(answer.hash(1))
	if err != nil {
		return Allocation{}, err
	}
	key, ok := w.store.keys.ByID(rec.keyID)
	if !ok {
		return Allocation{}, fmt.Errorf("the keyset lacks key %d, which a live order uses", rec.keyID)
	}
	_, tokens := joinParties(r.Order.Parties, key)
	if rec.pool != r.Order.Pool || len(tokens) != len(rec.tokens) {
		return Allocation{}, vn.ErrOrderConflict
	}
	// The same parties in another order are the same order: find each in the record.
	parties := make([]vn.Party, len(tokens))
	for i, t := range tokens {
		at := slices.Index(rec.tokens, t)
		if at < 0 || rec.roles[at] != r.Order.Parties[i].Role {
			return Allocation{}, vn.ErrOrderConflict
		}
		parties[at] = r.Order.Parties[i]
	}
	sealed, err := sealParties(r.Order.ID, parties, key, rec.tokens)
	if err != nil {
		return Allocation{}, err
	}
	a := rec.allocation(r.Order.ID, sealed)
	a.Replayed = true
	return a, nil
}

func joinDigits(numbers []vn.Number) string {
	digits := make([]string, len(numbers))
	for i, n := range numbers {
		digits[i] = n.Digits()
	}
	return strings.Join(digits, ",")
}

func joinFenced(numbers []Fenced) string {
	pairs := make([]string, len(numbers))
	for i, n := range numbers {
		pairs[i] = n.VN.Digits() + " " + strconv.FormatUint(n.Fence, 10)
	}
	return strings.Join(pairs, ",")
}
