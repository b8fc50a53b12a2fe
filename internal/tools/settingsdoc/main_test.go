package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/settings"
)

func TestSettingsPageIsCurrent(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "settings.md"))
	require.NoError(t, err)
	want, err := replace(string(page), table(reflect.TypeFor[settings.Flags]()))
	require.NoError(t, err)
	require.Equal(t, want, string(page), "docs/settings.md is stale: run `make generate`")
}

func TestTableNamesEveryFlagByVariableFlagAndMeaning(t *testing.T) {
	t.Parallel()
	type flags struct {
		Config string `env:"X_CONFIG" placeholder:"FILE" help:"A file."`
		HTTP   string `name:"http-addr" env:"X_HTTP_ADDR" placeholder:"ADDR" help:"One | two."`
	}
	require.Equal(t, `
| environment | flag | meaning |
|---|---|---|
| `+"`X_CONFIG` | `--config`"+` FILE | A file. |
| `+"`X_HTTP_ADDR` | `--http-addr`"+` ADDR | One \| two. |

`, table(reflect.TypeFor[flags]()))
}

func TestPageWithoutMarksIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"nothing here\n", begin + "no end\n", end + begin} {
		file := filepath.Join(t.TempDir(), "page.md")
		require.NoError(t, os.WriteFile(file, []byte(page), 0o600))
		require.Error(t, run([]string{file}))
		kept, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, page, string(kept))
	}
	require.Error(t, run(nil))
}
