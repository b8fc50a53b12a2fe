package allocator

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/internal/testkit/contract"
	"github.com/callmask/callmask/vn"
)

const (
	orderBody   = `{` + good + `}`
	unlikePool  = `{"pool":"nowhere","parties":` + twoParties + `}`
	numbersPath = "/v1/pools/jakarta/numbers"
)

// client sends requests to the API and notes which statuses each route gave.
type client struct {
	*world

	t       *testing.T
	handler http.Handler
	seen    *statuses
	api     *contract.API
}

type statuses struct {
	mu   sync.Mutex
	seen map[string]map[int]bool
}

func (s *statuses) note(route string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[route] == nil {
		s.seen[route] = map[int]bool{}
	}
	s.seen[route][status] = true
}

func newClient(t *testing.T, numbers int, pools ...Pool) *client {
	t.Helper()
	return clientOf(t, newWorld(t, numbers, pools...))
}

func clientOf(t *testing.T, w *world) *client {
	t.Helper()
	return &client{world: w, t: t, handler: w.API(token), seen: &statuses{seen: map[string]map[int]bool{}}, api: contract.OpenAPI(t)}
}

type answer struct {
	*httptest.ResponseRecorder

	t *testing.T
}

// send sends a request with the right token; header holds pairs that replace it.
func (c *client) send(method, path, body string, header ...string) answer {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	_, pattern := c.handler.(*api).mux.Handler(r)
	if !strings.Contains(pattern, " ") {
		pattern = method + " " + pattern
	}
	c.seen.note(pattern, w.Code)
	noNumber(c.t, w.Body.String())
	noNumber(c.t, c.logs.String())
	require.Equal(c.t, "no-store", w.Header().Get("Cache-Control"))
	c.api.Check(c.t, r, body, w.Result(), w.Body.Bytes())
	return answer{w, c.t}
}

// is requires a status and a JSON body; an empty body is "".
func (a answer) is(status int, body string) {
	a.t.Helper()
	require.Equal(a.t, status, a.Code, a.Body.String())
	if body == "" {
		require.Empty(a.t, a.Body.String())
		return
	}
	require.JSONEq(a.t, body, a.Body.String())
	require.Equal(a.t, "application/json", a.Header().Get("Content-Type"))
}

// refuses requires a problem with this status, code and field.
func (a answer) refuses(status int, code, field string) problem {
	a.t.Helper()
	var p problem
	require.Equal(a.t, status, a.Code, a.Body.String())
	require.Equal(a.t, "application/problem+json", a.Header().Get("Content-Type"))
	require.NoError(a.t, json.Unmarshal(a.Body.Bytes(), &p))
	require.Equal(a.t, []any{status, code, field, http.StatusText(status)}, []any{p.Status, p.Code, p.Field, p.Title}, p.Detail)
	require.NotEmpty(a.t, p.Detail)
	return p
}

// shown is the body of an active order with the VNs it has.
func (c *client) shown(id string) string {
	c.t.Helper()
	o, err := c.real.Order(c.t.Context(), id)
	require.NoError(c.t, err)
	return fmt.Sprintf(`{"order_id":%q,"pool":"jakarta","state":"active","expires_at":%q,"parties":[`+
		`{"role":"customer","vn":%q},{"role":"agent","vn":%q}]}`,
		id, o.ExpiresAt.Format(time.RFC3339Nano), o.Parties[0].VN.E164(), o.Parties[1].VN.E164())
}

