package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/callmask/callmask/cmd/callmask/sizing"
)

type planCmd struct {
	LiveOrders    float64       `required:"" help:"Orders that are live at the same time, at the peak."`
	NewOrders     float64       `help:"Orders that begin each second then; by default as many as --length keeps alive."`
	CallsPerOrder float64       `default:"2" help:"Calls in an order's life."`
	Calls         float64       `help:"Calls each second at the peak, instead of --calls-per-order."`
	EventsPerCall float64       `default:"5" help:"Events of a call that are kept: the decision, and what the carrier tells."`
	Average       float64       `default:"0.5" help:"Rate of an average second of the day, as a share of the peak's."`
	Parties       int           `default:"2" help:"Parties of an order."`
	IDLength      int           `default:"36" help:"Characters of an order's id."`
	Length        time.Duration `default:"40m" help:"How long an order lasts."`
	Cooldown      time.Duration `default:"10m" help:"The pools' cooldown."`
	Tombstone     time.Duration `default:"25h" help:"How long an ended order is remembered."`
	Replicas      int           `default:"1" help:"Replicas of each Redis master."`
	MasterGiB     float64       `name:"master-gib" default:"16" help:"GiB that one Redis master may use."`
	Pools         int           `help:"Pools that share the orders evenly; by default as few as have a million numbers at most."`
	Headroom      float64       `default:"2" help:"How many times the measured need is planned for."`
	output
}

// Help implements kong.HelpProvider.
func (planCmd) Help() string {
	return `Examples:
  callmask plan --live-orders 1000000
  callmask plan --live-orders 50000 --new-orders 30 --calls 80 --id-length 12 --replicas 2
  callmask plan --live-orders 10000000 --headroom 3 --master-gib 32 -o json

It calculates from costs that were measured (docs/sizing.md has them, the formulas and their limits)
and asks no running system. How many numbers one pool needs: callmask pool plan.`
}

// Run plans.
func (c *planCmd) Run(p *Process) error {
	made, err := sizing.For(sizing.Load{
		LiveOrders: c.LiveOrders, NewOrders: c.NewOrders, CallsPerOrder: c.CallsPerOrder, Calls: c.Calls, EventsPerCall: c.EventsPerCall,
		Average: c.Average, Parties: c.Parties, IDLength: c.IDLength, Length: c.Length, Cooldown: c.Cooldown, Tombstone: c.Tombstone,
		Replicas: c.Replicas, MasterMemory: c.MasterGiB * (1 << 30), Pools: c.Pools, Headroom: c.Headroom,
	}, sizing.Measured())
	if err != nil {
		return err
	}
	return c.print(p.Stdout, &made, func(out io.Writer) error { return printPlan(out, &made, c.Headroom) })
}

func printPlan(out io.Writer, m *sizing.Plan, headroom float64) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value, about string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, value, fmt.Sprintf(about, args...))
	}
	row("load", fmt.Sprintf("%.0f calls/s", m.CallsPerSecond), "%.0f new orders/s", m.OrdersPerSecond)
	row("virtual numbers", fmt.Sprint(m.VNs), "in pools: %d", m.Pools)
	row("Redis masters", fmt.Sprint(m.Masters), "%d servers with replicas; partitions: %d", m.RedisServers, m.Partitions)
	row("  memory of each", size(m.PerMaster), "the fullest, ×%g headroom", headroom)
	row("  data in all", size(m.Memory), "live orders %s, ended %s, numbers %s", size(m.OfLive), size(m.OfEnded), size(m.OfVNs))
	row("  cores busy", fmt.Sprintf("%.2f", m.RedisCores), "in all masters, without headroom")
	row("routers", fmt.Sprint(m.Routers), "of %d cores, one to spare; %.1f cores with headroom", sizing.RouterSize, m.RouterCores)
	row("allocators, NATS", fmt.Sprintf("%.1f cores", m.AllocatorCores), "with headroom; two allocators at least")
	row("NATS", fmt.Sprintf("%.0f messages/s", m.Messages), "three servers, each with all of the storage below")
	row("  ORDERS, 1 day", size(m.Orders), "at the average rate, as the next two")
	row("  VN, 90 days", size(m.VN), "events of orders")
	row("  CALLS, 30 days", size(m.CallsLog), "events of calls")
	row("  LEDGER, for ever", size(m.Ledger), "one record for each number")
	return w.Flush()
}

// size prints bytes for a person.
func size(bytes float64) string {
	for _, unit := range []struct {
		bytes float64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}} {
		if bytes >= unit.bytes {
			return fmt.Sprintf("%.1f %s", bytes/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%.1f KiB", bytes/(1<<10))
}
