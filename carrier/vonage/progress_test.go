package vonage

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// event is what Vonage tells of the callee's leg, which has its own uuid.
const event = `{"from":"442079460000","to":"447700900999","uuid":"bbbbbbbb-bbbb-cccc-dddd-0123456789ab","conversation_uuid":"` + conversation +
	`","status":"completed","direction":"outbound","timestamp":"2020-01-01T12:00:00.000Z","duration":"42","price":"0.1","network":"GB-FIXED"}`

const statusPath = "/v1/carriers/vonage/status?order_id=order-1"

func progress(t *testing.T, body string) (vn.Progress, bool) {
	t.Helper()
	var p vn.Progress
	known, err := codec(t, Config{}).DecodeProgress(signed(statusPath, body), nil, &p)
	require.NoError(t, err)
	if !known {
		require.Equal(t, vn.Progress{}, p, "nothing is told of what is not known")
	}
	return p, known
}

func TestEventsTellWhatBecameOfALeg(t *testing.T) {
	t.Parallel()
	for word, status := range map[string]vn.LegStatus{
		"ringing": vn.LegRinging, "answered": vn.LegAnswered, "completed": vn.LegCompleted, "busy": vn.LegBusy, "unanswered": vn.LegNoAnswer,
		"timeout": vn.LegNoAnswer, "cancelled": vn.LegCancelled, "failed": vn.LegFailed, "rejected": vn.LegFailed,
	} {
		for direction, leg := range map[string]vn.Leg{"inbound": vn.CallerLeg, "outbound": vn.CalleeLeg} {
			body := strings.NewReplacer(`"completed"`, `"`+word+`"`, `"outbound"`, `"`+direction+`"`).Replace(event)
			want := vn.Progress{
				CallID: []byte(conversation), OrderID: []byte("order-1"), Leg: leg, Status: status, At: time.Date(2020, 1, 1, 12, 0, 0, 0, time.UTC),
			}
			if status == vn.LegCompleted {
				want.Duration = 42 * time.Second
			}
			got, known := progress(t, body)
			require.True(t, known)
			require.Equal(t, want, got)
		}
	}
}

// The two legs have uuids of their own; the answer webhook's conversation joins them.
func TestBothLegsJoinTheCallThatWasAnswered(t *testing.T) {
	t.Parallel()
	call := decoded(t, codec(t, Config{}), signed(voice, answer))
	got, known := progress(t, event)
	require.True(t, known)
	require.Equal(t, string(call.ID), string(got.CallID))
}

