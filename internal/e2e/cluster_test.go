//go:build faults

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
)

// TestMakeClusterStartsManyOfEachAndEndsThemAll runs what `make cluster` runs.
func TestMakeClusterStartsManyOfEachAndEndsThemAll(t *testing.T) {
	t.Parallel()
	callmask, err := executable()
	require.NoError(t, err)
	dir := t.TempDir()
	tool, files := filepath.Join(dir, "cluster"), filepath.Join(dir, "tmp")
	require.NoError(t, build(tool, "internal/tools/cluster"))
	require.NoError(t, os.Mkdir(files, 0o700))

	out := &testkit.Buffer{}
	cmd := exec.Command(tool, "--callmask", callmask)
	cmd.Env = append(os.Environ(), "TMPDIR="+files)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its children die with it; it has usually ended
		if t.Failed() {
			t.Log(out)
		}
	})
	await(t, 2*startLimit, "the cluster is up", func() bool {
		return strings.Contains(out.String(), "6 of 6 ready") || len(ended) > 0
	})
	banner := out.String()
	find := func(pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(banner)
		require.NotNil(t, m, "%s in:\n%s", pattern, banner)
		return m[1]
	}
	token, err := os.ReadFile(find(`API token +(\S+)`))
	require.NoError(t, err)
	allocator, router := find(`allocator 1 +http://(\S+)`), find(`router 2 +http://(\S+)`)
	p := &process{Admin: allocator, HTTP: router, Token: strings.TrimSpace(string(token)), web: &http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}}

	// An order that one process takes is known to every other.
	const customer, agent = "+12025550123", "+12025550145"
	body := fmt.Sprintf(`{"pool":"demo","parties":[{"role":"customer","number":%q},{"role":"agent","number":%q}]}`, customer, agent)
	await(t, startLimit, "the pool has numbers", func() bool {
		a := p.api(t, http.MethodPut, "/v1/orders/order-1", body)
		return a.status == http.StatusCreated
	})
	o := p.getOrder(t, "order-1")
	p.requireConnected(t, o.vn(t, "agent"), customer, agent, o.vn(t, "customer"))
	require.Equal(t, "caller_not_allowed", p.resolve(t, p.Token, o.vn(t, "agent"), "+12025550199").Reason)

	pids := regexp.MustCompile(`pid (\d+)`).FindAllStringSubmatch(banner, -1)
	require.Len(t, pids, 6+3+6)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(stopLimit):
		require.Fail(t, "it does not end")
	}
	for _, m := range pids {
		pid, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "process %d is still there", pid)
	}
	left, err := os.ReadDir(files)
	require.NoError(t, err)
	require.Empty(t, left, "files are left behind")
}
