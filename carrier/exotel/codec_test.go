package exotel

import (
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	account = "example1"
	secret  = "a-secret-of-16-or-more"
	next    = "the-next.secret_of~ours"
	callSid = "0123456789abcdef0123456789abcdef"
)

// query is that of a request as Exotel makes it, with numbers of nobody.
func query() url.Values {
	return url.Values{
		"CallSid": {callSid}, "CallFrom": {"05555510000"}, "CallTo": {"08055550001"}, "Direction": {"incoming"},
		"Created": {"Tue, 03 Sep 2024 11:44:54"}, "DialCallDuration": {"0"}, "StartTime": {"2024-09-03 11:44:54"},
		"EndTime": {"1970-01-01 05:30:00"}, "CallType": {"call-attempt"}, "DialWhomNumber": {""}, "flow_id": {"11754"},
		"tenant_id": {"1409"}, "From": {"05555510000"}, "To": {"08055550001"}, "CurrentTime": {"2024-09-03 11:44:59"}, "digits": {`"8"`},
	}
}

// get returns a request of the Connect applet.
func get(rawQuery string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Request.Header.SetMethod("GET")
	ctx.Request.Header.SetRequestURI("/v1/carriers/exotel/voice/" + secret + "?" + rawQuery)
	ctx.Request.Header.Set(versionHeader, "1.0")
	return ctx
}

// codec returns a codec; what cfg leaves out has the tests' values.
func codec(t testing.TB, cfg Config) *Codec {
	t.Helper()
	cfg.AccountSID, cfg.Secrets = account, []string{secret, next}
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

func decoded(t *testing.T, c *Codec, ctx *fasthttp.RequestCtx) vn.Call {
	t.Helper()
	var call vn.Call
	require.NoError(t, c.Decode(ctx, []byte(secret), &call))
	return call
}

var want = vn.Call{ID: []byte(callSid), Calling: 915555510000, Called: 918055550001}

func TestDecodeReadsTheCall(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	require.Equal(t, want, decoded(t, c, get(query().Encode())))
	var call vn.Call
	require.NoError(t, c.Decode(get(query().Encode()), []byte(next), &call))
	require.Equal(t, want, call)
}

func TestTheOlderParametersServeWhereTheNewerAreMissing(t *testing.T) {
	t.Parallel()
	q := query()
	q.Del("CallFrom")
	q.Del("CallTo")
	require.Equal(t, want, decoded(t, codec(t, Config{}), get(q.Encode())))
}

func TestAnEscapedCallSidOutlivesTheWorkingMemory(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	call := decoded(t, c, get(strings.Replace(query().Encode(), callSid, "%30"+callSid[1:], 1)))
	for range 10 {
		other := query()
		other.Set("CallSid", strings.Repeat("z", len(callSid)))
		decoded(t, c, get(other.Encode()))
	}
	require.Equal(t, callSid, string(call.ID))
}

func TestWithoutTheSecretNothingElseIsTold(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	good, nonsense := get(query().Encode()), get("%")
	forbidden := func(wrong string) {
		for _, ctx := range []*fasthttp.RequestCtx{good, nonsense} {
			require.ErrorIs(t, c.Decode(ctx, []byte(wrong), new(vn.Call)), vn.ErrForbidden, "%q", wrong)
			known, err := c.DecodeProgress(ctx, []byte(wrong), new(vn.Progress))
			require.ErrorIs(t, err, vn.ErrForbidden, "%q", wrong)
			require.False(t, known)
		}
	}
	for _, wrong := range []string{"", " " + secret, secret + next, strings.ToUpper(secret), secret + "/", url.QueryEscape(secret) + "%20"} {
		forbidden(wrong)
	}
	for i := range len(secret) {
		for _, b := range []byte{secret[i] ^ 1, secret[i] ^ 0x20, secret[i] ^ 0x80, '/', '%', 0} {
			if b != secret[i] {
				forbidden(secret[:i] + string(rune(b)) + secret[i+1:])
			}
		}
		forbidden(secret[:i] + secret[i+1:])
		forbidden(secret[:i] + "-" + secret[i:] + "-")
	}
}

// A secret in the header or the query is none: only the router's path segment counts.
func TestTheSecretIsReadFromThePathAlone(t *testing.T) {
	t.Parallel()
	ctx := get(query().Encode() + "&secret=" + secret)
	ctx.Request.Header.Set("Authorization", "Bearer "+secret)
	require.ErrorIs(t, codec(t, Config{}).Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden)
}

func TestAnotherAccountsRequestIsForbidden(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	q := query()
	q.Set("AccountSid", account)
	require.Equal(t, want, decoded(t, c, get(q.Encode())))
	for _, sids := range [][]string{{"example2"}, {account, "example2"}, {""}, {strings.ToUpper(account)}} {
		q["AccountSid"] = sids
		require.ErrorIs(t, c.Decode(get(q.Encode()), []byte(secret), new(vn.Call)), vn.ErrForbidden, sids)
	}
}

// In the mode Dial Whom the callee would see the caller's real number.
func TestARequestOfTheModeDialWhomIsMalformed(t *testing.T) {
	t.Parallel()
	ctx := get(query().Encode())
	ctx.Request.Header.Del(versionHeader)
	var call vn.Call
	err := codec(t, Config{}).Decode(ctx, []byte(secret), &call)
	var field *vn.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "Exotel-Version", field.Field)
	require.Contains(t, field.Problem, "Dial Whom")
	require.Equal(t, vn.Call{}, call)
}

