package allocator

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// badOrders are the pool, ttl and parties of orders that must be refused, as an
// event or a request has them, and the field that is at fault. With forbidden the
// value is well formed and policy refuses it.
var badOrders = []struct {
	name, fields, field string
	forbidden           bool
}{
	{"no pool", `"parties":` + twoParties, "pool", false},
	{"pool twice", `"pool":"jakarta","pool":"jakarta","parties":` + twoParties, "pool", false},
	{"ttl twice", `"pool":"jakarta","ttl":"1h","ttl":"1h","parties":` + twoParties, "ttl", false},
	{"parties twice", `"pool":"jakarta","parties":` + twoParties + `,"parties":` + twoParties, "parties", false},
	{"a number given twice", parties(party("customer", customer), `{"role":"agent","number":"`+agent+`","number":"`+agent+`"}`), "parties[1].number", false},
	{"a role given twice", parties(party("customer", customer), `{"role":"agent","role":"b","number":"`+agent+`"}`), "parties[1].role", false},
	{"pool null", `"pool":null,"parties":` + twoParties, "pool", false},
	{"pool a number", `"pool":7,"parties":` + twoParties, "pool", false},
	{"no parties", `"pool":"jakarta"`, "parties", false},
	{"parties a string", `"pool":"jakarta","parties":"customer"`, "parties", false},
	{"parties an object", `"pool":"jakarta","parties":{}`, "parties", false},
	{"1 party", parties(party("customer", customer)), "parties", false},
	{"9 parties", parties(nineParties()...), "parties", false},
	{"a party is a string", parties(party("customer", customer), `"agent"`), "parties[1]", false},
	{"a party is null", parties(party("customer", customer), `null`), "parties[1]", false},
	{"no role", parties(party("customer", customer), `{"number":"`+agent+`"}`), "parties[1].role", false},
	{"role with spaces", parties(party("customer", customer), party("an agent", agent)), "parties[1].role", false},
	{"role in capitals", parties(party("Customer", customer), party("agent", agent)), "parties[0].role", false},
	{"role too long", parties(party("customer", customer), party(strings.Repeat("a", 33), agent)), "parties[1].role", false},
	{"role with markup", parties(party("customer", customer), party("<b>", agent)), "parties[1].role", false},
	{"twice the same role", parties(party("agent", customer), party("agent", agent)), "parties[1].role", false},
	{"no number", parties(party("customer", customer), `{"role":"agent"}`), "parties[1].number", false},
	{"number null", parties(party("customer", customer), `{"role":"agent","number":null}`), "parties[1].number", false},
	{"number a number", parties(party("customer", customer), `{"role":"agent","number":12025550102}`), "parties[1].number", false},
	{"twice the same number", parties(party("customer", customer), party("agent", customer)), "parties[1].number", false},
	{"twice the same number in two forms", parties(party("customer", customer), party("agent", "(202) 555-0101")), "parties[1].number", false},
	{"anonymous", parties(party("customer", customer), party("agent", "anonymous")), "parties[1].number", false},
	{"client:x", parties(party("customer", customer), party("agent", "client:x")), "parties[1].number", false},
	{"+", parties(party("customer", customer), party("agent", "+")), "parties[1].number", false},
	{"16 digits", parties(party("customer", customer), party("agent", "+1202555010212345")), "parties[1].number", false},
	{"too short", parties(party("customer", customer), party("agent", "+120255")), "parties[1].number", false},
	{"an extension", parties(party("customer", customer), party("agent", agent+";ext=1")), "parties[1].number", false},
	{"Arabic digits", parties(party("customer", customer), party("agent", "+١٢٠٢٥٥٥٠١٠٢")), "parties[1].number", false},
	{"full-width digits", parties(party("customer", customer), party("agent", "＋１２０２５５５０１０２")), "parties[1].number", false},
	{"letters", parties(party("customer", customer), party("agent", "+1202CALLNOW")), "parties[1].number", false},
	{"a line break", parties(party("customer", customer), party("agent", agent+`\n`)), "parties[1].number", false},
	{"negative ttl", `"ttl":"-5m",` + good, "ttl", false},
	{"zero ttl", `"ttl":"0s",` + good, "ttl", false},
	{"too short a ttl", `"ttl":"10us",` + good, "ttl", false},
	{"enormous ttl", `"ttl":"24h0m1s",` + good, "ttl", false},
	{"a ttl beyond all bounds", `"ttl":"99999999999999h",` + good, "ttl", false},
	{"ttl in words", `"ttl":"two hours",` + good, "ttl", false},
	{"ttl without unit", `"ttl":"3600",` + good, "ttl", false},
	{"ttl a number", `"ttl":3600,` + good, "ttl", false},
	{"a region not allowed", parties(party("customer", customer), party("agent", "+628115550101")), "parties[1].number", true},
	{"a number of no country", parties(party("customer", customer), party("agent", "+80012345678")), "parties[1].number", true},
	{"one of our own numbers", parties(party("customer", customer), party("agent", firstVN.E164())), "parties[1].number", true},
	{"one of our own numbers, national", parties(party("customer", customer), party("agent", "(202) 555-0150")), "parties[1].number", true},
}

