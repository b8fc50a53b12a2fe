package console

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/callmask/callmask/events"
)

const (
	pageSize  = 50
	maxFilter = 64
	// clockTolerance is how far the clocks may differ before somebody should know: the
	// router takes a lease for ended from there on.
	clockTolerance = 2 * time.Second
)

// known tells whether there is a view of this name.
func known(name string) bool {
	return name == "overview" || name == "stock" || name == "pool" || name == "calls"
}

// update is what a page is sent: new texts for its places by key, new points of its charts
// and new lines of its feed.
type update struct {
	Now     int64                  `json:"now"` // Unix ms by this machine's clock
	Trouble []string               `json:"trouble"`
	Text    map[string]string      `json:"text"`
	State   map[string]string      `json:"state,omitempty"` // of places that are coloured by it
	Series  map[string][][]float64 `json:"series,omitempty"`
	Reset   bool                   `json:"reset,omitempty"` // the series are whole, not what is new
	Feed    []feedLine             `json:"feed,omitempty"`  // oldest first
}

// feedLine is a line of the feed, cell by cell.
type feedLine struct {
	ID    int64     `json:"id"`
	Cells [7]string `json:"cells"` // time, carrier, call, order, number, decision, took
}

// render makes the update of a view: all of it for somebody new, else what is new. s may be
// nil: nothing is known yet.
func (c *Console) render(v *view, s *snapshot, whole bool) []byte {
	u := update{Now: c.now().UnixMilli(), Trouble: []string{}, Text: map[string]string{}, Reset: whole}
	if s != nil {
		u.Trouble = s.troubles()
		u.fill(v, s, whole)
	}
	text, err := json.Marshal(u)
	if err != nil { // a number that JSON has not; nothing here makes one
		c.log.Error().Err(err).Msg("an update cannot be encoded")
		return []byte(`{}`)
	}
	return text
}

func (u *update) fill(v *view, s *snapshot, whole bool) {
	switch v.Name {
	case "overview":
		u.overview(s, whole)
	case "calls":
		u.feed(s, whole)
	case "stock":
		for _, p := range pick(s.Pools, v.Filter, v.Page).Rows {
			u.pool(&p)
		}
		u.totals(s)
	case "pool":
		for i := range s.Pools {
			if s.Pools[i].Name == v.Filter {
				u.pool(&s.Pools[i])
				u.Series = map[string][][]float64{"pool": s.Pools[i].History.series()}
				u.Reset = true // it is short, and has a point every 15 s
			}
		}
	}
}

func (u *update) totals(s *snapshot) {
	u.levels("total", s.Total)
	u.Text["pools"] = fmt.Sprint(len(s.Pools))
}

func (u *update) levels(key string, l levels) {
	u.Text[key+".free"], u.Text[key+".leased"] = fmt.Sprint(l.Free), fmt.Sprint(l.Leased)
	u.Text[key+".cooling"], u.Text[key+".draining"] = fmt.Sprint(l.Cooling), fmt.Sprint(l.Draining)
	u.Text[key+".total"] = fmt.Sprint(l.Total())
}

func (u *update) pool(p *poolRow) {
	key := "pool." + p.Name
	u.levels(key, p.levels)
	u.Text[key+".runs-out"] = p.runsOut()
	if u.State == nil {
		u.State = map[string]string{}
	}
	u.State[key] = p.state()
}

// soon is when a pool that runs out is shown as one to look at.
const soon = 30 * time.Minute

func (p poolRow) state() string {
	switch {
	case p.Total() > 0 && p.Free == 0:
		return "empty"
	case p.RunsOut > 0 && p.RunsOut < soon:
		return "low"
	}
	return "fine"
}

// RunsOutText is RunsOut for people.
func (p poolRow) RunsOutText() string { return p.runsOut() }

func (p poolRow) runsOut() string {
	switch {
	case p.Total() > 0 && p.Free == 0:
		return "empty now"
	case p.RunsOut <= 0:
		return "not at this rate"
	case p.RunsOut < time.Minute:
		return "under a minute"
	case p.RunsOut < 2*time.Hour:
		return fmt.Sprintf("in %d min", int(p.RunsOut.Minutes()))
	case p.RunsOut < 48*time.Hour:
		return fmt.Sprintf("in %d h", int(p.RunsOut.Hours()))
	}
	return fmt.Sprintf("in %d days", int(p.RunsOut.Hours()/24))
}

