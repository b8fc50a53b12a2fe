//go:build !race

package callback

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAppendJSONDoesNotAllocate(t *testing.T) {
	u := parse(t, status)
	order, dst := []byte(strings.Repeat("x", 64)), make([]byte, 0, 256)
	require.Zero(t, testing.AllocsPerRun(200, func() { u.AppendJSON(dst, order) }))
}
