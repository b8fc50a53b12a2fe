package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/vn"
)

type orderCmd struct {
	Put    orderPutCmd    `cmd:"" help:"Give an order one number per party."`
	Get    orderGetCmd    `cmd:"" help:"Show an order."`
	Extend orderExtendCmd `cmd:"" help:"Let an order's lease end at another time."`
	End    orderEndCmd    `cmd:"" help:"End an order; its numbers cool down and come back."`
}

// orderAnswer is an order as the API shows it.
type orderAnswer struct {
	OrderID   string `json:"order_id"`
	Pool      string `json:"pool,omitempty"`
	State     string `json:"state"`
	Reason    string `json:"reason,omitempty"`
	ExpiresAt string `json:"expires_at,omitempty"`
	Parties   []struct {
		Role string `json:"role"`
		VN   string `json:"vn"`
	} `json:"parties,omitempty"`
}

func (o *orderAnswer) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "order\t%s\n", o.OrderID)
	for _, row := range [][2]string{{"pool", o.Pool}, {"state", o.State}, {"reason", o.Reason}, {"expires at", o.ExpiresAt}} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	for _, party := range o.Parties {
		fmt.Fprintf(w, "dial to reach %s\t%s\n", party.Role, party.VN)
	}
	return w.Flush()
}

// orderPath checks the id here, because a wrong one would be another path.
func orderPath(id string) (string, error) {
	if err := vn.CheckOrderID(id); err != nil {
		return "", err
	}
	return "/v1/orders/" + url.PathEscape(id), nil
}

type orderPutCmd struct {
	ID      string   `arg:"" help:"The order's id, never used for another order."`
	Parties []string `arg:"" help:"role=number for each party, at least two."`
	Pool    string   `required:"" help:"The pool to take the numbers from."`
	TTL     string   `help:"How long the lease lasts, such as 90m; by default the pool's."`
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (orderPutCmd) Help() string {
	return `Examples:
  callmask order put order-1 --pool demo customer=+12025550123 agent=+12025550145
  callmask order put order-1 --pool demo --ttl 90m customer=+12025550123 agent=+12025550145 -o json

Exit code 1: the pool is empty, or the order exists otherwise or has ended.`
}

// Run gives the order its numbers.
func (c *orderPutCmd) Run(p *Process) error {
	type party struct {
		Role   string `json:"role"`
		Number string `json:"number"`
	}
	body := struct {
		Pool    string  `json:"pool"`
		TTL     string  `json:"ttl,omitempty"`
		Parties []party `json:"parties"`
	}{Pool: c.Pool, TTL: c.TTL}
	for i, arg := range c.Parties {
		role, number, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("party %d is not of the form role=number", i+1)
		}
		body.Parties = append(body.Parties, party{role, number})
	}
	return p.order(http.MethodPut, c.ID, body, &c.output)
}

// order sends one request about an order and prints the order.
func (p *Process) order(method, id string, body any, form *output) error {
	path, err := orderPath(id)
	if err != nil {
		return err
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	var o orderAnswer
	if _, err := api.call(context.Background(), method, path, body, &o); err != nil {
		return err
	}
	return form.print(p.Stdout, &o, o.table)
}

type orderGetCmd struct {
	ID string `arg:"" help:"The order's id."`
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (orderGetCmd) Help() string {
	return "Examples:\n  callmask order get order-1\n  callmask order get order-1 -o json\n\nExit code 1: there is no such order."
}

// Run shows the order.
func (c *orderGetCmd) Run(p *Process) error { return p.order(http.MethodGet, c.ID, nil, &c.output) }

type orderExtendCmd struct {
	ID  string `arg:"" help:"The order's id."`
	TTL string `arg:"" help:"From now, such as 30m."`
	output
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (orderExtendCmd) Help() string {
	return "Example:\n  callmask order extend order-1 30m\n\nExit code 1: there is no such order, or it has ended."
}

// Run moves the lease's end.
func (c *orderExtendCmd) Run(p *Process) error {
	return p.order(http.MethodPatch, c.ID, map[string]string{"ttl": c.TTL}, &c.output)
}

type orderEndCmd struct {
	ID     string `arg:"" help:"The order's id."`
	Reason string `default:"completed" enum:"completed,cancelled" help:"completed (default) or cancelled."`
	settings.ServerFlags
}

// Help implements kong.HelpProvider.
func (orderEndCmd) Help() string {
	return `Examples:
  callmask order end order-1
  callmask order end order-1 --reason cancelled

Ending an order that ended before, or was never there, is done as well.`
}

// Run ends the order.
func (c *orderEndCmd) Run(p *Process) error {
	path, err := orderPath(c.ID)
	if err != nil {
		return err
	}
	api, err := p.dial()
	if err != nil {
		return err
	}
	if _, err := api.call(context.Background(), http.MethodDelete, path+"?reason="+c.Reason, nil, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "order %s has ended\n", c.ID)
	return err
}
