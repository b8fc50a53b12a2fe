package app

import (
	"context"
	"fmt"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/softswitch"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/router"
	"github.com/callmask/callmask/scripts"
)

// codecs gives the router everybody who may ask it: carriers by webhook, softswitches
// and the API token by /v1/resolve.
func (a *App) codecs() (carriers, resolvers []router.Carrier, err error) {
	for i := range a.set.Carriers {
		c := a.set.Carriers[i]
		if !a.set.RecordCalls { // nobody would hear what became of a call
			c.CallStatus = new(bool)
		}
		out := router.Carrier{Name: c.Name, ID: c.ID}
		if out.Codec, err = c.Codec(); err != nil {
			return nil, nil, fmt.Errorf("carriers[%d]: %w", i, err)
		}
		if c.Kind == settings.Softswitch {
			resolvers = append(resolvers, out)
		} else {
			carriers = append(carriers, out)
		}
	}
	codec, err := softswitch.New(softswitch.Config{Tokens: []string{a.at.APIToken}})
	if err != nil {
		return nil, nil, settings.Named("api_token", err)
	}
	return carriers, append(resolvers, router.Carrier{Name: settings.APIName, Any: true, Codec: codec}), nil
}

// simServers starts the simulated carriers that the settings want here.
func (a *App) simServers(ctx context.Context) error {
	if !a.has(settings.Replenisher) {
		return nil
	}
	for i := range a.set.Carriers {
		c := &a.set.Carriers[i]
		if c.Kind != settings.Sim || c.Listen == "" {
			continue
		}
		srv, err := sim.NewServer(sim.ServerConfig{Tokens: c.Secrets})
		if err == nil {
			err = srv.Listen(ctx, c.Listen)
		}
		if err != nil {
			return fmt.Errorf("carriers[%d].listen: %w", i, err)
		}
		a.newStage(ctx, "simulated carrier").run("simulated carrier "+c.Name, srv.Run)
		a.simURLs[c.Name], a.at.SimURL = srv.URL(), srv.URL()
		a.log.Warn().Str("carrier", c.Name).Str("url", srv.URL()).Msg("simulated carrier: it sells fictional numbers")
	}
	return nil
}

// sellers gives the replenisher the carriers that sell numbers.
func (a *App) sellers() (map[string]replenisher.CarrierConfig, error) {
	sellers := map[string]replenisher.CarrierConfig{}
	for i := range a.set.Carriers {
		c := a.set.Carriers[i]
		if !c.Sells() {
			continue
		}
		api := c.APIURL
		if own, ok := a.simURLs[c.Name]; ok {
			api = own
		}
		if c.Kind == settings.Sim && c.PublicURL == "" {
			if a.at.HTTP == "" {
				return nil, fmt.Errorf("carriers[%d].public_url: is missing: without the router here nobody else knows where calls go", i)
			}
			c.PublicURL = "http://" + a.at.HTTP
		}
		numbers, err := c.Numbers(api)
		if err != nil {
			return nil, fmt.Errorf("carriers[%d]: %w", i, err)
		}
		a.onEnd("carrier "+c.Name, func(context.Context) error { numbers.Close(); return nil })
		sellers[c.Name] = replenisher.CarrierConfig{Numbers: numbers, WebhookURL: c.WebhookURL(numbers)}
	}
	return sellers, nil
}

// Carriers returns every configured carrier with the byte that stands for it in Redis.
func Carriers(s *settings.Settings) []scripts.Carrier {
	list := make([]scripts.Carrier, len(s.Carriers))
	for i := range s.Carriers {
		list[i] = scripts.Carrier{Name: s.Carriers[i].Name, ID: s.Carriers[i].ID}
	}
	return list
}
