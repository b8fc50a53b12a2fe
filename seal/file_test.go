package seal

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhoMayReadAKeysetFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode        fs.FileMode
		owner, user int
		open        bool
	}{
		{0o600, 1000, 1000, false},
		{0o400, 1000, 1000, false},
		{0o440, 1000, 1000, true}, // one's own: chmod 600 is all it takes
		{0o440, 0, 0, true},
		{0o440, 0, 65532, false}, // mounted by Kubernetes for the pod's group
		{0o640, 0, 65532, false},
		{0o460, 0, 65532, true},
		{0o444, 0, 65532, true},
		{0o440, 1001, 65532, true},
		{0o440, -1, 65532, true},
	} {
		require.Equal(t, c.open, openToOthers(c.mode, c.owner, c.user), "%04o of %d for %d", c.mode, c.owner, c.user)
	}
}
