package plan

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/vn"
)

// The loads in erlangs that so many servers carry at a blocking probability, as the
// tables of Erlang B in print have them, to their last digit.
func TestErlangBAgreesWithThePrintedTables(t *testing.T) {
	t.Parallel()
	servers := []int{1, 2, 5, 10, 20, 50, 100}
	for blocking, loads := range map[float64][]float64{
		0.001: {0.001, 0.0458, 0.762, 3.09, 9.41, 32.5, 75.2},
		0.01:  {0.0101, 0.153, 1.36, 4.46, 12.0, 37.9, 84.1},
		0.02:  {0.0204, 0.223, 1.66, 5.08, 13.2, 40.3, 88.0},
		0.05:  {0.0526, 0.381, 2.22, 6.22, 15.2, 44.5, 95.2},
	} {
		for i, n := range servers {
			step := math.Pow(10, math.Floor(math.Log10(loads[i]))-2) / 2 // half of the last digit printed
			require.LessOrEqual(t, ErlangB(n, loads[i]-step), blocking*1.0005, "%d servers, %g erlangs", n, loads[i])
			require.GreaterOrEqual(t, ErlangB(n, loads[i]+step), blocking*0.9995, "%d servers, %g erlangs", n, loads[i])
		}
	}
	require.InDelta(t, 0.018385, ErlangB(10, 5), 5e-7)
	require.InDelta(t, 1, ErlangB(0, 3), 0)
	require.InDelta(t, 0, ErlangB(3, 0), 0)
}

func TestErlangBAgreesWithItsDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 30).Draw(rt, "servers")
		a := rapid.Float64Range(0.01, 40).Draw(rt, "erlangs")
		term, sum := 1.0, 1.0
		for k := 1; k <= n; k++ {
			term *= a / float64(k)
			sum += term
		}
		require.InEpsilon(rt, term/sum, ErlangB(n, a), 1e-9)
	})
}

func anyLoad(rt *rapid.T) Load {
	return Load{
		OrdersPerHour: rapid.Float64Range(0.1, 20_000).Draw(rt, "orders"), Peak: rapid.Float64Range(1, 5).Draw(rt, "peak"),
		Parties:  rapid.IntRange(vn.MinParties, vn.MaxParties).Draw(rt, "parties"),
		Length:   time.Duration(rapid.IntRange(1, 7200).Draw(rt, "length")) * time.Second,
		Cooldown: time.Duration(rapid.IntRange(0, 3600).Draw(rt, "cooldown")) * time.Second,
		Blocking: rapid.Float64Range(1e-6, 0.5).Draw(rt, "blocking"),
		LeadTime: time.Duration(rapid.IntRange(0, 7200).Draw(rt, "lead")) * time.Second,
	}
}

func TestAPlanIsTheLeastThatKeepsItsPromise(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := anyLoad(rt)
		p, err := For(l)
		require.NoError(rt, err)
		require.LessOrEqual(rt, ErlangB(p.Orders, p.Erlangs), l.Blocking)
		require.Greater(rt, ErlangB(p.Orders-1, p.Erlangs), l.Blocking, "one order less would not do")
		require.InDelta(rt, p.Blocking, ErlangB(p.Orders, p.Erlangs), 1e-12)
		require.Equal(rt, p.Orders*l.Parties, p.VNs)
		require.GreaterOrEqual(rt, p.LowWater, l.Parties)
		require.Greater(rt, p.Target, p.LowWater)
		require.GreaterOrEqual(rt, p.Max, p.Target, "the settings would be refused")
		require.Zero(rt, p.LowWater%l.Parties)
	})
}

func TestMoreLoadNeedsNoFewerNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := anyLoad(rt)
		less, err := For(l)
		require.NoError(rt, err)
		for name, change := range map[string]func(*Load){
			"orders":   func(l *Load) { l.OrdersPerHour *= 1.5 },
			"peak":     func(l *Load) { l.Peak += 0.5 },
			"length":   func(l *Load) { l.Length += time.Minute },
			"cooldown": func(l *Load) { l.Cooldown += time.Minute },
			"blocking": func(l *Load) { l.Blocking /= 2 },
			"lead":     func(l *Load) { l.LeadTime += time.Minute },
		} {
			more := l
			change(&more)
			p, err := For(more)
			require.NoError(rt, err)
			require.GreaterOrEqual(rt, p.VNs, less.VNs, name)
			require.GreaterOrEqual(rt, p.LowWater, less.LowWater, name)
		}
	})
}

