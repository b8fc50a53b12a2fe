package plivo

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// divide calls f with every division of signed into pairs that has a caller somewhere:
// at most one pair before, the caller, at most one pair behind, and perhaps the called
// number at the end. assign and between are what stands between keys, values and pairs.
func divide(signed, assign, between string, f func([][2]string)) {
	for at := range signed {
		rest, ok := strings.CutPrefix(signed[at:], fromField+assign)
		if !ok {
			continue
		}
		digits := len(rest) - len(strings.TrimLeft(rest, "+0123456789"))
		for n := 1; n <= digits; n++ {
			before, okBefore := pairsOf(strings.TrimSuffix(signed[:at], between), assign)
			behind, okBehind := pairsOf(strings.TrimPrefix(rest[n:], between), assign)
			if !okBefore || !okBehind {
				continue
			}
			for _, b := range before {
				for _, a := range behind {
					if len(a) > 0 && a[0][0] < fromField {
						continue // would be sorted to another place
					}
					f(append(append(append([][2]string{}, b...), [2]string{fromField, rest[:n]}), a...))
				}
			}
		}
	}
}

// pairsOf returns the ways to read text as no pair or one pair.
func pairsOf(text, assign string) (ways [][][2]string, ok bool) {
	if text == "" {
		return [][][2]string{nil}, true
	}
	for i := 1; i <= min(len(text), 64); i++ {
		if value, ok := strings.CutPrefix(text[i:], assign); ok {
			ways = append(ways, [][2]string{{text[:i], value}})
		}
	}
	return ways, len(ways) > 0
}

// TestNoOtherDivisionOfASignedTextHasAnotherCaller plays somebody who got hold of a
// request with its signature, and has a say in the text of some fields: no other
// request with that signature may pass for another caller's.
func TestNoOtherDivisionOfASignedTextHasAnotherCaller(t *testing.T) {
	t.Parallel()
	v := newVerifier([]string{token}, public)
	message := url.Values{"From": {"12025550100"}, "MessageUUID": {"m-1"}, "Text": {""}, "To": {"12025550101"}, "Type": {"sms"}}
	for name, test := range map[string]struct {
		form url.Values
		// legal requests must be accepted; an attack is one whose signed text can be
		// divided so that it has another caller.
		legal, attack bool
	}{
		"a plain call":                 {fields(), true, false},
		"a forwarded call":             {with(fields(), "ForwardedFrom", "12025550199"), true, true},
		"a forwarded call, plus signs": {with(with(fields(), "ForwardedFrom", "+12025550199"), "From", "+12025550100"), true, true},
		"a caller's name":              {with(fields(), "CallerName", "xFrom12025550199Fry"), false, true},
		"a caller's name as a query":   {with(fields(), "CallerName", "x=1&From=12025550199&Fry=1"), false, false},
		"a message":                    {with(clone(message), "Text", "hello From 12025550199 To me"), true, false},
		"a message's text":             {with(clone(message), "Text", "xFrom12025550199Text"), false, true},
		"a message's text as a query":  {with(clone(message), "Text", "x=1&From=12025550199&Text=hello"), false, false},
		"a message's body":             {with(clone(message), "Body", "zFrom12025550199G"), false, true},
	} {
		for _, method := range []string{"POST", "GET"} {
			t.Run(name+", "+method, func(t *testing.T) {
				t.Parallel()
				c := v.get()
				signed, assign, between := sorted(test.form, "", ""), "", ""
				if method == "GET" {
					signed, assign, between = sorted(test.form, "=", "&"), "=", "&"
				}
				signature := mac(token, public+voiceURI+"?"+signed+"."+nonce)
				authentic := carry(method, test.form, signature)
				if test.legal {
					require.True(t, c.verify(&authentic.Request))
				}
				try := func(method string, form url.Values) {
					ctx := carry(method, form, signature)
					if !c.verify(&ctx.Request) {
						return
					}
					from, err := c.fields.Get(fromField)
					if err != nil {
						return
					}
					calling, ok := caller(from.Value)
					own, _ := number([]byte(test.form.Get(fromField)))
					require.True(t, !ok || calling == own, "accepted with another caller: %s %q", method, form)
				}
				divisions, possible := 0, 0
				divide(signed, assign, between, func(pairs [][2]string) {
					form := url.Values{}
					for _, p := range pairs {
						form.Add(p[0], p[1])
					}
					divisions++
					if sorted(form, assign, between) == signed && form.Get(fromField) != test.form.Get(fromField) {
						possible++
					}
					try(method, form)
				})
				require.Positive(t, divisions)
				if test.attack && method == "POST" {
					require.Positive(t, possible, "the attack is one")
				}
				if query, err := url.ParseQuery(strings.NewReplacer("%", "%25", "+", "%2B").Replace(signed)); err == nil {
					try("GET", query)
					try("POST", query)
				}
			})
		}
	}
}

// carry returns a request to the voice address that bears the signature.
func carry(method string, form url.Values, signature string) *requestCtx {
	ctx := request("POST", voiceURI, form.Encode())
	if method == "GET" {
		ctx = request("GET", voiceURI+"?"+form.Encode(), "")
	}
	ctx.Request.Header.Set(signatureHeader, signature)
	return ctx
}

func clone(form url.Values) url.Values {
	copied := url.Values{}
	for key, values := range form {
		copied[key] = append([]string{}, values...)
	}
	return copied
}

func TestAPairWithoutAnEqualsSignIsForbidden(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	signature := sign(token, "POST", public+voiceURI, nonce, fields())
	bare := request("POST", voiceURI, strings.Replace(fields().Encode(), "To=1", "To1", 1))
	bare.Request.Header.Set(signatureHeader, signature)
	require.ErrorIs(t, c.Decode(bare, nil, new(vn.Call)), vn.ErrForbidden)
	require.ErrorIs(t, c.Decode(post(voiceURI+"?x", fields()), nil, new(vn.Call)), vn.ErrForbidden)
}

func TestTheEndOfTheFieldsCannotMoveIntoTheNonce(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	message := url.Values{"From": {"12025550100"}, "To": {"12025550101"}, "TotalRate": {"0.00800"}, "MessageUUID": {"m-1"}, "Text": {"hi"}}
	signature := sign(token, "POST", public+smsURI, nonce, message)
	moved := request("POST", smsURI, with(message, "TotalRate", "0").Encode())
	moved.Request.Header.Set(nonceHeader, "00800."+nonce)
	moved.Request.Header.Set(signatureHeader, signature)
	require.ErrorIs(t, c.DecodeMessage(moved, nil, new(vn.Message)), vn.ErrForbidden)
}
