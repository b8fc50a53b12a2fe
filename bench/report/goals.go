package report

import "time"

// Goal is a figure that callmask means to reach.
type Goal struct {
	Figure string
	Limit  float64
	AtMost bool
	Unit   string
	// of returns the figure; N is 0 when it was not measured.
	of func(r *Report) Stat
}

// Reached returns the figure, and whether it meets the goal.
func (g *Goal) Reached(r *Report) (s Stat, yes bool) {
	s = g.of(r)
	if g.AtMost {
		return s, s.Median <= g.Limit
	}
	return s, s.Median >= g.Limit
}

// slow is what no call should take.
const slow = 25 * time.Millisecond

// Goals are all goals, in the order of the table.
func Goals() []Goal {
	const resolve, growth = "resolve", "growth"
	at := func(scenario, variant, point string) Key { return Key{scenario, variant, point} }
	stat := func(k Key, m Metric) func(*Report) Stat {
		return func(r *Report) Stat { return r.Stat(k, m) }
	}
	ratio := func(a, b Key, m Metric) func(*Report) Stat {
		return func(r *Report) Stat { return r.Ratio(a, b, m) }
	}
	product, bare, naive := at(resolve, Callmask, Saturation), at(resolve, "bare", Saturation), at(resolve, "naive", Saturation)
	recording := at(resolve, Recording, Saturation)
	goals := []Goal{
		{"router CPU per signed resolve ÷ bare handler's", 1.45, true, "×", ratio(product, bare, ServerCPU)},
		{"the same with the recorder on", 1.8, true, "×", ratio(recording, bare, ServerCPU)},
		{"Redis CPU per resolve", 7, true, "µs", stat(product, StoreCPU)},
		{"Redis CPU per resolve ÷ naive's", 0.4, true, "×", ratio(product, naive, StoreCPU)},
		{"throughput ÷ bare", 0.55, false, "×", ratio(product, bare, RPS)},
		{"throughput ÷ naive (fasthttp + go-redis)", 2, false, "×", ratio(product, naive, RPS)},
	}
	for _, peer := range []struct {
		name, variant string
		limit         float64
	}{
		{"net/http + go-redis", "nethttp", 2.8},
		{"net/http + go-redis, EVALSHA_RO", "evalsha", 2.8},
		{"PostgreSQL + pgx", "pgx", 4},
		{"Node.js + Express + ioredis", "node", 9},
	} {
		goals = append(goals, Goal{"throughput ÷ " + peer.name, peer.limit, false, "×", ratio(product, at(resolve, peer.variant, Saturation), RPS)})
	}
	for _, rate := range []float64{2000, 8000} {
		p := RatePoint(rate)
		goals = append(goals, Goal{"p50 at " + p + " ÷ naive's", 1.2, true, "×", ratio(at(resolve, Callmask, p), at(resolve, "naive", p), P50)})
	}
	beside := func(rate float64) func(*Report) Stat {
		return ratio(at("mixed", Callmask, MixedPoint(rate, Beside)), at("mixed", Callmask, MixedPoint(rate, Alone)), P50)
	}
	script := func(point string) Key { return at("allocate", Scripts, point) }
	size := func(vns int) Key { return at("pool-size", Scripts, VNsPoint(vns)) }
	orders := func(n int) Key { return at(growth, Callmask, OrdersPoint(n)) }
	masters := func(n int) Key { return at("cluster", ClusterOf(n), RoutersPoint(0, 1)) }
	single := at("cluster", SingleRedis, RoutersPoint(0, 1))
	spread := func(masters, partitions int) func(*Report) Stat {
		return stat(at("cluster", ClusterOf(masters), PartitionsPoint(partitions)), Spread)
	}
	memory := func(point string) func(*Report) Stat { return stat(at("memory", Callmask, point), Bytes) }
	return append(
		goals,
		Goal{"rounds with p99 above 25 ms at 8000/s, more than bare's", 2, true, "of 9", slowRounds},
		Goal{"Redis bytes per active order, 12-character ids", 900, true, "bytes", memory(ShortIDs)},
		Goal{"Redis bytes per active order, UUIDs", 1050, true, "bytes", memory(UUIDs)},
		Goal{"Redis bytes per VN in the inventory", 150, true, "bytes", memory(Inventory)},
		Goal{"Redis CPU per resolve, 1M active orders", 7, true, "µs", stat(orders(1_000_000), StoreCPU)},
		Goal{"5M ÷ 1k active orders: router CPU", 1.1, true, "×", ratio(orders(5_000_000), orders(1000), ServerCPU)},
		Goal{"5M ÷ 1k active orders: Redis CPU", 3.5, true, "×", ratio(orders(5_000_000), orders(1000), StoreCPU)},
		Goal{"allocate, 16 callers, no AOF", 18_000, false, "/s", stat(script(NoAOF), RPS)},
		Goal{"allocate, 16 callers, with AOF", 14_000, false, "/s", stat(script(WithAOF), RPS)},
		Goal{"allocate: Redis CPU, pool of 1M ÷ of 45k", 1.2, true, "×", ratio(size(1_000_000), size(45_000), StoreCPU)},
		Goal{"orders.assigned → vn.assigned at 500/s, p50", 5000, true, "µs", stat(at("allocate", ThroughNATS, Events), P50)},
		Goal{"resolve p50 at 2000/s beside 1000 allocate+release/s ÷ alone", 1.3, true, "×", beside(2000)},
		Goal{"the same at 8000/s", 1.3, true, "×", beside(8000)},
		Goal{"overload at 3× capacity: answered ÷ capacity", 0.9, false, "×", func(r *Report) Stat {
			return r.RatioOf(at("overload", Callmask, Overloaded), RPS, at("overload", Callmask, CapacityAt), RPS)
		}},
		Goal{"overload at 3× capacity: p99 of what is answered", 100_000, true, "µs", stat(at("overload", Callmask, Overloaded), ServiceP9)},
		Goal{"router CPU per resolve, Cluster of 3 masters ÷ single Redis", 1.15, true, "×", ratio(masters(3), single, ServerCPU)},
		Goal{"the same, Cluster of 6 masters", 1.15, true, "×", ratio(masters(6), single, ServerCPU)},
		Goal{"commands of the fullest ÷ the emptiest master, 16 partitions on 3", 1.35, true, "×", spread(3, 16)},
		Goal{"the same, 64 partitions on 12", 1.35, true, "×", spread(12, 64)},
		Goal{"router memory: last minute ÷ first", 1.05, true, "×", ratio(at("soak", Callmask, SoakLast), at("soak", Callmask, SoakFirst), Resident)},
	)
}

// slowRounds counts the rounds with a slow p99 beyond those of the bare handler, as
// if there had been nine.
func slowRounds(r *Report) Stat {
	limit := float64(slow.Microseconds())
	point := RatePoint(8000)
	ours, n := r.Count(Key{"resolve", Callmask, point}, P99, limit)
	bare, m := r.Count(Key{"resolve", "bare", point}, P99, limit)
	if n == 0 || m == 0 {
		return Stat{}
	}
	more := 9 * (float64(ours)/float64(n) - float64(bare)/float64(m))
	return Stat{Median: more, Min: more, Max: more, N: n}
}
