package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/sim"
)

// target is callmask as bad input sees it: a live order, and numbers that are hunted
// in the log afterwards.
type target struct {
	*hunt

	p    *process
	a    *marketplace
	live assigned // order "live" of alice and dave in pool rides
}

func newTarget(t *testing.T) *target {
	t.Helper()
	p, a := publicSystem(t, "--refusals-per-minute", "1000")
	s := &target{hunt: newHunt(t, 210), p: p, a: a}
	a.publish(t, "orders.assigned", order{OrderID: "live", Pool: "rides", Parties: []party{{"customer", s.next(t)}, {"agent", s.next(t)}}})
	a.hear(t, 5*time.Second, "vn.assigned", map[string]string{"order_id": "live"})
	s.live = p.getOrder(t, "live")
	return s
}

// unchanged returns a function that fails unless the pools and the orders are as they
// were when unchanged was called.
func (s *target) unchanged(t *testing.T) func() {
	t.Helper()
	before := s.p.pools(t)
	return func() {
		t.Helper()
		require.Equal(t, before, s.p.pools(t))
		require.Equal(t, s.live, s.p.getOrder(t, "live"))
		require.Equal(t, http.StatusNotFound, s.p.api(t, http.MethodGet, "/v1/orders/bad", "").status)
	}
}

// finish looks at what the whole test left behind.
func (s *target) finish(t *testing.T) {
	t.Helper()
	s.p.requireClean(t)
	require.True(t, s.p.ready())
	require.Empty(t, s.find([]byte(s.p.log(t))), "in the log")
}

// problem is what every refusal of the APIs says.
type problem struct {
	Code  string `json:"code"`
	Field string `json:"field"`
}

func requireProblem(t *testing.T, got answer, status int, code, field string) {
	t.Helper()
	require.Equal(t, status, got.status, got.body)
	require.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
	var p problem
	got.decode(t, &p)
	require.Equal(t, problem{code, field}, p, got.body)
}

