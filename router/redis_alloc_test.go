//go:build !race

package router

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
)

// TestASignedCallOverRedisAllocatesAtMostTwice counts everything between the request's
// bytes and the answer's: signature, look-up through the Coalescer on a real Redis,
// opening the sealed number, the answer. 64 callers at a time, as in a busy router.
func TestASignedCallOverRedisAllocatesAtMostTwice(t *testing.T) {
	_, store := connectedStore(t, testkit.Redis(t), func(c *redis.Client) scripts.Reader {
		return newTestCoalescer(t, c, CoalescerConfig{FlushTimeout: 10 * time.Second})
	})
	atMostTwoAllocations(t, store)
}

// TestASignedCallOverAClusterAllocatesAtMostTwice is the same with a replica to fall back
// to, which is looked at beside the calls.
func TestASignedCallOverAClusterAllocatesAtMostTwice(t *testing.T) {
	nodes := testkit.RedisNodes(t, cluster.RedisConfig{Masters: 3, Replicas: 1, NodeTimeout: 5 * time.Second})
	client := testkit.ClusterClient(t, nodes)
	reader := newTestCoalescer(t, client, CoalescerConfig{FlushTimeout: 10 * time.Second, Replicas: replicaClient(t, nodes)})
	atMostTwoAllocations(t, stockedStore(t, client, reader, 64))
}

func atMostTwoAllocations(t *testing.T, store *scripts.Store) {
	t.Helper()
	_, ofAgent := placeOrder(t, store)
	codec, err := twilio.New(twilio.Config{AccountSID: account, AuthTokens: []string{authToken}, PublicURL: publicURL})
	require.NoError(t, err)
	f := build(t, store.Lookup, ignore{}, func(c *Config) {
		c.Carriers = []Carrier{{Name: "twilio", ID: 9, Codec: codec}}
		c.Budget = 20 * time.Second
	})
	const callers, calls = 64, 200
	body, signature := signedForm(ofAgent, customer.E164())
	contexts := make([]*fasthttp.RequestCtx, callers)
	for i := range contexts {
		var req fasthttp.Request
		req.Header.SetMethod(fasthttp.MethodPost)
		req.Header.SetHost("calls.example.com")
		req.Header.SetRequestURI(twilioPath)
		req.Header.SetContentType("application/x-www-form-urlencoded")
		req.Header.Set("X-Twilio-Signature", signature)
		req.SetBodyString(body)
		contexts[i] = new(fasthttp.RequestCtx)
		contexts[i].Init(&req, nil, quietLogger{zerolog.Nop()})
	}
	run := func() {
		var wg sync.WaitGroup
		for _, ctx := range contexts {
			wg.Go(func() {
				for range calls {
					ctx.Response.Reset()
					f.handle(ctx)
				}
			})
		}
		wg.Wait()
	}
	run() // pools and connections fill
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	for _, ctx := range contexts {
		require.Equal(t, 200, ctx.Response.StatusCode())
		require.Contains(t, string(ctx.Response.Body()), agent.E164())
	}
	per := float64(after.Mallocs-before.Mallocs) / (callers * calls)
	t.Logf("%.2f allocations a call", per)
	require.LessOrEqual(t, per, 2.0)
}