// One story through every row of the table and every status of each, which at the
// end must be exactly what routes declares.
func TestEveryRouteGivesExactlyItsStatuses(t *testing.T) {
	t.Parallel()
	c := newClient(t, 3)
	const o1, gone = "/v1/orders/o-1", "/v1/orders/o-gone"

	c.send("GET", o1, "").refuses(404, "order_unknown", "")
	first := c.send("PUT", o1, orderBody)
	first.is(201, c.shown("o-1"))
	require.Equal(t, o1, first.Header().Get("Location"))
	c.send("PUT", o1, orderBody).is(200, c.shown("o-1"))
	c.send("PUT", o1, `{"ttl":"2h",`+good+`}`).is(200, first.Body.String()) // another ttl is ignored
	c.send("GET", o1, "").is(200, first.Body.String())
	c.send("PUT", o1, `{`+parties(party("customer", customer), party("agent", "+12025550103"))+`}`).refuses(409, "order_conflict", "")
	c.send("PUT", "/v1/orders/o-2", unlikePool).refuses(404, "pool_unknown", "")
	c.send("PUT", "/v1/orders/o-2", `{"pool":7}`).refuses(400, "invalid", "pool")
	c.send("PUT", "/v1/orders/o-2", `{`+parties(party("a", customer), party("b", firstVN.E164()))+`}`).
		refuses(422, "forbidden", "parties[1].number")
	exhausted := c.send("PUT", "/v1/orders/o-2", orderBody)
	exhausted.refuses(503, "pool_exhausted", "")
	require.Equal(t, "5", exhausted.Header().Get("Retry-After"))

	c.send("PATCH", o1, `{"ttl":"90m"}`).is(200, c.shown("o-1"))
	require.NotEqual(t, first.Body.String(), c.shown("o-1"))
	c.send("PATCH", "/v1/orders/o-2", `{"ttl":"90m"}`).refuses(404, "order_unknown", "")
	c.send("PATCH", o1, `{"ttl":"1000h"}`).refuses(400, "invalid", "ttl")

	c.send("DELETE", o1+"?reason=lost", "").refuses(400, "invalid", "reason")
	c.send("DELETE", o1, "").is(204, "")
	c.send("DELETE", o1+"?reason=cancelled", "").is(204, "")
	c.send("GET", o1, "").is(200, `{"order_id":"o-1","pool":"jakarta","state":"ended","reason":"completed"}`)
	c.send("PUT", o1, orderBody).refuses(409, "order_ended", "")
	c.send("PATCH", o1, `{"ttl":"90m"}`).refuses(409, "order_ended", "")
	c.send("DELETE", gone+"?reason=cancelled", "").is(204, "")
	c.send("GET", gone, "").is(200, `{"order_id":"o-gone","state":"ended","reason":"cancelled"}`)
	c.send("PUT", gone, orderBody).refuses(409, "order_ended", "")
	c.send("GET", "/v1/orders/%7B%7D", "").refuses(400, "invalid", "order_id")

	free := (firstVN + 20).E164()
	c.send("POST", numbersPath, `{"numbers":["`+free+`","`+firstVN.E164()+`"],"carrier":"sim"}`).is(200, `{"added":1,"present":1}`)
	c.send("POST", numbersPath, `{"numbers":["`+free+`"],"carrier":"twilio"}`).refuses(409, "number_conflict", "numbers[0]")
	c.send("POST", numbersPath, `{"numbers":["`+free+`"],"carrier":"vonage"}`).refuses(400, "invalid", "carrier")
	c.send("POST", "/v1/pools/nowhere/numbers", `{"numbers":["`+free+`"],"carrier":"sim"}`).refuses(404, "pool_unknown", "")
	var pools []PoolStock
	require.NoError(t, json.Unmarshal(c.send("GET", "/v1/pools", "").Body.Bytes(), &pools))
	require.Equal(t, c.stock(t), pools[0])
	require.Equal(t, 4, pools[0].Total)
	c.send("DELETE", numbersPath+"/"+free, "").is(202, `{"left":true}`)
	c.send("DELETE", numbersPath+"/"+free, "").refuses(404, "number_unknown", "")
	c.send("DELETE", numbersPath+"/anonymous", "").refuses(400, "invalid", "vn")
	c.send("GET", "/openapi.json", "").is(200, privateapi.OpenAPI)

	long := `{"pool":"` + strings.Repeat("x", MaxBody) + `"}`
	for route, fault := range map[string]string{
		"PUT /v1/orders/o-3": "allocate", "GET /v1/orders/o-3": "order", "PATCH /v1/orders/o-3": "order",
		"DELETE /v1/orders/o-3": "release", "GET /v1/pools": "stock", "POST " + numbersPath: "refill",
		"DELETE " + numbersPath + "/" + firstVN.Digits()[1:]: "drain",
	} {
		method, path, _ := strings.Cut(route, " ")
		body := map[string]string{
			"PUT": orderBody, "PATCH": `{"ttl":"1h"}`, "POST": `{"numbers":["` + firstVN.E164() + `"],"carrier":"sim"}`,
		}[method]
		c.trace.failOnce("before", fault, vn.ErrUnavailable)
		away := c.send(method, path, body)
		away.refuses(503, "unavailable", "")
		require.Equal(t, "1", away.Header().Get("Retry-After"), route)
		c.trace.failOnce("before", fault, errFault)
		c.send(method, path, body).refuses(500, "internal", "")
		if body != "" {
			c.send(method, path, long).refuses(413, "too_large", "")
			c.send(method, path, body, "Content-Type", "text/plain").refuses(415, "unsupported_media_type", "")
		}
	}
	for _, r := range routes(c.config) {
		path := strings.NewReplacer("{id}", "o-1", "{name}", "jakarta", "{vn}", free).Replace(r.path)
		refused := c.send(r.method, path, "", "Authorization", "Bearer x")
		refused.refuses(401, "unauthorized", "")
		require.Equal(t, `Bearer realm="callmask"`, refused.Header().Get("WWW-Authenticate"))
		wrong := c.send("TRACE", path, "")
		wrong.refuses(405, "method_not_allowed", "")
		require.Contains(t, strings.Split(wrong.Header().Get("Allow"), ", "), r.method)
	}

	declared := map[string]map[int]bool{}
	for _, r := range routes(c.config) {
		route := r.method + " " + r.path
		declared[route] = map[int]bool{}
		for _, s := range slices.Concat(r.statuses, anyStatuses) {
			declared[route][s] = true
		}
		// 405 is given by the path, whatever the method; 500 only where Redis is asked.
		delete(declared[route], 405)
		if r.path == "/openapi.json" {
			delete(declared[route], 500)
		}
	}
	maps.DeleteFunc(c.seen.seen, func(route string, _ map[int]bool) bool { return strings.HasPrefix(route, "TRACE ") })
	require.Equal(t, declared, c.seen.seen)
}