func (u *update) overview(s *snapshot, whole bool) {
	u.totals(s)
	k := &s.Calls
	u.Text["calls.per-second"] = rate1(k.PerSecond)
	u.Text["calls.p50"], u.Text["calls.p95"], u.Text["calls.p99"] = latency(k.P50), latency(k.P95), latency(k.P99)
	u.Text["calls.reasons"] = listed(k.Reasons, "no call in the last minute")
	u.Text["calls.outcomes"] = listed(k.Outcomes, "nothing told in the last minute")
	u.Text["calls.sampled"] = ""
	if k.Sampled {
		u.Text["calls.sampled"] = "Estimated from the newest calls of each second."
	}
	points := k.Points
	if !whole && len(points) > 1 {
		points = points[len(points)-1:]
	}
	calls := [][]float64{{}, {}, {}}
	took := [][]float64{{}, {}, {}}
	for _, p := range points {
		at := float64(p.At)
		calls[0], calls[1], calls[2] = append(calls[0], at), append(calls[1], tenth(p.Calls)), append(calls[2], tenth(p.Refused))
		took[0], took[1], took[2] = append(took[0], at), append(took[1], millis(p.P50)), append(took[2], millis(p.P99))
	}
	u.Series = map[string][][]float64{"calls": calls, "took": took}
}

func (u *update) feed(s *snapshot, whole bool) {
	fresh := s.Calls.Fresh
	if whole {
		fresh = len(s.Calls.Feed)
	}
	for i := fresh - 1; i >= 0; i-- {
		d := &s.Calls.Feed[i]
		u.Feed = append(u.Feed, feedLine{ID: d.ID, Cells: d.cells()})
	}
}

func (d *decision) cells() [7]string {
	return [7]string{
		d.At.UTC().Format("15:04:05.000"), d.Carrier, d.CallID, d.OrderID, d.VN, strings.ReplaceAll(d.Reason, "_", " "),
		latency(time.Duration(d.TookUS) * time.Microsecond),
	}
}

// Cells are the cells of a line of the feed.
func (d *decision) Cells() [7]string { return d.cells() }

// series returns the chart of a pool: times, free, leased, cooling, draining.
func (h *history) series() [][]float64 {
	out := [][]float64{{}, {}, {}, {}, {}}
	if h == nil {
		return out
	}
	for i, at := range h.at {
		l := h.levels[i]
		for j, v := range []float64{float64(at), float64(l.Free), float64(l.Leased), float64(l.Cooling), float64(l.Draining)} {
			out[j] = append(out[j], v)
		}
	}
	return out
}

// troubles says in sentences what does not work at this moment.
func (s *snapshot) troubles() []string {
	list := []string{}
	if s.Redis.there() {
		list = append(list, "Redis has not answered since "+clock(s.Redis.Since)+" UTC. Stock is shown as it was then; this page goes on trying.")
	}
	if s.NATS.there() {
		list = append(list, "NATS has not answered since "+clock(s.NATS.Since)+" UTC. Calls and purchases are shown as they were then, and nothing can be done from here; this page goes on trying.")
	}
	if off := s.ClockOff; off.Abs() > clockTolerance && !s.Redis.there() {
		list = append(list, fmt.Sprintf("The clock of this machine and that of Redis differ by %s: set them by NTP, or leases end at the wrong time.", off.Round(time.Second).Abs()))
	}
	return list
}

func clock(at time.Time) string { return at.UTC().Format(time.TimeOnly) }

func rate1(v float64) string { return fmt.Sprintf("%.1f", v) }

func tenth(v float64) float64 { return math.Round(v*10) / 10 }

func millis(us int64) float64 { return math.Round(float64(us)/10) / 100 }

func latency(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

// listed puts shares into words: "connected 12, order ended 3".
func listed(all []share, none string) string {
	if len(all) == 0 {
		return none
	}
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = fmt.Sprintf("%s %.0f", strings.ReplaceAll(s.Name, "_", " "), s.Count)
	}
	return strings.Join(words, ", ")
}

// poolPage is one page of the pools that match.
type poolPage struct {
	Rows                  []poolRow
	Matching, Page, Pages int
}

// pick returns a page of the pools whose name holds the filter.
func pick(all []poolRow, filter string, page int) poolPage {
	matching := all
	if filter != "" {
		matching = nil
		for _, p := range all {
			if strings.Contains(p.Name, filter) {
				matching = append(matching, p)
			}
		}
	}
	out := poolPage{Matching: len(matching), Pages: max(1, (len(matching)+pageSize-1)/pageSize)}
	out.Page = min(max(1, page), out.Pages)
	from := (out.Page - 1) * pageSize
	out.Rows = matching[from:min(len(matching), from+pageSize)]
	return out
}

// newsText says in a sentence what happened to a pool.
func newsText(n *events.PoolNews) string {
	price := ""
	if n.Price != "" {
		price = " for " + n.Price + " " + n.Currency + " a month"
	}
	switch n.Kind {
	case "bought":
		return "bought " + n.VN + " of " + n.Carrier + price + " (" + strings.ReplaceAll(n.Reason, "_", " ") + ")"
	case "released":
		return "gave " + n.VN + " back to " + n.Carrier + " (" + n.Reason + ")"
	case "cap_reached":
		return fmt.Sprintf("the monthly cap is reached; %d numbers are missing", n.Missing)
	case "running_out":
		return fmt.Sprintf("runs out in %.0f minutes", n.Minutes)
	case "top_up":
		return fmt.Sprintf("%s asked for %d more numbers", n.By, n.Numbers)
	}
	return n.Kind
}
