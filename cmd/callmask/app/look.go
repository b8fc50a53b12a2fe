package app

import (
	"net/http"

	"github.com/callmask/callmask/console"
	"github.com/callmask/callmask/explain"
)

// explaining serves what explains decisions.
func (a *App) explaining() {
	cfg := explain.Config{Regions: map[string]string{}, Carriers: map[string]byte{}}
	for i := range a.set.Pools {
		cfg.Regions[a.set.Pools[i].Name] = a.set.Pools[i].Region
	}
	for i := range a.set.Carriers {
		cfg.Carriers[a.set.Carriers[i].Name] = a.set.Carriers[i].ID
	}
	a.explainer = explain.New(cfg, a.store, a.bus)
	api := a.explainer.API(a.at.APIToken, a.log.With().Str("room", "explain").Logger())
	a.explainAPI.Store(&api)
}

// serveConsole serves the console with what this process has.
func (a *App) serveConsole(s *stage, deps console.Deps) error {
	cfg := console.Config{
		Token: a.at.APIToken, ReadToken: a.set.ReadToken, Role: string(a.cfg.Role), CallsRecorded: a.set.RecordCalls,
	}
	for i := range a.set.Pools {
		cfg.Pools = append(cfg.Pools, a.set.Pools[i].Name)
	}
	for i := range a.set.Carriers {
		cfg.Carriers = append(cfg.Carriers, a.set.Carriers[i].Name)
		if a.set.Carriers[i].Sells() {
			cfg.Sellers = append(cfg.Sellers, a.set.Carriers[i].Name)
		}
	}
	c, err := console.New(cfg, deps, a.reg, a.log.With().Str("room", "console").Logger())
	if err != nil {
		return err
	}
	handler := http.Handler(c)
	a.consoleAPI.Store(&handler)
	s.run("console", c.Run)
	return nil
}
