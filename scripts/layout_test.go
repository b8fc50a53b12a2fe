package scripts

import (
	"regexp"
	"slices"
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

// Redis Cluster gives each master an equal stretch of the slots, so evenly spaced tags
// give each as many partitions as the next, give or take one.
func TestEveryMasterGetsItsShareOfThePartitions(t *testing.T) {
	t.Parallel()
	tag := regexp.MustCompile(`\{(\d+)\}`)
	share := func(partitions, masters int) (least, most int) {
		counts := make([]int, masters)
		for _, p := range newLayout(partitions).prefixes {
			slot := int(crc16(tag.FindStringSubmatch(p)[1])) % slots
			for m := range counts {
				if slot >= m*slots/masters && slot < (m+1)*slots/masters {
					counts[m]++
				}
			}
		}
		return slices.Min(counts), slices.Max(counts)
	}
	for masters := 3; masters <= 48; masters++ {
		for _, partitions := range []int{16, 64, 256} {
			least, most := share(partitions, masters)
			require.LessOrEqual(t, most-least, 1, "%d partitions on %d masters", partitions, masters)
		}
	}
	for _, c := range [][2]int{{16, 3}, {64, 12}} {
		least, most := share(c[0], c[1])
		require.LessOrEqual(t, float64(most)/float64(least), 1.35, "%d partitions on %d masters", c[0], c[1])
	}
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
