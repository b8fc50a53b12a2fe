package router

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/softswitch"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

const (
	publicURL = "https://calls.example.com"
	authToken = "twilio-auth-token"
	account   = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	pbxToken  = "softswitch-token"
)

// commands returns how often Redis has run each command.
func commands(tb testing.TB, client *redis.Client) map[string]int {
	tb.Helper()
	info, err := client.Info(tb.Context(), "commandstats").Result()
	require.NoError(tb, err)
	counts := map[string]int{}
	for line := range strings.Lines(info) {
		if name, rest, ok := strings.Cut(line, ":calls="); ok {
			calls, _, _ := strings.Cut(rest, ",")
			counts[strings.TrimPrefix(name, "cmdstat_")], err = strconv.Atoi(calls)
			require.NoError(tb, err)
		}
	}
	delete(counts, "info")
	return counts
}

const twilioPath = "/v1/carriers/twilio/voice"

// signedForm returns a webhook's body and signature as Twilio makes them.
func signedForm(called, calling string) (body, signature string) {
	form := url.Values{
		"AccountSid": {account}, "ApiVersion": {"2010-04-01"}, "CallSid": {"CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"},
		"CallStatus": {"ringing"}, "Direction": {"inbound"}, "From": {calling}, "To": {called},
	}
	keys := make([]string, 0, len(form))
	for key := range form {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	mac := hmac.New(sha1.New, []byte(authToken))
	_, _ = io.WriteString(mac, publicURL+twilioPath)
	for _, key := range keys {
		_, _ = io.WriteString(mac, key+form.Get(key))
	}
	return form.Encode(), base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// twilioCall posts a webhook as Twilio signs it.
func (f *fixture) twilioCall(tb testing.TB, called, calling string) answer {
	tb.Helper()
	form, signature := signedForm(called, calling)
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+f.Addr().String()+twilioPath, strings.NewReader(form))
	require.NoError(tb, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Twilio-Signature", signature)
	res, err := f.client.Do(req)
	require.NoError(tb, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(tb, err)
	return answer{res.StatusCode, res.Header, string(body)}
}

const customer, agent, stranger = vn.Number(12025550101), vn.Number(12025550102), vn.Number(12025550103)

// connectedStore returns a Store with two VNs on the server, reading through what
// reader makes of the client, or plainly.
func connectedStore(tb testing.TB, server *testkit.RedisServer, reader func(*redis.Client) scripts.Reader) (*redis.Client, *scripts.Store) {
	tb.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	tb.Cleanup(func() { _ = client.Close() })
	var r scripts.Reader
	if reader != nil {
		r = reader(client)
	}
	return client, stockedStore(tb, client, r, 2)
}

// stockedStore returns a Store with some VNs of London.
func stockedStore(tb testing.TB, client redis.UniversalClient, reader scripts.Reader, vns int) *scripts.Store {
	tb.Helper()
	keys, err := seal.Create(filepath.Join(tb.TempDir(), "keyset"))
	require.NoError(tb, err)
	store, err := scripts.New(scripts.Config{Reader: reader, Timeout: patience}, client, keys)
	require.NoError(tb, err)
	require.NoError(tb, store.Start(tb.Context()))
	require.NoError(tb, store.MarkReady(tb.Context()))
	owned := make([]scripts.Owned, vns)
	for i := range owned {
		owned[i] = scripts.Owned{VN: 447700900001 + vn.Number(i), Ref: "a", Fence: uint64(i + 1)}
	}
	_, err = store.Refill(tb.Context(), "london", "twilio", owned)
	require.NoError(tb, err)
	return store
}

// placeOrder gives customer and agent their VNs.
func placeOrder(tb testing.TB, store *scripts.Store) (ofCustomer, ofAgent string) {
	tb.Helper()
	return placeOrderNamed(tb, store, "order-1")
}

func placeOrderNamed(tb testing.TB, store *scripts.Store, id string) (ofCustomer, ofAgent string) {
	tb.Helper()
	got, err := store.Allocate(tb.Context(), scripts.AllocateRequest{
		Order: vn.Order{ID: id, Pool: "london", TTL: time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: customer}, {Role: "agent", Number: agent},
		}},
		Cooldown: time.Minute, Carriers: []scripts.Carrier{{Name: "twilio", ID: 9}},
	})
	require.NoError(tb, err)
	return got.Assignment.Parties[0].VN.E164(), got.Assignment.Parties[1].VN.E164()
}

// TestConnectedCallCostsOneRedisRead pins promise 6 on a real server with the real
// store and codecs, and that nobody else is connected or costs a script.
func TestConnectedCallCostsOneRedisRead(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	client, store := connectedStore(t, server, nil)
	ctx := t.Context()
	ofCustomer, ofAgent := placeOrder(t, store)

	f := build(t, store.Lookup, nil, func(c *Config) {
		tw, err := twilio.New(twilio.Config{AccountSID: account, AuthTokens: []string{authToken}, PublicURL: publicURL})
		require.NoError(t, err)
		pbx, err := softswitch.New(softswitch.Config{Tokens: []string{pbxToken}})
		require.NoError(t, err)
		api, err := softswitch.New(softswitch.Config{Tokens: []string{"api-token"}})
		require.NoError(t, err)
		c.Carriers = []Carrier{{Name: "twilio", ID: 9, Codec: tw}, {Name: "pbx", ID: 3, Codec: pbx}}
		c.Resolvers = []Carrier{{Name: "pbx", ID: 3, Codec: pbx}, {Name: "api", Any: true, Codec: api}}
	})
	f.run(t)
	resolve := func(token, called string, calling vn.Number) answer {
		return f.ask(t, http.MethodGet, "/v1/resolve?"+url.Values{"called": {called}, "calling": {calling.E164()}, "call_id": {"1"}}.Encode(), "Authorization", "Bearer "+token)
	}

	f.twilioCall(t, ofAgent, customer.E164()) // opens the connection to Redis
	before := commands(t, client)
	for range 10 {
		a := f.twilioCall(t, ofAgent, customer.E164())
		require.Equal(t, 200, a.status)
		require.Contains(t, a.body, `callerId="`+ofCustomer+`"`)
		require.Contains(t, a.body, agent.E164())
		require.NotContains(t, a.body, customer.E164())
		a = resolve("api-token", ofCustomer, agent)
		require.JSONEq(t, `{"action":"connect","destination":"`+customer.E164()+`","caller_id":"`+ofAgent+
			`","order_id":"order-1","ring_timeout_s":30,"max_duration_s":3600}`, a.body)
	}
	after := commands(t, client)
	before["hget"] += 20
	require.Equal(t, before, after, "one HGET a call and no other command")

	f.ask(t, http.MethodPost, "/v1/carriers/twilio/voice?To=x")
	f.twilioCall(t, ofAgent, "anonymous")
	require.Equal(t, 401, resolve("wrong", ofAgent, customer).status)
	require.Equal(t, 400, resolve("api-token", "odd", customer).status)
	require.Equal(t, after, commands(t, client), "no read for what cannot be connected")

	strange, unknown := f.twilioCall(t, ofAgent, stranger.E164()), f.twilioCall(t, "+447700900999", customer.E164())
	require.Contains(t, strange.body, "<Reject")
	require.Equal(t, strange.body, unknown.body, "no telling which numbers are in use")
	require.Contains(t, resolve("api-token", ofAgent, stranger).body, "caller_not_allowed")
	require.Contains(t, resolve(pbxToken, ofAgent, customer).body, "number_not_assigned", "another carrier's number")
	refused := commands(t, client)
	for _, script := range []string{"eval", "evalsha", "fcall", "eval_ro", "evalsha_ro"} {
		require.Equal(t, after[script], refused[script])
	}

	_, err := store.Release(ctx, "order-1", vn.Completed)
	require.NoError(t, err)
	require.Contains(t, resolve("api-token", ofAgent, customer).body, "order_ended")
	require.Contains(t, f.twilioCall(t, ofAgent, customer.E164()).body, "<Reject")

	server.Kill()
	a := resolve("api-token", ofAgent, customer)
	require.Equal(t, 503, a.status)
	require.Contains(t, a.body, `"reason":"unavailable"`)
	f.stop()
	require.NotContains(t, f.logs.String(), "2025550")
}
