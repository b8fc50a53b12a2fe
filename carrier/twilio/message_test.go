package twilio

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// texting are the fields of a message's webhook.
func texting(body string) url.Values {
	return url.Values{
		"AccountSid": {account}, "ApiVersion": {"2010-04-01"}, "Body": {body}, "From": {"+12025550100"}, "FromCountry": {"US"},
		"MessageSid": {"SMcccccccccccccccccccccccccccccccc"}, "NumMedia": {"0"}, "NumSegments": {"1"},
		"SmsSid": {"SMcccccccccccccccccccccccccccccccc"}, "SmsStatus": {"received"}, "To": {"+12025550101"},
	}
}

func TestDecodeMessageReadsTheMessage(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const greeting = "Hello & +1 <3 é😀\n"
	hello, sid := []byte(greeting), []byte("SMcccccccccccccccccccccccccccccccc")
	for name, test := range map[string]struct {
		edit func(url.Values)
		want vn.Message
	}{
		"a text":       {func(url.Values) {}, vn.Message{Text: hello, Calling: 12025550100}},
		"no count":     {func(v url.Values) { v.Del("NumMedia") }, vn.Message{Text: hello, Calling: 12025550100}},
		"a picture":    {func(v url.Values) { v.Set("NumMedia", "2"); v.Set("Body", "") }, vn.Message{Text: []byte{}, Media: 2, Calling: 12025550100}},
		"stop":         {func(v url.Values) { v.Set("OptOutType", "STOP") }, vn.Message{Text: hello, OptOut: true, Calling: 12025550100}},
		"no stop":      {func(v url.Values) { v.Set("OptOutType", "") }, vn.Message{Text: hello, Calling: 12025550100}},
		"a short code": {func(v url.Values) { v.Set("From", "12345") }, vn.Message{Text: hello}},
		"a name":       {func(v url.Values) { v.Set("From", "ALERTS") }, vn.Message{Text: hello}},
		"no number":    {func(v url.Values) { v.Set("From", "+266696687") }, vn.Message{Text: hello}},
		"whatsapp":     {func(v url.Values) { v.Set("From", "whatsapp:+12025550100") }, vn.Message{Text: hello}},
	} {
		f := texting(greeting)
		test.edit(f)
		test.want.ID, test.want.Called = sid, 12025550101
		var m vn.Message
		require.NoError(t, c.DecodeMessage(post(t, "/v1/carriers/twilio/sms", f), nil, &m), name)
		require.True(t, test.want.Calling == m.Calling, name)
		require.Equal(t, string(test.want.Text), string(m.Text), name)
		test.want.Text, m.Text = nil, nil
		require.Equal(t, test.want, m, name)
	}
}

func TestAMessageOutlivesTheWorkingMemory(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var m vn.Message
	require.NoError(t, c.DecodeMessage(post(t, "/x", texting("a text, escaped")), nil, &m))
	for range 10 {
		require.NoError(t, c.DecodeMessage(post(t, "/x", texting("z z z z z z z z")), nil, new(vn.Message)))
	}
	require.Equal(t, "a text, escaped", string(m.Text))
}

func TestAWrongFieldOfAMessageIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	type wrong struct {
		field string
		edit  func(url.Values)
	}
	tests := map[string]wrong{
		"long id":       {"MessageSid", func(v url.Values) { v.Set("MessageSid", strings.Repeat("x", 65)) }},
		"id":            {"MessageSid", func(v url.Values) { v.Set("MessageSid", "SM\x00") }},
		"to no number":  {"To", func(v url.Values) { v.Set("To", "12025550101") }},
		"to whatsapp":   {"To", func(v url.Values) { v.Set("To", "whatsapp:+12025550101") }},
		"no media":      {"NumMedia", func(v url.Values) { v.Set("NumMedia", "none") }},
		"less media":    {"NumMedia", func(v url.Values) { v.Set("NumMedia", "-1") }},
		"much media":    {"NumMedia", func(v url.Values) { v.Set("NumMedia", "256") }},
		"long text":     {"Body", func(v url.Values) { v.Set("Body", strings.Repeat("é", 1601)) }},
		"100 kB of it":  {"Body", func(v url.Values) { v.Set("Body", strings.Repeat("+12025550100 ", 8000)) }},
		"100 kB of it2": {"Body", func(v url.Values) { v.Set("Body", strings.Repeat("\xff", 100_000)) }},
	}
	for _, field := range []string{"MessageSid", "From", "To"} {
		tests[field+" missing"] = wrong{field, func(v url.Values) { v.Del(field) }}
		tests[field+" empty"] = wrong{field, func(v url.Values) { v.Set(field, "") }}
	}
	for _, field := range []string{"MessageSid", "From", "To", "Body", "NumMedia", "OptOutType"} {
		tests[field+" repeated"] = wrong{field, func(v url.Values) { v[field] = []string{"1", "2"} }}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := texting("hello")
			test.edit(f)
			var m vn.Message
			err := c.DecodeMessage(post(t, "/x", f), nil, &m)
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, test.field, field.Field)
			require.Equal(t, vn.Message{}, m)
			require.NotContains(t, err.Error(), "202555")
			unsigned := post(t, "/x", f)
			unsigned.Request.Header.Set(signatureHeader, sign("wrong", public+"/x", f))
			require.ErrorIs(t, c.DecodeMessage(unsigned, nil, &m), vn.ErrForbidden, "the signature comes first")
		})
	}
	f := texting(strings.Repeat("é", 1600))
	require.NoError(t, c.DecodeMessage(post(t, "/x", f), nil, new(vn.Message)), "as long as Twilio's longest")
	f.Set("AccountSid", "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	require.ErrorIs(t, c.DecodeMessage(post(t, "/x", f), nil, new(vn.Message)), vn.ErrForbidden)
}

