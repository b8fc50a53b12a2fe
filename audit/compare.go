package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// DifferenceKind names how Redis and the ledger differ about a VN.
type DifferenceKind string

// The kinds.
const (
	Missing    DifferenceKind = "missing"    // ours by the ledger, in no inventory
	Unrecorded DifferenceKind = "unrecorded" // in the inventory, unknown to the ledger
	Gone       DifferenceKind = "gone"       // in the inventory, retired by the ledger
	Elsewhere  DifferenceKind = "elsewhere"  // of another pool or carrier than the ledger says
	Lost       DifferenceKind = "lost"       // assigned by the ledger, held by no order in Redis
	Taken      DifferenceKind = "taken"      // held in Redis by another order than the ledger says
	Revived    DifferenceKind = "revived"    // released by the ledger, still its order's in Redis
	Behind     DifferenceKind = "behind"     // the fence in Redis is older than the ledger's last record
	Ahead      DifferenceKind = "ahead"      // the fence in Redis is newer: the ledger has lost records
)

// Invariant tells which promise a difference breaks, or would break when Redis is believed.
func (k DifferenceKind) Invariant() Invariant {
	switch k {
	case Lost, Ahead:
		return Durable
	case Taken, Behind:
		return Exclusive
	case Revived:
		return Terminal
	}
	return Conservation
}

// Difference is a VN of which Redis and the ledger do not say the same.
type Difference struct {
	Kind   DifferenceKind
	VN     vn.Number
	Redis  string // what Redis says
	Ledger string // what the ledger says
	Repair string // what Repair would do
}

// differs tells how Redis and the ledger differ about a VN; empty when they do not, or when
// what Redis did is on its way into the ledger (Holding.Unsettled).
func (b *book) differs(e *entry, h *scripts.Holding, now time.Time) DifferenceKind {
	listed := h.Pool != ""
	switch {
	case !listed && !e.inPool():
		return ""
	case h.Unsettled:
		return ""
	case !listed:
		return Missing
	case e.kind == 0:
		return Unrecorded
	case e.kind == Retired:
		return Gone
	case b.wheres[e.where] != h.Pool+":"+h.Carrier:
		return Elsewhere
	case h.OrderID == "" && e.lives(now):
		return Lost
	case h.OrderID != "" && e.kind == Released && e.holds(h.OrderID):
		return Revived
	case h.OrderID != "" && (e.kind != Assigned || !e.holds(h.OrderID)):
		return Taken
	case h.Fence < e.seq:
		return Behind
	case h.Fence > e.seq:
		return Ahead
	}
	return ""
}

// suspect is a VN that a second look is due at.
type suspect struct {
	vn     vn.Number
	holder string // the order that Redis said has it
	kind   DifferenceKind
	seq    uint64
}

// looksAtOnce is how many suspects are looked at again at the same time.
const looksAtOnce = 8

// confirm looks at the suspects again, both sides, until each is the same twice with patience
// between, and returns those that persist and how many did not.
func (a *Auditor) confirm(ctx context.Context, suspects []suspect) (still []Difference, cleared int, err error) {
	all := len(suspects)
	if suspects, _, err = a.lookAgain(ctx, suspects); err != nil || len(suspects) == 0 {
		return nil, all - len(suspects), err
	}
	wait := time.NewTimer(a.cfg.Patience)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("wait for what is in flight: %w", ctx.Err())
	}
	before := make(map[vn.Number]suspect, len(suspects))
	for _, s := range suspects {
		before[s.vn] = s
	}
	suspects, rows, err := a.lookAgain(ctx, suspects)
	if err != nil {
		return nil, 0, err
	}
	for i, s := range suspects {
		if was := before[s.vn]; was.kind == s.kind && was.seq == s.seq {
			still = append(still, rows[i])
		}
	}
	return still, all - len(still), nil
}