// One pool for two loads needs no more than a pool for each: what makes small pools dear.
func TestSharingAPoolNeverCostsNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := anyLoad(rt)
		alone, err := For(l)
		require.NoError(rt, err)
		l.OrdersPerHour *= 2
		together, err := For(l)
		require.NoError(rt, err)
		require.LessOrEqual(rt, together.VNs, 2*alone.VNs)
	})
}

func TestAPlanInFigures(t *testing.T) {
	t.Parallel()
	p, err := For(Load{
		OrdersPerHour: 100, Peak: 1.2, Parties: 2, Length: 20 * time.Minute, Cooldown: 10 * time.Minute,
		Blocking: 0.001, LeadTime: 5 * time.Minute,
	})
	require.NoError(t, err)
	require.InDelta(t, 60, p.Erlangs, 1e-9) // 120 an hour, half an hour each
	require.Equal(t, []int{83, 166}, []int{p.Orders, p.VNs})
	// 10 orders come in the lead time, and more than 21 in less than one of a thousand.
	require.Equal(t, []int{42, 84, 250}, []int{p.LowWater, p.Target, p.Max})
}

func TestTheQuantileIsThatOfAPoissonVariable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mean, p float64
		want    int
	}{{0, 0.1, 0}, {1, 0.5, 1}, {10, 0.05, 15}, {10, 0.001, 21}, {100, 0.01, 124}, {1e6, 0.001, 1003092}} {
		require.InDelta(t, c.want, quantile(c.mean, c.p), math.Max(0, c.mean/1e6*5), "%v", c)
	}
}

func TestWhatCannotBePlannedIsSaidByName(t *testing.T) {
	t.Parallel()
	good := Load{OrdersPerHour: 1, Peak: 1, Parties: 2, Length: time.Minute, Blocking: 0.01}
	_, err := For(good)
	require.NoError(t, err)
	nan := math.NaN()
	for _, c := range []struct {
		field  string
		change func(*Load)
	}{
		{"orders per hour", func(l *Load) { l.OrdersPerHour = 0 }},
		{"orders per hour", func(l *Load) { l.OrdersPerHour = nan }},
		{"orders per hour", func(l *Load) { l.OrdersPerHour = math.Inf(1) }},
		{"orders per hour", func(l *Load) { l.OrdersPerHour, l.Length = 1e9, time.Hour }},
		{"peak", func(l *Load) { l.Peak = 0.5 }},
		{"peak", func(l *Load) { l.Peak = nan }},
		{"parties", func(l *Load) { l.Parties = 1 }},
		{"parties", func(l *Load) { l.Parties = 9 }},
		{"order length", func(l *Load) { l.Length = 0 }},
		{"cooldown", func(l *Load) { l.Cooldown = -1 }},
		{"blocking", func(l *Load) { l.Blocking = 0 }},
		{"blocking", func(l *Load) { l.Blocking = 1 }},
		{"blocking", func(l *Load) { l.Blocking = nan }},
		{"lead time", func(l *Load) { l.LeadTime = -1 }},
	} {
		l := good
		c.change(&l)
		_, err := For(l)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, "%+v", l)
		require.Equal(t, c.field, field.Field)
	}
}

func TestCostIsExact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n           int
		price, want string
	}{{166, "1.15", "190.90"}, {3, "0.1", "0.30"}, {0, "5", "0.00"}, {10_000_000, "0.015", "150000.00"}} {
		got, err := Cost(c.n, c.price)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, wrong := range []string{"", "1/3", "-1", "1e3", "1,15", "NaN", " 1", "1."} {
		_, err := Cost(1, wrong)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, wrong)
	}
}