// parties writes parties as JSON: role, number, role, number and so on.
func parties(list ...string) string {
	var all []party
	for i := 0; i < len(list); i += 2 {
		all = append(all, party{list[i], list[i+1]})
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return string(b)
}

// Number-like texts that are no numbers. The Unicode digits are Arabic-Indic.
const (
	sixteen = "+1202555012345678"
	unicode = "+١٢٠٢٥٥٥٠١٢٣"
)

// badOrder is an order that nobody can have, by event and by API alike.
type badOrder struct {
	name, rest string // the members after the order's id
	status     int    // of the API
	code       string
	field      string
}

func (s *target) badOrders(t *testing.T) []badOrder {
	t.Helper()
	two := parties("customer", s.next(t), "agent", s.next(t))
	nine := make([]string, 0, 18)
	for i := range 9 {
		nine = append(nine, "role-"+strconv.Itoa(i), s.next(t))
	}
	number := func(name, n string) badOrder {
		return badOrder{name, `"pool":"rides","parties":` + parties("customer", s.next(t), "agent", n), 400, "invalid", "parties[1].number"}
	}
	return []badOrder{
		{"no pool", `"parties":` + two, 400, "invalid", "pool"},
		{"unknown pool", `"pool":"nowhere","parties":` + two, 404, "pool_unknown", ""},
		{"a field twice", `"pool":"rides","pool":"rides","parties":` + two, 400, "invalid", "pool"},
		{"no parties", `"pool":"rides"`, 400, "invalid", "parties"},
		{"one party", `"pool":"rides","parties":` + parties("customer", s.next(t)), 400, "invalid", "parties"},
		{"nine parties", `"pool":"rides","parties":` + parties(nine...), 400, "invalid", "parties"},
		{"a role twice", `"pool":"rides","parties":` + parties("agent", s.next(t), "agent", s.next(t)), 400, "invalid", "parties[1].role"},
		{"a role with markup", `"pool":"rides","parties":` + parties("<b>", s.next(t), "agent", s.next(t)), 400, "invalid", "parties[0].role"},
		{"a number twice", twice(s.next(t)), 400, "invalid", "parties[1].number"},
		{"a negative ttl", `"pool":"rides","ttl":"-1m","parties":` + two, 400, "invalid", "ttl"},
		{"a zero ttl", `"pool":"rides","ttl":"0s","parties":` + two, 400, "invalid", "ttl"},
		{"an enormous ttl", `"pool":"rides","ttl":"2000000h","parties":` + two, 400, "invalid", "ttl"},
		{"a ttl beyond all durations", `"pool":"rides","ttl":"99999999999h","parties":` + two, 400, "invalid", "ttl"},
		{"a ttl that is a number", `"pool":"rides","ttl":90,"parties":` + two, 400, "invalid", "ttl"},
		number("anonymous", "anonymous"),
		number("a client", "client:x"),
		number("a plus alone", "+"),
		number("16 digits", sixteen),
		number("Unicode digits", unicode),
		number("no number at all", ""),
		{"a region not allowed", `"pool":"desk","parties":` + parties("customer", s.next(t), "agent", mary), 422, "forbidden", "parties[1].number"},
		{"one of our own numbers", `"pool":"rides","parties":` + parties("customer", s.next(t), "agent", s.live.vn(t, "agent")), 422, "forbidden", "parties[1].number"},
	}
}

func TestBadOrdersAreRefusedByEventAndAPIAlike(t *testing.T) {
	t.Parallel()
	s := newTarget(t)
	for i, c := range s.badOrders(t) {
		t.Run(c.name, func(t *testing.T) {
			defer s.unchanged(t)()
			requireProblem(t, s.p.api(t, http.MethodPut, "/v1/orders/bad", "{"+c.rest+"}"), c.status, c.code, c.field)
			id := "bad-" + strconv.Itoa(i)
			s.a.publish(t, "orders.assigned", `{"order_id":"`+id+`",`+c.rest+"}")
			s.a.hear(t, 10*time.Second, "vn.failed", map[string]string{"order_id": id, "reason": "invalid"})
		})
	}
	t.Run("the same order with other parties", func(t *testing.T) {
		defer s.unchanged(t)()
		body := `"pool":"rides","parties":` + parties("customer", s.next(t), "agent", s.next(t))
		requireProblem(t, s.p.api(t, http.MethodPut, "/v1/orders/live", "{"+body+"}"), 409, "order_conflict", "")
		s.a.publish(t, "orders.assigned", `{"order_id":"live",`+body+"}")
		s.a.hear(t, 10*time.Second, "vn.failed", map[string]string{"order_id": "live", "reason": "order_conflict"})
	})
	s.finish(t)
}

func TestEventsThatNameNoOrderBecomeSealedDeadLetters(t *testing.T) {
	t.Parallel()
	s := newTarget(t)
	for i, c := range []struct{ name, subject, payload, reason string }{
		{"no JSON", "orders.assigned", "order please", "the payload is not valid JSON"},
		{"nothing", "orders.assigned", "", "the payload is not valid JSON"},
		{"half of it", "orders.assigned", `{"order_id":"bad","parties":` + parties("a", s.next(t)), "the payload is not valid JSON"},
		{"a list", "orders.assigned", parties("a", s.next(t)), "the payload is not a JSON object"},
		{"no id", "orders.assigned", `{"pool":"rides"}`, "order_id is missing"},
		{"an id that is a number", "orders.completed", `{"order_id":7}`, "order_id is not a string"},
		{"control characters", "orders.completed", `{"order_id":"a\u0000b"}`, "order_id may hold only"},
		{"XML", "orders.completed", `{"order_id":"<a&b>"}`, "order_id may hold only"},
		{"braces", "orders.cancelled", `{"order_id":"{live}"}`, "order_id may hold only"},
		{"65 characters", "orders.cancelled", `{"order_id":"` + strings.Repeat("x", 65) + `"}`, "order_id is longer than 64 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer s.unchanged(t)()
			s.a.publish(t, c.subject, c.payload)
			await(t, 10*time.Second, "its dead letter", func() bool {
				n := 0
				for _, subject := range []string{"orders.assigned", "orders.completed", "orders.cancelled"} {
					n += len(s.a.messages("dead." + subject))
				}
				return n == i+1
			})
			letters := s.a.messages("dead." + c.subject)
			var letter struct {
				Subject, Consumer, Reason string
				Deliveries                int
			}
			answer{body: string(letters[len(letters)-1].Data)}.decode(t, &letter)
			require.Equal(t, c.subject, letter.Subject)
			require.Equal(t, 1, letter.Deliveries, "trying again helps nobody")
			require.Contains(t, letter.Reason, c.reason)
		})
	}
	s.finish(t)
}

