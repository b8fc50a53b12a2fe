package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/replenisher/plan"
)

type poolPlanCmd struct {
	OrdersPerHour float64       `required:"" help:"Orders that come in an ordinary hour."`
	Peak          float64       `default:"1" help:"How many times as many come in the busiest hour."`
	Parties       int           `default:"2" help:"Numbers that an order takes: one for each of its parties."`
	Length        time.Duration `default:"40m" help:"How long an order lasts, on average."`
	Cooldown      time.Duration `default:"10m" help:"The pool's cooldown."`
	Blocking      float64       `default:"0.001" help:"Share of orders that may find too few numbers in the busiest hour."`
	LeadTime      time.Duration `default:"5m" help:"From falling below low water until bought numbers are there."`
	Price         string        `placeholder:"1.15" help:"What a number costs a month."`
	Currency      string        `placeholder:"USD" help:"Of the price."`
	output
}

// Help implements kong.HelpProvider.
func (poolPlanCmd) Help() string {
	return `Examples:
  callmask pool plan --orders-per-hour 1200
  callmask pool plan --orders-per-hour 1200 --peak 2.5 --length 35m --cooldown 10m --parties 2 \
    --blocking 0.001 --lead-time 5m --price 1.15 --currency USD

Orders are taken to come at random around an even rate (Erlang's B formula): give the rate
of the rush by --peak. Where orders have different numbers of parties, give the largest.
An order takes its numbers from one carrier: where two share a pool, plan each by itself.
It asks no running system.`
}

// planned is a plan as it is printed.
type planned struct {
	Erlangs  float64 `json:"erlangs"`
	Orders   int     `json:"orders_at_once"`
	VNs      int     `json:"numbers"`
	Blocking float64 `json:"blocking"`
	LowWater int     `json:"low_water"`
	Target   int     `json:"target"`
	Max      int     `json:"max"`
	Cost     string  `json:"cost_per_month,omitempty"`
	CostMax  string  `json:"cost_per_month_at_max,omitempty"`
	Currency string  `json:"currency,omitempty"`
}

// Run plans.
func (c *poolPlanCmd) Run(p *Process) error {
	made, err := plan.For(plan.Load{
		OrdersPerHour: c.OrdersPerHour, Peak: c.Peak, Parties: c.Parties, Length: c.Length, Cooldown: c.Cooldown,
		Blocking: c.Blocking, LeadTime: c.LeadTime,
	})
	if err != nil {
		return err
	}
	out := planned{
		Erlangs: made.Erlangs, Orders: made.Orders, VNs: made.VNs, Blocking: made.Blocking,
		LowWater: made.LowWater, Target: made.Target, Max: made.Max, Currency: c.Currency,
	}
	if c.Currency != "" {
		if _, err := carrier.ParsePrice("0", c.Currency); err != nil {
			return fmt.Errorf("--currency: %w", err)
		}
	}
	if c.Price != "" {
		if out.Cost, err = plan.Cost(made.VNs, c.Price); err != nil {
			return err
		}
		if out.CostMax, err = plan.Cost(made.Max, c.Price); err != nil {
			return err
		}
	}
	return c.print(p.Stdout, &out, out.table)
}

func (o *planned) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value, about string) { fmt.Fprintf(w, "%s\t%s\t%s\n", name, value, about) }
	row("orders at once", strconv.Itoa(o.Orders), fmt.Sprintf("%.1f on average in the busiest hour", o.Erlangs))
	row("numbers", strconv.Itoa(o.VNs), fmt.Sprintf("%.3g of the orders find too few", o.Blocking))
	row("low_water", strconv.Itoa(o.LowWater), "the orders of the lead time")
	row("target", strconv.Itoa(o.Target), "twice low_water")
	row("max", strconv.Itoa(o.Max), "the numbers and a full target")
	if o.Cost != "" {
		row("a month", strings.TrimSpace(o.Cost+" "+o.Currency), "for the numbers")
		row("a month", strings.TrimSpace(o.CostMax+" "+o.Currency), "at max: what a cap has to allow")
	}
	return w.Flush()
}
