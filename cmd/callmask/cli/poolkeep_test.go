package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/replenisher"
)

// theStockIsKept acts on the demo: 20 numbers bought, 3 imported. bought is one of the
// former.
func theStockIsKept(t *testing.T, e *terminal, bought string) {
	t.Helper()
	require.Contains(t, e.done(t, "pool", "reconcile", "sim"), "sim lists 20 numbers, 23 are ours here: 20 in both, 3 imported and not listed, 0 of others left alone, 0 rows")
	require.Contains(t, e.done(t, "pool", "reconcile", "sim", "--dry-run"), "dry run: nothing was changed")
	require.Equal(t, "number 1 of 1: given back to its carrier\n", e.done(t, "pool", "release", "demo", bought))
	require.Equal(t, "number 1 of 1: given back to its carrier\n", e.done(t, "pool", "release", "demo", bought))
	var d replenisher.Diff
	require.NoError(t, json.Unmarshal([]byte(e.done(t, "pool", "reconcile", "sim", "--json")), &d))
	require.Equal(t, []int{19, 22, 19}, []int{d.Listed, d.Ours, d.Agreed})

	file := filepath.Join(t.TempDir(), "numbers.csv")
	require.NoError(t, os.WriteFile(file, []byte("\ufeffnumber;carrier;note\n+12025550163;sim;ours\n+12025550190;nobody;x\nbanana;sim;\n+12025550163;sim;twice\n"), 0o600))
	r := e.run(t, "pool", "import", "demo", file)
	require.Equal(t, ExitNo, r.code)
	require.Equal(t, "line 3: carrier is not a configured carrier\n"+
		"line 4: may hold only the digits 0-9, space - . ( ) and a leading +\nline 5: is the same as line 2\n0 added, 1 were there already, 3 refused\n", r.out)
	require.Contains(t, r.err, "3 of 4 were refused")
	require.NotContains(t, r.out+r.err, "202555")

	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{ExitNo, "number_imported", []string{"pool", "release", "demo", "+12025550162"}},
		{ExitNo, "number_unknown", []string{"pool", "release", "demo", "+12025550199"}},
		{ExitNo, "vn", []string{"pool", "release", "demo", "banana"}},
		{ExitNo, "carrier_unknown", []string{"pool", "reconcile", "nobody"}},
		{ExitNo, "pool_unknown", []string{"pool", "reconcile", "sim", "--pool", "mars"}},
		{ExitFailed, "the carrier's name", []string{"pool", "reconcile", "../x"}},
		{ExitNo, "names no carrier", []string{"pool", "import", "demo", "+12025550163"}},
		{ExitFailed, "nothing.csv", []string{"pool", "import", "demo", "nothing.csv"}},
	} {
		r := e.run(t, c.args...)
		require.Equal(t, c.code, r.code, "%v: %s", c.args, r.err)
		require.Contains(t, r.err, c.want, c.args)
		require.NotContains(t, r.err, "+1202555", "an error repeats no number")
	}
}

// fakeAPI answers as a running system would.
func fakeAPI(t *testing.T, h http.HandlerFunc) *terminal {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &terminal{env: map[string]string{
		"CALLMASK_ADMIN_ADDR": strings.TrimPrefix(s.URL, "http://"), "CALLMASK_API_TOKEN": "token-token-token", "CALLMASK_DATA_DIR": t.TempDir(),
	}}
}

func TestAnImportSendsBatchesAndLeavesOutWhatIsRefused(t *testing.T) {
	t.Parallel()
	var sizes []int
	e := fakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Numbers []string
			Carrier string
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		sizes = append(sizes, len(body.Numbers))
		var bad []string
		for i, n := range body.Numbers {
			if strings.HasSuffix(n, "777") {
				bad = append(bad, fmt.Sprintf(`{"field":"numbers[%d]","detail":"belongs to another pool or carrier"}`, i))
			}
		}
		if len(bad) > 0 {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, `{"status":409,"code":"number_conflict","detail":"some are refused","errors":[%s]}`, strings.Join(bad, ","))
			return
		}
		fmt.Fprintf(w, `{"added":%d,"present":0}`, len(body.Numbers))
	})
	var file strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&file, "+44770090%05d,%s\n", i, []string{"pbx", "pbx-2"}[i%2])
	}
	path := filepath.Join(t.TempDir(), "numbers.csv")
	require.NoError(t, os.WriteFile(path, []byte(file.String()), 0o600))
	r := e.run(t, "pool", "import", "jakarta", path, "--json")
	require.Equal(t, ExitNo, r.code)
	var got imported
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.Equal(t, 11_988, got.Added)
	require.Len(t, got.Refused, 12)
	require.Equal(t, refusedEntry{Where: "line 778", Detail: "belongs to another pool or carrier"}, got.Refused[0])
	require.Equal(t, []int{5000, 1000, 5000, 4990, 1000, 998}, sizes)
}

