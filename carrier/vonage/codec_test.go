package vonage

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

var want = vn.Call{ID: []byte(conversation), Calling: 447700900123, Called: 442079460000}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{ApplicationID: application})
	require.Equal(t, want, decoded(t, c, signed(voice, answer)))
	require.Equal(t, want, decoded(t, c, signed(voice+"?nothing=read", answer)), "the address is not signed, and not read")
}

func TestEveryMethodButPOSTIsForbidden(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, method := range []string{"GET", "PUT", "HEAD", "DELETE"} {
		ctx := signed(voice, answer)
		ctx.Request.Header.SetMethod(method)
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, method)
	}
	const query = "from=447700900123&to=442079460000&conversation_uuid=" + conversation
	for _, hashed := range []string{"", query, "{}", answer, `{"from":"447700900123","to":"442079460000","conversation_uuid":"` + conversation + `"}`} {
		ctx := signed(voice+"?"+query, hashed)
		ctx.Request.Header.SetMethod("GET")
		ctx.Request.ResetBody()
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "a GET with the hash of %s", hashed)
	}
}

func TestACallerWithoutANumberIsWithheld(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, from := range []string{
		`"from":"anonymous"`, `"from":"Restricted"`, `"from":"UNKNOWN"`, `"from":"sip:alice@example.com"`, `"from":"sips:a@b"`,
		`"from_user":"alice"`, `"from":null,"from_user":"alice"`, `"from":"","from_user":"447700900123"`,
	} {
		body := strings.Replace(answer, `"from":"447700900123"`, from, 1)
		require.Equal(t, vn.Call{ID: want.ID, Called: want.Called}, decoded(t, c, signed(voice, body)), from)
	}
}

func TestAWrongFieldIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	replace := func(old, new string) string { return strings.Replace(answer, old, new, 1) }
	const from, to, id = `"from":"447700900123"`, `"to":"442079460000"`, `"conversation_uuid":"` + conversation + `"`
	tests := map[string]string{ // body → field
		"": "body", "null": "body", "[" + answer + "]": "body", answer + answer: "body", answer[:len(answer)-1]: "body", `{"from"}`: "body",
		"{}":                         "conversation_uuid",
		replace(from+",", ""):        "from",
		replace(to+",", ""):          "to",
		replace(","+id, ""):          "conversation_uuid",
		replace(from, from+","+from): "from",
		replace(from, from+`,"\u0066rom":"447700900199"`):                "from",
		replace(to, to+`,"to":"447700900199"`):                           "to",
		replace(id, id+","+id):                                           "conversation_uuid",
		replace(from, `"from":447700900123`):                             "from",
		replace(from, `"from":447700900123,"from_user":"x"`):             "from",
		replace(from, `"from":null`):                                     "from",
		replace(from, `"from":""`):                                       "from",
		replace(from, `"from":{}`):                                       "from",
		replace(from, `"From":"447700900123"`):                           "from",
		replace(to, `"to":["442079460000"]`):                             "to",
		replace(id, `"conversation_uuid":"a\n"`):                         "conversation_uuid",
		replace(id, `"conversation_uuid":"é"`):                           "conversation_uuid",
		replace(id, `"conversation_uuid":"`+strings.Repeat("4", 65)+`"`): "conversation_uuid",
	}
	for _, wrong := range []string{
		"+447700900123", "0447700900123", "44 7700900123", "447700", "4477009001234567", "anonymousx", "client:x", "\\u0000", "\xff", "４４７７００９００１２３",
		`447700900123\",\"x\":\"`,
	} {
		tests[replace("442079460000", wrong)] = "to"
		tests[replace("447700900123", wrong)] = "from"
	}
	tests[replace("442079460000", "anonymous")] = "to"
	for body, name := range tests {
		var call vn.Call
		err := c.Decode(signed(voice, body), nil, &call)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, body)
		require.Equal(t, name, field.Field, body)
		require.Equal(t, vn.Call{}, call, "nothing is read of a call that is refused")
		require.NotContains(t, err.Error(), "4")
		require.ErrorIs(t, c.Decode(post(voice, body, ""), nil, &call), vn.ErrForbidden, "the signature comes first")
	}
}

func TestFieldsThatAreNotNeededMayHoldAnything(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, hostile := range []string{`"\"},{\"from\":\"447700900199\""`, `{"from":"447700900199","to":[]}`, `"\u0000\r\n"`, "\"\xff\xfe\"", "1e999", "null"} {
		body := `{"uuid":` + hostile + `,"region_url":` + hostile + `,"SipHeader_X-A":` + hostile + "," + answer[1:]
		require.Equal(t, want, decoded(t, c, signed(voice, strings.Replace(body, `,"uuid":"aaaaaaaa-bbbb-cccc-dddd-0123456789ab"`, "", 1))), hostile)
	}
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	good := Config{APIKey: apiKey, Secrets: []string{secret}, StatusURL: "https://calls.example.com/status"}
	for name, c := range map[string]struct {
		field string
		edit  func(*Config)
	}{
		"no key":           {"api_key", func(c *Config) { c.APIKey = "" }},
		"a space":          {"api_key", func(c *Config) { c.APIKey = "a b" }},
		"no secret":        {"secrets", func(c *Config) { c.Secrets = nil }},
		"empty secret":     {"secrets", func(c *Config) { c.Secrets = []string{secret, ""} }},
		"spaces":           {"secrets", func(c *Config) { c.Secrets = []string{secret + "\n"} }},
		"three secrets":    {"secrets", func(c *Config) { c.Secrets = []string{"a", "b", "c"} }},
		"no address":       {"public_url", func(c *Config) { c.StatusURL = "calls.example.com" }},
		"endless speaking": {"text", func(c *Config) { c.Text = strings.Repeat("é", 1501) }},
		"nothing to say":   {"text", func(c *Config) { c.Text = " \n" }},
	} {
		cfg := good
		c.edit(&cfg)
		_, err := New(cfg)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, c.field, field.Field, name)
		require.NotContains(t, err.Error(), secret)
	}
	good.Text = strings.Repeat("é", 1500)
	c, err := New(good)
	require.NoError(t, err)
	require.ErrorIs(t, c.Decode(signed(voice, answer), nil, new(vn.Call)), vn.ErrForbidden, "the clock is the real one")
}

func TestOneCodecServesManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var all sync.WaitGroup
	for i := range 8 {
		number := vn.Number(447700900100 + i)
		ctx := signed(voice, strings.Replace(answer, "447700900123", number.Digits(), 1))
		all.Go(func() {
			for range 100 {
				var call vn.Call
				if err := c.Decode(ctx, nil, &call); err != nil || call.Calling != number {
					t.Errorf("request %d was read as another's (%v)", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}