func TestOnlyAGETAnnouncesACall(t *testing.T) {
	t.Parallel()
	ctx := get(query().Encode())
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetBodyString(query().Encode())
	require.EqualError(t, codec(t, Config{}).Decode(ctx, []byte(secret), new(vn.Call)), "method must be GET")
}

func TestACallerWithoutANumberIsWithheld(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, word := range []string{"anonymous", "Anonymous", "RESTRICTED", "unknown", "Private"} {
		q := query()
		q.Set("CallFrom", word)
		require.Equal(t, vn.Call{ID: want.ID, Called: want.Called}, decoded(t, c, get(q.Encode())), word)
	}
}

func TestAWrongParameterIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	edit := func(f func(url.Values)) string {
		q := query()
		f(q)
		return q.Encode()
	}
	tests := map[string]string{"%": "query", query().Encode() + ";x": "query", "": "Direction"} // query → field
	for _, field := range []string{"CallSid", "CallFrom", "CallTo", "Direction"} {
		tests[edit(func(q url.Values) { q.Set(field, "") })] = field
		tests[edit(func(q url.Values) { q.Add(field, "05555510009") })] = field
		tests[edit(func(q url.Values) { q.Add(field, q.Get(field)) })] = field
	}
	for _, field := range []string{"CallSid", "Direction"} {
		tests[edit(func(q url.Values) { q.Del(field) })] = field
	}
	tests[edit(func(q url.Values) { q.Del("CallFrom"); q.Del("From") })] = "CallFrom"
	tests[edit(func(q url.Values) { q.Del("CallTo"); q.Del("To") })] = "CallTo"
	tests[edit(func(q url.Values) { q.Del("CallTo"); q.Set("To", "x") })] = "To"
	tests[edit(func(q url.Values) { q.Del("CallFrom"); q.Add("From", "05555510009") })] = "From"
	for _, direction := range []string{"outbound-dial", "Incoming", "incoming ", "inbound"} {
		tests[edit(func(q url.Values) { q.Set("Direction", direction) })] = "Direction"
	}
	for _, sid := range []string{"a\n", "\x00", "\u00e9", "\xff", strings.Repeat("x", 65)} {
		tests[edit(func(q url.Values) { q.Set("CallSid", sid) })] = "CallSid"
	}
	for _, number := range []string{
		"+", " ", "+05555510000", "++915555510000", "  915555510000", "+91 5555510000", "+9155555100001234", "sip:a@b", "055555x0000", "05555510000\x00",
		"\u0966\u0967\u0968\u0969\u096a\u096b\u096c\u096d\u096e\u096f", "\xff", strings.Repeat("9", 40), `05555510000","x":"`, "client:x",
	} {
		tests[edit(func(q url.Values) { q.Set("CallFrom", number) })] = "CallFrom"
		tests[edit(func(q url.Values) { q.Set("CallTo", number) })] = "CallTo"
	}
	tests[edit(func(q url.Values) { q.Set("CallTo", "anonymous") })] = "CallTo"
	for q, name := range tests {
		var call vn.Call
		err := c.Decode(get(q), []byte(secret), &call)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, q)
		require.Equal(t, name, field.Field, q)
		require.Equal(t, vn.Call{}, call, "nothing is read of a call that is refused")
		require.NotContains(t, err.Error(), "555")
	}
}