func TestAnImportThatFailsHalfWaySaysHowFarItCame(t *testing.T) {
	t.Parallel()
	calls := 0
	e := fakeAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 1 {
			fmt.Fprint(w, `{"added":5000,"present":0}`)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"status":503,"code":"unavailable","detail":"try again"}`)
	})
	e.stdin = strings.Repeat("+447700900123\n", 7000)
	r := e.run(t, "pool", "import", "jakarta", "--carrier", "pbx", "-")
	require.Equal(t, ExitFailed, r.code)
	require.Contains(t, r.err, "after the first 5000 numbers (it may be repeated): unavailable")
}

func TestATableIsReadAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	one := func(text string) entry {
		entries, err := readTable(strings.NewReader(text))
		require.NoError(t, err)
		require.Len(t, entries, 1, text)
		return entries[0]
	}
	want := entry{where: "line 1", number: "+447700900123", carrier: "pbx"}
	for _, line := range []string{
		"+447700900123,pbx", "+447700900123;pbx\r\n", "+447700900123\tpbx", `"+447700900123","pbx"`, " '+447700900123' , pbx ", "\ufeff+447700900123,pbx",
	} {
		require.Equal(t, want, one(line), line)
	}
	require.Equal(t, entry{where: "line 1", number: "+447700900123", carrier: ""}, one("+447700900123"))
	require.Equal(t, entry{where: "line 1", number: "+447700900123", carrier: ""}, one("+447700900123,"))
	require.Equal(t, entry{where: "line 1", number: "", carrier: "pbx"}, one(",pbx"))
	require.Equal(t, entry{where: "line 1", number: "", carrier: "pbx"}, one("+447700900123,pbx,what is this"), "columns that nobody named")
	want.where = "line 4"
	require.Equal(t, want, one("# ours\n\nName,Carrier,Number\nhot line,pbx,+447700900123\n"))
	require.Equal(t, entry{where: "line 2", number: "+447700900123", carrier: ""}, one("NUMBER,note\n+447700900123,x,y,z\n"))
}

func TestReconcileShowsWhatWasFoundAndDone(t *testing.T) {
	t.Parallel()
	diff := replenisher.Diff{Carrier: "sim", Listed: 3, Ours: 2, Agreed: 1, Rows: []replenisher.Row{
		{VN: "+447700900123", Pool: "london", Action: replenisher.Adopt, Detail: "it is in its pool now"},
		{VN: "+447700900124", Pool: "london", Action: replenisher.Configure, Error: "the carrier said no"},
	}}
	lines := func(docs ...any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != "application/x-ndjson" || r.URL.Path != "/v1/carriers/sim/reconcile" {
				w.WriteHeader(http.StatusNotFound)
			}
			for _, d := range docs {
				_ = json.NewEncoder(w).Encode(d)
			}
		}
	}
	progress := map[string]int{"done": 1, "of": 2}
	diff.Failed = 1
	out := fakeAPI(t, lines(progress, map[string]any{"diff": diff})).run(t, "pool", "reconcile", "sim")
	require.Equal(t, ExitNo, out.code)
	require.Contains(t, out.err, "1 of 2 rows failed")
	require.Regexp(t, `VN +POOL +ACTION +DETAIL\n\+447700900123 +london +adopt +it is in its pool now\n\+447700900124 +london +configure +FAILED: the carrier said no\n`, out.out)

	brake := map[string]any{"status": 409, "code": "too_many_missing", "detail": "too_many_missing: run it with --force", "diff": diff}
	out = fakeAPI(t, lines(map[string]any{"problem": brake})).run(t, "pool", "reconcile", "sim")
	require.Equal(t, ExitNo, out.code)
	require.Contains(t, out.out, "+447700900123")
	require.Contains(t, out.err, "--force")

	out = fakeAPI(t, lines(progress)).run(t, "pool", "reconcile", "sim")
	require.Equal(t, ExitFailed, out.code)
	require.Contains(t, out.err, "broke off")
}

func TestAReconcileThatTakesTooLongEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	e := fakeAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"done":0,"of":5}`)
		_ = http.NewResponseController(w).Flush()
		<-ctx.Done()
	})
	began := time.Now()
	r := e.run(t, "pool", "reconcile", "sim", "--timeout", "200ms")
	cancel()
	require.Equal(t, ExitFailed, r.code)
	require.Contains(t, r.err, "--timeout")
	require.Less(t, time.Since(began), 10*time.Second)
}

func TestAPlanIsPrinted(t *testing.T) {
	t.Parallel()
	e := &terminal{}
	args := []string{
		"pool", "plan", "--orders-per-hour", "100", "--peak", "1.2", "--length", "20m", "--cooldown", "10m", "--lead-time", "5m",
		"--price", "1.15", "--currency", "USD",
	}
	require.Equal(t, `orders at once  83          60.0 on average in the busiest hour
numbers         166         0.000858 of the orders find too few
low_water       42          the orders of the lead time
target          84          twice low_water
max             250         the numbers and a full target
a month         190.90 USD  for the numbers
a month         287.50 USD  at max: what a cap has to allow
`, e.done(t, args...))
	var p planned
	require.NoError(t, json.Unmarshal([]byte(e.done(t, append(args, "--json")...)), &p))
	require.Equal(t, []any{166, 42, 84, 250, "190.90"}, []any{p.VNs, p.LowWater, p.Target, p.Max, p.Cost})
	for want, args := range map[string][]string{
		"--orders-per-hour":      {"pool", "plan"},
		"parties must be 2 to 8": {"pool", "plan", "--orders-per-hour", "1", "--parties", "9"},
		"price must be":          {"pool", "plan", "--orders-per-hour", "1", "--price", "cheap"},
	} {
		r := e.run(t, args...)
		require.Equal(t, ExitFailed, r.code)
		require.Contains(t, r.err, want)
	}
}
