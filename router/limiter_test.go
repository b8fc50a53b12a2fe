package router

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/callmask/callmask/vn"
)

// newTestLimiter makes a limiter whose clock the test moves.
func newTestLimiter(perMinute int) (l *limiter, now *int64) {
	now = new(int64)
	l = newLimiter(perMinute)
	l.clock = func(time.Time) int64 { return *now }
	return l, now
}

func TestLimiterLetsSixtyARefusedMinutePass(t *testing.T) {
	t.Parallel()
	l, now := newTestLimiter(60)
	const caller = vn.Number(12025550102)
	passed := func(calls int) (n int) {
		for range calls {
			if l.check(time.Time{}, caller, 0) == notLimited {
				l.refused(time.Time{}, caller, 0)
				n++
			}
		}
		return n
	}
	require.Equal(t, 60, passed(100))
	*now += int64(time.Second) - 1
	require.Equal(t, 0, passed(1), "a second has not gone by")
	*now++
	require.Equal(t, 1, passed(10))
	*now += int64(10 * time.Second)
	require.Equal(t, 10, passed(100))
	*now += int64(time.Hour)
	require.Equal(t, 60, passed(100), "a bucket holds a minute's worth, not an hour's")
}

func TestLimiterKeepsCallersNumbersAndEachOtherApart(t *testing.T) {
	t.Parallel()
	l, _ := newTestLimiter(1)
	l.refused(time.Time{}, 12025550101, 12025550102)
	require.Equal(t, byCaller, l.check(time.Time{}, 12025550101, 12025550109))
	require.Equal(t, byNumber, l.check(time.Time{}, 12025550109, 12025550102))
	require.Equal(t, notLimited, l.check(time.Time{}, 12025550102, 12025550101), "the same numbers the other way round")
	l.refused(time.Time{}, 0, 0)
	require.Equal(t, notLimited, l.check(time.Time{}, 0, 0), "no number is nobody's")
}

func TestLimiterCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	l, _ := newTestLimiter(-1)
	for range 1000 {
		l.refused(time.Time{}, 12025550101, 12025550102)
	}
	require.Equal(t, notLimited, l.check(time.Time{}, 12025550101, 12025550102))
}

// TestLimiterIsATokenBucket pins that the limiter does what a plain bucket with a
// count and a last time does.
func TestLimiterIsATokenBucket(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.IntRange(1, 200).Draw(t, "per minute")
		l, now := newTestLimiter(perMinute)
		tokenNs := int64(time.Minute) / int64(perMinute)
		type plain struct{ left, at int64 } // left in tokenNs
		models := map[vn.Number]*plain{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			*now += rapid.Int64Range(0, 3*tokenNs).Draw(t, "wait")
			caller := vn.Number(12025550100 + rapid.IntRange(0, 3).Draw(t, "caller"))
			m := models[caller]
			if m == nil {
				m = &plain{left: tokenNs * int64(perMinute), at: *now}
				models[caller] = m
			}
			m.left = min(tokenNs*int64(perMinute), m.left+*now-m.at)
			m.at = *now
			want := notLimited
			if m.left < tokenNs {
				want = byCaller
			}
			if got := l.check(time.Time{}, caller, 0); got != want {
				t.Fatalf("at %d: %d, want %d with %d of %d left", *now, got, want, m.left, tokenNs)
			}
			if want == notLimited {
				l.refused(time.Time{}, caller, 0)
				m.left -= tokenNs
			}
		}
	})
}

func TestLimiterMemoryIsBoundedAndAFloodDoesNotFreeTheLimited(t *testing.T) {
	t.Parallel()
	require.Less(t, unsafe.Sizeof(limiter{}), uintptr(1100<<10))
	l, now := newTestLimiter(60)
	const caller = vn.Number(12025550102)
	for range 60 {
		l.refused(time.Time{}, caller, 0)
	}
	for i := range vn.Number(200_000) { // 3 times what the limiter can hold
		*now += 4000 // ns: 0.8 s in all, too short for a token to come back
		l.refused(time.Time{}, 99_000_000_000+i, 0)
	}
	require.Equal(t, byCaller, l.check(time.Time{}, caller, 0))
}

func TestLimiterHoldsNoNumber(t *testing.T) {
	t.Parallel()
	l, _ := newTestLimiter(60)
	const caller = vn.Number(12025550102)
	l.refused(time.Time{}, caller, caller)
	entries := 0
	for i := range l.shards {
		for _, set := range l.shards[i].sets {
			for _, b := range set {
				require.NotEqual(t, uint64(caller), b.key)
				if b.key != 0 {
					entries++
				}
			}
		}
	}
	require.Equal(t, 2, entries)
	other, _ := newTestLimiter(60)
	require.NotEqual(t, l.caller, other.caller, "another process hashes otherwise")
}
