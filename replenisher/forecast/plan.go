package forecast

import (
	"math"
	"time"
)

// safety is how many standard deviations of the demand during the lead time are kept
// beside its mean: the pool then runs dry in about one of 40 rounds of buying that come
// at the worst moment.
const safety = 2

// Levels are how many free VNs a pool should have: buying starts below LowWater and
// goes on up to Target.
type Levels struct{ LowWater, Target int }

// Limits are what a plan stays within.
type Limits struct {
	Floor Levels // from the settings; LowWater is not above Target
	Max   int    // for both levels; at least Floor.Target
	// Review is how long it may take until a pool that runs low is looked at.
	Review time.Duration
	// Batch is for how long a round of buying should last.
	Batch time.Duration
}

// Plan returns the levels that fit the demand and the lead time. Nothing is planned,
// and the floors hold, until both are known.
func Plan(d *Demand, lead LeadTime, limits Limits) Levels {
	if !lead.known {
		return limits.Floor
	}
	perMinute := d.PerMinute()
	wait := (lead.mean + limits.Review).Minutes()
	// The variance of a random rate over a random time.
	variance := d.variance()*wait + square(perMinute*lead.sigma().Minutes())
	low := clamp(perMinute*wait+safety*math.Sqrt(variance), limits.Floor.LowWater, limits.Max)
	// A round buys at least as many as the settings let it buy, so that a pool whose
	// levels rose is not bought for number by number.
	batch := max(perMinute*limits.Batch.Minutes(), float64(limits.Floor.Target-limits.Floor.LowWater))
	return Levels{LowWater: low, Target: clamp(float64(low)+batch, limits.Floor.Target, limits.Max)}
}

func square(x float64) float64 { return x * x }

// clamp rounds up and keeps within the limits.
func clamp(x float64, least, most int) int {
	return max(least, int(min(math.Ceil(x), float64(most))))
}
