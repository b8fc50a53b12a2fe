package ledger

import (
	"context"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// assignedRecords builds one record per VN. Any one of them is enough to rebuild
// the order, and each holds what only its own VN's binding needs: the sealed
// numbers of those who may call it.
func (l *Ledger) assignedRecords(ctx context.Context, a *scripts.Allocation) ([]events.Record, error) {
	numbers := make([]vn.Number, len(a.Numbers))
	vns := make([]string, len(a.Numbers))
	tokens := make([][]byte, len(a.Tokens))
	roles := make([]string, len(a.Assignment.Parties))
	for i, n := range a.Numbers {
		numbers[i], vns[i] = n.VN, n.VN.Digits()
	}
	for i := range a.Tokens {
		tokens[i] = a.Tokens[i][:]
	}
	for i, p := range a.Assignment.Parties {
		roles[i] = p.Role
	}
	refs, err := l.knownRefs(ctx, a, numbers)
	if err != nil {
		return nil, err
	}
	recs := make([]events.Record, len(a.Numbers))
	for i, n := range a.Numbers {
		sealed := make([][]byte, len(n.Sealed))
		for calling := range n.Sealed {
			if calling != i {
				sealed[calling] = n.Sealed[calling][:]
			}
		}
		recs[i] = events.Record{
			Kind: events.KindAssigned, VN: vns[i], After: n.Fence, Pool: a.Assignment.Pool, Carrier: a.Carrier, Ref: refs[i],
			OrderID: a.Assignment.OrderID, ExpiresAt: a.Assignment.ExpiresAt, Cooldown: a.Cooldown,
			KeyID: a.KeyID, Party: i, Roles: roles, VNs: vns, Tokens: tokens, Sealed: sealed,
		}
	}
	return recs, nil
}

// endedRecords builds the records of an order's end: released for each VN, or retired
// for those that left their pool with the order.
func (l *Ledger) endedRecords(ctx context.Context, r *scripts.Release) ([]events.Record, error) {
	numbers := make([]vn.Number, len(r.Numbers))
	for i, n := range r.Numbers {
		numbers[i] = n.VN
	}
	refs, err := l.refs(ctx, numbers)
	if err != nil {
		return nil, err
	}
	recs := make([]events.Record, len(r.Numbers))
	for i, n := range r.Numbers {
		recs[i] = events.Record{
			Kind: events.KindReleased, VN: n.VN.Digits(), Pool: r.Pool, Carrier: r.Carrier, Ref: refs[i], After: n.Fence,
			OrderID: r.OrderID, Reason: string(r.Reason), EndedAt: r.EndedAt, Cooldown: r.Cooldown,
		}
		if n.Retired {
			recs[i].Kind, recs[i].Reason, recs[i].Cooldown = events.KindRetired, "", 0
		}
	}
	return recs, nil
}

func assignedEvent(a *vn.Assignment) events.VNAssigned {
	parties := make([]events.VNParty, len(a.Parties))
	for i, p := range a.Parties {
		parties[i] = events.VNParty{Role: p.Role, VN: p.VN.E164()}
	}
	return events.VNAssigned{OrderID: a.OrderID, Pool: a.Pool, Parties: parties, ExpiresAt: a.ExpiresAt.UTC()}
}
