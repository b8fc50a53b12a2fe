package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/sim"
)

// secretive is a running callmask, an app, and a hunt for every number they exchange.
type secretive struct {
	*hunt

	p    *process
	a    *marketplace
	told strings.Builder // every answer that may hold no real number
}

func TestNoRealNumberIsLeftAnywhereInClear(t *testing.T) {
	t.Parallel()
	p, a := publicSystem(t)
	s := &secretive{hunt: newHunt(t, 210), p: p, a: a}
	s.goodOrders(t)
	s.badEvents(t)
	s.badRequests(t)
	s.badCalls(t)
	s.brokenHTTP(t)
	got := p.api(t, http.MethodGet, "/metrics", "")
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, "callmask_router_")
	s.tell(got)

	require.Empty(t, s.find([]byte(s.told.String())), "in an answer to somebody who may not see it")
	s.searchStreams(t)
	s.searchFiles(t, "while it runs")
	client := redis.NewClient(&redis.Options{Addr: p.Redis, DisableIdentity: true})
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.BgRewriteAOF(t.Context()).Err())
	await(t, 20*time.Second, "the AOF is rewritten", func() bool {
		info, err := client.Info(t.Context(), "persistence").Result()
		return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0\r") && strings.Contains(info, "aof_rewrites:1\r")
	})
	s.searchFiles(t, "after Redis has written everything anew")
	s.controls(t, client)
	require.Zero(t, p.terminate(t))
	require.Empty(t, s.find([]byte(p.log(t))), "in the log")
}

// tell keeps an answer in which no real number may stand.
func (s *secretive) tell(got answer) {
	s.told.WriteString(got.body)
	for k, v := range got.header {
		s.told.WriteString(k + strings.Join(v, " ") + "\n")
	}
}

// goodOrders places orders in every way and lets everybody call.
func (s *secretive) goodOrders(t *testing.T) {
	t.Helper()
	customer, agent, merchant := s.next(t), s.next(t), s.next(t)
	s.a.publish(t, "orders.assigned", order{OrderID: "three", Pool: "rides", TTL: "5m", Parties: []party{
		{"customer", customer}, {"agent", national(agent)}, {"merchant", merchant[2:]},
	}})
	s.a.hear(t, 5*time.Second, "vn.assigned", map[string]string{"order_id": "three"})
	three := s.p.getOrder(t, "three")
	got := s.p.twilioCall(t, "tw", "CA-1", customer, three.vn(t, "agent"))
	require.Equal(t, dial("three", three.vn(t, "customer"), agent), got.body, "the carrier is told, and nobody else")
	r := s.p.resolve(t, s.p.Token, three.vn(t, "merchant"), agent)
	require.Equal(t, [3]string{"connect", merchant, three.vn(t, "agent")}, [3]string{r.Action, r.Destination, r.CallerID})

	body := s.body(t, "bought", s.next(t), national(s.next(t)))
	require.Equal(t, http.StatusCreated, s.api(t, http.MethodPut, "/v1/orders/two", body))
	require.Equal(t, http.StatusOK, s.api(t, http.MethodPut, "/v1/orders/two", body))
	require.Equal(t, http.StatusOK, s.api(t, http.MethodPatch, "/v1/orders/two", `{"ttl":"30m"}`))
	require.Equal(t, http.StatusConflict, s.api(t, http.MethodPut, "/v1/orders/two", s.body(t, "bought", s.next(t), s.next(t))))
	require.Equal(t, http.StatusNoContent, s.api(t, http.MethodDelete, "/v1/orders/two", ""))
	require.Equal(t, http.StatusConflict, s.api(t, http.MethodPut, "/v1/orders/two", body))

	// Four VNs: the third order finds none.
	require.Equal(t, http.StatusCreated, s.api(t, http.MethodPut, "/v1/orders/desk-1", s.body(t, "desk", s.next(t), s.next(t))))
	require.Equal(t, http.StatusCreated, s.api(t, http.MethodPut, "/v1/orders/desk-2", s.body(t, "desk", s.next(t), s.next(t))))
	require.Equal(t, http.StatusServiceUnavailable, s.api(t, http.MethodPut, "/v1/orders/desk-3", s.body(t, "desk", s.next(t), s.next(t))))
	s.a.publish(t, "orders.assigned", `{"order_id":"desk-4",`+s.body(t, "desk", s.next(t), s.next(t))[1:])
}

