package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/bench/report"
	"github.com/callmask/callmask/bench/scenario"
)

// hidden are the commands by which the harness starts processes of its own program,
// which is this test's program here.
var hidden = []string{"load", "peer", "nats"}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains(hidden, os.Args[1]) {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// Every scenario runs for a moment against the real product, and every answer is
// checked. The figures mean nothing.
func TestEveryScenarioRunsAndEveryAnswerIsRight(t *testing.T) {
	t.Parallel()
	callmask := filepath.Join(t.TempDir(), "callmask")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", callmask, "github.com/callmask/callmask/cmd/callmask")
	text, err := build.CombinedOutput()
	require.NoError(t, err, string(text))

	out := t.TempDir()
	args := []string{"run", "--short", "--out", out, "--callmask", callmask}
	var names []string
	for _, s := range scenario.All() {
		names = append(names, s.Name)
	}
	require.Zero(t, run(append(args, names...)))

	raw, err := os.ReadFile(filepath.Join(out, "results.json"))
	require.NoError(t, err)
	var r report.Report
	require.NoError(t, json.Unmarshal(raw, &r))
	require.Equal(t, names, r.Scenarios)
	for _, name := range names {
		require.NotEmpty(t, r.Points(name), name)
	}
	for _, variant := range []string{report.Callmask, report.Recording, report.OneProc, "bare", "naive", "nethttp", "evalsha"} {
		require.Positive(t, r.Stat(report.Key{Scenario: "resolve", Variant: variant, Point: report.Saturation}, report.RPS).Median, variant)
	}
	for _, variant := range []string{report.ThroughNATS, report.Sync} {
		require.Positive(t, r.Stat(report.Key{Scenario: "allocate", Variant: variant, Point: report.Events}, report.P50).Median, variant)
	}
	for _, variant := range []string{report.SingleRedis, report.ClusterOf(3)} {
		key := report.Key{Scenario: "cluster", Variant: variant, Point: report.RoutersPoint(0, 2)}
		require.Positive(t, r.Stat(key, report.RPS).Median, variant)
		require.Positive(t, r.Stat(key, report.StoreCPU).Median, variant)
	}
	third := report.Key{Scenario: "cluster", Variant: report.NodeOf(report.ClusterOf(3), 3), Point: report.RoutersPoint(0, 1)}
	require.Positive(t, r.Stat(third, report.Commands).Median, "every master serves some of the calls")
	for _, masters := range []struct{ masters, partitions int }{{3, 16}, {4, 64}} {
		key := report.Key{Scenario: "cluster", Variant: report.ClusterOf(masters.masters), Point: report.PartitionsPoint(masters.partitions)}
		require.GreaterOrEqual(t, r.Stat(key, report.Spread).Median, 1.0, key.Variant)
	}
	for _, note := range r.Notes {
		if !strings.HasPrefix(note, "cluster: ") { // what two processors cannot show
			require.Contains(t, note, "is left out", "only a missing Node.js or PostgreSQL may be noted")
		}
	}
	for _, name := range []string{"goals.md", "tables.md", "throughput.svg", "latency-8000.svg", "cluster.svg"} {
		text, err := os.ReadFile(filepath.Join(out, name))
		require.NoError(t, err)
		require.NotEmpty(t, text, name)
	}

	profile := filepath.Join(out, "router.pprof")
	require.Zero(t, run([]string{"profile", profile, "--seconds", "1", "--orders", "500", "--callmask", callmask}))
	text, err = os.ReadFile(profile)
	require.NoError(t, err)
	require.Equal(t, "\x1f\x8b", string(text[:2]), "a compressed profile")
}

func TestCommandLineMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"run", "nonsense"}, {"run", "--rounds", "0"}, {"run", "--seconds", "0"}, {"run", "--conns", "0"}, {"nonsense"},
	} {
		require.Equal(t, 1, run(args), strings.Join(args, " "))
	}
	require.Zero(t, run([]string{"list"}))
}
