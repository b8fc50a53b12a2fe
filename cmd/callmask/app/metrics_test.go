package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

const metricsPage = "../../../docs/metrics.md"

// metric is one row of docs/metrics.md.
type metric struct{ kind, help, labels string }

var described = regexp.MustCompile(`^Desc\{fqName: "([a-z_]+)", help: "(.*?)", (?:unit: ".*", )?constLabels: \{\}, variableLabels: \{(.*)\}\}$`)

// metrics reads what a process registers. A vector without children has no type to be
// read yet; it has the one that its name tells.
func metrics(t *testing.T, reg *prometheus.Registry) map[string]metric {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	kinds := map[string]string{}
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	descs := make(chan *prometheus.Desc, 1024)
	reg.Describe(descs)
	close(descs)
	all := map[string]metric{}
	for d := range descs {
		match := described.FindStringSubmatch(d.String())
		if match == nil || !strings.HasPrefix(match[1], "callmask_") {
			continue // the Go runtime's and the process's
		}
		kind := kinds[match[1]]
		switch {
		case kind != "":
		case strings.HasSuffix(match[1], "_total"):
			kind = "counter"
		case strings.HasSuffix(match[1], "_operation_seconds"):
			kind = "histogram"
		default:
			kind = "gauge"
		}
		all[match[1]] = metric{kind, strings.ReplaceAll(match[2], `\"`, `"`), strings.ReplaceAll(match[3], ",", ", ")}
	}
	return all
}

// requireMetricsPage holds docs/metrics.md against what a running system registers; with
// CALLMASK_GENERATE=1 it writes the page.
func requireMetricsPage(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems, "the conventions of Prometheus")
	all := metrics(t, reg)
	var page strings.Builder
	page.WriteString(`# Metrics

Every process serves its own at ` + "`/metrics`" + ` on the private listener, with the API token as bearer token, beside Go's and the process's
own (` + "`go_*`, `process_*`" + `). Labels have few values: carriers, pools, consumers and fixed words; never an order, a number or a call.
This page is written by the tests from a running ` + "`callmask all`" + ` (` + "`make generate`" + `). What to watch: [runbook](runbook.md); the alerts are
in [deploy/prometheus](../deploy/prometheus/callmask.rules.yml), a dashboard in [deploy/grafana](../deploy/grafana/callmask.json).

| metric | type | labels | |
|---|---|---|---|
`)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", name, m.kind, m.labels, m.help)
	}
	if os.Getenv("CALLMASK_GENERATE") != "" {
		require.NoError(t, os.WriteFile(metricsPage, []byte(page.String()), 0o644))
	}
	have, err := os.ReadFile(metricsPage)
	require.NoError(t, err)
	require.Equal(t, page.String(), string(have), "docs/metrics.md is out of date: run make generate")
}

// requireFewSeries: what callers send must not become a label's value.
func requireFewSeries(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	allowed := map[string]bool{}
	for _, label := range []string{
		"action", "carrier", "trigger", "cause", "consumer", "currency", "event", "invariant", "kind", "leg", "outcome", "pool", "reason", "result", "route", "state", "status", "step",
		"verb", "verdict", "by", "why",
	} {
		allowed[label] = true
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "callmask_") {
			continue
		}
		require.Less(t, len(f.GetMetric()), 100, f.GetName())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				require.True(t, allowed[l.GetName()], "%s: is the label %s bounded?", f.GetName(), l.GetName())
				require.NotRegexp(t, `\d{4}|order-\d`, l.GetValue(), f.GetName())
			}
		}
	}
}

func knownMetrics(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile(metricsPage)
	require.NoError(t, err)
	known := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) ").FindAllStringSubmatch(string(page), -1) {
		known[row[1]] = true
		if row[2] == "histogram" {
			known[row[1]+"_bucket"], known[row[1]+"_sum"], known[row[1]+"_count"] = true, true, true
		}
	}
	require.NotEmpty(t, known)
	return known
}

func requireKnown(t *testing.T, text, where string) {
	t.Helper()
	known := knownMetrics(t)
	used := regexp.MustCompile(`callmask_[a-z_]+`).FindAllString(text, -1)
	require.NotEmpty(t, used, where)
	for _, name := range used {
		require.True(t, known[name], "%s: %s is no metric of callmask", where, name)
	}
}

func TestEveryAlertHasItsMetricsAPageInTheRunbookAndATest(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../../../deploy/prometheus/callmask.rules.yml")
	require.NoError(t, err)
	requireKnown(t, string(rules), "callmask.rules.yml")
	runbook, err := os.ReadFile("../../../docs/runbook.md")
	require.NoError(t, err)
	tests, err := os.ReadFile("../../../deploy/prometheus/callmask.rules_test.yml")
	require.NoError(t, err)
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	require.NotEmpty(t, alerts)
	for _, alert := range alerts {
		require.Contains(t, string(runbook), "**"+alert[1]+".**")
		require.Regexp(t, alert[1]+`\n +exp_alerts:`, string(tests), "promtool sees it fire")
	}
}

func TestTheDashboardShowsMetricsThatExist(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../../deploy/grafana/callmask.json")
	require.NoError(t, err)
	var dashboard struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Type    string `json:"type"`
			GridPos struct{ X, Y, W, H int }
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(data, &dashboard))
	require.NotEmpty(t, dashboard.UID)
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			requireKnown(t, target.Expr, p.Title)
		}
	}
	require.GreaterOrEqual(t, len(dashboard.Panels), 15)
}
