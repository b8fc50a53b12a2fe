package vonage

import (
	"bytes"
	"encoding/json"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

var want = vn.Call{ID: []byte(conversation), Calling: 447700900123, Called: 442079460000}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{ApplicationID: application})
	require.Equal(t, want, decoded(t, c, signed(voice, answer)))
	require.Equal(t, want, decoded(t, c, signed(voice+"?nothing=read", answer)), "the address is not signed, and not read")
}

// get returns a GET signed by the rule of Vonage's support: the hash is that of object.
func get(query, object string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("GET")
	ctx.Request.Header.SetRequestURI(voice + "?" + query)
	ctx.Request.Header.Set("Authorization", "Bearer "+token(secret, goodHeader, claims(object)))
	return ctx
}

func TestAGETIsSignedAsTheObjectOfItsParameters(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const query = "to=442079460000&from=447700900123&conversation_uuid=" + conversation + "&SipHeader_X-A=a+%22b%22%5C%c3%a9"
	const object = `{"to":"442079460000","from":"447700900123","conversation_uuid":"` + conversation + `","SipHeader_X-A":"a \"b\"\\é"}`
	require.Equal(t, want, decoded(t, c, get(query, object)))

	original, err := url.ParseQuery(query)
	require.NoError(t, err)
	change([]byte(query), func(changed []byte, how string) {
		ctx := get(string(changed), object)
		if same, err := url.ParseQuery(string(changed)); err == nil && same.Encode() == original.Encode() {
			require.Equal(t, want, decoded(t, c, ctx), "%s: the same parameters written in another way", how)
			return
		}
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "query %s: %s", how, changed)
	})
	for name, wrong := range map[string]*fasthttp.RequestCtx{
		"another order":       get("from=447700900123&to=442079460000&conversation_uuid="+conversation+"&SipHeader_X-A=a+%22b%22%5C%c3%a9", object),
		"a parameter more":    get(query+"&from=447700900199", object),
		"no parameters":       get("", "{}"),
		"broken":              get("%", "{}"),
		"the hash of nothing": get(query, ""),
	} {
		err := c.Decode(wrong, nil, new(vn.Call))
		if name == "no parameters" {
			require.EqualError(t, err, "conversation_uuid is missing")
			continue
		}
		require.ErrorIs(t, err, vn.ErrForbidden, name)
	}
	withBody := get(query, object)
	withBody.Request.SetBodyString(answer)
	require.ErrorIs(t, c.Decode(withBody, nil, new(vn.Call)), vn.ErrForbidden, "a body that is not signed")
	repeated := `{"from":"447700900123","from":"447700900199","to":"442079460000","conversation_uuid":"` + conversation + `"}`
	err = c.Decode(get("from=447700900123&from=447700900199&to=442079460000&conversation_uuid="+conversation, repeated), nil, new(vn.Call))
	require.EqualError(t, err, "from is given more than once")
}

func TestOtherMethodsAreForbidden(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"PUT", "HEAD", "DELETE"} {
		ctx := signed(voice, answer)
		ctx.Request.Header.SetMethod(method)
		require.ErrorIs(t, codec(t, Config{}).Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden)
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

// FuzzQueryPayload: what is signed of a query reads back as its parameters, so that a
// signature vouches for nothing else.
func FuzzQueryPayload(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=2", "a=1%22%2C%22b%22:%222", "a", "a=%ff", "a=%00%0a%7f", "a=1&a=2&%22=%5C"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		payload, ok := queryPayload([]byte("/x?" + query))
		if !ok {
			return
		}
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		want := url.Values{}
		for key, all := range values {
			for _, value := range all {
				want.Add(string([]rune(key)), string([]rune(value))) // bytes that are no UTF-8 become U+FFFD
			}
		}
		got := url.Values{}
		dec := json.NewDecoder(bytes.NewReader(payload))
		for token := range tokens(t, dec) {
			value, err := dec.Token()
			require.NoError(t, err)
			got.Add(token, value.(string))
		}
		for _, all := range []url.Values{got, want} {
			for key := range all {
				slices.Sort(all[key])
			}
		}
		require.Equal(t, want, got)
	})
}

// tokens yields the keys of the one object that dec reads; the caller reads each value.
func tokens(t *testing.T, dec *json.Decoder) iter.Seq[string] {
	t.Helper()
	return func(yield func(string) bool) {
		open, err := dec.Token()
		require.NoError(t, err)
		require.Equal(t, json.Delim('{'), open)
		for dec.More() {
			key, err := dec.Token()
			require.NoError(t, err)
			if !yield(key.(string)) {
				return
			}
		}
		end, err := dec.Token()
		require.NoError(t, err)
		require.Equal(t, json.Delim('}'), end)
		_, err = dec.Token()
		require.ErrorIs(t, err, io.EOF)
	}
}
