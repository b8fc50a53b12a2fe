package explain_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

const (
	customer vn.Number = 12025550101
	agent    vn.Number = 12025550102
	stranger           = "+12025550199"
	token              = "test-api-token-0123456789"
)

// audit is an Audit that a test reads.
type audit struct {
	entries []events.AuditEntry
	err     error
}

func (a *audit) Audit(_ context.Context, e events.AuditEntry) error {
	if a.err == nil {
		a.entries = append(a.entries, e)
	}
	return a.err
}

// world is an Explainer on a Redis with an order of two parties and a spare number.
type world struct {
	*explain.Explainer

	store               *scripts.Store
	audit               *audit
	toAgent, toCustomer string
	spare               string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	store, err := scripts.New(scripts.Config{Timeout: 10 * time.Second}, testkit.Redis(t).Client(t), keys)
	require.NoError(t, err)
	require.NoError(t, store.Start(t.Context()))
	require.NoError(t, store.MarkReady(t.Context()))
	_, err = store.Refill(t.Context(), "dc", "sim", []scripts.Owned{{VN: 12025550160, Ref: "1"}, {VN: 12025550161, Ref: "2"}, {VN: 12025550162, Ref: "3"}})
	require.NoError(t, err)
	w := &world{store: store, audit: &audit{}}
	w.Explainer = explain.New(explain.Config{
		Regions: map[string]string{"dc": "US"}, Carriers: map[string]byte{"sim": 7, "pbx": 8},
	}, store, w.audit)
	a, err := store.Allocate(t.Context(), scripts.AllocateRequest{
		Order:    vn.Order{ID: "o-1", Pool: "dc", TTL: time.Hour, Parties: []vn.Party{{Role: "customer", Number: customer}, {Role: "agent", Number: agent}}},
		Cooldown: time.Minute, Carriers: []scripts.Carrier{{Name: "sim", ID: 7}},
	})
	require.NoError(t, err)
	w.toCustomer, w.toAgent = a.Numbers[0].VN.E164(), a.Numbers[1].VN.E164()
	spare, err := store.SomeFree(t.Context(), "dc", "sim", 1)
	require.NoError(t, err)
	w.spare = spare[0].E164()
	return w
}

func (w *world) explain(t *testing.T, ask explain.Ask) *explain.Explanation {
	t.Helper()
	got, err := w.Explain(t.Context(), ask, explain.Person{Name: "ana", Role: "operator", From: "192.0.2.1"})
	require.NoError(t, err)
	return got
}

// refused returns the step that refuses and its detail.
func refused(e *explain.Explanation) (step, detail string) {
	for _, s := range e.Steps {
		if s.Result == explain.Refused {
			return s.Name, s.Detail
		}
	}
	return "", ""
}

func TestEveryReasonIsExplainedByTheStepThatDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		ask                          explain.Ask
		reason, state, step, because string
	}{
		"connected":          {explain.Ask{Called: w.toAgent, Calling: "+12025550101"}, "connected", "leased", "", ""},
		"a national number":  {explain.Ask{Called: w.toAgent, Calling: "(202) 555-0101", Carrier: "sim"}, "connected", "leased", "", ""},
		"another caller":     {explain.Ask{Called: w.toAgent, Calling: stranger}, "caller_not_allowed", "leased", "binding", "no party"},
		"its own number":     {explain.Ask{Called: w.toAgent, Calling: "+12025550102"}, "caller_not_allowed", "leased", "binding", "reach the caller itself"},
		"never assigned":     {explain.Ask{Called: w.spare, Calling: stranger}, "number_not_assigned", "free", "binding", "no live order"},
		"not ours":           {explain.Ask{Called: "+12025550188", Calling: stranger}, "number_not_assigned", "", "number", "not one of our"},
		"withheld":           {explain.Ask{Called: w.toAgent, Calling: "Anonymous"}, "caller_withheld", "leased", "caller", "withholds"},
		"nothing":            {explain.Ask{Called: w.toAgent}, "caller_withheld", "leased", "caller", "withholds"},
		"another carrier's":  {explain.Ask{Called: w.toAgent, Calling: "+12025550101", Carrier: "pbx"}, "number_not_assigned", "leased", "carrier", "does not exist"},
		"withheld, of a pbx": {explain.Ask{Called: w.toAgent, Carrier: "pbx"}, "caller_withheld", "leased", "caller", "withholds"},
	} {
		got := w.explain(t, c.ask)
		step, detail := refused(got)
		require.Equal(t, []string{c.reason, c.state, c.step}, []string{got.Reason, got.State, step}, name)
		require.Contains(t, detail, c.because, name)
		last := got.Steps[len(got.Steps)-1]
		require.Equal(t, "decision", last.Name, name)
		require.Equal(t, c.reason == "connected", got.Action == "connect" && last.Result == explain.Passed, name)
	}
	hit := w.explain(t, explain.Ask{Called: w.toAgent, Calling: "+12025550101"})
	require.Equal(t, []any{"o-1", "dc", "sim", w.toAgent, w.toCustomer, byte(1), 0, 200},
		[]any{hit.OrderID, hit.Pool, hit.Carrier, hit.Called, hit.CallerID, *hit.KeyID, hit.Partition, hit.SIPCode})
	require.WithinDuration(t, time.Now().Add(time.Hour), *hit.LeaseEnd, time.Minute)
	require.NotEmpty(t, hit.Node)
	own := w.explain(t, explain.Ask{Called: w.toAgent, Calling: "+12025550102"})
	require.Equal(t, "It should dial "+w.toCustomer+" to reach customer.", own.Advice)

	_, err := w.store.Release(t.Context(), "o-1", vn.Completed)
	require.NoError(t, err)
	ended := w.explain(t, explain.Ask{Called: w.toAgent, Calling: "+12025550101"})
	step, detail := refused(ended)
	require.Equal(t, []string{"order_ended", "cooling", "binding", "o-1"}, []string{ended.Reason, ended.State, step, ended.OrderID})
	require.Contains(t, detail, "completed")
	other := w.explain(t, explain.Ask{Called: w.toAgent, Calling: "+12025550101", Carrier: "pbx"})
	require.Equal(t, "number_not_assigned", other.Reason)
}

