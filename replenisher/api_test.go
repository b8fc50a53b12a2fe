package replenisher

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit/contract"
	"github.com/callmask/callmask/vn"
)

const apiToken = "an api token of sixteen"

// ask sends a request with the right token; header holds pairs that replace it.
func ask(t *testing.T, h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+apiToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	contract.OpenAPI(t).Check(t, r, body, w.Result(), w.Body.Bytes())
	return w
}

func refuses(t *testing.T, w *httptest.ResponseRecorder, status int, code string) problem {
	t.Helper()
	var p problem
	require.Equal(t, status, w.Code, w.Body.String())
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, []any{status, code, http.StatusText(status)}, []any{p.Status, p.Code, p.Title}, p.Detail)
	require.NotEmpty(t, p.Detail)
	return p
}

const reconcileFirst = "/v1/carriers/first/reconcile"

func releasePath(n vn.Number) string { return "/v1/pools/london/numbers/" + n.E164() + "/release" }

func TestTheAPIComparesAndReleases(t *testing.T) {
	t.Parallel()
	w, p, r := everything(t)
	h := r.API(apiToken)
	n := w.anyVN() + 5

	got := ask(t, h, "POST", reconcileFirst, `{"dry_run":true}`)
	require.Equal(t, http.StatusOK, got.Code)
	var d Diff
	require.NoError(t, json.Unmarshal(got.Body.Bytes(), &d))
	require.True(t, d.DryRun)
	require.Len(t, d.Rows, 5)
	require.Equal(t, http.StatusOK, ask(t, h, "POST", reconcileFirst, "").Code)

	got = ask(t, h, "POST", releasePath(n), "")
	require.Equal(t, http.StatusAccepted, got.Code)
	require.JSONEq(t, `{"state":"released"}`, got.Body.String())
	w.leased[n+1] = true
	require.JSONEq(t, `{"state":"draining"}`, ask(t, h, "POST", releasePath(n+1), "{}").Body.String())

	refuses(t, ask(t, h, "POST", releasePath(stranger-500), ""), 404, "number_unknown")
	require.Equal(t, "vn", refuses(t, ask(t, h, "POST", "/v1/pools/london/numbers/12/release", ""), 400, "invalid").Field)
	refuses(t, ask(t, h, "POST", "/v1/pools/LONDON/numbers/12/release", ""), 400, "invalid")
	p.next = oneShot("give", 1, refusal)
	failed := ask(t, h, "POST", releasePath(n+2), "")
	require.Contains(t, refuses(t, failed, 502, "carrier_failed").Detail, "HTTP 429")
	require.Equal(t, "60", failed.Header().Get("Retry-After"))
	p.next = oneShot("list", 1, refusal)
	refuses(t, ask(t, h, "POST", reconcileFirst, ""), 502, "carrier_failed")
	p.next = nil

	refuses(t, ask(t, h, "POST", "/v1/carriers/nobody/reconcile", ""), 404, "carrier_unknown")
	refuses(t, ask(t, h, "POST", reconcileFirst, `{"pool":"nowhere"}`), 404, "pool_unknown")
	for _, body := range []string{`{"dryrun":true}`, `[]`, `{"dry_run":1}`, `{`, `{} {}`} {
		require.Equal(t, "body", refuses(t, ask(t, h, "POST", reconcileFirst, body), 400, "invalid").Field, body)
	}
	refuses(t, ask(t, h, "POST", reconcileFirst, `{"pool":"`+strings.Repeat("x", maxBody)+`"}`), 413, "too_large")
	w.cold = true
	refuses(t, ask(t, h, "POST", reconcileFirst, ""), 503, "cold")
	w.cold = false
	r.keeper.begin("first")
	refuses(t, ask(t, h, "POST", reconcileFirst, ""), 409, "reconcile_running")
}

func TestTheBrakeIsToldWithWhatWasFound(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	w.shops["first"].held = map[vn.Number]*sale{}
	h := r.API(apiToken)
	p := refuses(t, ask(t, h, "POST", reconcileFirst, ""), 409, "too_many_missing")
	require.Len(t, p.Diff.Rows, 5)
	require.Contains(t, p.Detail, "--force")
	for range 2 {
		w.advance(time.Hour)
		got := ask(t, h, "POST", reconcileFirst, `{"force":true}`)
		require.Equal(t, http.StatusOK, got.Code)
	}
	require.Empty(t, w.inventory)
}

func TestAComparisonTellsItsProgress(t *testing.T) {
	t.Parallel()
	_, _, r := everything(t)
	h := r.API(apiToken)
	read := func(body string) (progress int, last map[string]json.RawMessage) {
		got := ask(t, h, "POST", reconcileFirst, body, "Accept", "application/x-ndjson")
		require.Equal(t, http.StatusOK, got.Code)
		require.Equal(t, "application/x-ndjson", got.Header().Get("Content-Type"))
		for scan := bufio.NewScanner(got.Body); scan.Scan(); progress++ {
			last = nil
			require.NoError(t, json.Unmarshal(scan.Bytes(), &last))
		}
		return progress - 1, last
	}
	progress, last := read(`{"pool":"london"}`)
	require.GreaterOrEqual(t, progress, 2)
	var d Diff
	require.NoError(t, json.Unmarshal(last["diff"], &d))
	require.Len(t, d.Rows, 5)
	_, last = read(`{"pool":"nowhere"}`)
	var p problem
	require.NoError(t, json.Unmarshal(last["problem"], &p))
	require.Equal(t, "pool_unknown", p.Code)
}

func TestAComparisonMayTakeLongerThanOtherRequests(t *testing.T) {
	t.Parallel()
	_, p, r := filledLondon(t)
	p.next = func(step string) fate {
		if step == "list" {
			<-time.After(500 * time.Millisecond)
		}
		return fine
	}
	srv := httptest.NewUnstartedServer(r.API(apiToken))
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	srv.Start()
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+reconcileFirst, strings.NewReader(`{}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+apiToken)
	res, err := srv.Client().Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	require.Equal(t, http.StatusOK, res.StatusCode)
	srv.Client().CloseIdleConnections()
}

func TestNobodyIsLetInWithoutTheToken(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	for _, token := range []string{"", "Bearer", "Bearer ", "Bearer wrong", apiToken, "Basic " + apiToken, "Bearer " + apiToken + "x"} {
		got := ask(t, r.API(apiToken), "POST", releasePath(n), "", "Authorization", token)
		refuses(t, got, 401, "unauthorized")
		require.NotEmpty(t, got.Header().Get("WWW-Authenticate"))
	}
	refuses(t, ask(t, r.API(""), "POST", releasePath(n), "", "Authorization", "Bearer "), 401, "unauthorized")
	require.Contains(t, w.inventory, n)

	h := r.API(apiToken)
	got := ask(t, h, "GET", releasePath(n), "")
	refuses(t, got, 405, "method_not_allowed")
	require.Equal(t, "POST", got.Header().Get("Allow"))
	refuses(t, ask(t, h, "POST", "/v1/pools", ""), 404, "not_found")
}
