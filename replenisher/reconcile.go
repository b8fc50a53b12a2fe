package replenisher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// ReconcileOptions says how a comparison is made. The zero value is what runs by itself.
type ReconcileOptions struct {
	DryRun bool // find out, do nothing
	// Pool adopts numbers that are ours and of no known pool into this one; without it
	// they are reported. One whose calls go elsewhere may be another installation's,
	// so it needs Force too.
	Pool string
	// Force acts although much is missing: see BrakeError. It also adopts numbers whose
	// calls go elsewhere: into the pool that bought them, others into Pool.
	Force bool
	// Progress, if not nil, is told how many of the rows are done.
	Progress func(done, of int)
}

var errNoList = errors.New("the carrier gave no list")

// ErrRunning means that a comparison of the same carrier is under way here.
var ErrRunning = errors.New("reconcile_running: this carrier is being reconciled right now; try again when that is done")

// reading is what a comparison looks at, in the order in which it is read: a VN of the
// inventory was the carrier's before the list began, and a number of the list has its
// intent by the time that those are read.
type reading struct {
	at        time.Time
	inventory map[vn.Number]scripts.Inventory
	listed    map[vn.Number]carrier.Bought
	intents   map[vn.Number][]noted // of this carrier, oldest first

	bought  int                     // numbers that should be in the list
	missing map[vn.Number]time.Time // those of them that are not, and since when
}

// noted is an intent and its sequence; the zero one stands for none.
type noted struct {
	events.PurchaseIntent

	seq uint64
}

// intent returns the intent of a VN's own pool.
func (seen *reading) intent(inv scripts.Inventory) noted {
	for _, in := range seen.intents[inv.VN] {
		if in.Pool == inv.Pool {
			return in
		}
	}
	return noted{}
}

// step is a row and what is done about it.
type step struct {
	row Row
	do  func(ctx context.Context) (detail string, err error) // nil: nothing; detail "": the row's stays
}

// Reconcile compares the carrier's list with the inventory and puts right what differs:
//
//   - a number that is paid for and in no pool comes into the pool of its intent;
//   - a number whose calls go elsewhere is configured again;
//   - a number that the list lacks in two readings, Config.GhostAfter apart, leaves its
//     pool, a leased one when its order ends;
//   - a release that was cut short is finished.
//
// Numbers that are not ours, and imported ones, are left alone. The Diff is right also
// beside an error of single rows, which are in it. Errors: ErrNoSeller,
// vn.ErrPoolUnknown, ErrRunning, vn.ErrCold, *BrakeError, the carrier's own when it
// gives no list, vn.ErrUnavailable.
func (r *Replenisher) Reconcile(ctx context.Context, name string, opt ReconcileOptions) (Diff, error) {
	s, ok := r.sellers[name]
	if !ok {
		return Diff{}, ErrNoSeller
	}
	if _, ok := r.workers[opt.Pool]; !ok {
		return Diff{}, vn.ErrPoolUnknown
	}
	if !r.keeper.begin(name) {
		return Diff{}, ErrRunning
	}
	defer r.keeper.end(name)
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReconcileFor)
	defer cancel()
	ctx, end := r.cfg.Tracer.Act(ctx, "compare a carrier's list", "callmask.carrier", name)
	diff, err := r.reconcile(ctx, s, opt)
	end(err)
	if !opt.DryRun {
		r.keeper.show(&diff, err, r.now())
	}
	return diff, err
}