func TestVerdictsAreAnsweredInTwiML(t *testing.T) {
	t.Parallel()
	m := vn.Message{Calling: 12025550100, Called: 12025550101, Text: []byte("I am at the \"door\" <3 & ring twice\n😀")}
	d := vn.Decision{Destination: 447700900123, CallerID: 12025550102}
	nobody := vn.Decision{Reason: vn.CallerNotAllowed}
	blank := vn.Message{Calling: 12025550100, Called: 12025550101, Text: []byte(" \n")}
	for _, test := range []struct {
		name   string
		m      *vn.Message
		d      *vn.Decision
		v      vn.Verdict
		want   string
		status int
	}{
		{"relay", &m, &d, vn.Relay, golden(t, "relay"), http.StatusOK},
		{"drop", &m, &nobody, vn.Drop, golden(t, "drop"), http.StatusOK},
		{"media", &m, &d, vn.RefuseMedia, golden(t, "media"), http.StatusOK},
		{"nothing to relay", &blank, &d, vn.Relay, golden(t, "drop"), http.StatusOK},
		{"later", &m, &d, vn.TryLater, "", http.StatusServiceUnavailable},
		{"to nobody", &m, &vn.Decision{CallerID: 12025550102}, vn.Relay, "", http.StatusServiceUnavailable},
		{"from nobody", &m, &vn.Decision{Destination: 447700900123}, vn.Relay, "", http.StatusServiceUnavailable},
		{"media of nobody", &vn.Message{Called: 12025550101}, &d, vn.RefuseMedia, "", http.StatusServiceUnavailable},
	} {
		body, mediaType, status := codec(t, Config{}).AppendMessage([]byte("before"), test.m, test.d, test.v)
		require.Equal(t, "before"+test.want, string(body), test.name)
		require.Equal(t, "text/xml", mediaType, test.name)
		require.Equal(t, test.status, status, test.name)
	}
	body, _, _ := codec(t, Config{MediaText: "Text <only>"}).AppendMessage(nil, &m, &d, vn.RefuseMedia)
	require.Contains(t, string(body), ">Text &lt;only&gt;</Message>")
}

// FuzzMessage sends a text through: whatever it holds, the answer is one message with
// that text to that number, and nothing else.
func FuzzMessage(f *testing.F) {
	f.Add("hello", "Text only", uint8(0))
	f.Add(`</Message><Message to="+12025550199">`, `"><Message>`, uint8(2))
	f.Add("\x00\xff\x1b]]>&#0;", "\x00", uint8(0))
	f.Fuzz(func(t *testing.T, words, mediaText string, verdict uint8) {
		c, err := New(Config{AccountSID: account, AuthTokens: []string{token}, PublicURL: public, MediaText: mediaText})
		if err != nil {
			require.True(t, utf8.RuneCountInString(mediaText) > maxBody || strings.TrimSpace(mediaText) == "")
			return
		}
		var m vn.Message
		if c.DecodeMessage(post(t, "/x", texting(words)), nil, &m) != nil {
			require.Greater(t, utf8.RuneCountInString(words), maxBody)
			return
		}
		require.True(t, utf8.Valid(m.Text))
		v := vn.Verdict(verdict % vn.Verdicts)
		d := vn.Decision{Destination: 447700900123, CallerID: 12025550102}
		body, _, status := c.AppendMessage(nil, &m, &d, v)
		if v == vn.TryLater {
			require.Equal(t, http.StatusServiceUnavailable, status)
			return
		}
		elements, attributes, text := read(t, body)
		if len(elements) == 2 {
			require.True(t, v == vn.Drop || strings.TrimSpace(words) == "", "%q", words)
			require.Empty(t, text)
			return
		}
		require.Equal(t, []string{"<Response", "<Message", "Message>", "Response>"}, elements)
		if v == vn.Relay {
			require.Equal(t, []string{"from", "+12025550102", "to", "+447700900123"}, attributes)
		} else {
			require.Equal(t, []string{"from", "+12025550101", "to", "+12025550100"}, attributes)
			words = c.mediaText
		}
		if !strings.ContainsFunc(words, func(r rune) bool { return r < ' ' || r > '~' }) {
			require.Equal(t, words, text)
		}
	})
}
