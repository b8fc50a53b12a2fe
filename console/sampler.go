package console

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/replenisher/forecast"
	"github.com/callmask/callmask/scripts"
)

const (
	sampleFor = 5 * time.Second // how long one reading of one part may take
	// tailMost is how many events of calls are read a second at most.
	tailMost = 100
	newsMost = 100
	// historyEvery is the distance of two points of a pool's chart, and historyLen how many
	// there are: half an hour.
	historyEvery = 15 * time.Second
	historyLen   = 120
	pausesEvery  = 5 * time.Second
)

// snapshot is what the console knows at one moment. It is never changed once it is made.
type snapshot struct {
	At       time.Time
	Redis    trouble
	NATS     trouble
	ClockOff time.Duration // how far this machine's clock is ahead of that of Redis
	Pools    []poolRow     // by name
	Total    levels
	Carriers []carrierRow
	News     []events.PoolNews // newest first
	Calls    calls
	Status   *replenisher.Status // nil without the replenisher
}

// trouble says since when something does not answer; zero when it does.
type trouble struct{ Since time.Time }

func (t trouble) there() bool { return !t.Since.IsZero() }

// after returns the trouble that follows an attempt.
func (t trouble) after(err error, now time.Time) trouble {
	switch {
	case err == nil:
		return trouble{}
	case t.there():
		return t
	}
	return trouble{Since: now}
}

// levels counts VNs by state.
type levels struct{ Free, Leased, Cooling, Draining int }

func (l levels) Total() int { return l.Free + l.Leased + l.Cooling + l.Draining }

func (l *levels) add(s *scripts.Stock) {
	l.Free += s.Free
	l.Leased += s.Leased
	l.Cooling += s.Cooling
	l.Draining += s.Draining
}

// poolRow is a pool with what is known of its future.
type poolRow struct {
	levels

	Name    string
	RunsOut time.Duration // at the present rate; 0 when it does not
	History *history      // shared with other snapshots
}

// history is the stock of one pool over time. Points are only ever added, so a reader may
// keep the slices that it took.
type history struct {
	at     []int64 // Unix seconds
	levels []levels
}

// with returns the history with one more point, without the oldest ones.
func (h *history) with(at time.Time, l levels) *history {
	from := max(0, len(h.at)-historyLen+1)
	return &history{
		at:     append(slices.Clone(h.at[from:]), at.Unix()),
		levels: append(slices.Clone(h.levels[from:]), l),
	}
}

// carrierRow is a carrier with whether somebody has paused it.
type carrierRow struct {
	Name   string
	Sells  bool
	Known  bool // Status is the replenisher's here
	Status replenisher.CarrierStatus
	Paused bool
	By     string // who paused it
}

// sampler makes snapshots. Only one goroutine uses it.
type sampler struct {
	deps   *Deps
	config *Config
	now    func() time.Time

	calls   *events.CallTail
	pools   *events.PoolTail
	demand  map[string]*forecast.Demand
	past    map[string]*history
	noted   time.Time // when a point of the charts was last added
	pauses  map[string]events.Pause
	paused  time.Time // when the pauses were last read
	counter counter
	cost    time.Duration // of counting the stock, the last time
}

func newSampler(deps *Deps, config *Config) *sampler {
	return &sampler{
		deps: deps, config: config, now: time.Now, calls: deps.Bus.TailCalls(), pools: deps.Bus.TailPools(),
		demand: make(map[string]*forecast.Demand), past: make(map[string]*history), pauses: make(map[string]events.Pause),
	}
}

// sample reads everything once. What does not answer keeps what was known of it before.
func (s *sampler) sample(ctx context.Context, watched bool, before *snapshot) *snapshot {
	next := &snapshot{}
	if before != nil {
		*next = *before
	}
	next.At = s.now().UTC()
	next.Redis = next.Redis.after(s.readStock(ctx, next), next.At)
	next.NATS = next.NATS.after(s.readEvents(ctx, next, watched), next.At)
	if s.deps.Keeper != nil {
		status := s.deps.Keeper.Status()
		next.Status = &status
	}
	s.foretell(next)
	s.carriers(next)
	return next
}