func (r *Replenisher) reconcile(ctx context.Context, s *seller, opt ReconcileOptions) (Diff, error) {
	ready, err := r.ready(ctx)
	if err != nil {
		return Diff{}, err
	}
	if !ready {
		return Diff{}, vn.ErrCold
	}
	seen, err := r.read(ctx, s)
	if err != nil {
		return Diff{}, err
	}
	diff := Diff{Carrier: s.name, DryRun: opt.DryRun, Listed: len(seen.listed), Ours: len(seen.inventory)}
	steps, err := r.compare(ctx, s, seen, opt, &diff)
	if err != nil {
		return Diff{}, err
	}
	slices.SortFunc(steps, func(a, b step) int { return strings.Compare(a.row.VN, b.row.VN) })
	diff.Rows = make([]Row, len(steps))
	for i := range steps {
		diff.Rows[i] = steps[i].row
	}
	if err := r.braked(&diff, seen, opt); err != nil || opt.DryRun {
		return diff, err
	}
	r.keeper.remember(s.name, seen.missing)
	r.carryOut(ctx, s, steps, &diff, opt.Progress)
	return diff, nil
}

// braked applies the brake. In a dry run it only says that it would be applied.
func (r *Replenisher) braked(diff *Diff, seen *reading, opt ReconcileOptions) error {
	if opt.Force || !brake(len(seen.missing), seen.bought, len(seen.listed)) {
		return nil
	}
	err := &BrakeError{Carrier: diff.Carrier, Missing: len(seen.missing), Bought: seen.bought}
	diff.Brake = err.Error()
	if opt.DryRun {
		return nil
	}
	err.Diff = *diff
	return err
}