func TestParametersThatAreNotNeededMayHoldAnything(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	for _, hostile := range []string{`"},{"numbers":["+915555510009"]}`, "\x00\r\n", "\xff\xfe", "+915555510009", strings.Repeat("%", 3000)} {
		q := query()
		for key := range q {
			switch key {
			case "CallSid", "CallFrom", "CallTo", "Direction":
			default:
				q[key] = []string{hostile, hostile}
			}
		}
		q.Set(hostile, hostile)
		require.Equal(t, want, decoded(t, c, get(q.Encode())))
	}
}

func TestAWrongSettingIsNamed(t *testing.T) {
	t.Parallel()
	good := Config{AccountSID: account, Secrets: []string{secret}, StatusURL: "https://calls.example.com/status"}
	for name, c := range map[string]struct {
		field string
		edit  func(*Config)
	}{
		"no account":      {"account_sid", func(c *Config) { c.AccountSID = "" }},
		"odd account":     {"account_sid", func(c *Config) { c.AccountSID = "a/b" }},
		"no secret":       {"secrets", func(c *Config) { c.Secrets = nil }},
		"empty secret":    {"secrets", func(c *Config) { c.Secrets = []string{secret, ""} }},
		"short secret":    {"secrets", func(c *Config) { c.Secrets = []string{"123456789012345"} }},
		"a secret's path": {"secrets", func(c *Config) { c.Secrets = []string{secret + "/x"} }},
		"an escape":       {"secrets", func(c *Config) { c.Secrets = []string{secret + "%41"} }},
		"three secrets":   {"secrets", func(c *Config) { c.Secrets = []string{secret, next, secret + "3"} }},
		"unknown region":  {"region", func(c *Config) { c.Region = "XX" }},
		"long region":     {"region", func(c *Config) { c.Region = "IND" }},
		"no address":      {"public_url", func(c *Config) { c.StatusURL = "calls.example.com" }},
	} {
		cfg := good
		c.edit(&cfg)
		_, err := New(cfg)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, c.field, field.Field, name)
		require.NotContains(t, err.Error(), secret)
	}
	_, err := New(good)
	require.NoError(t, err)
}

// TestOneCodecServesManyRequestsAtOnce fails under the race detector, or by a wrong
// call, when two requests share working memory.
func TestOneCodecServesManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	var all sync.WaitGroup
	for i := range 8 {
		q := query()
		number := vn.Number(915555510000 + i)
		q.Set("CallFrom", "0"+number.Digits()[2:])
		q.Set("CallSid", strings.Repeat(string(rune('a'+i)), 32))
		ctx := get(q.Encode())
		all.Go(func() {
			for range 500 {
				var call vn.Call
				if err := c.Decode(ctx, []byte(secret), &call); err != nil || call.Calling != number || string(call.ID) != q.Get("CallSid") {
					t.Errorf("request %d was read as another's (%v)", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}