func TestBadRequestsToThePrivateAPIAreRefusedWithTheField(t *testing.T) {
	t.Parallel()
	s := newTarget(t)
	good := `{"pool":"rides","parties":` + parties("customer", s.next(t), "agent", s.next(t)) + "}"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code, field              string
	}{
		{"broken JSON", http.MethodPut, "/v1/orders/bad", good[:len(good)-2], 400, "invalid", "body"},
		{"no object", http.MethodPut, "/v1/orders/bad", "[" + good + "]", 400, "invalid", "body"},
		{"two documents", http.MethodPut, "/v1/orders/bad", good + good, 400, "invalid", "body"},
		{"an unknown field", http.MethodPut, "/v1/orders/bad", `{"pol":"rides"}`, 400, "invalid", "pol"},
		{"over 1 MiB", http.MethodPut, "/v1/orders/bad", strings.Repeat(" ", 1<<20) + good, 413, "too_large", ""},
		{"a control character", http.MethodPut, "/v1/orders/a%00b", good, 400, "invalid", "order_id"},
		{"a line break", http.MethodPut, "/v1/orders/a%0Ab", good, 400, "invalid", "order_id"},
		{"XML", http.MethodPut, "/v1/orders/%3Ca%3E", good, 400, "invalid", "order_id"},
		{"braces", http.MethodPut, "/v1/orders/%7Ba%7D", good, 400, "invalid", "order_id"},
		{"two points", http.MethodPut, "/v1/orders/..", good, 400, "invalid", "order_id"},
		{"a path in it", http.MethodPut, "/v1/orders//" + s.next(t), good, 400, "invalid", "order_id"},
		{"65 characters", http.MethodPut, "/v1/orders/" + strings.Repeat("x", 65), good, 400, "invalid", "order_id"},
		{"extend what is not there", http.MethodPatch, "/v1/orders/bad", `{"ttl":"5m"}`, 404, "order_unknown", ""},
		{"extend for nothing", http.MethodPatch, "/v1/orders/live", `{"ttl":"0s"}`, 400, "invalid", "ttl"},
		{"extend for ever", http.MethodPatch, "/v1/orders/live", `{"ttl":"1000h"}`, 400, "invalid", "ttl"},
		{"end for another reason", http.MethodDelete, "/v1/orders/live?reason=expired", "", 400, "invalid", "reason"},
		{"end for two reasons", http.MethodDelete, "/v1/orders/live?reason=completed&reason=cancelled", "", 400, "invalid", "reason"},
		{"wrong method", http.MethodPost, "/v1/orders/live", good, 405, "method_not_allowed", ""},
		{"wrong path", http.MethodGet, "/v1/order/live", "", 404, "not_found", ""},
		{"import to nowhere", http.MethodPost, "/v1/pools/nowhere/numbers", `{"carrier":"tw","numbers":["+19075550100"]}`, 404, "pool_unknown", ""},
		{"import of nobody", http.MethodPost, "/v1/pools/rides/numbers", `{"carrier":"nobody","numbers":["+19075550100"]}`, 400, "invalid", "carrier"},
		{"import of nothing", http.MethodPost, "/v1/pools/rides/numbers", `{"carrier":"tw","numbers":[]}`, 400, "invalid", "numbers"},
		{"import with one mistake", http.MethodPost, "/v1/pools/rides/numbers", `{"carrier":"tw","numbers":["+19075550100","` + unicode + `"]}`, 400, "invalid", "numbers[1]"},
		{"import of 16 digits", http.MethodPost, "/v1/pools/rides/numbers", `{"carrier":"tw","numbers":["` + sixteen + `"]}`, 400, "invalid", "numbers[0]"},
		{"import of another pool's", http.MethodPost, "/v1/pools/desk/numbers", `{"carrier":"tw","numbers":["` + s.live.vn(t, "agent") + `"]}`, 409, "number_conflict", "numbers[0]"},
		{"take out what is not in", http.MethodDelete, "/v1/pools/rides/numbers/" + s.next(t), "", 404, "number_unknown", ""},
		{"take out what is no number", http.MethodDelete, "/v1/pools/rides/numbers/anonymous", "", 400, "invalid", "vn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer s.unchanged(t)()
			requireProblem(t, s.p.api(t, c.method, c.path, c.body), c.status, c.code, c.field)
		})
	}
	for name, token := range map[string][]string{"no token": nil, "a wrong token": {"Bearer wrong"}, "two tokens": {"Bearer " + s.p.Token, "Bearer x"}} {
		t.Run(name, func(t *testing.T) {
			defer s.unchanged(t)()
			got := s.p.do(t, http.MethodPut, "http://"+s.p.Admin+"/v1/orders/bad", http.Header{"Authorization": token}, strings.NewReader(good))
			requireProblem(t, got, 401, "unauthorized", "")
		})
	}
	s.finish(t)
}