const (
	twoParties = `[{"role":"customer","number":"` + customer + `"},{"role":"agent","number":"` + agent + `"}]`
	good       = `"pool":"jakarta","parties":` + twoParties
)

func party(role, number string) string {
	return `{"role":"` + role + `","number":"` + number + `"}`
}

func parties(list ...string) string {
	return `"pool":"jakarta","parties":[` + strings.Join(list, ",") + `]`
}

func nineParties() (list []string) {
	for i := range 9 {
		n := string(rune('1' + i))
		list = append(list, party("role-"+n, "+1202555011"+n))
	}
	return list
}

// A bad event is answered by vn.failed once, is done with, and changes nothing.
func TestABadOrderEventFailsAsInvalid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	_, _, err := w.Assign(t.Context(), order("o-live"))
	require.NoError(t, err)
	before := w.snapshot(t)
	for _, id := range []string{"o-1", "o-live"} { // of an unknown order, and of one with a live assignment
		for _, c := range badOrders {
			w.trace.take()
			w.bus.failed, w.bus.seen = nil, map[string]bool{}
			got := w.onAssigned(t.Context(), message("assigned", `{"order_id":"`+id+`",`+c.fields+`}`))
			require.Equal(t, events.Done(), got, c.name)
			require.Equal(t, []events.VNFailed{{OrderID: id, Reason: "invalid"}}, w.bus.failed, c.name)
			require.Equal(t, []string{"vn.failed"}, w.trace.take(), c.name)
			require.Contains(t, w.logs.String(), `"error":"`+c.field+" ", c.name)
		}
	}
	require.Equal(t, events.Done(), w.onAssigned(t.Context(),
		message("assigned", `{"order_id":"o-1","pool":"nowhere","parties":`+twoParties+`}`)))
	require.Equal(t, before, w.snapshot(t))
	noNumber(t, w.logs.String())
	require.NotContains(t, w.logs.String(), firstVN.Digits())
}

// What has no order to answer for becomes a dead letter, whose reason repeats nothing.
func TestAnEventWithoutAUsableOrderIDIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	before := w.snapshot(t)
	f := func(payload, reason string) {
		t.Helper()
		require.Equal(t, events.Dead(reason), w.onAssigned(t.Context(), message("assigned", payload)), payload)
		require.Equal(t, events.Dead(reason), w.onEnded(t.Context(), message("completed", payload)), payload)
		require.Equal(t, events.Dead(reason), w.onEnded(t.Context(), message("cancelled", payload)), payload)
	}
	const notJSON, notObject = "the payload is not valid JSON", "the payload is not a JSON object"
	const odd = "order_id may hold only A-Z a-z 0-9 . _ : -"
	f("", notJSON)
	f("hello", notJSON)
	f("\x00\xff", notJSON)
	f(`{"order_id":"o-1"`, notJSON)
	f(`{"order_id":"o-1"} {}`, notJSON)
	f(`{"order_id":"o-1",}`, notJSON)
	f(strings.Repeat("[", 20_000), notJSON)
	f(`null`, notObject)
	f(`[]`, notObject)
	f(`"o-1"`, notObject)
	f(`12025550101`, notObject)
	f(`{}`, "order_id is missing")
	f(`{"order_id":null}`, "order_id is missing")
	f(`{"order_id":""}`, "order_id is missing")
	f(`{"ORDER_ID":"o-1"}`, "order_id is missing")
	f(`{"order_id":7}`, "order_id is not a string")
	f(`{"order_id":["o-1"]}`, "order_id is not a string")
	f(`{"order_id":"."}`, "order_id must not be . or ..")
	f(`{"order_id":".."}`, "order_id must not be . or ..")
	f(`{"order_id":"`+strings.Repeat("o", 65)+`"}`, "order_id is longer than 64 characters")
	f(`{"order_id":"+12025550101"}`, odd)
	f(`{"order_id":"{o-1}"}`, odd)
	f(`{"order_id":"<o-1/>"}`, odd)
	f(`{"order_id":"o 1"}`, odd)
	f(`{"order_id":"o-1","order_id":"o-1"}`, "order_id is given twice")
	f(`{"order_id":"o\u0000"}`, odd)
	f(`{"order_id":"o\n"}`, odd)
	f("{\"order_id\":\"o\xff\"}", odd)
	f(`{"order_id":"øre"}`, odd)
	require.Equal(t, before, w.snapshot(t))
	require.Empty(t, w.trace.take())
	noNumber(t, w.logs.String())
}

