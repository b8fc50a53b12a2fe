package scripts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// Recorded is what the last ledger record of a VN says.
type Recorded struct {
	Inventory // Fence is the record's sequence

	Kind     RecordedKind
	OrderID  string       // assigned, released; retired when an order's end retired it
	Reason   vn.EndReason // released
	GivenUp  bool         // released by an order that goes on with other VNs
	At       time.Time    // assigned: the lease end; else when the order ended
	Cooldown time.Duration

	// What follows is set for assigned only, see LeasedNumber and Allocation.
	CarrierID byte
	KeyID     byte
	Whole     bool // the last records of all VNs of the order say that it has them
	Party     int  // the party that the VN reaches
	Roles     []string
	VNs       []vn.Number // by party
	Tokens    []seal.Token
	Sealed    []seal.Sealed // by calling party
}

// RecordedKind is the kind of a ledger record.
type RecordedKind string

// The kinds of a ledger record: the state that it leaves its VN in.
const (
	RecordedOwned    RecordedKind = "owned"
	RecordedAssigned RecordedKind = "assigned"
	RecordedReleased RecordedKind = "released"
	RecordedRetired  RecordedKind = "retired"

	reasonGivenUp = "given_up"
)

// Restored tells what Restore did with one VN.
type Restored struct {
	Status RestoreStatus
	// OrderID is the holder of RestoreHeld; Reason and EndedAt are of RestoreEnded;
	// Partition, of RestoreMoved, is where the order is, -1 for that of the VN.
	OrderID   string
	Reason    vn.EndReason
	EndedAt   time.Time
	Partition int
}

// RestoreStatus is a status of the restore script, as its contract names it.
type RestoreStatus int

// What Restore did, or why it left the VN as it is.
const (
	RestoreDone   RestoreStatus = 1
	RestoreKnown  RestoreStatus = 2 // Redis knows the record, or a later one
	RestoreBusy   RestoreStatus = 3 // the VN is being changed; what does that puts it right, or is restored then
	RestoreHeld   RestoreStatus = 4 // an order has it that it is not of any more, see Forget
	RestoreAdrift RestoreStatus = 5 // it is in no state, so an order that ran out may list it
	RestoreEnded  RestoreStatus = 6 // its order has ended, and the ledger does not know
	RestoreMoved  RestoreStatus = 7 // its order has other VNs
	// RestorePartial: its order is unknown, and not said to be Whole. One that is not was
	// never acknowledged, or is ending.
	RestorePartial RestoreStatus = 8
)

// Sure says what the caller of Restore has made sure of.
type Sure int

// Without any of these what Redis knows already is left as it is.
const (
	Unsure Sure = 0
	Reaped Sure = 1 // no order that ran out lists a VN that is in no state
	Idle   Sure = 2 // and nothing is under way that is not in the ledger yet
)

// Restore makes Redis say of each VN what its record says, where Redis knows only older
// ones, with one round trip for each node. What is under way is left alone. After an error
// some may have been restored; the same call may be made again.
func (s *Store) Restore(ctx context.Context, recs []Recorded, sure Sure) ([]Restored, error) {
	answers, err := s.runEach(ctx, s.scripts.restore, len(recs), func(i int) ([]string, []any) {
		return restoreArgs(s.layout.ofVN(recs[i].VN), &recs[i], s.config.Tombstone, sure)
	})
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	done := make([]Restored, len(recs))
	for i, a := range answers {
		if done[i], err = readRestored(a); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	return done, nil
}

// runEach runs a script n times, in one round trip for each node.
func (s *Store) runEach(ctx context.Context, script *redis.Script, n int, build func(i int) (keys []string, args []any)) ([]reply, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds := make([]*redis.Cmd, n)
	var err error
	for range 2 {
		_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := range cmds {
				switch keys, args := build(i); {
				case cmds[i] == nil:
					cmds[i] = script.EvalSha(ctx, pipe, keys, args...)
				case redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT"): // the node has been restarted, and takes it with this
					cmds[i] = script.Eval(ctx, pipe, keys, args...)
				}
			}
			return nil
		})
		if !redis.HasErrorPrefix(err, "NOSCRIPT") {
			break
		}
	}
	if err != nil {
		return nil, unavailable(err)
	}
	answers := make([]reply, n)
	for i, cmd := range cmds {
		values, err := cmd.Slice()
		if err != nil {
			return nil, unavailable(err)
		}
		answers[i] = values
	}
	return answers, nil
}

func readRestored(answer reply) (r Restored, err error) {
	r = Restored{Status: RestoreStatus(answer.int(0)), Partition: -1}
	switch r.Status {
	case RestoreDone, RestoreKnown, RestoreBusy, RestoreAdrift, RestorePartial:
	case RestoreHeld:
		r.OrderID = answer.string(1)
	case RestoreEnded:
		r.Reason = vn.EndReason(answer.string(1))
		r.EndedAt, err = parseMillis(answer.string(2))
	case RestoreMoved:
		if at := answer.string(1); at != "" {
			r.Partition, err = strconv.Atoi(at)
		}
	default:
		return r, errReply
	}
	return r, err
}

// PartitionOf returns the partition that a VN belongs to.
func (s *Store) PartitionOf(n vn.Number) int { return s.layout.partitionOfVN(n) }

