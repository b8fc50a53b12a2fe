package testkit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
)

func TestRedisKeepsItsDataOverAKill(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	c := s.Client(t)
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	s.Kill()
	s.Restart(t)
	require.Equal(t, "v", c.Get(t.Context(), "k").Val())
}

func TestRedisClusterServesEverySlot(t *testing.T) {
	t.Parallel()
	c := testkit.RedisCluster(t)
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		require.NoError(t, c.Set(t.Context(), key, "v", 0).Err())
	}
}
