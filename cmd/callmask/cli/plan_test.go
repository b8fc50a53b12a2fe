package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/cli"
	"github.com/callmask/callmask/cmd/callmask/sizing"
)

func plan(args string) (int, string, string) {
	var out, errs bytes.Buffer
	code := cli.Main(cli.Process{
		Args: strings.Fields(args), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Env: func(string) (string, bool) { return "", false },
	})
	return code, out.String(), errs.String()
}

// What docs/sizing.md shows is what the commands print today, and the costs it names are those
// in the code.
func TestTheSizingPageIsCurrent(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "sizing.md"))
	require.NoError(t, err)
	page := string(raw)
	shown := regexp.MustCompile("(?s)```\n\\$ callmask ([^\n]+)\n(.*?)```").FindAllStringSubmatch(page, -1)
	require.Len(t, shown, 3, "1, 10 and 100 million live orders")
	for _, s := range shown {
		code, out, errs := plan(s[1])
		require.Zero(t, code, errs)
		require.Equal(t, out, s[2], "docs/sizing.md is stale: put in what `callmask %s` prints", s[1])
	}
	var costs strings.Builder
	measured := sizing.Measured()
	for _, c := range measured.List() {
		fmt.Fprintf(&costs, "| %s | %g %s | %s |\n", c.Name, c.Value, c.Unit, c.Source)
	}
	require.Contains(t, page, costs.String(), "docs/sizing.md names other costs than the code")
}

func TestAPlanIsPrintedAsJSONAndAMistakeIsNamed(t *testing.T) {
	t.Parallel()
	code, out, errs := plan("plan --live-orders 1000000 -o json")
	require.Zero(t, code, errs)
	var p sizing.Plan
	require.NoError(t, json.Unmarshal([]byte(out), &p))
	require.Equal(t, 3, p.Masters)
	code, _, errs = plan("plan --live-orders 1000 --headroom 0.5")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, "headroom must be at least 1")
	code, out, _ = plan("plan --help")
	require.Zero(t, code)
	require.Contains(t, out, "Examples:")
}