// body is the body of an order of two parties.
func (s *secretive) body(t *testing.T, pool, customer, agent string) string {
	t.Helper()
	b, err := json.Marshal(order{Pool: pool, Parties: []party{{"customer", customer}, {"agent", agent}}})
	require.NoError(t, err)
	return string(b)
}

// api asks the private API, whose answers may never hold a real number.
func (s *secretive) api(t *testing.T, method, path, body string) int {
	t.Helper()
	got := s.p.api(t, method, path, body)
	s.tell(got)
	return got.status
}

// badEvents publishes what cannot be an order and waits until all of it was refused.
func (s *secretive) badEvents(t *testing.T) {
	t.Helper()
	dead := func(subject, payload string) { s.a.publish(t, subject, payload) }
	for _, payload := range []string{
		`{"order_id":"x","pool":"rides","parties":[{"role":"a","number":"` + s.next(t) + `"}`, // broken off
		s.next(t), `"` + s.next(t) + `"`, `["` + s.next(t) + `"]`,
		`{"order_id":"` + s.next(t) + `","pool":"rides"}`,
		`{"order_id":["` + s.next(t) + `"],"pool":"rides"}`,
		`{"order_id":12,"` + s.next(t) + `":"` + s.next(t) + `"}`,
	} {
		dead("orders.assigned", payload)
	}
	dead("orders.completed", `{"order_id":"`+s.next(t)+`"}`)
	dead("orders.cancelled", `{"order_id":{"`+s.next(t)+`":1}}`)
	dead("orders.placed", `{"order_id":"`+s.next(t)+`","pool":"`+s.next(t)+`"}`)
	dead("orders.placed", `{"pool":"`+s.next(t))

	failed := map[string]string{
		"invalid-pool":   `"pool":"` + s.next(t) + `","parties":[{"role":"a","number":"` + s.next(t) + `"},{"role":"b","number":"` + s.next(t) + `"}]`,
		"invalid-role":   `"pool":"rides","parties":[{"role":"` + s.next(t) + `","number":"` + s.next(t) + `"},{"role":"b","number":"` + s.next(t) + `"}]`,
		"invalid-ttl":    `"pool":"rides","ttl":"` + s.next(t) + `",` + s.body(t, "", s.next(t), s.next(t))[len(`{"pool":"",`):],
		"invalid-twice":  twice(s.next(t)),
		"invalid-region": s.body(t, "desk", s.next(t), "+442079460"+s.next(t)[9:])[1:],
		"invalid-form":   s.body(t, "desk", s.next(t), s.next(t)+"x")[1:],
		"invalid-value":  `"pool":"desk","parties":[{"role":"a","number":` + s.next(t)[1:] + `},{"role":"b","number":null}]`,
		"invalid-long":   s.body(t, "desk", s.next(t), s.next(t)+s.next(t)[1:])[1:],
		"invalid-one":    `"pool":"desk","parties":[{"role":"a","number":"` + s.next(t) + `"}]`,
	}
	for id, rest := range failed {
		s.a.publish(t, "orders.assigned", `{"order_id":"`+id+`",`+strings.TrimSuffix(rest, "}")+"}")
	}
	for id := range failed {
		s.a.hear(t, 20*time.Second, "vn.failed", map[string]string{"order_id": id, "reason": "invalid"})
	}
	s.a.publish(t, "orders.assigned", `{"order_id":"three",`+s.body(t, "rides", s.next(t), s.next(t))[1:])
	s.a.hear(t, 20*time.Second, "vn.failed", map[string]string{"order_id": "three", "reason": "order_conflict"})
	s.a.hear(t, 20*time.Second, "vn.failed", map[string]string{"order_id": "desk-4", "reason": "pool_exhausted"})
	for subject, count := range map[string]int{"dead.orders.assigned": 7, "dead.orders.completed": 1, "dead.orders.cancelled": 1} {
		await(t, 20*time.Second, "dead letters of "+subject, func() bool { return len(s.a.messages(subject)) == count })
	}
}

