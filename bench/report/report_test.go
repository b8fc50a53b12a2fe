package report

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sample(variant string, round int, rps float64) Sample {
	return Sample{Scenario: "resolve", Variant: variant, Point: Saturation, Round: round, Values: map[Metric]float64{RPS: rps}}
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	t.Parallel()
	var r Report
	// The machine halves its speed from round to round; the ratio stays.
	for round, rps := range []float64{8000, 4000, 2000} {
		r.Add(sample(Callmask, round, rps))
		r.Add(sample("bare", round, 2*rps))
	}
	r.Add(sample("bare", 7, 1)) // a round of one alone counts for nothing
	ours, bare := Key{"resolve", Callmask, Saturation}, Key{"resolve", "bare", Saturation}
	require.Equal(t, Stat{Median: 0.5, Min: 0.5, Max: 0.5, N: 3}, r.Ratio(ours, bare, RPS))
	require.Equal(t, Stat{Median: 4000, Min: 2000, Max: 8000, N: 3}, r.Stat(ours, RPS))
	require.Zero(t, r.Stat(Key{"resolve", "nobody", Saturation}, RPS).N)
}

func TestTheMedianOfAnEvenNumberOfRoundsLiesBetweenTheTwoInTheMiddle(t *testing.T) {
	t.Parallel()
	require.Equal(t, Stat{Median: 2.5, Min: 1, Max: 10, N: 4}, newStat([]float64{10, 1, 2, 3}))
}

func TestAGoalTellsWhatWasReachedAndWhatWasNotMeasured(t *testing.T) {
	t.Parallel()
	var r Report
	r.Add(sample(Callmask, 0, 6000))
	r.Add(sample("bare", 0, 10_000))
	r.Add(sample("naive", 0, 4000))
	var b strings.Builder
	r.writeGoals(&b)
	require.Contains(t, b.String(), "| throughput ÷ bare | ≥ 0.55 × | 0.60 × | 1 | yes |")
	require.Contains(t, b.String(), "| throughput ÷ naive (fasthttp + go-redis) | ≥ 2 × | 1.50 × | 1 | no |")
	require.Contains(t, b.String(), "| Redis CPU per resolve | ≤ 7 µs | not measured |  |  |")
}

func TestSlowRoundsAreThoseBeyondTheBareHandlers(t *testing.T) {
	t.Parallel()
	var r Report
	for round := range 3 {
		for variant, p99 := range map[string]float64{Callmask: 30_000, "bare": 1000} {
			if round == 0 {
				p99 = 26_000 // both
			}
			r.Add(Sample{Scenario: "resolve", Variant: variant, Point: RatePoint(8000), Round: round, Values: map[Metric]float64{P99: p99}})
		}
	}
	require.InDelta(t, 6, slowRounds(&r).Median, 1e-9)
}

func TestFiguresThatAreNoNumbersAreLeftOut(t *testing.T) {
	t.Parallel()
	r := Report{Scenarios: []string{"resolve"}}
	s := sample(Callmask, 0, 5)
	s.Values[P50], s.Values[P99] = math.NaN(), math.Inf(1)
	r.Add(s)
	dir := t.TempDir()
	require.NoError(t, r.Write(dir))
	raw, err := os.ReadFile(filepath.Join(dir, "results.json"))
	require.NoError(t, err)
	require.Contains(t, string(raw), `"rps": 5`)
	require.NotContains(t, string(raw), "p50_us")
}

func TestSizesAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{300: "300", 1000: "1k", 45_000: "45k", 5_000_000: "5M", 1500: "1500"} {
		require.Equal(t, want, short(n))
		back, ok := parseShort(want)
		require.True(t, ok)
		require.InDelta(t, n, back, 0)
	}
}