// The document is written by hand: this holds it against the routes.
func TestOpenAPIDescribesEveryRouteAndStatus(t *testing.T) {
	t.Parallel()
	served := map[string][]int{}
	for _, r := range routes(config()) {
		served[r.method+" "+r.path] = slices.Sorted(slices.Values(slices.Concat(r.statuses, anyStatuses)))
	}
	require.Equal(t, served, testkit.Operations(t, privateapi.OpenAPI, "allocator"))
	want := []string{"invalid", "forbidden", "number_conflict", "internal"}
	for _, k := range known {
		want = append(want, k.Code)
	}
	require.ElementsMatch(t, want, testkit.Codes(t, privateapi.OpenAPI, "Problem"))
}

func TestOnlyTheTokenOpensTheAPI(t *testing.T) {
	t.Parallel()
	c := newClient(t, 2)
	before := c.snapshot(t)
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer x", token, "Basic " + token, "Bearer " + token + "x", "Bearer " + token[:5]} {
		c.send("PUT", "/v1/orders/o-1", orderBody, "Authorization", header).refuses(401, "unauthorized", "")
		c.send("GET", "/no/such/path", "", "Authorization", header).refuses(401, "unauthorized", "")
	}
	require.Equal(t, before, c.snapshot(t))
	require.Empty(t, c.trace.take())
	require.Equal(t, 200, c.send("GET", "/v1/pools", "", "Authorization", "bearer "+token).Code)
	open := &client{world: c.world, t: t, handler: c.API(""), seen: c.seen, api: c.api}
	open.send("GET", "/v1/pools", "", "Authorization", "Bearer ").refuses(401, "unauthorized", "")
	twice := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/pools", nil)
	twice.Header["Authorization"] = []string{"Bearer x", "Bearer " + token}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, twice)
	require.Equal(t, 401, w.Code)
}

