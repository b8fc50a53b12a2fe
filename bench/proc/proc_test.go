package proc

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheCPUTimeOfAChildAndItsChildrenIsCounted(t *testing.T) {
	t.Parallel()
	s := NewStarter(t.TempDir())
	t.Cleanup(s.StopAll)
	c, err := s.Start(t.Context(), Spec{Name: "busy", Path: "/bin/sh", Args: []string{"-c", "(while :; do :; done) & wait"}, Tree: true, Abrupt: true})
	require.NoError(t, err)
	defer stopTree(t, c)
	require.Eventually(t, func() bool {
		u, err := c.Usage()
		return err == nil && u.CPU >= 30*time.Millisecond && u.RSS > 0
	}, 20*time.Second, 10*time.Millisecond)
	own, _, parent, err := usage(c.Pid())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), parent)
	require.Less(t, own.CPU, 30*time.Millisecond, "the loop runs in the child's child")
}

// stopTree ends the child and the process it has started.
func stopTree(t *testing.T, c *Child) {
	t.Helper()
	require.NoError(t, syscall.Kill(-c.Pid(), syscall.SIGKILL)) // its process group
	c.Stop()
}

func TestAChildThatEndsWhileAwaitedIsReportedWithItsLastWords(t *testing.T) {
	t.Parallel()
	s := NewStarter(t.TempDir())
	t.Cleanup(s.StopAll)
	c, err := s.Start(t.Context(), Spec{Name: "brief", Path: "/bin/sh", Args: []string{"-c", "echo no port free; exit 3"}})
	require.NoError(t, err)
	err = c.Await(t.Context(), 20*time.Second, func(context.Context) error { return errors.New("not yet") })
	require.ErrorContains(t, err, "brief ended")
	require.ErrorContains(t, err, "no port free")
	require.Error(t, c.Err())
}
