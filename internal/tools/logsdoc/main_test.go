package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLinesAreReadFromTheSource(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.go")
	require.NoError(t, os.WriteFile(path, []byte(`package x

func f() {
	log.Warn().Err(err).Str("pool", p.Name).Int("free", 3).Msg("a pool is \"low\"")
	a.log.Debug().Msg("for those who change the code")
	log.Info().Msg(text)
}
`), 0o600))
	found, err := lines(path, "room")
	require.NoError(t, err)
	require.Equal(t, []line{{"warn", "room", `a pool is "low"`, "error, pool, free"}}, found)
	require.ErrorContains(t, run(nil), "name the root")
}