func TestNumbersOfPeopleAreShownOnlyWhenAskedForAndNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	digits := func(ask explain.Ask) string {
		b, err := json.Marshal(w.explain(t, ask))
		require.NoError(t, err)
		return string(b)
	}
	for _, ask := range []explain.Ask{
		{Called: w.toAgent, Calling: "+12025550101"}, {Called: w.toAgent, Calling: stranger}, {Called: "+12025550188", Calling: stranger},
	} {
		text := digits(ask)
		for _, real := range []string{"2025550101", "2025550102", "2025550199", "2025550188"} {
			require.NotContains(t, text, real)
		}
	}
	require.Empty(t, w.audit.entries)
	shown := w.explain(t, explain.Ask{Called: w.toAgent, Calling: "+12025550101", Reveal: true})
	require.Equal(t, []any{"+12025550101", "+12025550102", true}, []any{shown.Calling, shown.Destination, shown.Revealed})
	require.Len(t, w.audit.entries, 1)
	e := w.audit.entries[0]
	require.Equal(t, []string{"ana", "operator", "192.0.2.1", "reveal", w.toAgent}, []string{e.Who, e.Role, e.From, e.Action, e.Target})

	w.explain(t, explain.Ask{Called: "+12025550188", Calling: stranger, Reveal: true})
	require.NotContains(t, w.audit.entries[1].Target, "555", "the audit holds no number of a person")
	w.audit.err = errors.New("the disk is full")
	got, err := w.Explain(t.Context(), explain.Ask{Called: w.toAgent, Calling: "+12025550101", Reveal: true}, explain.Person{})
	require.ErrorIs(t, err, vn.ErrUnavailable)
	require.Nil(t, got)
}

func TestTheAPIOfExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.API(token, zerolog.Nop())
	post := func(method, bearer, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, explain.Path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+bearer)
		rec := httptest.NewRecorder()
		api.ServeHTTP(rec, r)
		return rec
	}
	for name, c := range map[string]struct {
		method, token, body string
		status              int
		code                string
	}{
		"wrong token":    {http.MethodPost, "wrong", `{}`, 401, "unauthorized"},
		"wrong method":   {http.MethodGet, token, ``, 405, "method_not_allowed"},
		"no body":        {http.MethodPost, token, ``, 400, "invalid"},
		"not JSON":       {http.MethodPost, token, `called=+12025550199`, 400, "invalid"},
		"unknown field":  {http.MethodPost, token, `{"to":"+12025550199"}`, 400, "invalid"},
		"more after it":  {http.MethodPost, token, `{"called":"+12025550199"} {}`, 400, "invalid"},
		"too long":       {http.MethodPost, token, `{"called":"` + strings.Repeat("1", maxBody) + `"}`, 400, "invalid"},
		"no number":      {http.MethodPost, token, `{"called":"","calling":"+12025550199"}`, 400, "invalid"},
		"national":       {http.MethodPost, token, `{"called":"2025550199","calling":"+12025550199"}`, 400, "invalid"},
		"odd caller":     {http.MethodPost, token, `{"called":"+12025550160","calling":"12x"}`, 400, "invalid"},
		"odd carrier":    {http.MethodPost, token, `{"called":"+12025550160","carrier":"none"}`, 400, "invalid"},
		"what is asked":  {http.MethodPost, token, `{"called":"` + w.toAgent + `","calling":"+12025550101"}`, 200, ""},
		"with a reveal":  {http.MethodPost, token, `{"called":"` + w.toAgent + `","calling":"+12025550101","reveal":true}`, 200, ""},
		"a number wrong": {http.MethodPost, token, `{"called":12025550160}`, 400, "invalid"},
	} {
		got := post(c.method, c.token, c.body)
		require.Equal(t, c.status, got.Code, name)
		if c.code != "" {
			require.Contains(t, got.Body.String(), `"code":"`+c.code+`"`, name)
			require.NotContains(t, got.Body.String(), "555", name)
		}
	}
	require.Len(t, w.audit.entries, 1)
	require.Equal(t, "api", w.audit.entries[0].Role)
}

const maxBody = 1 << 12
