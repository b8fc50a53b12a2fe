package cli

import (
	"errors"

	"github.com/callmask/callmask/cmd/callmask/settings"
)

type allCmd struct {
	Demo bool `help:"Run the built-in demo settings: a pool of fictional numbers, sold by a simulated carrier."`
	settings.Flags
}

func (allCmd) Help() string {
	return `Examples:
  callmask all --demo                        everything, with numbers to play with
  callmask all --config callmask.yaml        your pools and carriers, own Redis and NATS
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 callmask all --config callmask.yaml
                                             an own NATS, but that Redis`
}

func (c *allCmd) Run(p *Process) error { return p.serve(settings.All, c.Demo) }

type routerCmd struct{ settings.Flags }

func (routerCmd) Help() string {
	return `Example:
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 \
  CALLMASK_KEYSET=/etc/callmask/keyset.json callmask router --config callmask.yaml`
}

func (c *routerCmd) Run(p *Process) error { return p.serve(settings.Router, false) }

type allocatorCmd struct{ settings.Flags }

func (allocatorCmd) Help() string {
	return `Example:
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 \
  CALLMASK_KEYSET=/etc/callmask/keyset.json CALLMASK_API_TOKEN=… callmask allocator --config callmask.yaml`
}

func (c *allocatorCmd) Run(p *Process) error { return p.serve(settings.Allocator, false) }

type replenisherCmd struct{ settings.Flags }

func (replenisherCmd) Help() string {
	return `Example:
  CALLMASK_REDIS_URL=redis://10.0.0.5:6379 CALLMASK_NATS_URL=nats://10.0.0.6:4222 \
  CALLMASK_KEYSET=/etc/callmask/keyset.json callmask replenisher --config callmask.yaml`
}

func (c *replenisherCmd) Run(p *Process) error { return p.serve(settings.Replenisher, false) }

func (p *Process) serve(role settings.Role, demo bool) error {
	s, err := p.load(demo)
	if err != nil {
		return err
	}
	if err := s.Check(role); err != nil {
		return err
	}
	return errors.New("not built yet")
}
