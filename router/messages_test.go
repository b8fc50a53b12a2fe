package router

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// textCodec is a testCodec that takes messages and call progress as well.
type textCodec struct{ testCodec }

func (c textCodec) DecodeMessage(ctx *fasthttp.RequestCtx, secret []byte, m *vn.Message) error {
	var call vn.Call
	if err := c.Decode(ctx, secret, &call); err != nil {
		return err
	}
	m.ID, m.Called, m.Calling = call.ID, call.Called, call.Calling
	m.Text = ctx.QueryArgs().Peek("text")
	m.Media = ctx.QueryArgs().GetUintOrZero("media")
	m.OptOut = ctx.QueryArgs().GetBool("optout")
	return nil
}

func (textCodec) AppendMessage(dst []byte, m *vn.Message, d *vn.Decision, v vn.Verdict) (body []byte, contentType string, status int) {
	dst = append(append(dst, v.String()...), ' ')
	if v == vn.Relay {
		dst = append(d.Destination.AppendE164(dst), ' ')
		dst = append(d.CallerID.AppendE164(dst), ' ')
		dst = append(dst, m.Text...)
	}
	status = 200
	if v == vn.TryLater {
		status = 503
	}
	return dst, "text/x-test", status
}

func (c textCodec) DecodeProgress(ctx *fasthttp.RequestCtx, secret []byte, p *vn.Progress) (known bool, err error) {
	if string(secret) != c.token {
		return false, vn.ErrForbidden
	}
	status, err := strconv.Atoi(string(ctx.QueryArgs().Peek("status")))
	if err != nil {
		return false, &vn.FieldError{Field: "status", Problem: "is not a number"}
	}
	p.CallID, p.Leg, p.Status = ctx.QueryArgs().Peek("id"), vn.CalleeLeg, vn.LegStatus(status)
	return status < vn.LegStatuses, nil
}

func (textCodec) AppendProgressAnswer(dst []byte) (body []byte, contentType string) {
	return append(dst, "thanks"...), "text/x-test"
}

// told is a Recorder that keeps what it was told, copied.
type told struct {
	ignoreCalls

	messages chan string
	progress chan string
}

type ignoreCalls struct{ recorderFunc }

func newTold() *told {
	return &told{ignoreCalls{func(recorded) {}}, make(chan string, 128), make(chan string, 128)}
}

func (r *told) Message(carrier string, m *vn.Message, d *vn.Decision, v vn.Verdict) {
	r.messages <- strings.Join([]string{carrier, string(m.ID), string(d.OrderID), d.Reason.String(), v.String()}, " ")
}

func (r *told) Progress(carrier string, p *vn.Progress) {
	r.progress <- strings.Join([]string{carrier, string(p.CallID), p.Leg.String(), p.Status.String()}, " ")
}

func texting(t *testing.T, lookup func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error), redact bool) (*fixture, *told) {
	t.Helper()
	r := newTold()
	f := build(t, lookup, r, func(c *Config) {
		c.RedactNumbers = redact
		c.Carriers = []Carrier{{Name: "tel", ID: 7, Codec: textCodec{testCodec{token: testToken}}}}
	})
	f.run(t)
	return f, r
}

func (f *fixture) text(t *testing.T, query url.Values) answer {
	t.Helper()
	query.Set("called", called)
	query.Set("calling", calling)
	query.Set("id", "m-1")
	return f.ask(t, http.MethodPost, "/v1/carriers/tel/sms/"+testToken+"?"+query.Encode())
}

func TestAMessageIsRelayedOnlyWhereACallWouldBeConnected(t *testing.T) {
	t.Parallel()
	hello := url.Values{"text": {"Hello there"}}
	f, r := texting(t, connecting, false)
	a := f.text(t, hello)
	require.Equal(t, 200, a.status)
	want := destination(12025550101, 12025550102)
	require.Equal(t, "relayed "+want.E164()+" "+called+" Hello there", a.body)
	require.Equal(t, "tel m-1 order-1 connected relayed", <-r.messages)
	require.EqualValues(t, 1, f.value(t, "callmask_router_messages_total", "carrier", "tel", "verdict", "relayed"))

	for _, reason := range []vn.Reason{vn.NumberNotAssigned, vn.CallerNotAllowed, vn.OrderEnded} {
		f, r := texting(t, answering(reason), false)
		for _, query := range []url.Values{hello, {"media": {"1"}}, {"text": {"STOP"}}} {
			require.Equal(t, "dropped ", f.text(t, query).body, "a stranger learns nothing")
			require.Contains(t, <-r.messages, reason.String()+" dropped")
		}
	}
	f, r = texting(t, func(context.Context, vn.Number, vn.Number, *vn.Decision) (byte, error) {
		return 0, errors.New("away")
	}, false)
	a = f.text(t, hello)
	require.Equal(t, 503, a.status)
	require.Equal(t, "unavailable ", a.body)
	require.Contains(t, <-r.messages, "unavailable unavailable")
}

