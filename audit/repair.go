package audit

import (
	"context"
	"fmt"

	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Restorer makes Redis say of a VN what its last ledger record says. It may be repeated, and
// leaves alone what is in flight.
type Restorer interface {
	Restore(ctx context.Context, number vn.Number) error
}

// Diff returns every VN that is not as it should be: those of which Redis and the ledger do
// not say the same, and those that are wrong in Redis by itself, each with what both say and
// what Repair would do about it.
func (a *Auditor) Diff(ctx context.Context, r *Report) ([]Difference, error) {
	rows := append([]Difference(nil), r.Differences...)
	known := make(map[vn.Number]bool, len(rows))
	for i := range rows {
		known[rows[i].VN] = true
	}
	for _, p := range r.Redis.Problems {
		if p.VN == 0 || known[p.VN] {
			continue
		}
		known[p.VN] = true
		rec, seq, err := a.bus.LastRecord(ctx, p.VN)
		if err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		d := Difference{Kind: DifferenceKind(p.Kind), VN: p.VN, Redis: p.Detail, Ledger: ledgerSays(&rec, seq)}
		if d.Repair = repairOf(d.Kind, &rec); seq == 0 {
			d.Repair = nothing
		}
		rows = append(rows, d)
	}
	return rows, nil
}

// Totals returns the counters that are wrong, for scripts.Store.CorrectTotal.
func (r *Report) Totals() (wrong []scripts.Problem) {
	for _, p := range r.Redis.Problems {
		if p.Kind == scripts.ProblemTotal {
			wrong = append(wrong, p)
		}
	}
	return wrong
}

// Repair restores the VNs of the rows that it can, one after the other, and returns how many.
// It goes on after one that fails, and returns the first such error. done is told of each.
func Repair(ctx context.Context, by Restorer, rows []Difference, done func()) (repaired int, err error) {
	for i := range rows {
		if !rows[i].Repairable() {
			continue
		}
		switch failed := by.Restore(ctx, rows[i].VN); {
		case ctx.Err() != nil:
			return repaired, fmt.Errorf("repair: %w", ctx.Err())
		case failed == nil:
			repaired++
		case err == nil:
			err = fmt.Errorf("repair %s: %w", rows[i].VN, failed)
		}
		done()
	}
	return repaired, err
}