func twice(number string) string {
	return `"pool":"desk","parties":[{"role":"a","number":"` + number + `"},{"role":"b","number":"` + national(number) + `"}]`
}

// badRequests asks the private API wrongly, with a number wherever one could stand.
func (s *secretive) badRequests(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodPut, "/v1/orders/" + s.next(t), s.body(t, "rides", s.next(t), s.next(t)), 400},
		{http.MethodPut, "/v1/orders/x", s.body(t, s.next(t), s.next(t), s.next(t)), 404},
		{http.MethodPut, "/v1/orders/x", s.body(t, "desk", s.next(t), "+4420"+s.next(t)[4:]), 422},
		{http.MethodPut, "/v1/orders/x", s.body(t, "desk", s.next(t), "client:"+s.next(t)), 400},
		{http.MethodPut, "/v1/orders/x", `{"` + s.next(t) + `":"` + s.next(t) + `"}`, 400},
		{http.MethodPut, "/v1/orders/x", `{"pool":"desk","ttl":"` + s.next(t) + `"}`, 400},
		{http.MethodPut, "/v1/orders/x", `{"pool":"desk` + s.next(t), 400},
		{http.MethodPut, "/v1/orders/x", strings.Repeat(s.next(t)+",", 100_000), 413},
		{http.MethodGet, "/v1/orders/" + s.next(t), "", 400},
		{http.MethodPatch, "/v1/orders/three", `{"ttl":"` + s.next(t) + `"}`, 400},
		{http.MethodDelete, "/v1/orders/three?reason=" + url.QueryEscape(s.next(t)), "", 400},
		{http.MethodGet, "/v1/" + s.next(t), "", 404},
		{http.MethodPost, "/v1/orders/three?" + s.next(t), s.next(t), 405},
		{http.MethodPost, "/v1/pools/" + s.next(t) + "/numbers", `{"carrier":"pbx","numbers":["` + s.next(t) + `"]}`, 404},
		{http.MethodPost, "/v1/pools/desk/numbers", `{"carrier":"` + s.next(t) + `","numbers":["` + s.next(t) + `"]}`, 400},
		{http.MethodPost, "/v1/pools/desk/numbers", `{"carrier":"pbx","numbers":["` + s.next(t) + `","` + s.next(t) + `z"]}`, 400},
		{http.MethodDelete, "/v1/pools/desk/numbers/" + s.next(t), "", 404},
		{http.MethodDelete, "/v1/pools/desk/numbers/" + s.next(t) + "9999", "", 400},
		{http.MethodDelete, "/v1/pools/" + s.next(t) + "/numbers/" + s.next(t), "", 400},
	} {
		require.Equal(t, c.status, s.api(t, c.method, c.path, c.body), "%s %s", c.method, c.path)
	}
	got := s.p.do(t, http.MethodGet, "http://"+s.p.Admin+"/v1/pools", http.Header{"Authorization": {"Bearer " + s.next(t)}}, nil)
	require.Equal(t, http.StatusUnauthorized, got.status)
	s.tell(got)
}