// lookAgain returns those of the suspects of which both sides still differ, with what each
// side says.
func (a *Auditor) lookAgain(ctx context.Context, suspects []suspect) ([]suspect, []Difference, error) {
	looked := make([]*Difference, len(suspects))
	seqs := make([]uint64, len(suspects))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(looksAtOnce)
	for i := range suspects {
		g.Go(func() (err error) {
			if err = a.pace(gctx, 1); err == nil {
				looked[i], seqs[i], err = a.look(gctx, suspects[i].vn, suspects[i].holder)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	var still []suspect
	var rows []Difference
	for i, d := range looked {
		if d != nil {
			still = append(still, suspect{vn: d.VN, holder: suspects[i].holder, kind: d.Kind, seq: seqs[i]})
			rows = append(rows, *d)
		}
	}
	return still, rows, nil
}

// tries is how often a VN whose ledger record changes while Redis is read is looked at.
const tries = 5

// look reads a VN's last record, what Redis says, and the record again. It returns nil when
// both agree, or when the VN changes hands all the time, which nothing that is lost does.
func (a *Auditor) look(ctx context.Context, n vn.Number, holder string) (*Difference, uint64, error) {
	rec, seq, err := a.bus.LastRecord(ctx, n)
	if err != nil {
		return nil, 0, fmt.Errorf("read the ledger: %w", err)
	}
	for range tries {
		h, err := a.store.Holding(ctx, n, known(rec.OrderID, holder)...)
		if errors.Is(err, scripts.ErrRestless) {
			return nil, 0, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read Redis: %w", err)
		}
		after, again, err := a.bus.LastRecord(ctx, n)
		if err != nil {
			return nil, 0, fmt.Errorf("read the ledger: %w", err)
		}
		if again != seq {
			rec, seq = after, again
			continue
		}
		return compare(&rec, seq, &h, time.Now()), seq, nil
	}
	return nil, 0, nil
}

func known(ids ...string) (orders []string) {
	for _, id := range ids {
		if id != "" {
			orders = append(orders, id)
		}
	}
	return orders
}

// compare holds a VN's last record, none with sequence 0, against what Redis says.
func compare(rec *events.Record, seq uint64, h *scripts.Holding, now time.Time) *Difference {
	b := newBook()
	e := entry{}
	if event, ok := OfRecord(rec, seq, time.Time{}); ok && seq != 0 {
		e = b.entryOf(&event)
	}
	kind := b.differs(&e, h, now)
	if kind == "" {
		return nil
	}
	return &Difference{Kind: kind, VN: h.VN, Redis: redisSays(h), Ledger: ledgerSays(rec, seq), Repair: repairOf(kind, rec)}
}

func redisSays(h *scripts.Holding) string {
	if h.Pool == "" {
		return "not ours"
	}
	text := fmt.Sprintf("%s of %s, fence %d", h.Pool, h.Carrier, h.Fence)
	if h.OrderID != "" {
		return text + ", leased to order " + h.OrderID
	}
	return text + ", not leased"
}

func ledgerSays(r *events.Record, seq uint64) string {
	if seq == 0 {
		return "never heard of it"
	}
	text := fmt.Sprintf("%s of %s, record %d: %s", r.Pool, r.Carrier, seq, r.Kind)
	switch r.Kind {
	case events.KindAssigned:
		text += " to order " + r.OrderID + " until " + r.ExpiresAt.UTC().Format(time.RFC3339)
	case events.KindReleased:
		text += " by order " + r.OrderID + " at " + r.EndedAt.UTC().Format(time.RFC3339)
	}
	return text
}

func repairOf(kind DifferenceKind, r *events.Record) string {
	switch kind {
	case Unrecorded, Ahead:
		return nothing
	case Gone:
		return "take it out of the inventory"
	case Behind:
		return "bring the fence up to date"
	}
	if r.Kind == events.KindAssigned {
		return "lease it to order " + r.OrderID + " again"
	}
	return "put it back into its pool, not leased"
}

// nothing is the Repair of what the ledger cannot put right.
const nothing = "nothing: the ledger does not know enough"

// Repairable tells whether Repair does anything about it.
func (d *Difference) Repairable() bool { return d.Repair != nothing }
