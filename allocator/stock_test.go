package allocator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// One number that is refused refuses them all, each named by its index alone.
func TestABadImportImportsNothing(t *testing.T) {
	t.Parallel()
	lima := jakarta()
	lima.Name = "lima"
	c := newClient(t, 2, jakarta(), lima)
	before, records := c.snapshot(t), c.bus.seq
	f := func(body string, status int, code string, fields ...string) {
		t.Helper()
		p := c.send("POST", numbersPath, body).refuses(status, code, fields[0])
		for i := range p.Errors {
			require.Equal(t, fields[i], p.Errors[i].Field)
			require.NotEmpty(t, p.Errors[i].Detail)
		}
		require.True(t, len(p.Errors) == 0 || len(p.Errors) == len(fields))
	}
	const ok = `"+12025550180"`
	f(``, 400, "invalid", "body")
	f(`{"carrier":"sim"}`, 400, "invalid", "numbers")
	f(`{"numbers":[],"carrier":"sim"}`, 400, "invalid", "numbers")
	f(`{"numbers":"+12025550180","carrier":"sim"}`, 400, "invalid", "numbers")
	f(`{"numbers":[`+ok+`]}`, 400, "invalid", "carrier")
	f(`{"numbers":[`+ok+`],"carrier":7}`, 400, "invalid", "carrier")
	f(`{"numbers":[`+ok+`],"carrier":"vonage"}`, 400, "invalid", "carrier")
	f(`{"numbers":[`+ok+`],"carrier":"sim","region":"US"}`, 400, "invalid", "region")
	f(`{"numbers":[`+ok+`,12025550181],"carrier":"sim"}`, 400, "invalid", "numbers[1]")
	f(`{"numbers":[`+ok+`,null],"carrier":"sim"}`, 400, "invalid", "numbers[1]")
	f(`{"numbers":[`+ok+`,"anonymous","+","(202) 555-0181","+12025550181","١٢٣٤٥٦٧"],"carrier":"sim"}`, 400, "invalid",
		"numbers[1]", "numbers[2]", "numbers[4]", "numbers[5]")
	f(`{"numbers":["`+firstVN.E164()+`",`+ok+`,"+12025550151"],"carrier":"twilio"}`, 409, "number_conflict", "numbers[0]", "numbers[2]")
	f(`{"numbers":[`+strings.TrimSuffix(strings.Repeat(ok+",", maxImport+1), ",")+`],"carrier":"sim"}`, 400, "invalid", "numbers")
	c.send("POST", "/v1/pools/lima/numbers", `{"numbers":["`+firstVN.E164()+`"],"carrier":"sim"}`).
		refuses(409, "number_conflict", "numbers[0]")
	require.Equal(t, before, c.snapshot(t))
	require.Equal(t, records, c.bus.seq, "nothing may be recorded")
	require.NotContains(t, c.logs.String(), "2025550180")
}

func TestAnImportOfAHeldNumberIsRefused(t *testing.T) {
	t.Parallel()
	c := newClient(t, 2)
	c.send("PUT", "/v1/orders/o-1", orderBody)
	for _, key := range []string{"inventory", "order:o-1"} { // as a failover that forgot them
		keys, err := c.redis.Keys(t.Context(), "*"+key).Result()
		require.NoError(t, err)
		require.NoError(t, c.redis.Del(t.Context(), keys...).Err())
	}
	c.send("POST", numbersPath, `{"numbers":["+12025550180","`+firstVN.E164()+`"],"carrier":"sim"}`).
		refuses(409, "number_conflict", "numbers[1]")
}

func TestTenThousandNumbersAreImportedAtOnce(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	numbers := make([]string, maxImport)
	for i := range numbers {
		numbers[i] = fmt.Sprintf(`"+1202556%04d"`, i)
	}
	body := `{"numbers":[` + strings.Join(numbers, ",") + `],"carrier":"sim"}`
	c.send("POST", numbersPath, body).is(200, `{"added":10000,"present":0}`)
	c.send("POST", numbersPath, body).is(200, `{"added":0,"present":10000}`)
	require.Equal(t, PoolStock{Name: "jakarta", Free: maxImport, Total: maxImport}, c.stock(t))
	require.True(t, c.real.IsVN(12025569999), "an import must be known to the call loop check at once")
}

