package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Write writes everything into the directory: results.json with every sample,
// goals.md and tables.md, and the plots.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: results are for everybody
		return fmt.Errorf("write the results: %w", err)
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	var goals, tables strings.Builder
	r.writeGoals(&goals)
	r.writeTables(&tables)
	for name, content := range map[string]string{
		"results.json": string(text) + "\n", "goals.md": goals.String(), "tables.md": tables.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // G306: results are for everybody
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return r.plot(dir)
}

// MarshalJSON leaves out what JSON has no number for.
func (s Sample) MarshalJSON() ([]byte, error) {
	type plain Sample
	p := plain(s)
	p.Values = maps.Clone(s.Values)
	maps.DeleteFunc(p.Values, func(_ Metric, v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	return json.Marshal(p)
}

// Print writes the table of goals and the notes for a person.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	b.WriteString("\n")
	r.writeGoals(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeHead(b *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(b, "%s · %s, %d processors, %s · %s, Linux %s\n", r.Started.Format("2006-01-02 15:04 UTC"), m.CPU, m.CPUs, m.Memory, m.System, m.Kernel)
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		fmt.Fprintf(b, "%s: %s\n", name, m.Versions[name])
	}
	if r.Short {
		b.WriteString("\n**A try-out: these figures show that everything works, and nothing else.**\n")
	}
	for _, note := range r.Notes {
		fmt.Fprintf(b, "\n* %s\n", strings.ReplaceAll(note, "\n", "; "))
	}
	b.WriteString("\n")
}

func (r *Report) writeGoals(b *strings.Builder) {
	r.writeHead(b)
	goals := Goals()
	rows := make([][]string, 1, len(goals)+1)
	rows[0] = []string{"figure", "goal", "reached (min … max)", "rounds", "met"}
	for _, g := range goals {
		s, yes := g.Reached(r)
		sign := "≥"
		if g.AtMost {
			sign = "≤"
		}
		row := []string{g.Figure, sign + " " + number(g.Limit) + " " + g.Unit, "not measured", "", ""}
		if s.N > 0 {
			row[2], row[3] = s.String()+" "+g.Unit, strconv.Itoa(s.N)
			row[4] = "no"
			if yes {
				row[4] = "yes"
			}
		}
		rows = append(rows, row)
	}
	table(b, rows)
}

// columns are the metrics of the tables.
var columns = []struct {
	metric Metric
	title  string
}{
	{RPS, "answered/s"},
	{ServerCPU, "server CPU µs"},
	{StoreCPU, "store CPU µs"},
	{LoadCPU, "generator CPU µs"},
	{P50, "p50 µs"},
	{P99, "p99 µs"},
	{P999, "p99.9 µs"},
	{ServiceP9, "p99 µs from sending"},
	{Busy, "503"},
	{BusyP99, "p99 µs of 503"},
	{Unsent, "given up"},
	{Resident, "server MB"},
	{Bytes, "bytes"},
	{Messages, "messages"},
	{Commands, "Redis commands/s"},
	{Spread, "fullest ÷ emptiest master"},
}

func (r *Report) writeTables(b *strings.Builder) {
	r.writeHead(b)
	for _, scenario := range r.Scenarios {
		fmt.Fprintf(b, "## %s\n\nMedians over the rounds (min … max).\n\n", scenario)
		shown := r.shown(scenario)
		head := []string{"point", "variant", "rounds"}
		for _, c := range shown {
			head = append(head, columns[c].title)
		}
		rows := [][]string{head}
		for _, point := range r.Points(scenario) {
			for _, variant := range r.Variants(scenario) {
				row := []string{point, variant, ""}
				for _, c := range shown {
					s := r.Stat(Key{scenario, variant, point}, columns[c].metric)
					cell := ""
					if s.N > 0 {
						cell, row[2] = s.String(), strconv.Itoa(s.N)
					}
					row = append(row, cell)
				}
				if row[2] != "" {
					rows = append(rows, row)
				}
			}
		}
		table(b, rows)
		b.WriteString("\n")
	}
}

// shown returns which columns a scenario has anything but zeros for.
func (r *Report) shown(scenario string) []int {
	var shown []int
	for c := range columns {
		for i := range r.Samples {
			if s := &r.Samples[i]; s.Scenario == scenario && s.Values[columns[c].metric] > 0 {
				shown = append(shown, c)
				break
			}
		}
	}
	return shown
}

// String prints the median and, where there are several rounds, the range.
func (s Stat) String() string {
	if s.N < 2 {
		return number(s.Median)
	}
	return number(s.Median) + " (" + number(s.Min) + " … " + number(s.Max) + ")"
}

// number prints three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e9:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func table(b *strings.Builder, rows [][]string) {
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
}