// Forget takes back the assignment of an order that holds a VN of the partition against
// the ledger, and returns all its VNs, which must be restored then; none if it does not
// hold the VN.
func (s *Store) Forget(ctx context.Context, orderID string, number vn.Number) ([]vn.Number, error) {
	keys, args := forgetArgs(s.layout.ofVN(number), orderID, number)
	answer, err := s.run(ctx, s.scripts.forget, keys, args)
	if err != nil {
		return nil, fmt.Errorf("forget: %w", err)
	}
	if answer.int(0) != forgetDone {
		return nil, nil
	}
	return parseNumbers(strings.Split(answer.string(1), ","))
}

const forgetDone = 1

func forgetArgs(p, id string, number vn.Number) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), orderKey(p, id)}, []any{id, number.Digits()}
}

// EndedOrder is an order that has ended.
type EndedOrder struct {
	ID     string
	Reason vn.EndReason
	At     time.Time
}

const remindDone = 1

// Remind tells the order's own partition, if that knows nothing of the order, in which
// other one it is. With sure it is told too where it points to another partition still,
// which must know nothing of the order. It returns false when it knows something else.
func (s *Store) Remind(ctx context.Context, orderID string, partition int, until time.Time, sure bool) (bool, error) {
	home, at := s.layout.home(orderID), strconv.Itoa(partition)
	if home == partition {
		return true, nil
	}
	keys, args := remindArgs(s.layout.prefixes[home], orderID, at, "", max(0, time.Until(until))+s.config.Tombstone, sure)
	answer, err := s.run(ctx, s.scripts.remind, keys, args)
	if err != nil {
		return false, fmt.Errorf("remind: %w", err)
	}
	return answer.int(0) == remindDone || answer.string(2) == at, nil
}

// RemindEnded tells the own partitions of orders that they have ended, where nothing is
// known of them, so that a late `assigned` changes nothing.
func (s *Store) RemindEnded(ctx context.Context, orders []EndedOrder) error {
	_, err := s.runEach(ctx, s.scripts.remind, len(orders), func(i int) ([]string, []any) {
		o := &orders[i]
		lasts := max(time.Millisecond, s.config.Tombstone-time.Since(o.At))
		return remindArgs(s.layout.prefixes[s.layout.home(o.ID)], o.ID, nowhere, o.Reason, lasts, false)
	})
	if err != nil {
		return fmt.Errorf("remind: %w", err)
	}
	return nil
}

func remindArgs(p, id, at string, reason vn.EndReason, lasts time.Duration, sure bool) (keys []string, args []any) {
	return []string{guardKey(p), metaKey(p), orderKey(p, id)}, []any{at, string(reason), millis(lasts), flag(sure)}
}

func restoreArgs(p string, r *Recorded, tombstone time.Duration, sure Sure) (keys []string, args []any) {
	reason, ref := string(r.Reason), r.Ref
	if r.GivenUp {
		reason = reasonGivenUp
	}
	if ref == r.VN.Digits() {
		ref = "" // parseInventory knows
	}
	at := int64(0)
	if !r.At.IsZero() {
		at = r.At.UnixMilli()
	}
	args = []any{
		r.VN.Digits(), strconv.FormatUint(r.Fence, 10), string(r.Kind), r.Pool, r.Carrier, ref, strconv.Itoa(int(sure)), millis(tombstone),
		r.OrderID, strconv.FormatInt(at, 10), millis(r.Cooldown), reason,
	}
	if r.Kind == RecordedAssigned {
		args = append(args, flag(r.Whole), r.terms(), strings.Join(r.Roles, ","), joinTokens(r.Tokens), joinDigits(r.VNs))
		for calling, t := range r.Tokens {
			if calling != r.Party {
				args = append(args, string(t[:]), r.binding(calling))
			}
		}
	}
	return []string{guardKey(p), metaKey(p), orderKey(p, r.OrderID), inventoryKey(p)}, args
}

func (r *Recorded) terms() string {
	return strings.Join([]string{
		r.Pool, r.Carrier, strconv.Itoa(int(r.CarrierID)), strconv.Itoa(int(r.KeyID)), millis(r.Cooldown),
	}, " ")
}

// binding packs the binding of one caller; the script writes the lease end.
func (r *Recorded) binding(calling int) []byte {
	b := packBinding(r.KeyID, r.Party, r.Sealed[calling], r.OrderID)
	b[atCarrier] = r.CarrierID
	binary.BigEndian.PutUint64(b[atVN:], uint64(r.VNs[calling]))
	return b
}

// Check tells what a record lacks to be restored.
func (r *Recorded) Check() error {
	parties := len(r.VNs)
	switch {
	case r.VN == 0 || r.Fence == 0 || r.Pool == "" || r.Carrier == "":
		return errors.New("it lacks its number, sequence, pool or carrier")
	case r.Kind != RecordedAssigned:
		return nil
	case r.OrderID == "" || parties < 2 || r.Party < 0 || r.Party >= parties || r.VNs[r.Party] != r.VN:
		return errors.New("its order and parties do not fit together")
	case len(r.Roles) != parties || len(r.Tokens) != parties || len(r.Sealed) != parties:
		return errors.New("it has not as many roles, tokens and sealed numbers as parties")
	}
	return nil
}

func joinTokens(tokens []seal.Token) []byte {
	joined := make([]byte, 0, len(tokens)*len(seal.Token{}))
	for _, t := range tokens {
		joined = append(joined, t[:]...)
	}
	return joined
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}
