package doctor

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/exotel"
	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// carrier looks at what a carrier is told, what it answers and where its numbers point.
func (d *doctor) carrier(ctx context.Context, r *report, configured *settings.Carrier) {
	c := *configured
	if c.Kind == settings.Softswitch {
		r.ok("a switch of your own asks us; there is nothing to ask it")
		return
	}
	if c.Kind == settings.Sim {
		c.APIURL, c.PublicURL = cmp.Or(c.APIURL, local(c.Listen)), cmp.Or(c.PublicURL, local(d.set.HTTPAddr))
	}
	d.publicURL(ctx, r, &c)
	if !c.Sells() {
		r.ok("kind %s: its secrets check what it sends and cannot be tried from here", c.Kind)
		return
	}
	if c.Kind == settings.Exotel {
		c.APIURL = cmp.Or(c.APIURL, exotel.Singapore)
	}
	if c.APIURL == "" {
		r.ok("it is simulated, on a port that is chosen when it starts, and not looked at")
		return
	}
	d.carrierClock(ctx, r.name, c.APIURL)
	numbers, err := c.Numbers(c.APIURL)
	if err != nil {
		r.bad(Fail, "mend the setting that is named", "%s", oneLine(err))
		return
	}
	defer numbers.Close()
	list, err := numbers.List(ctx)
	switch {
	case errors.Is(err, carrier.ErrCredentials):
		r.bad(Fail, "put the account's id and key into the settings, as its console shows them", "it refuses the account's id or key")
		return
	case err != nil:
		r.bad(Fail, "see whether it has an outage; else check api_url, and what may be in between", "its list of numbers could not be read: %s", oneLine(err))
		return
	}
	d.webhooks(ctx, r, &c, c.WebhookURL(numbers), list)
}

// local is the address of a listener on this machine; empty when it has no port yet.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// publicURL knocks where the carrier announces calls, by a method that is none of a
// webhook's: callmask refuses it without counting a forged call.
func (d *doctor) publicURL(ctx context.Context, r *report, c *settings.Carrier) {
	if c.PublicURL == "" {
		return // the carrier's signature does not need it
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout/4)
	defer cancel()
	at := c.PublicURL + "/v1/carriers/" + c.Name + "/voice"
	status, _, err := d.ask(ctx, http.MethodPut, at)
	do := "start the router, or mend public_url or the proxy before it; from another network it may look different"
	switch {
	case err != nil:
		r.bad(Warn, do, "nothing answers at %s: %v", c.PublicURL, err)
	case status != http.StatusMethodNotAllowed:
		r.bad(Warn, do, "what answers at %s is no callmask that knows this carrier (HTTP %d)", c.PublicURL, status)
	default:
		r.ok("a router answers at %s", c.PublicURL)
	}
}

// carrierClock compares the Date of whatever the API answers.
func (d *doctor) carrierClock(ctx context.Context, whose, api string) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout/4)
	defer cancel()
	began := time.Now()
	if _, at, err := d.ask(ctx, http.MethodHead, api); err == nil && !at.IsZero() {
		middle := began.Add(time.Since(began) / 2)
		d.clocks.note(whose, at.Add(time.Second/2).Sub(middle), time.Second) // it is cut to the second
	}
}

// webhooks compares where calls to our numbers go with where they should.
func (d *doctor) webhooks(ctx context.Context, r *report, c *settings.Carrier, want string, list []carrier.Bought) {
	ours, err := d.inventory(ctx, c.Name)
	if err != nil {
		r.ok("its account has %d numbers; which of them are ours Redis does not tell", len(list))
		return
	}
	known, elsewhere, nowhere := 0, 0, 0
	for i := range list {
		if _, is := ours[list[i].Number]; !is {
			continue
		}
		known++
		switch {
		case list[i].Elsewhere(want):
			elsewhere++
		case !list[i].Reaches(want):
			nowhere++
		}
	}
	where, _, _ := strings.Cut(want, "#")
	if elsewhere+nowhere > 0 {
		r.bad(Fail, "callmask pool reconcile "+c.Name+" --dry-run, and then without; if they are right there, public_url is wrong",
			"calls to %d of our %d numbers do not come to %s: %d go elsewhere, %d nowhere", elsewhere+nowhere, known, where, elsewhere, nowhere)
		return
	}
	r.ok("the credentials are right; numbers in its account %d, ours %d, calls to all of those go to %s", len(list), known, where)
}

// inventory reads which numbers of a carrier are ours.
func (d *doctor) inventory(ctx context.Context, name string) (map[vn.Number]scripts.Inventory, error) {
	client, err := app.NewRedis(d.set.RedisAt(), d.Timeout, 2)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // nothing was written
	found, err := scripts.Look(ctx, client)
	if err != nil {
		return nil, err
	}
	store, err := scripts.New(scripts.Config{Timeout: d.Timeout, Partitions: found.Partitions}, client, nil)
	if err != nil {
		return nil, err
	}
	return store.InventoryOf(ctx, name)
}

// unwrapURL takes the URL out of an error: it stands beside it already.
func unwrapURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