func TestBadCallsAreRefusedWithTheField(t *testing.T) {
	t.Parallel()
	s := newTarget(t)
	called := s.live.vn(t, "agent")
	form := func(name, value string, more ...string) url.Values {
		f := url.Values{"AccountSid": {twilioSID}, "CallSid": {"CA1"}, "From": {s.next(t)}, "To": {called}}
		if f[name] = append([]string{value}, more...); value == "" {
			delete(f, name)
		}
		return f
	}
	for name, c := range map[string]struct {
		form   url.Values
		status int
		field  string // of a 400; of a 200 none: refused as a call
	}{
		"no To": {form("To", ""), 400, "To"}, "two To": {form("To", called, called), 400, "To"},
		"To is a plus": {form("To", "+"), 400, "To"}, "To has 16 digits": {form("To", sixteen), 400, "To"},
		"To in Unicode": {form("To", unicode), 400, "To"}, "To is anonymous": {form("To", "anonymous"), 400, "To"},
		"no From": {form("From", ""), 400, "From"}, "two From": {form("From", alice, dave), 400, "From"},
		"From is a plus": {form("From", "+"), 400, "From"}, "From has 16 digits": {form("From", sixteen), 400, "From"},
		"From in Unicode": {form("From", unicode), 400, "From"}, "From is anonymous": {form("From", "anonymous"), 200, ""},
		"From is a client": {form("From", "client:x"), 200, ""}, "no CallSid": {form("CallSid", ""), 400, "CallSid"},
		"CallSid with a break": {form("CallSid", "CA\n1"), 400, "CallSid"},
		"another account":      {form("AccountSid", "AC00000000000000000000000000000000"), 403, ""},
		"over 64 KiB":          {form("Caller", strings.Repeat("x", 64<<10)), 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer s.unchanged(t)()
			header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			header.Set("X-Twilio-Signature", sim.SignTwilio(twilioToken, twilioPublic+"/v1/carriers/tw/voice", c.form))
			got := s.p.do(t, http.MethodPost, "http://"+s.p.HTTP+"/v1/carriers/tw/voice", header, strings.NewReader(c.form.Encode()))
			switch c.status {
			case 200:
				require.Equal(t, reject, got.body)
			case 400:
				requireProblem(t, got, 400, "invalid", c.field)
			case 403:
				require.Equal(t, http.StatusForbidden, got.status)
				require.Empty(t, got.body)
			default:
				require.Equal(t, c.status, got.status)
			}
		})
	}
	s.badResolves(t, called)
	s.badWebhooks(t, called)
	s.finish(t)
}

