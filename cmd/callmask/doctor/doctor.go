package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/callmask/callmask/cmd/callmask/settings"
)

// Status is the judgement of a Finding.
type Status string

// The judgements.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, and something should be done
	Fail Status = "fail" // callmask does not work so, or not as promised
)

// Finding is one thing that was looked at.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Seen   string `json:"seen"`
	Do     string `json:"do,omitempty"` // how to mend it; empty when nothing needs it
}

// Config says what to look at.
type Config struct {
	// Settings holds no pools and carriers when SettingsError says why they cannot be read.
	Settings      *settings.Settings
	SettingsError error
	Role          settings.Role // empty: no role's needs are looked at
	Timeout       time.Duration // of each check
}

// Worst tells how bad the findings are.
func Worst(all []Finding) Status {
	worst := OK
	for i := range all {
		switch all[i].Status {
		case Fail:
			return Fail
		case Warn:
			worst = Warn
		case OK:
		}
	}
	return worst
}

// Look makes all checks at the same time and returns what they found, in a fixed order. It
// takes a little more than Config.Timeout at most.
func Look(ctx context.Context, cfg Config) []Finding {
	d := &doctor{Config: cfg, set: cfg.Settings}
	checks := append(make([]check, 0, 6+len(d.set.Carriers)),
		check{"settings", d.settings}, check{"keyset", d.keyset}, check{"disk", d.disk},
		check{"redis", d.redis}, check{"nats", d.nats}, check{"callmask", d.running})
	for i := range d.set.Carriers {
		c := &d.set.Carriers[i]
		checks = append(checks, check{"carrier " + c.Name, func(ctx context.Context, r *report) { d.carrier(ctx, r, c) }})
	}
	reports := make([]report, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		reports[i].name = c.name
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
			defer cancel()
			c.look(ctx, &reports[i])
		})
	}
	all.Wait()
	clock := report{name: "clock"}
	d.clocks.judge(&clock)
	var found []Finding
	for i := range reports {
		found = append(found, reports[i].found...)
	}
	return append(found, clock.found...)
}

// check is one look at something.
type check struct {
	name string
	look func(context.Context, *report)
}

type doctor struct {
	Config

	set    *settings.Settings
	clocks clocks
}

// report collects the findings of one check.
type report struct {
	name  string
	found []Finding
}

func (r *report) ok(format string, args ...any) {
	r.found = append(r.found, Finding{Check: r.name, Status: OK, Seen: fmt.Sprintf(format, args...)})
}

// bad adds a Finding that somebody should do something about.
func (r *report) bad(s Status, do, format string, args ...any) {
	r.found = append(r.found, Finding{Check: r.name, Status: s, Seen: fmt.Sprintf(format, args...), Do: do})
}