func TestPoolsAreCountedOverCarriersAlsoWithoutNumbers(t *testing.T) {
	t.Parallel()
	lima, oslo := jakarta(), jakarta()
	lima.Name, oslo.Name = "lima", "oslo"
	c := newClient(t, 3, lima, jakarta(), oslo)
	c.send("POST", numbersPath, `{"numbers":["+12025550180"],"carrier":"twilio"}`).is(200, `{"added":1,"present":0}`)
	c.send("PUT", "/v1/orders/o-1", orderBody)
	_, err := c.real.Refill(t.Context(), "away", "sim", []scripts.Owned{{VN: 12025550190, Ref: "x"}})
	require.NoError(t, err)
	empty := `"free":0,"leased":0,"cooling":0,"draining":0,"total":0}`
	c.send("GET", "/v1/pools", "").is(200, `[{"name":"lima",`+empty+`,`+
		`{"name":"jakarta","free":2,"leased":2,"cooling":0,"draining":0,"total":4},{"name":"oslo",`+empty+`,`+
		`{"name":"away","free":1,"leased":0,"cooling":0,"draining":0,"total":1}]`)
	c.send("DELETE", "/v1/pools/away/numbers/%2B12025550190", "").is(202, `{"left":true}`)
	c.send("DELETE", "/v1/pools/away/numbers/+12025550190", "").refuses(404, "pool_unknown", "")
	c.send("DELETE", "/v1/pools/away/numbers/2025550190", "").refuses(400, "invalid", "vn")
	c.send("DELETE", "/v1/pools/%7B/numbers/+12025550190", "").refuses(400, "invalid", "name")
}

// A leased number leaves with its order, and the ledger says so last.
func TestALeasedNumberLeavesWhenItsOrderEnds(t *testing.T) {
	t.Parallel()
	c := newClient(t, 2)
	c.send("PUT", "/v1/orders/o-1", orderBody)
	c.send("DELETE", numbersPath+"/"+firstVN.E164(), "").is(202, `{"left":false}`)
	require.Equal(t, PoolStock{Name: "jakarta", Leased: 1, Draining: 1, Total: 2}, c.stock(t))
	c.send("DELETE", numbersPath+"/"+firstVN.E164(), "").is(202, `{"left":false}`)
	c.trace.take()
	c.send("DELETE", "/v1/orders/o-1", "").is(204, "")
	require.Equal(t, []string{"release", "record retired", "vn.released", "settle released"}, c.trace.take())
	require.Equal(t, PoolStock{Name: "jakarta", Cooling: 1, Total: 1}, c.stock(t))
	require.Equal(t, events.KindRetired, c.bus.last[firstVN.Digits()].Kind)
	require.Equal(t, events.KindReleased, c.bus.last[(firstVN+1).Digits()].Kind)
	_, err := c.real.Inventory(t.Context(), firstVN)
	require.ErrorIs(t, err, vn.ErrNumberUnknown)
	c.send("DELETE", numbersPath+"/"+firstVN.E164(), "").refuses(404, "number_unknown", "")
}

// An import or removal that died half way is healed by the same request again.
func TestACrashInAnImportOrRemovalIsHealedByTheSameAgain(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	numbers := `{"numbers":["` + firstVN.E164() + `"],"carrier":"sim"}`
	path := numbersPath + "/" + firstVN.E164()
	for _, when := range []string{"before", "after"} {
		for _, step := range []string{"record owned", "refill"} {
			c.trace.failOnce(when, step, vn.ErrUnavailable)
			c.send("POST", numbersPath, numbers).refuses(503, "unavailable", "")
			require.Equal(t, 200, c.send("POST", numbersPath, numbers).Code)
			require.Equal(t, PoolStock{Name: "jakarta", Free: 1, Total: 1}, c.stock(t))
			inv, err := c.real.Inventory(t.Context(), firstVN)
			require.NoError(t, err)
			require.Equal(t, c.bus.seqs[firstVN.Digits()], inv.Fence)
			require.Equal(t, 202, c.send("DELETE", path, "").Code)
		}
		for _, step := range []string{"drain", "record retired"} {
			require.Equal(t, 200, c.send("POST", numbersPath, numbers).Code)
			c.trace.failOnce(when, step, vn.ErrUnavailable)
			c.send("DELETE", path, "").refuses(503, "unavailable", "")
			again := c.send("DELETE", path, "").Code
			// When only the answer was lost there is nothing left to remove.
			require.True(t, again == 202 || again == 404 && when == "after" && step == "record retired", "%s %s: %d", when, step, again)
			require.Equal(t, PoolStock{Name: "jakarta"}, c.stock(t))
			require.Equal(t, events.KindRetired, c.bus.last[firstVN.Digits()].Kind)
		}
	}
}