// Senders may add fields in a later version.
func TestAnEventMayHaveMoreFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned",
		`{"version":2,"order_id":"o-1","pool":"jakarta","ttl":"","parties":[`+
			`{"role":"customer","number":"(202) 555-0101","name":"A"},{"role":"agent","number":"+44 7700 900123"}]}`)))
	require.Len(t, w.bus.assigned, 1)
	require.Equal(t, "o-1", w.bus.assigned[0].OrderID)
	require.WithinDuration(t, time.Now().Add(time.Hour), w.bus.assigned[0].ExpiresAt, time.Minute, "an empty ttl is the pool's default")
}

func TestTheSameOrderWithOtherPartiesFailsAndKeepsItsAssignment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned", assignedEvent)))
	before := w.snapshot(t)
	for _, fields := range []string{
		parties(party("customer", customer), party("agent", "+12025550103")),
		parties(party("customer", customer), party("courier", agent)),
		parties(party("customer", agent), party("agent", customer)),
		parties(party("customer", customer), party("agent", agent), party("merchant", "+12025550103")),
	} {
		w.bus.failed, w.bus.seen = nil, map[string]bool{}
		require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned", `{"order_id":"o-1",`+fields+`}`)))
		require.Equal(t, []events.VNFailed{{OrderID: "o-1", Reason: "order_conflict"}}, w.bus.failed)
	}
	require.Equal(t, before, w.snapshot(t))
	noNumber(t, w.logs.String())
}

func TestAnOrderWaitsForAFreeNumberUntilAssignWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := func(since, again time.Duration) {
		t.Helper()
		m := message("assigned", assignedEvent)
		m.Published = time.Now().Add(-since)
		r := w.onAssigned(t.Context(), m)
		require.Equal(t, "wait", r.String())
		require.Empty(t, w.bus.failed)
		require.InDelta(t, again, waitWithin(m, w.pools["jakarta"].AssignWait), float64(250*time.Millisecond))
	}
	f(0, waitLeast)
	f(time.Second, 500*time.Millisecond)
	f(8*time.Second, 4*time.Second)
	f(30*time.Second, waitMost)
	f(58*time.Second, 2*time.Second)

	late := message("assigned", assignedEvent)
	late.Published = time.Now().Add(-time.Minute)
	w.trace.failOnce("before", "vn.failed", vn.ErrUnavailable)
	require.Equal(t, "wait", w.onAssigned(t.Context(), late).String(), "the failure must be told before the event is done with")
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), late))
	require.Equal(t, []events.VNFailed{{OrderID: "o-1", Reason: "pool_exhausted"}}, w.bus.failed)

	_, err := w.Import(t.Context(), "jakarta", "sim", vns(2))
	require.NoError(t, err)
	require.Equal(t, events.Done(), w.onAssigned(t.Context(), message("assigned", assignedEvent)))
	require.Len(t, w.bus.assigned, 1)
}

func TestEndsNameTheirReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	for event, reason := range map[string]vn.EndReason{"completed": vn.Completed, "cancelled": vn.Cancelled} {
		_, _, err := w.Assign(t.Context(), order("o-"+event))
		require.NoError(t, err)
		require.Equal(t, events.Done(), w.onEnded(t.Context(), message(event, `{"order_id":"o-`+event+`","more":1}`)))
		require.Contains(t, w.bus.released, events.VNReleased{OrderID: "o-" + event, Reason: string(reason)})
	}
}
