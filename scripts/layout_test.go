package scripts

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

func TestCRC16IsRedisClusters(t *testing.T) {
	t.Parallel()
	require.Equal(t, uint16(0x31c3), crc16("123456789"), "the check value of the Cluster specification")
	cluster := testkit.RedisCluster(t)
	for _, tag := range []string{"0", "x", "9034", "callmask"} {
		slot, err := cluster.ClusterKeySlot(t.Context(), "cm1:{"+tag+"}:meta").Result()
		require.NoError(t, err)
		require.EqualValues(t, slot, crc16(tag)%slots)
	}
}

func TestTagsSpaceTheSlotsEvenlyAndNeverChange(t *testing.T) {
	t.Parallel()
	tag := regexp.MustCompile(`^cm1:\{(\d+)\}:$`)
	for _, n := range []int{1, 2, 16, 64} {
		seen := map[string]bool{}
		for i, p := range newLayout(n).prefixes {
			m := tag.FindStringSubmatch(p)
			require.NotNil(t, m, "partition %d of %d: %q", i, n, p)
			require.Equal(t, (i*slots+slots/2)/n, int(crc16(m[1]))%slots)
			require.False(t, seen[m[1]])
			seen[m[1]] = true
		}
	}
	require.Equal(t, []string{"cm1:{8209}:"}, newLayout(1).prefixes, "data in Redis depends on it")
}

func TestAllKeysOfOneCallShareASlot(t *testing.T) {
	t.Parallel()
	tag := regexp.MustCompile(`\{(\w+)\}`)
	for verb, sample := range sampleArgs(t) {
		for _, key := range sample.keys {
			require.Equal(t, "x", tag.FindStringSubmatch(key)[1], "%s: %s", verb, key)
		}
	}
	l := newLayout(16)
	for i := range 1000 {
		n := vn.Number(447700900000 + i)
		p := l.ofVN(n)
		require.Equal(t, p, l.ofVN(n))
		require.Contains(t, l.prefixes, p)
		require.Less(t, l.home("order-"+strconv.Itoa(i)), 16)
		require.Equal(t, p+"vn:"+n.Digits(), vnKey(p, n))
		require.Equal(t, p+"ended:"+n.Digits(), endedKey(p, n))
	}
}
