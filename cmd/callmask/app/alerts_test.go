package app

import (
	"context"
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/softswitch"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/router"
	"github.com/callmask/callmask/vn"
)

// names is a Registerer that notes the names of what is registered, children or not.
type names map[string]bool

var described = regexp.MustCompile(`fqName: "([a-z_]+)"`)

func (n names) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 64)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		n[described.FindStringSubmatch(d.String())[1]] = true
	}
	return nil
}

func (n names) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = n.Register(c) // it never fails
	}
}

func (names) Unregister(prometheus.Collector) bool { return true }

type nobody struct{}

func (nobody) Lookup(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error) {
	return 0, vn.ErrUnavailable
}

func TestEveryAlertHasItsMetricsAndAPageInTheRunbook(t *testing.T) {
	t.Parallel()
	known := names{}
	codec, err := softswitch.New(softswitch.Config{Tokens: []string{"pbx-token-1"}})
	require.NoError(t, err)
	_, err = router.New(router.Config{Resolvers: []router.Carrier{{Name: "pbx", Codec: codec}}}, nobody{}, nil, known, zerolog.Nop())
	require.NoError(t, err)
	_, err = replenisher.New(replenisher.Config{}, nil, nil, nil, known, zerolog.Nop())
	require.NoError(t, err)

	rules, err := os.ReadFile("../../../deploy/prometheus/callmask.rules.yml")
	require.NoError(t, err)
	used := regexp.MustCompile(`callmask_[a-z_]+`).FindAllString(string(rules), -1)
	require.NotEmpty(t, used)
	for _, name := range used {
		require.True(t, known[name], "%s is no metric of the router or the replenisher", name)
	}
	runbook, err := os.ReadFile("../../../docs/runbook.md")
	require.NoError(t, err)
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	require.NotEmpty(t, alerts)
	for _, alert := range alerts {
		require.Contains(t, string(runbook), "**"+alert[1]+".**")
	}
}
