//go:build !race

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var shellBlock = regexp.MustCompile("(?ms)(^<!-- not run: [^\n]+ -->\n)?^```sh\n(.*?)^```$")

// The command blocks of a page, run in one shell beside a fresh demo system. A block that
// cannot be run has its reason in a comment above it.
func TestTheCommandsOfThePagesWork(t *testing.T) {
	t.Parallel()
	for page, shows := range map[string][]string{
		"README.md": {
			`"action":"dial","number":"+12025550145"`, `"action":"dial","number":"+12025550123"`, `"cause":"not_in_service"`, `"action":"connect"`,
			`"cause":"order_ended"`, `"cooling":2`,
		},
		"docs/quickstart.md": {`"action":"connect","destination":"+12025550145"`, "caller_not_allowed", "caller_withheld", "order_ended"},
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			p := startAll(t, read(t, "cmd/callmask/settings/demo.yaml"))
			require.True(t, eventually(startLimit, func() bool { return p.pools(t)["demo"].Free == 20 }), "the pool is not filled")
			left := 0
			var script strings.Builder
			for _, block := range shellBlock.FindAllStringSubmatch(read(t, page), -1) {
				if block[1] != "" {
					left++
					continue
				}
				script.WriteString(block[2] + "sleep 1\n") // somebody reads in between
			}
			require.LessOrEqual(t, left, 1, "blocks that are not run")
			text := strings.NewReplacer("127.0.0.1:8080", p.HTTP, "127.0.0.1:9090", p.Admin, "sleep 31", "sleep 1").Replace(script.String())
			work := filepath.Dir(p.Dir)
			require.NoError(t, os.Mkdir(filepath.Join(work, "bin"), 0o700))
			require.NoError(t, os.Symlink(p.path, filepath.Join(work, "bin", "callmask")))
			path := os.Getenv("PATH")
			if strings.Contains(text, "nats ") {
				nats := strings.TrimSpace(command(t, root+".ci/tools", "nats", "v0.5.0"))
				path = filepath.Dir(nats) + ":" + path
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+text)
			cmd.Dir = work
			cmd.Env = []string{
				"PATH=" + path, "HOME=" + work, "NATS_URL=nats://" + p.NATS, "CALLMASK_ADMIN_ADDR=" + p.Admin,
				"CALLMASK_EMBEDDED_REDIS_ADDR=" + p.Redis, "CALLMASK_EMBEDDED_NATS_ADDR=" + p.NATS,
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s\n%s", text, out)
			for _, s := range shows {
				require.Contains(t, string(out), s)
			}
		})
	}
}