// badCalls announces calls that are refused, forged or malformed.
func (s *secretive) badCalls(t *testing.T) {
	t.Helper()
	vn := s.p.getOrder(t, "three").vn(t, "agent")
	call := func(status int, callID, from, to string, edit ...func(*http.Header, *url.Values)) {
		got := s.p.twilioCall(t, "tw", callID, from, to, edit...)
		require.Equal(t, status, got.status, callID)
		s.tell(got)
	}
	unsigned := func(h *http.Header, _ *url.Values) { h.Del("X-Twilio-Signature") }
	spoilt := func(spoil func(f url.Values)) func(*http.Header, *url.Values) {
		return func(h *http.Header, f *url.Values) {
			spoil(*f)
			h.Set("X-Twilio-Signature", sim.SignTwilio(twilioToken, twilioPublic+"/v1/carriers/tw/voice", *f))
		}
	}
	call(200, "CA-stranger", s.next(t), vn)
	call(200, "CA-dialled-a-real-number", s.next(t), s.next(t))
	call(403, "CA-unsigned", s.next(t), s.next(t), unsigned)
	call(400, "CA-national", s.next(t)[2:], vn)
	call(400, "CA-national", s.next(t), national(s.next(t)))
	call(400, "CA "+s.next(t)+"\n", s.next(t), vn)
	call(400, "CA-repeated", s.next(t), vn, spoilt(func(f url.Values) { f.Add("From", s.next(t)) }))
	call(400, "CA-missing", s.next(t), vn, spoilt(func(f url.Values) { f.Del("To") }))
	call(200, "CA-sip", "sip:"+s.next(t)+"@example.com", vn)
	require.Equal(t, 404, s.p.twilioCall(t, url.PathEscape(s.next(t)), "CA-1", s.next(t), vn).status)

	phone, err := sim.NewPhone(sim.PhoneConfig{URL: "http://" + s.p.HTTP + "/v1/carriers/sim/voice", Secret: "a-wrong-secret"})
	require.NoError(t, err)
	defer phone.Close()
	r, err := phone.Call(t.Context(), s.next(t), s.next(t))
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, r.Status)

	for _, query := range []string{
		"called=" + s.next(t) + "&calling=" + s.next(t), // a raw + is a space
		"called=%2B" + s.next(t)[1:] + "&calling=" + s.next(t)[1:],
		"called=%2B" + s.next(t)[1:] + "&called=%2B" + s.next(t)[1:],
		"called=%2B" + s.next(t)[1:] + "%zz",
		s.next(t)[1:] + "=" + s.next(t)[1:],
	} {
		got := s.p.do(t, http.MethodGet, "http://"+s.p.HTTP+"/v1/resolve?"+query, http.Header{"Authorization": {"Bearer " + pbxToken}}, nil)
		require.Equal(t, http.StatusBadRequest, got.status, query)
		s.tell(got)
	}
	got := mustResolve(t, s.p, s.next(t), s.next(t), s.next(t))
	require.Equal(t, http.StatusUnauthorized, got.status)
	s.tell(got)
	for range 3 {
		got = mustResolve(t, s.p, pbxToken, s.next(t), s.next(t))
		require.Equal(t, http.StatusOK, got.status)
		s.tell(got)
	}
	s.a.hear(t, 5*time.Second, "calls.decided", map[string]string{"call_id": "CA-sip"})
}

