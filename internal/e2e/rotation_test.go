package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRotatingTheKeysUnderLoadRefusesNoCall(t *testing.T) {
	t.Parallel()
	r := random(t)
	p := startAll(t, stormConfig)
	var old []*tracked // orders made under keys of all ages
	keys := func(code int, says string, args ...string) {
		out, got := p.run(t, append([]string{"keys"}, args...)...)
		require.Equal(t, code, got, out)
		require.Contains(t, out, says)
		for _, o := range old {
			p.requireConnected(t, o.vns["agent"], o.numbers["customer"], o.numbers["agent"], o.vns["customer"])
		}
	}
	// The first key is replaced before any order uses it, so that it can be dropped.
	keys(0, "key 2 is next", "add")
	keys(0, "is primary", "promote")
	await(t, startLimit, "callmask has read the keyset again", func() bool {
		return strings.Contains(p.log(t), `"primary":2`)
	})

	s := newStorm(t, p, r)
	s.rage(t, r)
	old = append(old, s.pin(t))
	keys(0, "key 1 is gone", "drop", "1")
	s.rage(t, r)
	keys(0, "key 3 is next", "add")
	s.rage(t, r)
	keys(0, "is primary", "promote")
	s.rage(t, r)
	old = append(old, s.pin(t))
	keys(1, "key 2 is in use", "drop", "2")
	keys(0, "key 4 is next", "add")
	s.rage(t, r)
	keys(0, "key 4 is gone", "drop", "4")
	s.rage(t, r)
	keys(0, "2   previous", "list")

	kept := s.requireKept(t)
	s.requireHealed(t, redelivery)
	require.Zero(t, s.outages.Load(), "every call was decided")
	t.Logf("%d calls connected, %d orders alive at the end", s.connected.Load(), kept)
}
