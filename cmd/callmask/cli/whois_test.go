package cli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
)

func TestAMomentIsReadAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"now": "2026-11-25T20:00:00Z", "-2h": "2026-11-25T18:00:00Z", "-90m": "2026-11-25T18:30:00Z", "-3d": "2026-11-22T20:00:00Z",
		"2026-11-25T14:03:00+01:00": "2026-11-25T13:03:00Z", "2026-11-25T14:03:07.5Z": "2026-11-25T14:03:07Z", "2026-11-25 14:03": "2026-11-25T14:03:00Z",
		" 2026-11-25 14:03:59 ": "2026-11-25T14:03:59Z", "2026-11-25T14:03": "2026-11-25T14:03:00Z", "2026-11-25 14:03+07:00": "2026-11-25T07:03:00Z",
		"2026-11-25": "2026-11-25T00:00:00Z",
	} {
		at, err := moment(text).at(now)
		require.NoError(t, err, text)
		require.Equal(t, want, at.Format(time.RFC3339), text)
	}
	for text, want := range map[string]string{
		"": "is no time", "yesterday": "is no time", "25.11.2026": "is no time", "-": "must be a duration", "--2h": "must be a duration",
		"-2x": "must be a duration", "2026-11-25 21:00": "read as 2026-11-25T21:00:00Z", "2026-11-25 14:61": "is no time",
	} {
		_, err := moment(text).at(now)
		require.ErrorContains(t, err, want, text)
	}
}

// watched is a running system whose NATS the test can look into.
func watched(t *testing.T) (*terminal, jetstream.JetStream) {
	t.Helper()
	srv := testkit.NATS(t)
	e := systemOn(t, srv.URL)
	nc, err := nats.Connect(srv.URL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return e, js
}

// lastAudit returns the newest entry of an action.
func lastAudit(t *testing.T, js jetstream.JetStream, action string) events.AuditEntry {
	t.Helper()
	s, err := js.Stream(t.Context(), "AUDIT")
	require.NoError(t, err)
	var e events.AuditEntry
	msg, err := s.GetLastMsgForSubject(t.Context(), "audit."+action)
	if err == nil {
		require.NoError(t, json.Unmarshal(msg.Data, &e))
	}
	return e
}

// auditRefuses makes stream AUDIT take nothing, or everything again.
func auditRefuses(t *testing.T, js jetstream.JetStream, refuses bool) {
	t.Helper()
	s, err := js.Stream(t.Context(), "AUDIT")
	require.NoError(t, err)
	cfg := s.CachedInfo().Config
	if cfg.MaxMsgSize = -1; refuses {
		cfg.MaxMsgSize = 1
	}
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
}

func TestWhoisTellsWhoHeldANumberAndEveryRevealIsNoted(t *testing.T) {
	e, js := watched(t)
	e.env["USER"] = "ana"
	put := []string{"order", "put", "order-1", "--pool", "demo", "--json", "customer=+12025550123", "agent=+12025550145"}
	var o orderAnswer
	require.NoError(t, json.Unmarshal([]byte(e.done(t, put...)), &o))
	customer := o.Parties[0].VN

	// A system that runs is well, and the doctor says so.
	well := e.done(t, "doctor")
	require.Regexp(t, `ok +callmask +one runs at .* and is ready`, well)
	require.Regexp(t, `warn +settings .*no pools\n +→ name a settings file`, well)
	require.Contains(t, e.done(t, "doctor", "-o", "json"), `"check": "redis"`)

	masked := e.done(t, "whois", customer)
	require.Regexp(t, `held by +order order-1 of pool demo`, masked)
	require.Regexp(t, `reached +customer`, masked)
	require.Contains(t, masked, "+12025•••23 by "+customer)
	require.NotContains(t, masked, "2025550123")
	require.Empty(t, lastAudit(t, js, events.AuditReveal), "nothing was shown")

	var a whoisAnswer
	require.NoError(t, json.Unmarshal([]byte(e.done(t, "whois", customer, "--reveal", "-o", "json")), &a))
	require.Equal(t, []holder{{"customer", customer, "+12025550123"}, {"agent", o.Parties[1].VN, "+12025550145"}}, a.Parties)
	require.True(t, a.Revealed)
	entry := lastAudit(t, js, events.AuditReveal)
	require.Equal(t, []string{"ana", "cli", customer, events.AuditDone}, []string{entry.Who, entry.Role, entry.Target, entry.Outcome})
	require.Contains(t, entry.Detail, "order-1")
	require.NotContains(t, entry.Detail, "2025550123")
	why := e.done(t, "explain", o.Parties[1].VN, "+12025550123", "--reveal")
	require.Contains(t, why, "+12025550145")
	require.Equal(t, o.Parties[1].VN, lastAudit(t, js, events.AuditReveal).Target, "explain is noted too")

	auditRefuses(t, js, true)
	for _, args := range [][]string{{"whois", customer, "--reveal"}, {"explain", o.Parties[1].VN, "+12025550123", "--reveal"}} {
		r := e.run(t, args...)
		require.Equal(t, ExitFailed, r.code, args)
		require.Empty(t, r.out, "nothing is shown")
		require.Regexp(t, `no number is shown`, r.err)
		require.NotContains(t, r.err, "202555")
	}
	auditRefuses(t, js, false)

	e.done(t, "order", "end", "order-1")
	r := e.run(t, "whois", customer)
	require.Equal(t, ExitNo, r.code, r.err)
	require.Regexp(t, `held by +no order`, r.out)
	require.Regexp(t, `number +\+1201\S*•••`, r.out)
	require.Equal(t, ExitNo, e.run(t, "whois", customer, "--at", "-2h").code)
	ended := e.done(t, "whois", customer, "--at", a.From.Add(time.Second/2).Format(time.RFC3339Nano), "-o", "yaml")
	require.Contains(t, ended, "order_id: order-1")
	require.Contains(t, ended, "its real numbers went with it")
	require.NotContains(t, ended, "12025")

	s, err := js.Stream(t.Context(), "VN")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	r = e.run(t, "whois", customer, "--at", "-2h")
	require.Equal(t, ExitFailed, r.code)
	require.Contains(t, r.err, "nobody can tell: the history is whole only from")
	require.Contains(t, e.run(t, "whois", customer, "--at", "soon").err, "--at")
	require.Equal(t, ExitNo, e.run(t, "whois", "banana").code)
}
