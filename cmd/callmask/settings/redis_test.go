package settings

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARedisURLSaysWhatItsAddressesAre(t *testing.T) {
	t.Parallel()
	type kind struct{ cluster, sentinel, tls bool }
	for url, want := range map[string]struct {
		kind  kind
		addrs []string
	}{
		"redis://a":                                                         {kind{}, []string{"a:6379"}},
		"redis://:p@a/3":                                                    {kind{}, []string{"a:6379"}},
		"redis://[2001:db8::1]:7000":                                        {kind{}, []string{"[2001:db8::1]:7000"}},
		"rediss://u:p@a:7001?cluster=true":                                  {kind{cluster: true, tls: true}, []string{"a:7001"}},
		"redis://a:7001,redis://b:7002":                                     {kind{cluster: true}, []string{"a:7001", "b:7002"}},
		"redis://u:p@a:7001, b:7002 ,c?cluster=true":                        {kind{cluster: true}, []string{"a:7001", "b:7002", "c:6379"}},
		"redis://a:7001?addr=b:7002&addr=c:7003":                            {kind{cluster: true}, []string{"a:7001", "b:7002", "c:7003"}},
		"redis://u:p@s1:26379/2?master_name=m":                              {kind{sentinel: true}, []string{"s1:26379"}},
		"rediss://s1:26379,s2:26379,s3:26379/2?master_name=m":               {kind{sentinel: true, tls: true}, []string{"s1:26379", "s2:26379", "s3:26379"}},
		"redis://s1:26379?master_name=m&addr=s2:26379&cluster=false":        {kind{sentinel: true}, []string{"s1:26379", "s2:26379"}},
		"redis://s:1?master_name=m&sentinel_username=x&sentinel_password=y": {kind{sentinel: true}, []string{"s:1"}},
	} {
		r, err := ParseRedis(RedisAt{URL: url})
		require.NoError(t, err, url)
		require.Equal(t, want.kind, kind{r.Cluster, r.Sentinel, r.Options.TLSConfig != nil}, url)
		require.Equal(t, want.addrs, r.Options.Addrs, url)
	}
	r, err := ParseRedis(RedisAt{URL: "redis://u:p%2C%40@s1,s2/2?master_name=m&sentinel_username=x&sentinel_password=y"})
	require.NoError(t, err)
	require.Equal(t, []any{"u", "p,@", 2, "m", "x", "y"}, []any{
		r.Options.Username, r.Options.Password, r.Options.DB, r.Options.MasterName, r.Options.SentinelUsername, r.Options.SentinelPassword,
	})
}

// TestAWrongRedisURLIsNamedAndNeverRepeated pins that the message says what to change
// and holds nothing of the value, which may be a password in the wrong place.
func TestAWrongRedisURLIsNamedAndNeverRepeated(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                                       "is not a URL such as",
		"hunter2:6379":                           "is not a URL such as",
		"http://hunter2@a":                       "is not a URL such as",
		"redis://u:hunter2,2@a":                  "is not a URL such as",
		"redis://a:hunter2":                      "is not a URL such as",
		"redis://a:0":                            "without a valid host and port",
		"redis://a:65536":                        "without a valid host and port",
		"redis://hunter2@a/hunter2":              "is not the number of a database",
		"redis://a?hunter2=1":                    "has a parameter that is not known; known are cluster, master_name",
		"redis://a?read_timeout=hunter2":         "has a parameter that is not known",
		"redis://a?addr=hunter2:x":               "without a valid host and port (addr)",
		"redis://a?cluster=hunter2":              "another value than true or false",
		"redis://a?cluster=true&cluster=hunter2": "more than once",
		"redis://a?master_name=":                 "more than once, or empty",
		"redis://u:hunter2@a,redis://b":          "user or password differ (address 2)",
		"redis://u:hunter2@a,u:x@b":              "user or password differ (address 2)",
		"redis://a/1,b/2?master_name=m":          "databases differ (address 2)",
		"redis://a,b/2":                          "a Redis Cluster has only database 0",
		"redis://a,b?cluster=false":              "has several addresses and ?cluster=false",
		"redis://a?sentinel_password=hunter2":    "has credentials for Sentinels but no ?master_name=",
		"redis://a?master_name=m&cluster=true":   "has both ?master_name= and ?cluster=true",
	} {
		_, err := ParseRedis(RedisAt{URL: url})
		require.ErrorContains(t, err, "CALLMASK_REDIS_URL: ", url)
		require.ErrorContains(t, err, want, url)
		require.NotContains(t, err.Error(), "hunter2", url)
	}
}

func TestRedactLeavesAddressesOnly(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"redis://a:1":               "redis://a:1",
		"redis://u:hunter2@a:1,b:2": "redis://•••@a:1,b:2",
		"redis://:hun,ter2@a:1":     "•••,•••@a:1",
		"redis://a:1?sentinel_password=hunter2&master_name=m": "redis://a:1?master_name=m&sentinel_password=•••",
		"hunter2": "•••",
	} {
		require.Equal(t, want, Redact(value))
	}
}
