package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/cli"
)

func TestThePageOfCommandsIsCurrent(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "cli.md"))
	require.NoError(t, err)
	want, err := cli.Reference()
	require.NoError(t, err)
	require.Equal(t, want, string(page), "docs/cli.md is stale: run `make generate`")
	require.Error(t, run(nil))
}