func (r *Replenisher) read(ctx context.Context, s *seller) (*reading, error) {
	seen := &reading{at: r.now(), intents: make(map[vn.Number][]noted)}
	var err error
	if seen.inventory, err = r.store.InventoryOf(ctx, s.name); err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	all, err := s.Numbers.List(ctx) // all pages, so it may take longer than one call; ctx bounds it
	if err != nil {
		if ours := r.failed(s, &fault{step: "list", err: err}); ours != nil {
			return nil, ours
		}
		return nil, fmt.Errorf("%w: %w", errNoList, err)
	}
	seen.listed = make(map[vn.Number]carrier.Bought, len(all))
	for _, b := range all {
		seen.listed[b.Number] = b
	}
	reading, cancel := context.WithTimeout(ctx, readIntents)
	defer cancel()
	err = r.bus.Intents(reading, func(in events.PurchaseIntent, seq uint64) error {
		if n, ok := vn.ParseDigits(in.VN); ok && in.Carrier == s.name {
			seen.intents[n] = append(seen.intents[n], noted{in, seq})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the purchase intents: %w", err)
	}
	return seen, nil
}

// compare finds out what is to be done. It changes nothing.
func (r *Replenisher) compare(ctx context.Context, s *seller, seen *reading, opt ReconcileOptions, diff *Diff) ([]step, error) {
	var steps []step
	releasing := make(map[vn.Number]bool)
	for n, all := range seen.intents {
		for _, in := range all {
			if in.Outcome == events.OutcomeReleasing {
				releasing[n] = true
				steps = append(steps, r.finishRelease(s, n, in, seen))
			}
		}
	}
	for n, held := range seen.listed {
		if releasing[n] {
			continue
		}
		if inv, ok := seen.inventory[n]; ok {
			diff.Agreed++
			if st, differs := r.both(s, inv, held, seen.intent(inv)); differs {
				steps = append(steps, st)
			}
			continue
		}
		st, ours, err := r.orphan(ctx, s, held, seen.intents[n], opt)
		if err != nil {
			return nil, err
		}
		switch {
		case !ours:
			diff.Foreign++
		case st.row.Action == "": // it came into the inventory meanwhile
			diff.Agreed++
		default:
			steps = append(steps, st)
		}
	}
	return append(steps, r.ghosts(s, seen, diff)...), nil
}

// finishRelease goes on with a release, also of a number that the list lacks: then only
// the announcement is missing.
func (r *Replenisher) finishRelease(s *seller, n vn.Number, in noted, seen *reading) step {
	row := Row{VN: n.E164(), Pool: in.Pool, Action: GiveBack, Detail: "its release (" + in.Reason + ") was begun and not finished"}
	intent := in.PurchaseIntent
	if held, ok := seen.listed[n]; ok && !held.Elsewhere(s.WebhookURL) { // else somebody may have bought it anew
		intent.Ref = held.Ref
	}
	return step{row, func(ctx context.Context) (string, error) { return r.resumed(ctx, s, intent, in.seq) }}
}

// both judges a number that is in the list and in the inventory.
func (r *Replenisher) both(s *seller, inv scripts.Inventory, held carrier.Bought, last noted) (step, bool) {
	in := last.PurchaseIntent
	row := Row{VN: inv.VN.E164(), Pool: inv.Pool}
	switch wrong := s.WebhookURL != "" && held.WebhookURL != s.WebhookURL; {
	case ghosted(&in), in.Outcome == events.OutcomeNotBought && held.Tag == tag(in):
		row.Action, row.Detail = Adopt, "the carrier has it after all"
		return r.adopt(s, row, held, in), true
	case last.seq == 0 && bought(inv, &in):
		row.Action, row.Detail = Adopt, "nothing says that its pool pays for it"
		return step{row, func(ctx context.Context) (string, error) {
			return "its pool pays for it", r.bill(ctx, inv, held, in, 0)
		}}, true
	case wrong && !bought(inv, &in) && held.Reaches(s.WebhookURL): // what else is set is up to whoever set it up
	case wrong && !bought(inv, &in):
		row.Action, row.Detail = Report, "its calls do not come to us; it was imported, so set its address at the carrier yourself"
		return step{row: row}, true
	case wrong:
		row.Action, row.Detail = Configure, "its calls do not come to us"
		if held.Reaches(s.WebhookURL) {
			row.Detail = "its other settings at the carrier are not ours"
		}
		return step{row, func(ctx context.Context) (string, error) {
			if err := r.configure(ctx, s, held); err != nil {
				return "", &fault{step: "configure", err: err}
			}
			return "it is set up again", nil
		}}, true
	}
	return step{}, false
}

// ghosts judges the numbers that the list lacks.
func (r *Replenisher) ghosts(s *seller, seen *reading, diff *Diff) []step {
	missing := seen.gone(diff)
	seen.missing = r.keeper.missed(s.name, missing, seen.at)
	steps := make([]step, len(missing))
	for i, inv := range missing {
		row := Row{VN: inv.VN.E164(), Pool: inv.Pool, Action: Remove, Detail: "the carrier does not have it any more"}
		if seen.at.Sub(seen.missing[inv.VN]) < r.cfg.GhostAfter {
			row.Action = Wait
			row.Detail = "not in the carrier's list; removed if a list after " + r.cfg.GhostAfter.String() + " is without it too"
			steps[i].row = row
			continue
		}
		steps[i] = step{row, func(ctx context.Context) (string, error) { return r.removeGhost(ctx, inv, seen.intent(inv)) }}
	}
	return steps
}

// gone returns the numbers that were bought and that the list lacks: those of the
// inventory, and those that have left it and that a pool still pays for. It counts.
func (seen *reading) gone(diff *Diff) []scripts.Inventory {
	var missing []scripts.Inventory
	look := func(inv scripts.Inventory) {
		seen.bought++
		if _, ok := seen.listed[inv.VN]; !ok {
			missing = append(missing, inv)
		}
	}
	for n, inv := range seen.inventory {
		in := seen.intent(inv)
		_, listed := seen.listed[n]
		switch {
		case in.Outcome == events.OutcomeReleasing:
		case bought(inv, &in.PurchaseIntent):
			look(inv)
		case !listed:
			diff.Imported++
		}
	}
	for n, all := range seen.intents {
		for _, in := range all {
			_, have := seen.inventory[n]
			// A purchase that was closed since may not be in what was read before.
			if !have && in.Outcome == events.OutcomeBought && !in.ClosedAt.After(seen.at) {
				look(scripts.Inventory{Pool: in.Pool, Carrier: in.Carrier, Owned: scripts.Owned{VN: n, Ref: in.Ref}})
			}
		}
	}
	return missing
}

// removeGhost takes a number that the carrier does not have out of its pool, which pays
// for it no more. One that is leased leaves later; until then each comparison comes here.
func (r *Replenisher) removeGhost(ctx context.Context, inv scripts.Inventory, in noted) (string, error) {
	if !ghosted(&in.PurchaseIntent) {
		gone := r.intentOf(inv, in.PurchaseIntent)
		gone.Outcome, gone.Reason, gone.ClosedAt = events.OutcomeReleased, events.ReleasedGhost, r.now()
		if err := r.released(ctx, gone); err != nil {
			return "", err
		}
		if err := r.note(ctx, gone, in.seq); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	switch d, err := r.ledger.Retire(ctx, inv.Pool, inv.VN); {
	case errors.Is(err, vn.ErrNumberUnknown): // it left before
	case err != nil:
		return "", &fault{step: "retire", ours: true, err: err}
	case !d.Left:
		return "the carrier does not have it any more; it leaves when its order ends", nil
	}
	return "the carrier did not have it any more; it has left its pool", nil
}

// mostInRow is how many numbers in a row may fail at the carrier before it is taken to
// be the carrier that fails: one that cannot be put right must not hold up the rest.
const mostInRow = 3

// carryOut does what the steps say, a few at the same time. After a failure of ours, or
// of the carrier's whole API, nothing more is begun: what is left is left for the next
// comparison.
func (r *Replenisher) carryOut(ctx context.Context, s *seller, steps []step, diff *Diff, progress func(done, of int)) {
	var (
		g    errgroup.Group
		mu   sync.Mutex
		done int
		all  []error
		row  int // failures at the carrier in a row
	)
	g.SetLimit(r.cfg.Parallel)
	for i := range steps {
		g.Go(func() error {
			mu.Lock()
			halted := len(all) > 0 || ctx.Err() != nil
			mu.Unlock()
			detail, err := "", errHalted
			switch {
			case steps[i].do == nil:
				err = nil
			case !halted:
				detail, err = steps[i].do(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			if done++; progress != nil {
				progress(done, len(steps))
			}
			if detail != "" {
				diff.Rows[i].Detail = detail
			}
			if err != nil {
				diff.Failed++
				diff.Rows[i].Error = err.Error()
			}
			switch row++; {
			case err == nil:
				row = 0
			case spared(err):
				row--
			case stops(err) || row >= mostInRow:
				all = append(all, err)
			}
			return nil
		})
	}
	_ = g.Wait() // no goroutine returns an error: see the rows
	if len(all) > 0 {
		if ours := r.failed(s, errors.Join(all...)); ours != nil {
			r.log.Warn().Str("carrier", s.name).Err(ours).Msg("a comparison with the carrier's list was cut short")
		}
	}
}

var errHalted = errors.New("not tried: another number failed before, or the time was over")

// spared tells whether an error of one number says nothing about others: the carrier's
// refusal of it, a race lost for it.
func spared(err error) bool {
	return errors.Is(err, errHalted) || errors.Is(err, events.ErrOvertaken) || errors.Is(err, errThisOne) || refusedOne(err)
}

// stops tells whether an error of one number says that the others would fail as well:
// Redis or the ledger is away, or the carrier takes no request of ours now.
func stops(err error) bool {
	var f *fault
	if errors.As(err, &f) && f.ours || errors.Is(err, carrier.ErrCircuitOpen) || errors.Is(err, carrier.ErrCredentials) {
		return true
	}
	api := (*carrier.APIError)(nil)
	return errors.As(err, &api) && (api.Status == http.StatusTooManyRequests || api.Status == http.StatusUnauthorized)
}

// errThisOne marks what is wrong with one number alone.
var errThisOne = errors.New("this number cannot be adopted")

// refusedOne tells whether the carrier said no to this one number: not too busy, not
// the wrong credentials.
func refusedOne(err error) bool {
	api := (*carrier.APIError)(nil)
	return carrier.NothingBought(err) && errors.As(err, &api) && api.Status != http.StatusTooManyRequests && api.Status != http.StatusUnauthorized
}
