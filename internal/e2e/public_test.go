package e2e

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/sim"
)

const (
	pbxToken  = "pbx-token-of-the-tests"
	simSecret = "sim-secret-of-the-tests"
)

// publicConfig has a pool of each sort: imported numbers of a carrier with webhooks,
// imported numbers of a softswitch, and numbers bought from the simulated carrier.
const publicConfig = `
pools:
  - {name: rides, region: US, cooldown: 1s, ttl: {default: 10m, max: 1h}, assign_wait: 5s, destinations: [US, GB]}
  - {name: desk, region: US, cooldown: 1s, ttl: {default: 10m, max: 1h}, assign_wait: 5s}
  - {name: bought, region: US, carriers: [sim], low_water: 4, target: 6, max: 10, cooldown: 1s, ttl: {default: 10m, max: 1h}}
carriers:
  - {name: tw, kind: twilio, account_sid: ` + twilioSID + `, auth_tokens: [` + twilioToken + `], public_url: "` + twilioPublic + `"}
  - {name: pbx, kind: softswitch, tokens: [` + pbxToken + `]}
  - {name: sim, kind: sim, listen: "127.0.0.1:0", secrets: [` + simSecret + `]}
`

// Numbers of parties. No pool has any of their area codes.
const (
	alice    = "+12025550123"
	dave     = "+12025550145"
	mary     = "+447700900123"
	stranger = "+12025550199"
)

// publicSystem is a running callmask whose pools are filled, and an app beside it.
func publicSystem(t *testing.T, flags ...string) (*process, *marketplace) {
	t.Helper()
	p := startAll(t, publicConfig, flags...)
	p.importNumbers(t, "rides", "tw", fictional(t, 100, 8))
	p.importNumbers(t, "desk", "pbx", fictional(t, 101, 4))
	await(t, 15*time.Second, "pool bought is filled", func() bool { return p.pools(t)["bought"].Free == 6 })
	return p, connect(t, p.NATS, "vn.>", "calls.>", "dead.>")
}

// The story of the README with nothing but a NATS client and HTTP.
func TestPartiesOfAnOrderReachEachOtherWithPublicToolsOnly(t *testing.T) {
	p, a := publicSystem(t)
	before := p.pools(t)

	published := time.Now()
	a.publish(t, "orders.assigned", order{OrderID: "order-1", Pool: "rides", Parties: []party{
		{"customer", alice}, {"agent", "(202) 555-0145"}, {"merchant", mary},
	}})
	a.hear(t, time.Second, "vn.assigned", map[string]string{"order_id": "order-1"})
	t.Logf("vn.assigned %s after the order", time.Since(published))

	o := p.getOrder(t, "order-1")
	require.Equal(t, "active", o.State)
	require.WithinDuration(t, time.Now().Add(10*time.Minute), o.ExpiresAt, 10*time.Second)
	var announced assigned
	answer{body: string(a.messages("vn.assigned")[0].Data)}.decode(t, &announced)
	announced.State = "active"
	require.Equal(t, announced, o, "the event and the API tell the same")

	numbers := map[string]string{"customer": alice, "agent": dave, "merchant": mary}
	vns := map[string]string{}
	for role := range numbers {
		vns[role] = o.vn(t, role)
	}
	for from, calling := range numbers {
		for to, destination := range numbers {
			if from == to {
				continue
			}
			got := p.twilioCall(t, "tw", "CA-"+from+"-"+to, calling, vns[to])
			require.Equal(t, http.StatusOK, got.status)
			require.Equal(t, "text/xml", got.header.Get("Content-Type"))
			require.Equal(t, dial("order-1", vns[from], destination), got.body, "%s calls %s", from, to)
			a.hear(t, 5*time.Second, "calls.decided", map[string]string{
				"carrier": "tw", "call_id": "CA-" + from + "-" + to, "vn": vns[to], "order_id": "order-1", "reason": "connected",
			})
		}
	}
	p.tellTwilio(t, "tw", "CA-customer-agent", "order-1", "completed")
	a.hear(t, 5*time.Second, "calls.status", map[string]string{
		"carrier": "tw", "call_id": "CA-customer-agent", "order_id": "order-1", "leg": "callee", "status": "completed",
	})
	requireRefusals(t, p, a, vns)
	requireOtherCarriersApart(t, p, a, vns)

	a.publish(t, "orders.completed", `{"order_id":"order-1"}`)
	a.hear(t, 5*time.Second, "vn.released", map[string]string{"order_id": "order-1", "reason": "completed"})
	requireRefused(t, p, a, "CA-late", alice, vns["agent"], "order_ended")
	requireRefused(t, p, a, "CA-late-stranger", stranger, vns["agent"], "number_not_assigned")
	require.Equal(t, resolved{Action: "reject", Reason: "order_ended", SIPCode: 410, SIPReason: "Gone"},
		p.resolve(t, p.Token, vns["customer"], dave))
	require.Equal(t, resolved{Action: "reject", Reason: "number_not_assigned", SIPCode: 404, SIPReason: "Not Found"},
		p.resolve(t, p.Token, vns["customer"], stranger))
	ended := p.getOrder(t, "order-1")
	require.Equal(t, "ended completed", ended.State+" "+ended.Reason)
	require.Empty(t, ended.Parties)

	for _, id := range []string{"order-2", "order-3"} {
		require.Equal(t, http.StatusNoContent, p.api(t, http.MethodDelete, "/v1/orders/"+id+"?reason=cancelled", "").status)
	}
	await(t, 10*time.Second, "the VNs are free again after the cool-down", func() bool {
		now := p.pools(t)
		return now["rides"] == before["rides"] && now["desk"] == before["desk"] && now["bought"].Free >= 6
	})
	p.requireClean(t)
	require.Empty(t, a.messages("dead.orders.assigned"))
	require.Zero(t, p.terminate(t))
}

