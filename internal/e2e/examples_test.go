//go:build !race

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The examples for integrators, each run as its page says against a real system.
func TestTheExamplesRun(t *testing.T) {
	t.Parallel()
	config, err := os.ReadFile("../../cmd/callmask/settings/demo.yaml")
	require.NoError(t, err)
	p := startAll(t, string(config))
	require.True(t, eventually(startLimit, func() bool { return p.pools(t)["demo"].Free >= 6 }), "the pool is not filled")
	node := filepath.Join(t.TempDir(), "node") // with modules of its own
	require.NoError(t, os.CopyFS(node, os.DirFS("../../examples/node")))
	run := func(dir string, command ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NATS_URL=nats://"+p.NATS, "PYTHONDONTWRITEBYTECODE=1", "GOFLAGS=")
		var out, faults bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &faults
		require.NoError(t, cmd.Run(), "%v\n%s%s", command, out.String(), faults.String())
		return out.String()
	}
	run(node, "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	const story = `^to reach the customer the others dial \+120155501\d\d\nto reach the agent the others dial \+120155501\d\d\nreleased: completed\n$`
	require.Regexp(t, story, run("../../examples/go", "go", "run", "-race", "."))
	require.Regexp(t, story, run(node, "npm", "start", "--silent"))
	require.Regexp(t, story, run("../../examples/python", "python3", "order.py"))
}

// Kamailio reads its configuration as callmask's page tells to write it.
func TestTheKamailioConfigurationIsValid(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "kamailio", "-c", "-f", "../../examples/kamailio/kamailio.cfg").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "ERROR")
	require.Contains(t, string(out), "config file ok")
}