func TestEventsThatAreNoProgressAreNotKnown(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`, `{"status":null}`, `{"status":["completed"]}`,
		strings.Replace(event, `"completed"`, `"started"`, 1), strings.Replace(event, `"completed"`, `"Completed"`, 1), strings.Replace(event, `"completed"`, `"disconnected"`, 1),
		strings.Replace(event, `"completed"`, `"machine"`, 1),
		`{"conversation_uuid_from":"CON-a","conversation_uuid_to":"CON-b","uuid":"u","timestamp":"2020-01-01T12:00:00.000Z"}`,
		`{"reason":"Syntax error in NCCO. Invalid value type or action.","conversation_uuid":"` + conversation + `","timestamp":"2020-01-01T12:00:00.000Z"}`,
	} {
		_, known := progress(t, body)
		require.False(t, known, body)
	}
}

func TestTheCauseIsTheDetail(t *testing.T) {
	t.Parallel()
	body := strings.Replace(event, `"completed"`, `"failed","detail":"cannot_route"`, 1)
	got, _ := progress(t, body)
	require.Equal(t, "cannot_route", string(got.Cause))
	got, known := progress(t, strings.Replace(body, "cannot_route", "no route to 447700900999", 1))
	require.True(t, known)
	require.Empty(t, got.Cause, "a number is no cause")
}

func TestDurationAndTimeAreReadOrLeftOut(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{`"-1"`, `"1.5"`, `"1e3"`, `"99999999999"`, `""`, `null`, `{}`, `-1`, `1.5`} {
		got, known := progress(t, strings.NewReplacer(`"42"`, wrong, `"2020-01-01T12:00:00.000Z"`, wrong).Replace(event))
		require.True(t, known)
		require.Zero(t, got.Duration, wrong)
		require.True(t, got.At.IsZero(), wrong)
	}
	got, _ := progress(t, strings.Replace(event, `"42"`, `42`, 1))
	require.Equal(t, 42*time.Second, got.Duration)
	got, _ = progress(t, strings.Replace(event, "12:00:00.000Z", "13:00:00+01:00", 1))
	require.Equal(t, time.Date(2020, 1, 1, 12, 0, 0, 0, time.UTC), got.At)
}

func TestAnEventWithoutAnOrderKeepsItsCall(t *testing.T) {
	t.Parallel()
	var p vn.Progress
	known, err := codec(t, Config{}).DecodeProgress(signed("/v1/carriers/vonage/status", event), nil, &p)
	require.NoError(t, err)
	require.True(t, known)
	require.Empty(t, p.OrderID)
	require.Equal(t, conversation, string(p.CallID))
}

func TestAWrongFieldOfAnEventIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const id = `"conversation_uuid":"` + conversation + `"`
	for name, test := range map[string]struct{ field, uri, body string }{
		"query":          {"query", "/x?%", event},
		"odd order":      {"order_id", "/x?order_id=447700900123%20", event},
		"two orders":     {"order_id", statusPath + "&order_id=order-1", event},
		"no JSON":        {"body", statusPath, "from=447700900123"},
		"two statuses":   {"status", statusPath, strings.Replace(event, `"status"`, `"status":"busy","status"`, 1)},
		"no id":          {"conversation_uuid", statusPath, strings.Replace(event, id+",", "", 1)},
		"odd id":         {"conversation_uuid", statusPath, strings.Replace(event, id, `"conversation_uuid":"447700900123\n"`, 1)},
		"no direction":   {"direction", statusPath, strings.Replace(event, `"direction":"outbound",`, "", 1)},
		"odd direction":  {"direction", statusPath, strings.Replace(event, `"outbound"`, `"447700900123"`, 1)},
		"two directions": {"direction", statusPath, strings.Replace(event, `"direction"`, `"direction":"inbound","direction"`, 1)},
	} {
		var p vn.Progress
		known, err := c.DecodeProgress(signed(test.uri, test.body), nil, &p)
		require.False(t, known, name)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, test.field, field.Field, name)
		require.Equal(t, vn.Progress{}, p, name)
		require.NotContains(t, err.Error(), "4477", name)
		_, err = c.DecodeProgress(post(test.uri, test.body, ""), nil, &p)
		require.ErrorIs(t, err, vn.ErrForbidden, "the signature comes first")
	}
	get := signed(statusPath, event)
	get.Request.Header.SetMethod("GET")
	_, err := c.DecodeProgress(get, nil, new(vn.Progress))
	require.ErrorIs(t, err, vn.ErrForbidden, "an event comes by POST")
}

func TestAnEventIsAnsweredWithNothing(t *testing.T) {
	t.Parallel()
	body, mediaType := codec(t, Config{}).AppendProgressAnswer([]byte("before"))
	require.Equal(t, "before", string(body))
	require.Equal(t, "text/plain", mediaType)
}

func TestWhatWasReadOutlivesTheRequest(t *testing.T) {
	t.Parallel()
	ctx := signed(statusPath, strings.Replace(event, `"completed"`, `"failed","detail":"cannot_route"`, 1))
	var p vn.Progress
	_, err := codec(t, Config{}).DecodeProgress(ctx, nil, &p)
	require.NoError(t, err)
	ctx.Request.SetBodyString(strings.Repeat("z", 2000))
	ctx.Request.Header.SetRequestURI(strings.Repeat("z", 2000))
	require.Equal(t, conversation, string(p.CallID))
	require.Equal(t, "order-1", string(p.OrderID))
	require.Equal(t, "cannot_route", string(p.Cause))
}
