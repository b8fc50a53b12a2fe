package forecast_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/replenisher/forecast"
)

var (
	start  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	limits = forecast.Limits{
		Floor: forecast.Levels{LowWater: 20, Target: 40}, Max: 1000, Review: 10 * time.Second, Batch: 5 * time.Minute,
	}
)

// watch feeds a demand for some time, in steps of 10 s: what is used at each, and how
// many orders were placed in it.
func watch(d *forecast.Demand, from time.Duration, span time.Duration, used func(since time.Duration) int, placed int) {
	for at := time.Duration(0); at <= span; at += 10 * time.Second {
		d.Observe(start.Add(from+at), used(at), placed)
	}
}

func steady(perMinute int) func(time.Duration) int {
	return func(since time.Duration) int { return perMinute * int(since/time.Second) / 60 }
}

func lead(times ...time.Duration) (l forecast.LeadTime) {
	for _, t := range times {
		l.Observe(t)
	}
	return l
}

func same(d time.Duration) []time.Duration {
	times := make([]time.Duration, 50)
	for i := range times {
		times[i] = d
	}
	return times
}

func TestAColdStartPlansTheFloors(t *testing.T) {
	t.Parallel()
	var d forecast.Demand
	require.Equal(t, limits.Floor, forecast.Plan(&d, lead(time.Minute), limits))
	watch(&d, 0, 4*time.Minute, steady(600), 100)
	require.Equal(t, limits.Floor, forecast.Plan(&d, lead(time.Minute), limits), "not watched for long enough")
	require.Zero(t, d.PerMinute())
	watch(&d, 0, time.Hour, steady(600), 100)
	require.Equal(t, limits.Floor, forecast.Plan(&d, forecast.LeadTime{}, limits), "no purchase was measured")
	_, runs := (&forecast.Demand{}).RunsOut(0)
	require.False(t, runs)
}

func TestASteadyDrainIsCoveredForTheLeadTime(t *testing.T) {
	t.Parallel()
	var d forecast.Demand
	watch(&d, 0, time.Hour, steady(60), 0)
	require.InDelta(t, 60, d.PerMinute(), 0.5)
	p := forecast.Plan(&d, lead(same(50*time.Second)...), limits)
	require.InDelta(t, 60, p.LowWater, 3, "a VN a second, for 50 s and 10 s of review")
	require.InDelta(t, 360, p.Target, 5, "and five minutes more")
	left, runs := d.RunsOut(30)
	require.True(t, runs)
	require.InDelta(t, 30, left.Seconds(), 1)

	watch(&d, time.Hour, 3*time.Hour, func(time.Duration) int { return 3600 }, 0)
	require.Equal(t, limits.Floor, forecast.Plan(&d, lead(same(50*time.Second)...), limits), "what ended is forgotten")
}

func TestAPoolThatGetsAsManyBackNeedsNoMore(t *testing.T) {
	t.Parallel()
	var d forecast.Demand
	watch(&d, 0, 2*time.Hour, func(time.Duration) int { return 500 }, 1000) // 6,000 orders a minute, all along
	require.Zero(t, d.PerMinute())
	require.Equal(t, limits.Floor, forecast.Plan(&d, lead(time.Minute), limits))
	_, runs := d.RunsOut(1)
	require.False(t, runs)
}

func TestOrdersPlacedWarnBeforeTheDrainDoes(t *testing.T) {
	t.Parallel()
	var d forecast.Demand
	watch(&d, 0, 2*time.Hour, func(time.Duration) int { return 100 }, 10) // 60 a minute
	require.Zero(t, d.PerMinute())
	watch(&d, 2*time.Hour, 4*time.Minute, func(time.Duration) int { return 100 }, 20)
	require.InDelta(t, 90, d.PerMinute(), 20, "60 orders more a minute, two VNs each, most of them noticed after four minutes")

	var wild forecast.Demand
	watch(&wild, 0, 2*time.Hour, func(time.Duration) int { return 100 }, 10)
	watch(&wild, 2*time.Hour, time.Minute, func(time.Duration) int { return 100 }, 1_000_000)
	require.Less(t, wild.PerMinute(), 2*4*70.0, "a sender that runs wild is bounded")
}

func TestManyBackAtOnceIsNoReasonToBuy(t *testing.T) {
	t.Parallel()
	var d forecast.Demand
	watch(&d, 0, time.Hour, func(since time.Duration) int {
		if since > 30*time.Minute {
			return 0
		}
		return 500
	}, 0)
	require.Equal(t, limits.Floor, forecast.Plan(&d, lead(time.Minute), limits))
}