func TestABadOrderRequestNamesItsFieldAndChangesNothing(t *testing.T) {
	t.Parallel()
	c := newClient(t, 4)
	before := c.snapshot(t)
	f := func(name, path, body string, status int, code, field string) {
		t.Helper()
		t.Log(name)
		c.send("PUT", path, body).refuses(status, code, field)
	}
	for _, b := range badOrders {
		status, code := 400, "invalid"
		if b.forbidden {
			status, code = 422, "forbidden"
		}
		f(b.name, "/v1/orders/o-1", "{"+b.fields+"}", status, code, b.field)
	}
	for name, body := range map[string]string{
		"empty": "", "words": "hello", "cut off": orderBody[:40], "two documents": orderBody + "{}",
		"an array": "[]", "null": "null", "a string": `"o-1"`, "binary": "\x00\xff", "XML": "<order/>",
	} {
		f(name, "/v1/orders/o-1", body, 400, "invalid", "body")
	}
	f("an unknown field", "/v1/orders/o-1", `{"notes":"x",`+good+`}`, 400, "invalid", "notes")
	f("another case", "/v1/orders/o-1", `{"Pool":"jakarta",`+good+`}`, 400, "invalid", "Pool")
	f("the id in the body", "/v1/orders/o-1", `{"order_id":"o-1",`+good+`}`, 400, "invalid", "order_id")
	f("an unknown field that is a number", "/v1/orders/o-1", `{"`+customer+`":1,`+good+`}`, 400, "invalid", "(another field)")
	f("an unknown field of a party", "/v1/orders/o-1",
		"{"+parties(party("customer", customer), `{"role":"agent","number":"`+agent+`","vn":"x"}`)+"}", 400, "invalid", "parties[1].vn")
	for _, id := range []string{
		"a%2Fb", "%7Bo%7D", "%3Cb%3E", "o%00", "o%0A", "o%20o", "%2B12025550101", strings.Repeat("o", 65), "%2e", "%2E%2e", "%C3%B8", "a%26b", ".", "..", "",
	} {
		f("order id "+id, "/v1/orders/"+id, orderBody, 400, "invalid", "order_id")
		c.send("GET", "/v1/orders/"+id, "").refuses(400, "invalid", "order_id")
		c.send("PATCH", "/v1/orders/"+id, `{"ttl":"1h"}`).refuses(400, "invalid", "order_id")
		c.send("DELETE", "/v1/orders/"+id, "").refuses(400, "invalid", "order_id")
	}
	f("more path", "/v1/orders/o-1/x", orderBody, 404, "not_found", "")
	f("no such path", "/v2/orders/o-1", orderBody, 404, "not_found", "")
	f("an odd path", "/v1//pools", orderBody, 404, "not_found", "")
	require.Equal(t, before, c.snapshot(t))
	require.Empty(t, c.trace.take())
}

func TestABadPatchOrDeleteChangesNothing(t *testing.T) {
	t.Parallel()
	c := newClient(t, 4)
	c.send("PUT", "/v1/orders/o-1", orderBody)
	before := c.snapshot(t)
	f := func(body, field string) {
		t.Helper()
		c.send("PATCH", "/v1/orders/o-1", body).refuses(400, "invalid", field)
	}
	f("", "body")
	f("[]", "body")
	f("{}", "ttl")
	f(`{"ttl":null}`, "ttl")
	f(`{"ttl":""}`, "ttl")
	f(`{"ttl":60}`, "ttl")
	f(`{"ttl":"-1h"}`, "ttl")
	f(`{"ttl":"0"}`, "ttl")
	f(`{"ttl":"1ns"}`, "ttl")
	f(`{"ttl":"24h1s"}`, "ttl")
	f(`{"ttl":"soon"}`, "ttl")
	f(`{"ttl":"1h","pool":"jakarta"}`, "pool")
	c.send("PATCH", "/v1/orders/o-1", `{"ttl":"1h"}`, "Content-Type", "application/json; charset=latin1").
		refuses(415, "unsupported_media_type", "")
	c.send("DELETE", "/v1/orders/o-1?reason=expired", "").refuses(400, "invalid", "reason")
	c.send("DELETE", "/v1/orders/o-1?reason=", "").refuses(400, "invalid", "reason")
	c.send("DELETE", "/v1/orders/o-1?reason=completed&reason=cancelled", "").refuses(400, "invalid", "reason")
	c.send("DELETE", "/v1/orders/o-1?reason=%zz", "").refuses(400, "invalid", "query")
	c.send("DELETE", "/v1/orders/o-1?reasn=cancelled", "").refuses(400, "invalid", "reasn")
	require.Equal(t, before, c.snapshot(t))
	c.send("PATCH", "/v1/orders/o-1", `{"ttl":"1h"}`, "Content-Type", "application/json; charset=UTF-8").is(200, c.shown("o-1"))
}

func TestAnExpiredOrderIsEndedForEveryRequest(t *testing.T) {
	t.Parallel()
	c := newClient(t, 4)
	const path, ended = "/v1/orders/o-1", `{"order_id":"o-1","pool":"jakarta","state":"ended","reason":"expired"}`
	require.Equal(t, 201, c.send("PUT", path, `{"ttl":"300ms",`+good+`}`).Code)
	require.Eventually(t, func() bool {
		return strings.Contains(c.send("GET", path, "").Body.String(), `"ended"`)
	}, 5*time.Second, 5*time.Millisecond)
	c.send("GET", path, "").is(200, ended)
	c.send("PUT", path, orderBody).refuses(409, "order_ended", "")
	c.send("PATCH", path, `{"ttl":"1h"}`).refuses(409, "order_ended", "")
	c.send("DELETE", path+"?reason=cancelled", "").is(204, "")
	c.send("GET", path, "").is(200, ended)
	require.Equal(t, []events.VNReleased{{OrderID: "o-1", Reason: "expired"}}, c.bus.released)
}