// badResolves asks /v1/resolve wrongly.
func (s *target) badResolves(t *testing.T, called string) {
	t.Helper()
	plus := func(n string) string { return url.QueryEscape(n) }
	for _, c := range []struct {
		name, method, query, token string
		status                     int
		code, field                string
	}{
		{"no called", http.MethodGet, "calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"empty called", http.MethodGet, "called=&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"two called", http.MethodGet, "called=" + plus(called) + "&called=" + plus(called) + "&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"called is anonymous", http.MethodGet, "called=anonymous&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"called is a plus", http.MethodGet, "called=%2B&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"called has 16 digits", http.MethodGet, "called=" + plus(sixteen) + "&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"called in Unicode", http.MethodGet, "called=" + plus(unicode) + "&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "called"},
		{"no calling", http.MethodGet, "called=" + plus(called), pbxToken, 400, "invalid", "calling"},
		{"a raw plus", http.MethodGet, "called=" + plus(called) + "&calling=" + s.next(t), pbxToken, 400, "invalid", "calling"},
		{"a client", http.MethodGet, "called=" + plus(called) + "&calling=client:x", pbxToken, 400, "invalid", "calling"},
		{"calling in Unicode", http.MethodGet, "called=" + plus(called) + "&calling=" + plus(unicode), pbxToken, 400, "invalid", "calling"},
		{"a broken escape", http.MethodGet, "called=%2", pbxToken, 400, "invalid", "query"},
		{"no call_id", http.MethodGet, "called=" + plus(called) + "&calling=" + plus(s.next(t)), pbxToken, 400, "invalid", "call_id"},
		{"a wrong token", http.MethodGet, "called=" + plus(called), "wrong-token", 401, "unauthorized", ""},
		{"a wrong method", http.MethodPost, "called=" + plus(called), pbxToken, 405, "method_not_allowed", ""},
	} {
		t.Run("resolve: "+c.name, func(t *testing.T) {
			defer s.unchanged(t)()
			header := http.Header{"Authorization": {"Bearer " + c.token}}
			requireProblem(t, s.p.do(t, c.method, "http://"+s.p.HTTP+"/v1/resolve?"+c.query, header, nil), c.status, c.code, c.field)
		})
	}
}

// badWebhooks are those of the simulated carrier, and of carriers that are not there.
func (s *target) badWebhooks(t *testing.T, called string) {
	t.Helper()
	for _, c := range []struct {
		name, method, carrier, secret, body string
		status                              int
		code, field                         string
	}{
		{"an unknown carrier", http.MethodPost, "nobody", simSecret, `{}`, 404, "not_found", ""},
		{"a softswitch has no webhook", http.MethodPost, "pbx", simSecret, `{}`, 404, "not_found", ""},
		{"a wrong method", http.MethodPut, "sim", simSecret, `{}`, 405, "method_not_allowed", ""},
		{"broken JSON", http.MethodPost, "sim", simSecret, `{"call_id":"1","from":"` + s.next(t), 400, "invalid", "body"},
		{"no from", http.MethodPost, "sim", simSecret, `{"call_id":"1","to":"` + called + `"}`, 400, "invalid", "from"},
		{"two from", http.MethodPost, "sim", simSecret, `{"from":"` + s.next(t) + `","from":"` + s.next(t) + `"}`, 400, "invalid", "from"},
		{"a wrong secret", http.MethodPost, "sim", "another-secret", `{"call_id":"1","from":"` + s.next(t) + `","to":"` + called + `"}`, 403, "", ""},
	} {
		t.Run("webhook: "+c.name, func(t *testing.T) {
			defer s.unchanged(t)()
			header := http.Header{sim.SignatureHeader: {sim.Sign(c.secret, time.Now(), []byte(c.body))}}
			got := s.p.do(t, c.method, "http://"+s.p.HTTP+"/v1/carriers/"+c.carrier+"/voice", header, strings.NewReader(c.body))
			if c.status == http.StatusForbidden {
				require.Equal(t, http.StatusForbidden, got.status)
				require.Empty(t, got.body)
				return
			}
			requireProblem(t, got, c.status, c.code, c.field)
		})
	}
}
