package scripts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

var errRecord = errors.New("an order in Redis is damaged; run `callmask check`")

// record is an order's hash, parsed.
type record struct {
	state     vn.State // empty for a mark alone
	forward   *mark    // to the partition that the order is in, when that is not its own
	reason    vn.EndReason
	pool      string
	carrier   string
	carrierID byte
	keyID     byte
	roles     []string
	tokens    []seal.Token
	numbers   []vn.Number
	fences    []uint64
	retired   []vn.Number
	end       time.Time // lease end when active, else the moment it ended
	cooldown  time.Duration
	settled   bool
}

// The states of an order's hash that has no VNs: it points to another partition, or
// keeps the mark that was refused in this one.
const (
	stateForwarded = "forwarded"
	stateRefused   = "refused"
)

func (s *Store) parseRecord(h map[string]string) (*record, error) {
	r, err := parseRecord(h)
	if err == nil && h["at"] != "" {
		r.forward, err = s.readMark(h["mark"], h["at"])
	}
	return r, err
}

func parseRecord(h map[string]string) (*record, error) {
	r := &record{state: vn.Ended, reason: vn.EndReason(h["reason"]), settled: h["settled"] == "1"}
	if liveOrder(h) {
		r.state = vn.Active
	}
	if h["state"] == stateForwarded {
		r.state = ""
		return r, nil
	}
	var err error
	if r.end, err = parseMillis(h["end"]); err != nil {
		return nil, err
	}
	if h["numbers"] == "" {
		if r.state == vn.Active {
			return nil, errRecord
		}
		return r, nil // a tombstone of an order that never had an assignment
	}
	if err := r.parseTerms(h["terms"]); err != nil {
		return nil, err
	}
	if r.numbers, err = parseNumbers(strings.Split(h["numbers"], ",")); err != nil {
		return nil, err
	}
	if r.fences, err = parseFences(strings.Split(h["fences"], ",")); err != nil {
		return nil, err
	}
	if h["retired"] != "" {
		if r.retired, err = parseNumbers(strings.Split(h["retired"], ",")); err != nil {
			return nil, err
		}
	}
	if len(r.fences) != len(r.numbers) {
		return nil, errRecord
	}
	if r.state == vn.Ended {
		return r, nil
	}
	r.roles = strings.Split(h["roles"], ",")
	tokens := h["tokens"]
	for len(tokens) >= len(seal.Token{}) {
		r.tokens = append(r.tokens, seal.Token([]byte(tokens[:len(seal.Token{})])))
		tokens = tokens[len(seal.Token{}):]
	}
	if len(r.roles) != len(r.numbers) || len(r.tokens) != len(r.numbers) || tokens != "" {
		return nil, errRecord
	}
	return r, nil
}

// liveOrder tells whether an order's hash is that of a live one: those have no state,
// for memory's sake.
func liveOrder(h map[string]string) bool { return len(h) > 0 && h["state"] == "" }

// parseTerms reads what does not change while an order lives:
// "<pool> <carrier> <carrier's number> <key id> <cool-down, ms>".
func (r *record) parseTerms(text string) error {
	terms := strings.Split(text, " ")
	if len(terms) != 5 {
		return errRecord
	}
	carrierID, errCarrier := strconv.ParseUint(terms[2], 10, 8)
	keyID, errKey := strconv.ParseUint(terms[3], 10, 8)
	cooldown, errCooldown := strconv.ParseInt(terms[4], 10, 64)
	if errCarrier != nil || errKey != nil || errCooldown != nil {
		return errRecord
	}
	r.pool, r.carrier, r.carrierID = terms[0], terms[1], byte(carrierID)
	r.keyID, r.cooldown = byte(keyID), time.Duration(cooldown)*time.Millisecond
	return nil
}

func parseNumbers(digits []string) ([]vn.Number, error) {
	numbers := make([]vn.Number, len(digits))
	for i, d := range digits {
		n, ok := vn.ParseDigits(d)
		if !ok {
			return nil, errRecord
		}
		numbers[i] = n
	}
	return numbers, nil
}

func parseFences(texts []string) ([]uint64, error) {
	fences := make([]uint64, len(texts))
	for i, t := range texts {
		f, err := strconv.ParseUint(t, 10, 64)
		if err != nil {
			return nil, errRecord
		}
		fences[i] = f
	}
	return fences, nil
}

// assignment returns the order as others may see it at this moment.
func (r *record) assignment(id string, now time.Time) vn.Assignment {
	a := vn.Assignment{OrderID: id, Pool: r.pool}
	switch {
	case r.state == vn.Ended:
		a.State, a.EndReason = vn.Ended, r.reason
	case !r.end.After(now):
		a.State, a.EndReason = vn.Ended, vn.Expired
	default:
		a.State, a.ExpiresAt = vn.Active, r.end
		for i, n := range r.numbers {
			a.Parties = append(a.Parties, vn.AssignedParty{Role: r.roles[i], VN: n})
		}
	}
	return a
}

// allocation returns an active order with its sealed numbers by called and calling
// party.
func (r *record) allocation(id string, sealed [][]seal.Sealed) Allocation {
	a := Allocation{
		Assignment: r.assignment(id, time.Time{}), Carrier: r.carrier, Cooldown: r.cooldown,
		KeyID: r.keyID, Tokens: r.tokens, Settled: r.settled,
	}
	for i, n := range r.numbers {
		a.Numbers = append(a.Numbers, LeasedNumber{VN: n, Fence: r.fences[i], Sealed: sealed[i]})
	}
	return a
}

func (r *record) release(id string, partition int) Release {
	out := Release{
		OrderID: id, Partition: partition, Known: len(r.numbers) > 0, Pool: r.pool, Carrier: r.carrier,
		Reason: r.reason, EndedAt: r.end, Cooldown: r.cooldown, Settled: r.settled,
	}
	for i, n := range r.numbers {
		out.Numbers = append(out.Numbers, ReleasedNumber{
			VN: n, Fence: r.fences[i], Retired: slices.Contains(r.retired, n),
		})
	}
	return out
}

// joinParties returns roles and tokens as the order's hash keeps them.
func joinParties(parties []vn.Party, key *seal.Key) (roles string, tokens []seal.Token) {
	names := make([]string, len(parties))
	tokens = make([]seal.Token, len(parties))
	for i, p := range parties {
		names[i], tokens[i] = p.Role, key.Token(p.Number)
	}
	return strings.Join(names, ","), tokens
}

// sealParties seals, by called and calling party, the number that a call connects to.
func sealParties(id string, parties []vn.Party, key *seal.Key, tokens []seal.Token) ([][]seal.Sealed, error) {
	sealed := make([][]seal.Sealed, len(parties))
	for called, p := range parties {
		sealed[called] = make([]seal.Sealed, len(parties))
		for calling := range parties {
			if calling == called {
				continue
			}
			var err error
			if sealed[called][calling], err = key.Seal(p.Number, id, tokens[calling], byte(called)); err != nil {
				return nil, fmt.Errorf("seal the number of party %d: %w", called, err)
			}
		}
	}
	return sealed, nil
}