func TestTheLeadTimeFollowsTheCarrier(t *testing.T) {
	t.Parallel()
	l := lead(same(2 * time.Second)...)
	require.Equal(t, 2*time.Second, l.Mean())
	require.InDelta(t, 2, l.Most().Seconds(), 0.1, "an even carrier needs no margin")
	for range 50 {
		l.Observe(30 * time.Second)
	}
	require.InDelta(t, 30, l.Mean().Seconds(), 0.5)
	l.Observe(-time.Hour)
	require.Positive(t, l.Mean())

	uneven := lead(time.Second, 59*time.Second, time.Second, 59*time.Second)
	require.Greater(t, uneven.Most(), uneven.Mean()+20*time.Second)
	require.Equal(t, uneven, forecast.Slowest(forecast.LeadTime{}, lead(time.Second), uneven))
	slowest := forecast.Slowest(forecast.LeadTime{})
	require.False(t, slowest.Known())
}

// TestPlansAreSane holds for every history: levels in their limits and in order, more
// demand or a slower carrier never means fewer numbers, and nothing is NaN.
func TestPlansAreSane(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var d, more forecast.Demand
		at, used, extra := start, 0, 0
		slope := rapid.IntRange(0, 20).Draw(rt, "slope")
		for range rapid.IntRange(0, 80).Draw(rt, "looks") {
			dt := rapid.IntRange(-10, 600).Draw(rt, "seconds")
			at = at.Add(time.Duration(dt) * time.Second)
			used = max(0, used+rapid.IntRange(-200, 200).Draw(rt, "step"))
			extra += slope * max(0, dt)
			placed := rapid.IntRange(0, 1_000_000).Draw(rt, "placed")
			d.Observe(at, used, placed)
			more.Observe(at, used+extra, placed)
		}
		low := rapid.IntRange(0, 100).Draw(rt, "low")
		target := low + rapid.IntRange(0, 100).Draw(rt, "gap")
		l := forecast.Limits{
			Floor: forecast.Levels{LowWater: low, Target: target}, Max: target + rapid.IntRange(0, 10_000).Draw(rt, "over"),
			Review: 10 * time.Second, Batch: 5 * time.Minute,
		}
		quick, slow := lead(time.Second, time.Second), lead(time.Minute, time.Minute)
		p := forecast.Plan(&d, quick, l)
		require.GreaterOrEqual(rt, p.LowWater, low)
		require.GreaterOrEqual(rt, p.Target, max(target, p.LowWater))
		require.LessOrEqual(rt, p.Target, l.Max)
		require.GreaterOrEqual(rt, forecast.Plan(&d, slow, l).LowWater, p.LowWater)
		require.GreaterOrEqual(rt, more.PerMinute(), d.PerMinute()-1e-6)
		require.GreaterOrEqual(rt, d.PerMinute(), 0.0) // fails for NaN
		free := rapid.IntRange(0, 10_000).Draw(rt, "free")
		left, runs := d.RunsOut(free)
		require.GreaterOrEqual(rt, left, time.Duration(0))
		if runs {
			sooner, also := more.RunsOut(free)
			require.True(rt, also)
			require.LessOrEqual(rt, sooner, left+time.Second)
		}
	})
}

// TestTheForecastPreventsEmptyPools plays days whose demand goes up and down, once with
// the floors alone and once with the forecast: the forecast leaves far fewer orders
// without a number.
func TestTheForecastPreventsEmptyPools(t *testing.T) {
	t.Parallel()
	floors, planned := 0, 0
	for seed := range uint64(20) {
		floors += shortfall(seed, false)
		planned += shortfall(seed, true)
	}
	require.Positive(t, floors, "the days must be hard enough to tell")
	require.Less(t, planned, floors/5, "with the floors alone: %d", floors)
}

// shortfall plays six hours and counts the VNs that were asked for and not free. A
// look every 10 s, a carrier that takes two minutes, and orders that only ever add up.
func shortfall(seed uint64, planned bool) (missed int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var d forecast.Demand
	l := lead(same(2 * time.Minute)...)
	l2 := limits
	l2.Max = 100_000
	free, used, rate := 40, 0, 0.0
	arriving := map[int]int{} // by look
	onTheWay, filling := 0, false
	for look := range 6 * 360 {
		if look%180 == 0 { // every half hour
			rate = rng.Float64() * 8 // VNs per look
		}
		free, onTheWay = free+arriving[look], onTheWay-arriving[look]
		wanted := 0
		for range 40 {
			if rng.Float64() < rate/40 {
				wanted++
			}
		}
		got := min(wanted, free)
		missed += wanted - got
		free, used = free-got, used+got
		d.Observe(start.Add(time.Duration(look)*10*time.Second), used, wanted/2)
		p := limits.Floor
		if planned {
			p = forecast.Plan(&d, l, l2)
		}
		filling = free < p.LowWater || filling && free < p.Target
		if need := p.Target - free - onTheWay; filling && need > 0 {
			arriving[look+12] += need
			onTheWay += need
		}
	}
	return missed
}
