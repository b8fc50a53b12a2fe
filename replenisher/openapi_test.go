package replenisher

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
)

// One story through every status of both routes, which at the end must be exactly what
// the document says.
func TestOpenAPIDescribesEveryRouteAndStatus(t *testing.T) {
	t.Parallel()
	w, p, r := filledLondon(t)
	h := r.API(apiToken)
	imported := stranger - 2
	w.inventory[imported] = scripts.Inventory{Owned: scripts.Owned{VN: imported, Ref: imported.Digits()}, Pool: "london", Carrier: "first"}
	const unknown = "/v1/carriers/nobody/reconcile"
	compared, given := "POST /v1/carriers/{name}/reconcile", "POST /v1/pools/{name}/numbers/{vn}/release"
	seen := map[string]map[int]bool{compared: {}, given: {}}
	note := func(path string, status int) {
		route := given
		if strings.HasPrefix(path, "/v1/carriers/") {
			route = compared
		}
		seen[route][status] = true
	}
	free := releasePath(w.anyVN())
	for _, path := range []string{reconcileFirst, free} {
		note(path, ask(t, h, "POST", path, "", "Authorization", "Bearer x").Code)
		note(path, ask(t, h, "GET", path, "").Code)
		note(path, ask(t, h, "POST", path, "[]").Code)
		note(path, ask(t, h, "POST", path, strings.Repeat(" ", maxBody+1)).Code)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		gone := httptest.NewRequestWithContext(ctx, http.MethodPost, path, nil)
		gone.Header.Set("Authorization", "Bearer "+apiToken)
		away := httptest.NewRecorder()
		h.ServeHTTP(away, gone)
		refuses(t, away, 503, "unavailable")
		note(path, away.Code)
	}
	note(unknown, ask(t, h, "POST", unknown, "").Code)
	note(free, ask(t, h, "POST", releasePath(stranger-500), "").Code)
	note(free, ask(t, h, "POST", releasePath(imported), "").Code)
	r.keeper.begin("first")
	note(reconcileFirst, ask(t, h, "POST", reconcileFirst, "").Code)
	r.keeper.end("first")
	for _, c := range []struct {
		path, step string
		fate       fate
	}{
		{reconcileFirst, "ready", lost},
		{reconcileFirst, "list", refusal},
		{reconcileFirst, "", fine},
		{free, "mark", lost},
		{free, "give", refusal},
		{free, "", fine},
	} {
		p.next = oneShot(c.step, 1, c.fate)
		note(c.path, ask(t, h, "POST", c.path, "").Code)
	}

	answered := map[string][]int{}
	for route, statuses := range seen {
		answered[route] = slices.Sorted(maps.Keys(statuses))
	}
	described := testkit.Operations(t, privateapi.OpenAPI, "replenisher")
	require.Equal(t, described, answered)
	served := []string{}
	for path := range routes {
		served = append(served, "POST "+path)
	}
	require.ElementsMatch(t, served, slices.Collect(maps.Keys(described)))

	codes := []string{"invalid", "internal", "carrier_failed", "too_many_missing"}
	for _, k := range known {
		codes = append(codes, k.Code)
	}
	require.ElementsMatch(t, codes, testkit.Codes(t, privateapi.OpenAPI, "StockProblem"))
}
