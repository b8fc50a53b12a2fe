package doctor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhoseClockIsWrongIsToldByTheOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seen     []clock
		status   Status
		says, do string
	}{
		"all agree":             {[]clock{{"Redis", 3 * time.Millisecond, 0}, {"NATS", -8 * time.Millisecond, 0}}, OK, "agrees with Redis, NATS, to 8ms", ""},
		"to the second":         {[]clock{{"carrier", 1400 * time.Millisecond, time.Second}}, OK, "agrees with carrier", ""},
		"ours is ahead":         {[]clock{{"Redis", -5 * time.Second, 0}, {"NATS", -5 * time.Second, 0}}, Fail, "differs from everybody's", "on this machine"},
		"theirs is":             {[]clock{{"Redis", 900 * time.Millisecond, 0}, {"NATS", 0, 0}}, Warn, "Redis is 900ms ahead", "on those machines"},
		"only one to compare":   {[]clock{{"Redis", -3 * time.Second, 0}}, Fail, "Redis is 3s behind", "on those machines"},
		"nobody to compare to":  {nil, Warn, "nobody's clock", "mend"},
		"all slightly":          {[]clock{{"Redis", -700 * time.Millisecond, 0}, {"carrier", -1900 * time.Millisecond, time.Second}}, Warn, "everybody's", "on this machine"},
		"a carrier's, slightly": {[]clock{{"Redis", 0, 0}, {"carrier", 1900 * time.Millisecond, time.Second}}, Warn, "carrier is 1.9s ahead", "on those"},
	} {
		r := report{name: "clock"}
		cs := clocks{seen: c.seen}
		cs.judge(&r)
		require.Len(t, r.found, 1, name)
		f := r.found[0]
		require.Equal(t, c.status, f.Status, name)
		require.Contains(t, f.Seen, c.says, name)
		require.Contains(t, f.Do, c.do, name)
	}
}