// requireRefused fails unless the webhook of a call is refused and calls.decided says
// for which reason.
func requireRefused(t *testing.T, p *process, a *marketplace, callID, from, to, reason string) {
	t.Helper()
	got := p.twilioCall(t, "tw", callID, from, to)
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, reject, got.body)
	a.hear(t, 5*time.Second, "calls.decided", map[string]string{"carrier": "tw", "call_id": callID, "reason": reason})
}

func requireRefusals(t *testing.T, p *process, a *marketplace, vns map[string]string) {
	t.Helper()
	requireRefused(t, p, a, "CA-stranger", stranger, vns["agent"], "caller_not_allowed")
	requireRefused(t, p, a, "CA-self", alice, vns["customer"], "caller_not_allowed")
	requireRefused(t, p, a, "CA-nobody", alice, "+19075550100", "number_not_assigned")
	for _, from := range []string{"anonymous", "+266696687", "client:bob", "sip:bob@example.com"} {
		requireRefused(t, p, a, "CA-withheld-"+url.QueryEscape(from), from, vns["agent"], "caller_withheld")
	}
	require.Equal(t, resolved{Action: "reject", Reason: "caller_not_allowed", SIPCode: 404, SIPReason: "Not Found"},
		p.resolve(t, p.Token, vns["agent"], stranger))
	require.Equal(t, resolved{Action: "reject", Reason: "caller_withheld", SIPCode: 433, SIPReason: "Anonymity Disallowed"},
		p.resolve(t, p.Token, vns["agent"], "anonymous"))

	for name, spoil := range map[string]func(*http.Header, *url.Values){
		"without a signature":           func(h *http.Header, _ *url.Values) { h.Del("X-Twilio-Signature") },
		"with another form than signed": func(_ *http.Header, f *url.Values) { f.Set("From", dave) },
		"with a signature of another form": func(h *http.Header, _ *url.Values) {
			h.Set("X-Twilio-Signature", sim.SignTwilio(twilioToken, twilioPublic, nil))
		},
	} {
		got := p.twilioCall(t, "tw", "CA-forged", alice, vns["agent"], spoil)
		require.Equal(t, http.StatusForbidden, got.status, name)
		require.Empty(t, got.body, name)
	}
	requireRefused(t, p, a, "CA-after-forged", stranger, vns["agent"], "caller_not_allowed")
	for _, m := range a.messages("calls.decided") {
		require.NotContains(t, string(m.Data), "CA-forged", "a forged webhook decides nothing")
	}
	require.Equal(t, http.StatusNotFound, p.twilioCall(t, "nobody", "CA-1", alice, vns["agent"]).status)
	require.Equal(t, http.StatusUnauthorized, mustResolve(t, p, "wrong-token-of-somebody", vns["agent"], alice).status)
}

func mustResolve(t *testing.T, p *process, token, called, calling string) answer {
	t.Helper()
	got, err := p.tryResolve(t, token, called, calling)
	require.NoError(t, err)
	return got
}

// requireOtherCarriersApart makes an order of a softswitch and one of bought numbers:
// each carrier reaches its own and nobody else's.
func requireOtherCarriersApart(t *testing.T, p *process, a *marketplace, vns map[string]string) {
	t.Helper()
	put := func(id, pool string) assigned {
		got := p.api(t, http.MethodPut, "/v1/orders/"+id,
			`{"pool":"`+pool+`","ttl":"5m","parties":[{"role":"customer","number":"`+alice+`"},{"role":"agent","number":"`+dave+`"}]}`)
		require.Equal(t, http.StatusCreated, got.status, got.body)
		var o assigned
		got.decode(t, &o)
		a.hear(t, time.Second, "vn.assigned", map[string]string{"order_id": id, "pool": pool})
		return o
	}
	desk, bought := put("order-2", "desk"), put("order-3", "bought")

	connected := p.resolve(t, pbxToken, desk.vn(t, "agent"), alice)
	require.Equal(t, resolved{Action: "connect", Destination: dave, CallerID: desk.vn(t, "customer"), OrderID: "order-2"}, connected)
	require.Equal(t, connected, p.resolve(t, p.Token, desk.vn(t, "agent"), alice), "the API token resolves every carrier's")
	foreign := resolved{Action: "reject", Reason: "number_not_assigned", SIPCode: 404, SIPReason: "Not Found"}
	require.Equal(t, foreign, p.resolve(t, pbxToken, vns["agent"], alice))
	require.Equal(t, foreign, p.resolve(t, pbxToken, bought.vn(t, "agent"), alice))
	requireRefused(t, p, a, "CA-other-carrier", alice, desk.vn(t, "agent"), "number_not_assigned")
	requireRefused(t, p, a, "CA-another-carrier", alice, bought.vn(t, "agent"), "number_not_assigned")

	phone, err := sim.NewPhone(sim.PhoneConfig{URL: "http://" + p.HTTP + "/v1/carriers/sim/voice", Secret: simSecret})
	require.NoError(t, err)
	defer phone.Close()
	call := func(from, to string) sim.Result {
		r, err := phone.Call(t.Context(), from, to)
		require.NoError(t, err)
		return r
	}
	rang := call(dave, bought.vn(t, "customer"))
	require.Equal(t, [3]string{"ringing", alice, bought.vn(t, "agent")}, [3]string{string(rang.Heard), rang.Rang.E164(), rang.Shown.E164()})
	require.Equal(t, sim.NotInService, call(alice, vns["agent"]).Cause)
}
