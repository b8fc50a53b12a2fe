package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A router tells by its own clock when a lease has ended, 2 s late at most, and carriers
// refuse or are refused requests whose time is minutes off.
const (
	clockWarn = 500 * time.Millisecond
	clockFail = 2 * time.Second
)

// clocks are the clocks of others, as far before ours as they were seen to be.
type clocks struct {
	mu   sync.Mutex
	seen []clock
}

type clock struct {
	whose string
	ahead time.Duration
	grain time.Duration // how exactly it tells the time
}

func (c *clocks) note(whose string, ahead, grain time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, clock{whose, ahead, grain})
}

// off is how far a clock is certainly off.
func (c *clock) off() time.Duration { return max(0, c.ahead.Abs()-c.grain) }

const setClocks = "let an NTP service (chrony, systemd-timesyncd) keep the time there"

// judge says whose clock differs: where all others differ from ours, ours does.
func (c *clocks) judge(r *report) {
	if len(c.seen) == 0 {
		r.bad(Warn, "mend what the lines above tell of", "nobody's clock could be compared with this machine's")
		return
	}
	slices.SortFunc(c.seen, func(a, b clock) int { return cmp.Or(cmp.Compare(a.off(), b.off()), cmp.Compare(a.whose, b.whose)) })
	whose, wrong := make([]string, len(c.seen)), 0
	for i := range c.seen {
		whose[i] = c.seen[i].whose
		if c.seen[i].off() > clockWarn {
			wrong++
		}
	}
	worst := &c.seen[len(c.seen)-1]
	switch {
	case wrong == 0:
		r.ok("this machine's agrees with %s, to %s", strings.Join(whose, ", "), worst.ahead.Abs().Round(time.Millisecond))
	case wrong == len(c.seen) && wrong > 1:
		r.bad(howBad(c.seen[0].off()), "on this machine: "+setClocks, "this machine's differs from everybody's: %s", c.told())
	default:
		r.bad(howBad(worst.off()), "on those machines: "+setClocks, "not all agree with this machine's: %s", c.told())
	}
}

func howBad(off time.Duration) Status {
	if off > clockFail {
		return Fail
	}
	return Warn
}

// told lists the clocks, the worst last.
func (c *clocks) told() string {
	parts := make([]string, len(c.seen))
	for i := range c.seen {
		side := "ahead"
		if c.seen[i].ahead < 0 {
			side = "behind"
		}
		parts[i] = fmt.Sprintf("%s is %s %s", c.seen[i].whose, c.seen[i].ahead.Abs().Round(time.Millisecond), side)
	}
	return strings.Join(parts, ", ")
}