// brokenHTTP sends what is not HTTP to both listeners: libraries like to quote that.
func (s *secretive) brokenHTTP(t *testing.T) {
	t.Helper()
	for _, addr := range []string{s.p.HTTP, s.p.Admin} {
		for _, request := range []string{
			"GET /v1/resolve?calling=" + s.next(t) + " HTTP/9.9\r\n\r\n",
			s.next(t) + "\r\n\r\n",
			"GET " + s.next(t) + "\r\nHost: x\r\n\r\n",
			"POST /v1/carriers/tw/voice HTTP/1.1\r\nHost: x\r\nContent-Length: " + s.next(t) + "\r\n\r\n",
			"POST /v1/carriers/tw/voice HTTP/1.1\r\nHost: x\r\n" + s.next(t) + " : broken\r\n\r\n",
			"POST /v1/carriers/tw/voice HTTP/1.1\r\nHost: x\r\nX-From: " + strings.Repeat(s.next(t), 4_000) + "\r\n\r\n",
			"POST /v1/carriers/tw/voice HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + s.next(t) + "\r\nFrom=" + s.next(t) + "\r\n",
			"POST /v1/carriers/tw/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\nFrom=" + strings.Repeat(s.next(t), 7_000),
			"GET /v1/orders/x;" + s.next(t) + "?a;" + s.next(t) + " HTTP/1.1\r\nHost: " + s.next(t) + "\r\nConnection: close\r\n\r\n",
		} {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", addr)
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, _ = conn.Write([]byte(request)) // it may be refused half way
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.CloseWrite() // the other side may have closed already
			}
			told, _ := io.ReadAll(conn) // a reset is an answer too
			s.told.Write(told)
			require.NoError(t, conn.Close())
		}
	}
	require.True(t, s.p.ready())
}

// searchStreams reads every stream but that of the orders themselves.
func (s *secretive) searchStreams(t *testing.T) {
	t.Helper()
	for stream, least := range map[string]uint64{"VN": 15, "LEDGER": 18, "CALLS": 8, "POOLS": 1, "DEAD": 9, "ADVISORIES": 0} {
		readStream(t, s.p.NATS, stream, least, func(subject string, data []byte) {
			require.Empty(t, s.find(append(data, subject...)), "%s in stream %s", subject, stream)
			var letter struct {
				Payload []byte `json:"payload"`
			}
			if stream == "DEAD" {
				answer{body: string(data)}.decode(t, &letter)
				require.NotEmpty(t, letter.Payload)
				require.Empty(t, s.find(letter.Payload), "%s in the payload of a dead letter", subject)
			}
		})
	}

	// The control: where they may stand, the hunt finds them.
	there := 0
	readStream(t, s.p.NATS, "ORDERS", 20, func(_ string, data []byte) { there += len(s.find(data)) })
	require.GreaterOrEqual(t, there, 60)
}

// searchFiles searches the data directory and the log.
func (s *secretive) searchFiles(t *testing.T, when string) {
	t.Helper()
	found, files := s.findFiles(t, s.p.Dir)
	require.Empty(t, found, when)
	listed := strings.Join(files, "\n")
	for _, must := range []string{"redis/appendonlydir/", "redis/redis.conf", "jetstream/", "keyset.json", "api-token"} {
		require.Contains(t, listed, must)
	}
	require.Empty(t, s.find([]byte(s.p.log(t))), "in the log %s", when)
	require.Contains(t, s.p.log(t), `"level":"debug"`)
}

// controls proves that the search can find: VNs stand in Redis's files, and so would
// a number that somebody stores there or leaves in a file.
func (s *secretive) controls(t *testing.T, client *redis.Client) {
	t.Helper()
	vns := &hunt{}
	vns.add(t, s.p.getOrder(t, "three").vn(t, "agent"))
	found, _ := vns.findFiles(t, filepath.Join(s.p.Dir, "redis", "appendonlydir"))
	require.NotEmpty(t, found, "VNs are no secret")

	require.NoError(t, client.Set(t.Context(), "planted", s.pool[0][1:], 0).Err())
	await(t, 10*time.Second, "a planted number is found in the AOF", func() bool {
		found, _ := s.findFiles(t, filepath.Join(s.p.Dir, "redis"))
		return len(found) > 0
	})
	require.NoError(t, client.Del(t.Context(), "planted").Err())

	path := filepath.Join(s.p.Dir, "jetstream", "planted")
	require.NoError(t, os.WriteFile(path, []byte("\x00"+national(s.pool[7])+"\x00"), 0o600))
	found, _ = s.findFiles(t, filepath.Join(s.p.Dir, "jetstream"))
	require.NotEmpty(t, found)
	require.NoError(t, os.Remove(path))
}