func (s *sampler) readStock(ctx context.Context, next *snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, sampleFor)
	defer cancel()
	asked := s.now()
	clock, err := s.deps.Store.Clock(ctx)
	if err != nil {
		return err
	}
	// Half of the time that asking took lies before Redis looked at its clock.
	next.ClockOff = asked.Add(s.now().Sub(asked) / 2).Sub(clock)
	asked = s.now()
	rows, err := s.deps.Store.Stock(ctx)
	s.cost = s.now().Sub(asked)
	if err != nil {
		return err
	}
	byName := make(map[string]*levels, len(rows)+len(s.config.Pools))
	for _, name := range s.config.Pools { // also those that never had a number
		byName[name] = &levels{}
	}
	next.Total = levels{}
	for i := range rows {
		l, ok := byName[rows[i].Pool]
		if !ok {
			l = &levels{}
			byName[rows[i].Pool] = l
		}
		l.add(&rows[i])
		next.Total.add(&rows[i])
	}
	s.note(byName, next.At)
	next.Pools = make([]poolRow, 0, len(byName))
	for name, l := range byName {
		next.Pools = append(next.Pools, poolRow{levels: *l, Name: name, History: s.past[name]})
	}
	slices.SortFunc(next.Pools, func(x, y poolRow) int { return cmp.Compare(x.Name, y.Name) })
	return nil
}

// note adds a point to the charts and to the forecasts, from time to time.
func (s *sampler) note(pools map[string]*levels, at time.Time) {
	if at.Sub(s.noted) < historyEvery {
		return
	}
	s.noted = at
	for name, l := range pools {
		h, ok := s.past[name]
		if !ok {
			h, s.demand[name] = &history{}, &forecast.Demand{}
		}
		s.past[name] = h.with(at, *l)
		s.demand[name].Observe(at, l.Total()-l.Free, 0)
	}
}

// foretell says when each pool runs out: as the replenisher has it, where it is here.
func (s *sampler) foretell(next *snapshot) {
	for i := range next.Pools {
		p := &next.Pools[i]
		p.RunsOut = 0
		if next.Status != nil {
			p.RunsOut = next.Status.Pools[p.Name].RunsOut
			continue
		}
		if d, ok := s.demand[p.Name]; ok {
			if left, runs := d.RunsOut(p.Free); runs {
				p.RunsOut = left
			}
		}
	}
}

func (s *sampler) readEvents(ctx context.Context, next *snapshot, watched bool) error {
	ctx, cancel := context.WithTimeout(ctx, sampleFor)
	defer cancel()
	batch, err := s.calls.Next(ctx, tailMost)
	if err != nil {
		return err
	}
	next.Calls = s.counter.take(&batch, next.At)
	news, err := s.pools.Next(ctx)
	if err != nil {
		return err
	}
	if len(news) > 0 {
		slices.Reverse(news)
		next.News = slices.Concat(news, next.News)
		next.News = next.News[:min(len(next.News), newsMost):min(len(next.News), newsMost)]
	}
	if !watched || next.At.Sub(s.paused) < pausesEvery {
		return nil
	}
	for _, name := range s.config.Sellers {
		p, _, err := s.deps.Bus.CarrierPause(ctx, name)
		if err != nil {
			return err
		}
		s.pauses[name] = p
	}
	s.paused = next.At
	return nil
}

func (s *sampler) carriers(next *snapshot) {
	known := make(map[string]replenisher.CarrierStatus)
	if next.Status != nil {
		for _, c := range next.Status.Carriers {
			known[c.Name] = c
		}
	}
	next.Carriers = make([]carrierRow, 0, len(s.config.Carriers))
	for _, name := range s.config.Carriers {
		row := carrierRow{Name: name, Sells: slices.Contains(s.config.Sellers, name), Paused: s.pauses[name].Paused, By: s.pauses[name].By}
		row.Status, row.Known = known[name]
		next.Carriers = append(next.Carriers, row)
	}
}