func TestAForgedMessageIsForbidden(t *testing.T) {
	t.Parallel()
	f, _ := texting(t, connecting, false)
	require.Equal(t, 403, f.ask(t, http.MethodPost, "/v1/carriers/tel/sms/wrong?"+voiceTail+"&text=x").status)
	require.Equal(t, 400, f.ask(t, http.MethodPost, "/v1/carriers/tel/sms/"+testToken+"?text=x").status)
	require.Zero(t, f.lookup.calls.Load())
}

func TestStopWordsAndMediaAreNotRelayed(t *testing.T) {
	t.Parallel()
	f, _ := texting(t, connecting, false)
	for _, word := range []string{"STOP", "stop", " Stop.\n", "StopAll", "STOP ALL", "unsubscribe", "CANCEL", "End", "quit", "OPTOUT", "Opt-Out", "revoke", "START", "unstop", "'stop'", "STOP!", "\u201cStop\u201d", "stop\u00a0", "*STOP*", "(stop)", "stop?", "STOP\u2026", "\ufeffstop", "stop  all", "S.T.O.P."} {
		require.Equal(t, "dropped ", f.text(t, url.Values{"text": {word}}).body, word)
	}
	require.Equal(t, "dropped ", f.text(t, url.Values{"text": {"lopeta"}, "optout": {"true"}}).body, "the carrier's own judgement")
	for _, empty := range []string{"", " \n"} {
		require.Equal(t, "dropped ", f.text(t, url.Values{"text": {empty}}).body)
	}
	for _, text := range []string{"Please stop at the gate", "I stopped", "the end", "Yes", "stop 2", "help", "\u505c\u6b62 stop", "unsubscribed"} {
		require.Contains(t, f.text(t, url.Values{"text": {text}}).body, "relayed ", text)
	}
	require.Equal(t, "media_refused ", f.text(t, url.Values{"text": {"look"}, "media": {"1"}}).body)
	require.Equal(t, "media_refused ", f.text(t, url.Values{"media": {"2"}}).body)
}

func TestRefusedMessagesCountForTheLimit(t *testing.T) {
	t.Parallel()
	r := newTold()
	f := build(t, answering(vn.CallerNotAllowed), r, func(c *Config) {
		c.RefusalsPerMinute = 3
		c.Carriers = []Carrier{{Name: "tel", ID: 7, Codec: textCodec{testCodec{token: testToken}}}}
	})
	f.run(t)
	for range 5 {
		f.text(t, url.Values{"text": {"hello"}})
	}
	require.EqualValues(t, 3, f.lookup.calls.Load())
}

func TestAFloodOfTextsRefusesNobodysCalls(t *testing.T) {
	t.Parallel()
	r := newTold()
	f := build(t, answering(vn.CallerNotAllowed), r, func(c *Config) {
		c.RefusalsPerMinute = 3
		c.Carriers = []Carrier{{Name: "tel", ID: 7, Codec: textCodec{testCodec{token: testToken}}}}
	})
	f.run(t)
	for range 5 {
		f.text(t, url.Values{"text": {"hello"}})
	}
	require.Contains(t, f.call(t, called, calling).body, "caller_not_allowed ")
}

func TestTwoThatAnswerEachOtherByThemselvesComeToAnEnd(t *testing.T) {
	t.Parallel()
	r := newTold()
	f := build(t, connecting, r, func(c *Config) {
		c.MessagesPerMinute = 3
		c.Carriers = []Carrier{{Name: "tel", ID: 7, Codec: textCodec{testCodec{token: testToken}}}}
	})
	f.run(t)
	for i := range 5 {
		want := "relayed "
		if i >= 3 {
			want = "dropped "
		}
		require.Contains(t, f.text(t, url.Values{"text": {"I am driving"}}).body, want)
	}
	require.EqualValues(t, 2, f.value(t, "callmask_router_limited_total", "by", "pair"))
}

func TestNumbersAreTakenOutOfRelayedTexts(t *testing.T) {
	t.Parallel()
	f, _ := texting(t, connecting, true)
	require.True(t, strings.HasSuffix(f.text(t, url.Values{"text": {"call +1 (202) 555-0147 please"}}).body, " call *** please"))
}

func TestProgressIsCountedAndRecorded(t *testing.T) {
	t.Parallel()
	f, r := texting(t, connecting, false)
	ask := func(secret, query string) answer {
		return f.ask(t, http.MethodGet, "/v1/carriers/tel/status/"+secret+"?"+query)
	}
	a := ask(testToken, "id=c-1&status=2")
	require.Equal(t, 200, a.status)
	require.Equal(t, "thanks", a.body)
	require.Equal(t, "tel c-1 callee completed", <-r.progress)
	require.EqualValues(t, 1, f.value(t, "callmask_router_call_progress_total", "carrier", "tel", "leg", "callee", "status", "completed"))

	require.Equal(t, 200, ask(testToken, "id=c-1&status=99").status, "unknown, and no error")
	require.Equal(t, 403, ask("wrong", "id=c-1&status=2").status)
	require.Equal(t, 400, ask(testToken, "id=c-1&status=x").status)
	require.Empty(t, r.progress)
	require.Zero(t, f.lookup.calls.Load(), "nobody is asked")
}
