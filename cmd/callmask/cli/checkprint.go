package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/scripts"
)

// checked is what a check found.
type checked struct {
	report audit.Report
	ledger bool               // it was looked at as well
	rows   []audit.Difference // all numbers that are not as they should be
}

func (f *checked) mismatches() int {
	r := &f.report
	return len(r.Redis.Problems) + len(r.Differences) + len(r.History) + r.Unlooked
}

func (f *checked) print(out io.Writer) error {
	r := &f.report
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "pool\tcarrier\tfree\tleased\tcooling\tdraining\ttotal\t")
	for _, s := range r.Redis.Stock {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t\n", s.Pool, s.Carrier, s.Free, s.Leased, s.Cooling, s.Draining, s.Total)
	}
	_, _ = fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, p := range r.Redis.Problems {
		_, _ = fmt.Fprintf(out, "MISMATCH %s: %s %s\n", p.Kind, subject(p), p.Detail)
	}
	for i := range r.Differences {
		d := &r.Differences[i]
		_, _ = fmt.Fprintf(out, "MISMATCH %s: %s: Redis says %q, the ledger %q\n", d.Kind, d.VN.E164(), d.Redis, d.Ledger)
	}
	for _, v := range r.History {
		_, _ = fmt.Fprintf(out, "BROKEN PROMISE %s: %s %s, at %s\n", v.Invariant,
			subject(scripts.Problem{VN: v.VN, OrderID: v.OrderID}), v.Detail, v.At.UTC().Format(time.RFC3339))
	}
	if r.Unlooked > 0 {
		_, _ = fmt.Fprintf(out, "MISMATCH and %d more numbers of which Redis and the ledger do not say the same\n", r.Unlooked)
	}
	for _, warning := range r.Redis.Warnings {
		_, _ = fmt.Fprintf(out, "warning: %s\n", warning)
	}
	beside := ""
	if f.ledger {
		beside = fmt.Sprintf(", %d numbers in the ledger", r.Records)
	}
	_, err := fmt.Fprintf(out, "%d numbers, %d live orders, %d mismatches, %d changes in flight%s\n",
		r.Redis.VNs, r.Redis.Orders, f.mismatches(), r.InFlight, beside)
	return err
}

// subject says in clear whom a problem is about: VNs are ours.
func subject(p scripts.Problem) string {
	switch {
	case p.VN != 0 && p.OrderID != "":
		return p.VN.E164() + " of order " + p.OrderID
	case p.VN != 0:
		return p.VN.E164()
	case p.OrderID != "":
		return "order " + p.OrderID
	}
	return ""
}

type stockReport struct {
	Pool     string `json:"pool"`
	Carrier  string `json:"carrier"`
	Free     int    `json:"free"`
	Leased   int    `json:"leased"`
	Cooling  int    `json:"cooling"`
	Draining int    `json:"draining"`
	Total    int    `json:"total"`
}

type problemReport struct {
	Kind    string `json:"kind"`
	VN      string `json:"vn,omitempty"`
	OrderID string `json:"order_id,omitempty"`
	Detail  string `json:"detail"`
}

type differenceReport struct {
	Kind   string `json:"kind"`
	VN     string `json:"vn"`
	Redis  string `json:"redis"`
	Ledger string `json:"ledger"`
	Repair string `json:"repair"`
}

type auditReport struct {
	Numbers     int                `json:"numbers"`
	Orders      int                `json:"orders"`
	Pools       []stockReport      `json:"pools"`
	Mismatches  []problemReport    `json:"mismatches"`
	Ledger      *int               `json:"ledger_numbers,omitempty"`
	Differences []differenceReport `json:"differences"` // of Redis and the ledger
	Broken      []problemReport    `json:"broken_promises"`
	Unlooked    int                `json:"unlooked,omitempty"`
	Warnings    []string           `json:"warnings"`
	InFlight    int                `json:"in_flight"`
}

func (f *checked) json() auditReport {
	r := &f.report
	out := auditReport{
		Numbers: r.Redis.VNs, Orders: r.Redis.Orders, InFlight: r.InFlight, Unlooked: r.Unlooked,
		Pools: []stockReport{}, Mismatches: []problemReport{}, Differences: []differenceReport{}, Broken: []problemReport{},
		Warnings: append([]string{}, r.Redis.Warnings...),
	}
	if f.ledger {
		out.Ledger = &r.Records
	}
	for _, s := range r.Redis.Stock {
		out.Pools = append(out.Pools, stockReport(s))
	}
	report := func(kind string, p scripts.Problem) problemReport {
		shown := problemReport{Kind: kind, OrderID: p.OrderID, Detail: p.Detail}
		if p.VN != 0 {
			shown.VN = p.VN.E164()
		}
		return shown
	}
	for _, p := range r.Redis.Problems {
		out.Mismatches = append(out.Mismatches, report(string(p.Kind), p))
	}
	for _, d := range r.Differences {
		out.Differences = append(out.Differences, differenceReport{string(d.Kind), d.VN.E164(), d.Redis, d.Ledger, d.Repair})
	}
	for _, v := range r.History {
		out.Broken = append(out.Broken, report(string(v.Invariant), scripts.Problem{VN: v.VN, OrderID: v.OrderID, Detail: v.Detail}))
	}
	return out
}

// bars show on a terminal how far a check has come, with the time that is left where the
// whole is known.
type bars struct {
	out  io.Writer
	from time.Time // a short check shows none
	what string
	bar  *progressbar.ProgressBar
}

func newBars(out io.Writer) *bars { return &bars{out: out, from: time.Now().Add(time.Second)} }

// at implements audit.Progress.
func (b *bars) at(what string, done, of int) {
	if !isTerminal(b.out) || time.Now().Before(b.from) {
		return
	}
	if what != b.what {
		b.end()
		b.what = what
		b.bar = progressbar.NewOptions(max(of, -1), progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(what),
			progressbar.OptionSetWidth(24), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	if of > 0 {
		b.bar.ChangeMax(of)
	}
	_ = b.bar.Set(done) // for a person only; a lost line does no harm
}

func (b *bars) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}

// progress is bars for one thing.
func progress(out io.Writer, what string) func(done, of int) {
	bar := newBars(out)
	return func(done, of int) {
		bar.at(what, done, of)
		if done == of {
			bar.end()
		}
	}
}
