package plivo

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// message returns the fields of a message webhook.
func message() url.Values {
	return url.Values{
		"From": {"12025550100"}, "To": {"12025550101"}, "Text": {"on my way"}, "MessageUUID": {"m-1"}, "Type": {"sms"}, "Units": {"1"},
		"TotalRate": {"0.00800"}, "TotalAmount": {"0.00800"}, "MessageIntent": {""}, "PowerpackUUID": {""}, "ParentAuthID": {account},
	}
}

// postMain returns a request that bears the main account's signature alone, as
// messages do.
func postMain(uri string, form url.Values) *requestCtx {
	ctx := request("POST", uri, form.Encode())
	ctx.Request.Header.Set(signatureHeader, sign("another account's", "POST", public+uri, nonce, form))
	ctx.Request.Header.Set(mainSignatureHeader, sign(token, "POST", public+uri, nonce, form))
	return ctx
}

func TestDecodeMessageReadsTheMessage(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	want := vn.Message{ID: []byte("m-1"), Called: 12025550101, Calling: 12025550100, Text: []byte("on my way")}
	for name, ctx := range map[string]*requestCtx{
		"POST": post(smsURI, message()), "GET": get(smsURI, message()), "main account": postMain(smsURI, message()),
		"plus signs": post(smsURI, with(with(message(), "From", "+12025550100"), "To", "+12025550101")),
	} {
		var m vn.Message
		require.NoError(t, c.DecodeMessage(ctx, nil, &m), name)
		require.Equal(t, want, m, name)
	}
	require.ErrorIs(t, codec(t, Config{AuthTokens: []string{"x", "y"}}).DecodeMessage(post(smsURI, message()), nil, new(vn.Message)), vn.ErrForbidden)
}

func TestDecodeMessageReadsTextMediaAndIntent(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for name, test := range map[string]struct {
		edit  func(url.Values)
		check func(*testing.T, *vn.Message)
	}{
		"a text of an MMS": {
			func(v url.Values) { v.Del("Text"); v.Set("Body", "look") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Equal(t, "look", string(m.Text)) },
		},
		"no text": {
			func(v url.Values) { v.Set("Text", "") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Empty(t, m.Text) },
		},
		"a text in any alphabet": {
			func(v url.Values) { v.Set("Text", "caf\u00e9 \U0001F600 \u0e2a") },
			func(t *testing.T, m *vn.Message) {
				t.Helper()
				require.Equal(t, "caf\u00e9 \U0001F600 \u0e2a", string(m.Text))
			},
		},
		"bytes that are no text": {
			func(v url.Values) { v.Set("Text", "a\xff\xfeb") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Equal(t, "a\ufffdb", string(m.Text)) },
		},
		"the longest text": {
			func(v url.Values) { v.Set("Text", strings.Repeat("\u00e9", 1600)) },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Len(t, m.Text, 3200) },
		},
		"files that are counted": {
			func(v url.Values) { v.Set("MediaCount", "2"); v.Set("Media0", "https://media.example/0") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Equal(t, 2, m.Media) },
		},
		"files that are not": {
			func(v url.Values) {
				v.Set("Media1", "https://media.example/1")
				v.Set("Media2", "")
				v.Set("MediaCount", "0")
			},
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Equal(t, 2, m.Media) },
		},
		"a request to stop": {
			func(v url.Values) { v.Set("MessageIntent", "optout") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.True(t, m.OptOut) },
		},
		"a request to start": {
			func(v url.Values) { v.Set("MessageIntent", "OptIn") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.True(t, m.OptOut) },
		},
		"a request for help": {
			func(v url.Values) { v.Set("MessageIntent", "help") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.True(t, m.OptOut) },
		},
		"another intent": {
			func(v url.Values) { v.Set("MessageIntent", "chat") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.False(t, m.OptOut) },
		},
		"a short code": {
			func(v url.Values) { v.Set("From", "12345") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Zero(t, m.Calling) },
		},
		"a name": {
			func(v url.Values) { v.Set("From", "BANK") },
			func(t *testing.T, m *vn.Message) { t.Helper(); require.Zero(t, m.Calling) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m := message(), new(vn.Message)
			test.edit(f)
			require.NoError(t, c.DecodeMessage(post(smsURI, f), nil, m))
			test.check(t, m)
		})
	}
}

func TestAWrongFieldOfAMessageIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for name, test := range map[string]struct {
		field string
		edit  func(url.Values)
	}{
		"no id":             {"MessageUUID", func(v url.Values) { v.Del("MessageUUID") }},
		"an odd id":         {"MessageUUID", func(v url.Values) { v.Set("MessageUUID", "m\r\n") }},
		"no sender":         {"From", func(v url.Values) { v.Del("From") }},
		"two senders":       {"From", func(v url.Values) { v.Add("From", "12025550199") }},
		"no VN":             {"To", func(v url.Values) { v.Del("To") }},
		"a list of VNs":     {"To", func(v url.Values) { v.Set("To", "12025550101<12025550102") }},
		"two texts":         {"Text", func(v url.Values) { v.Add("Text", "or not") }},
		"two bodies":        {"Body", func(v url.Values) { v.Del("Text"); v["Body"] = []string{"a", "b"} }},
		"an endless text":   {"Text", func(v url.Values) { v.Set("Text", strings.Repeat("\u00e9", 1601)) }},
		"files beyond 255":  {"MediaCount", func(v url.Values) { v.Set("MediaCount", "256") }},
		"less than no file": {"MediaCount", func(v url.Values) { v.Set("MediaCount", "-1") }},
		"files in words":    {"MediaCount", func(v url.Values) { v.Set("MediaCount", "many") }},
		"two counts":        {"MediaCount", func(v url.Values) { v["MediaCount"] = []string{"0", "1"} }},
		"two intents":       {"MessageIntent", func(v url.Values) { v.Add("MessageIntent", "optout") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m := message(), vn.Message{}
			test.edit(f)
			err := c.DecodeMessage(post(smsURI, f), nil, &m)
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, test.field, field.Field)
			require.Equal(t, vn.Message{}, m)
			require.NotContains(t, err.Error(), "12025550")
		})
	}
}

func TestEveryVerdictHasItsAnswer(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	m := vn.Message{ID: []byte("m-1"), Called: 12025550101, Calling: 12025550100, Text: []byte("5 < 6 & caf\u00e9 \"x\"")}
	d := vn.Decision{Destination: 447700900123, CallerID: 12025550102}
	for _, test := range []struct {
		verdict vn.Verdict
		m       vn.Message
		d       vn.Decision
		golden  string
	}{
		{vn.Relay, m, d, "message"},
		{vn.Relay, vn.Message{Text: []byte(" \n")}, d, "nothing"},
		{vn.Drop, m, d, "nothing"},
		{vn.RefuseMedia, m, d, "message_media"},
		{vn.TryLater, m, d, ""},
		{vn.Relay, m, vn.Decision{CallerID: 12025550102}, ""},
		{vn.Relay, m, vn.Decision{Destination: 447700900123}, ""},
		{vn.RefuseMedia, vn.Message{Called: 12025550101}, d, ""},
	} {
		body, mediaType, status := c.AppendMessage([]byte("before"), &test.m, &test.d, test.verdict)
		require.Equal(t, "before", string(body[:6]))
		require.Equal(t, "application/xml", mediaType)
		if test.golden == "" {
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Len(t, body, 6)
			continue
		}
		require.Equal(t, http.StatusOK, status)
		golden(t, test.golden, body[6:])
	}
	body, _, _ := codec(t, Config{MediaText: "no <files>"}).AppendMessage(nil, &m, &d, vn.RefuseMedia)
	_, _, text := read(t, body)
	require.Equal(t, "no <files>", text)
}

// FuzzMessage sends any text through the webhook and reads the relay with
// encoding/xml: one message, to one number, with that text.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		"hello", "</Message><Message src=\"1\" dst=\"12025550199\">x", `" dst="12025550199`, "]]>", "&#x0;", "\x00\x01\x1b\x7f", "\xff\xfe", "\ufffe",
		"12025550199<12025550198", "a\r\nb\tc", strings.Repeat("long ", 400),
	} {
		f.Add(seed)
	}
	c, err := New(Config{AuthID: account, AuthTokens: []string{token}, PublicURL: public})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		var m vn.Message
		if c.DecodeMessage(post(smsURI, with(message(), "Text", text)), nil, &m) != nil {
			require.True(t, len(text) > maxBody || strings.Contains(text, fromField))
			return
		}
		d := vn.Decision{Destination: 447700900123, CallerID: 12025550102}
		body, _, status := c.AppendMessage(nil, &m, &d, vn.Relay)
		require.Equal(t, http.StatusOK, status)
		elements, attributes, got := read(t, body)
		if strings.TrimSpace(text) == "" {
			require.Equal(t, []string{"<Response", "Response>"}, elements)
			return
		}
		require.Equal(t, []string{"<Response", "<Message", "Message>", "Response>"}, elements)
		require.Equal(t, map[string]string{"src": "12025550102", "dst": "447700900123", "type": "sms"}, attributes)
		if printable(text) {
			require.Equal(t, text, got)
		}
	})
}
