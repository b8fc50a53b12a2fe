package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/softswitch"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/router"
)

// kinds are those that the settings know.
func kinds() []settings.Kind { return []settings.Kind{settings.Softswitch, settings.Sim} }

// codecOf makes the carrier's codec as the product does.
func codecOf(t *testing.T, c *settings.Carrier) router.Codec {
	t.Helper()
	var codec router.Codec
	var err error
	switch c.Kind {
	case settings.Softswitch:
		codec, err = softswitch.New(softswitch.Config{Tokens: c.Tokens})
	case settings.Sim:
		codec, err = sim.NewCodec(sim.Config{Secrets: c.Secrets})
	}
	require.NoError(t, err)
	return codec
}
