//go:build faults

package chaos

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/callmask/callmask/internal/installation"
)

// gauges sums up counters of callmask's processes, which begin anew with each of their
// deaths: what a process counted in the moment before is not seen.
type gauges struct {
	in   *installation.Installation
	web  *http.Client
	mu   sync.Mutex
	last map[string]float64 // by process and counter
	sums map[string]float64 // by counter
}

// counted are the counters that are summed up, by what their lines begin with.
var counted = map[string]string{
	`callmask_repair_runs_total{outcome="done",trigger="changed"}`: "replays after a change of servers",
	`callmask_repair_runs_total{outcome="done",trigger="cold"}`:    "replays into an emptied Redis",
	`callmask_repair_numbers_total{outcome="restored"}`:            "numbers restored",
	`callmask_repair_conflicts_total`:                              "conflicts met in the ledger",
	`callmask_allocator_lost_races_total`:                          "assignments that lost a race in the ledger",
}

func newGauges(in *installation.Installation) *gauges {
	return &gauges{
		in: in, web: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second},
		last: map[string]float64{}, sums: map[string]float64{},
	}
}

// work looks twice a second until ctx ends.
func (g *gauges) work(ctx context.Context) error {
	for ; ctx.Err() == nil; pause(ctx, 500*time.Millisecond) {
		g.look(ctx)
	}
	return nil
}

func (g *gauges) look(ctx context.Context) {
	for _, r := range g.in.Roles {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/metrics", nil)
		if err != nil {
			continue
		}
		req.Header.Set("Authorization", "Bearer "+g.in.Token)
		resp, err := g.web.Do(req)
		if err != nil {
			continue // it is dead
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			g.line(r.Name(), lines.Text())
		}
		_ = resp.Body.Close() // it is only read
	}
}

func (g *gauges) line(process, line string) {
	at := strings.LastIndexByte(line, ' ')
	if at < 0 {
		return
	}
	name, ok := counted[line[:at]]
	if !ok {
		return
	}
	value, err := strconv.ParseFloat(line[at+1:], 64)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.last[process+name]
	if value < before { // it has begun anew
		before = 0
	}
	g.sums[name] += value - before
	g.last[process+name] = value
}
